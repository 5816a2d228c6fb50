//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"picket/internal/model"
)

// Apply brings the kernel to the plan: the first time by loading everything
// beside what is there and changing over to it, later by the difference. Every
// packet gets the verdict of the old plan or of the new one. If Apply fails, or
// the process is killed in it, the kernel holds the old plan or the new one;
// the next Apply loads everything.
//
// It waits for packets in flight between transactions, which takes some tens of
// milliseconds where there is something to tidy up.
func (k *Kernel) Apply(p *Plan) error {
	if err := k.sweepLeftovers(); err != nil {
		return err
	}
	if k.loaded == nil || k.numbers.last > most {
		return k.load(p)
	}
	if k.loaded.Plan == p {
		return nil
	}
	err := k.change(newDelta(&k.numbers, k.loaded, p))
	if errors.Is(err, unix.ENFILE) || errors.Is(err, ErrBuffer) {
		return k.load(p) // a set is full, or the difference too large: this makes larger sets, in slices
	}
	if err != nil {
		k.loaded = nil
	}
	return err
}

// change writes a difference.
func (k *Kernel) change(d *delta) error {
	bump := d.tightens()
	wraps := bump && k.generation%k.options.generations() == 0
	if wraps {
		if err := k.sweep(k.generation); err != nil {
			return err
		}
	}
	stages := []func(*change){(*change).ports, (*change).bridge, (*change).bridgeBlocks, (*change).turn, (*change).blocks, (*change).peers, (*change).clean}
	c := &change{Kernel: k, delta: d, bump: bump, stale: map[string]string{}}
	for _, stage := range stages {
		c.b, c.settle = k.batch(), false
		stage(c)
		if len(c.b.msgs) > 1 && c.settle {
			settle()
		}
		if err := k.commit(c.b); err != nil {
			return err
		}
		if len(c.b.msgs) > 1 && k.staged != nil {
			k.staged(c.b, c.settle)
		}
	}
	k.loaded = d.now
	k.numbers.keep(d.now)
	if wraps {
		settle()
		k.leftovers = true
		if err := k.sweepLeftovers(); err != nil {
			return err
		}
	}
	if bump {
		k.Stats.Generations++
	}
	if bump || d.versioned {
		var err error
		if k.rulesSeen, err = k.rules(); err != nil {
			return err
		}
	}
	return nil
}

// change is a difference while it is written.
type change struct {
	*Kernel
	*delta
	bump   bool
	stale  map[string]string // sets that the rules have left: version by name
	b      *batch
	settle bool // packets in flight must be through before the batch
}

func (c *change) put(set string, elems []Elem)  { c.b.elements(specByName[set], elems, false) }
func (c *change) drop(set string, elems []Elem) { c.b.elements(specByName[set], elems, true) }

// ports writes new port sets. They stand alone in their transaction: this kind
// of set shows its elements a moment after the others.
func (c *change) ports() {
	for _, dir := range model.Directions {
		c.put(setPorts(dir), portsWithout(c.now, c.old, dir, false))
		c.put(setExact(dir), portsWithout(c.now, c.old, dir, true))
	}
}

// bridge leads the addresses that move over bridges.
func (c *change) bridge() {
	if !c.bridged {
		return
	}
	c.put(setPairs, c.bridgePairs())
	// A target that stays gives its verdict on new classes right away.
	c.put(setPairs, c.pairsOfStaying())
	var was, is [2][]Elem
	for i := range c.delta.peers {
		m := &c.delta.peers[i]
		f := familyOf(m.addr)
		if m.hadOne {
			was[f] = append(was[f], peerElem(m.addr, m.was))
		}
		is[f] = append(is[f], peerElem(m.addr, c.bridges[way{m.was, m.is}]))
	}
	for i, f := range families {
		c.drop(setPeer(f), was[i])
		c.put(setPeer(f), is[i])
	}
}

// pairsOfStaying are the new pairs of targets that stay, and pairsOfComing the
// others.
func (c *change) pairsOfStaying() []Elem {
	return slices.DeleteFunc(c.newPairs(), func(e Elem) bool { return !c.stays(e) })
}

func (c *change) pairsOfComing() []Elem {
	return slices.DeleteFunc(c.newPairs(), c.stays)
}

func (c *change) stays(pair Elem) bool {
	for _, id := range c.old.target {
		if bytes.Equal(be(id), pair.Key[:4]) {
			return true
		}
	}
	return false
}

func idOf(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (c *change) bridgeBlocks() {
	if !c.bridged || !c.delta.blocks {
		return
	}
	for _, f := range families {
		c.replace(setCIDR(f), c.old.elements(setCIDR(f)), c.bridgedBlocks(f))
	}
}

// replace writes the difference of two lists of elements.
func (c *change) replace(set string, old, now []Elem) {
	d := diff(old, now)
	c.drop(set, d.remove)
	c.put(set, d.add)
}

// turn makes the new plan valid.
func (c *change) turn() {
	c.settle = c.bridged
	if c.bridged {
		c.put(setPairs, c.pairsOfComing())
	} else {
		c.put(setPairs, c.newPairs())
		c.directPeers()
		for _, f := range families {
			if c.delta.blocks {
				c.replace(setCIDR(f), c.old.elements(setCIDR(f)), c.now.elements(setCIDR(f)))
			}
		}
	}
	for _, f := range families {
		c.replace(setRange(f), c.old.elements(setRange(f)), c.now.elements(setRange(f)))
		if !c.versioned {
			c.replace(setPods(f), c.old.elements(setPods(f)), c.now.elements(setPods(f)))
		}
		c.put(setSelf(f), diff(c.old.elements(setSelf(f)), c.now.elements(setSelf(f))).add)
	}
	if c.versioned {
		c.turnRules()
	} else {
		c.turnTargets()
	}
	switch {
	case c.versioned:
		if c.bump {
			c.generation++
		}
		c.b.rewrite(c.options.chains(c.generation))
	case c.bump:
		c.generation++
		c.b.rewrite(slices.DeleteFunc(c.options.chains(c.generation), func(x Chain) bool { return x.Hook == NoHook }))
	}
}

// directPeers changes classes in place. A local pod that goes keeps its class
// until nobody lets its packets in any more.
func (c *change) directPeers() {
	var was, is [2][]Elem
	for i := range c.delta.peers {
		m := &c.delta.peers[i]
		f := familyOf(m.addr)
		if m.hadOne && !(m.goes && !m.hasOne) {
			was[f] = append(was[f], peerElem(m.addr, m.was))
		}
		if m.hasOne {
			is[f] = append(is[f], peerElem(m.addr, m.is))
		}
	}
	for i, f := range families {
		c.drop(setPeer(f), was[i])
		c.put(setPeer(f), is[i])
	}
}

// turnTargets changes targets in place. What goes is taken away later: a packet
// that found its pod isolated must still find the target.
func (c *change) turnTargets() {
	for _, f := range families {
		for _, dir := range model.Directions {
			d := diff(c.old.elements(setTarget(dir, f)), c.now.elements(setTarget(dir, f)))
			c.drop(setTarget(dir, f), d.changed())
			c.put(setTarget(dir, f), d.add)
			d = diff(c.old.elements(setIsolated(dir, f)), c.now.elements(setIsolated(dir, f)))
			c.drop(setIsolated(dir, f), slices.DeleteFunc(d.remove, c.judgedToTheEnd))
			c.put(setIsolated(dir, f), d.add)
		}
	}
}

// judgedToTheEnd reports whether an isolated pod is gone, but its last packets
// must be judged: the rules ask whether it is known before they ask whether it is
// isolated.
func (c *change) judgedToTheEnd(isolated Elem) bool {
	a, _ := netip.AddrFromSlice(isolated.Key)
	return !has(c.now.Pods, a)
}

// targetSets are the names of the sets that have versions of their own.
func targetSets() []string {
	var out []string
	for _, f := range families {
		out = append(out, setPods(f))
		for _, dir := range model.Directions {
			out = append(out, setTarget(dir, f), setIsolated(dir, f))
		}
	}
	return out
}

// turnRules writes the targets into new sets, for the rules to change over to.
func (c *change) turnRules() {
	c.version++
	for _, set := range targetSets() {
		c.stale[set] = c.names[set]
		c.names[set] = versioned(set, c.version)
		c.b.newSet(specByName[set], c.now.room(set))
	}
	for _, set := range targetSets() {
		c.put(set, c.now.elements(set))
	}
}

// blocks and peers lead over the bridges to the new classes. Blocks come first,
// so that an address that leaves the map of peers finds its block.
func (c *change) blocks() {
	c.settle = true
	if !c.bridged || !c.delta.blocks {
		return
	}
	for _, f := range families {
		c.replace(setCIDR(f), c.bridgedBlocks(f), c.now.elements(setCIDR(f)))
	}
}

func (c *change) peers() {
	c.settle = true
	if !c.bridged {
		return
	}
	var was, is [2][]Elem
	for i := range c.delta.peers {
		m := &c.delta.peers[i]
		f, id := familyOf(m.addr), c.bridges[way{m.was, m.is}]
		if m.hasOne && id == m.is {
			continue
		}
		was[f] = append(was[f], peerElem(m.addr, id))
		if m.hasOne {
			is[f] = append(is[f], peerElem(m.addr, m.is))
		}
	}
	for i, f := range families {
		c.drop(setPeer(f), was[i])
		c.put(setPeer(f), is[i])
	}
}

// clean takes away what nothing leads to any more.
func (c *change) clean() {
	c.settle = true
	if !c.bridged {
		var was [2][]Elem
		for i := range c.delta.peers {
			if m := &c.delta.peers[i]; m.hadOne && !m.hasOne && m.goes {
				was[familyOf(m.addr)] = append(was[familyOf(m.addr)], peerElem(m.addr, m.was))
			}
		}
		for i, f := range families {
			c.drop(setPeer(f), was[i])
		}
	} else {
		pairs := c.bridgePairs()
		c.drop(setPairs, slices.DeleteFunc(pairs, func(e Elem) bool {
			_, stays := c.old.classAt[idOf(e.Key[4:])]
			_, comes := c.now.classAt[idOf(e.Key[4:])]
			_, target := c.now.targetAt[idOf(e.Key)]
			return stays || comes && target // an old pair or a new one
		}))
	}
	c.drop(setPairs, c.oldPairs())
	for _, f := range families {
		c.drop(setSelf(f), diff(c.old.elements(setSelf(f)), c.now.elements(setSelf(f))).gone)
		if c.versioned {
			continue
		}
		for _, dir := range model.Directions {
			c.drop(setTarget(dir, f), diff(c.old.elements(setTarget(dir, f)), c.now.elements(setTarget(dir, f))).gone)
			gone := diff(c.old.elements(setIsolated(dir, f)), c.now.elements(setIsolated(dir, f))).gone
			c.drop(setIsolated(dir, f), slices.DeleteFunc(gone, func(e Elem) bool { return !c.judgedToTheEnd(e) }))
		}
	}
	for _, set := range targetSets() {
		if name, ok := c.stale[set]; ok {
			c.b.delSet(name)
		}
	}
	for _, dir := range model.Directions {
		c.drop(setPorts(dir), portsWithout(c.old, c.now, dir, false))
		c.drop(setExact(dir), portsWithout(c.old, c.now, dir, true))
	}
}

// difference is how the elements of a set differ.
type difference struct {
	add, remove []Elem // an element whose value changes is in both
	gone        []Elem // those of remove whose key is not used again
}

// diff compares lists that are sorted by key.
func diff(old, want []Elem) difference {
	var c difference
	for i, j := 0, 0; i < len(old) || j < len(want); {
		order := 0
		switch {
		case i == len(old):
			order = 1
		case j == len(want):
			order = -1
		default:
			order = bytes.Compare(old[i].Key, want[j].Key)
		}
		switch {
		case order < 0:
			c.remove = append(c.remove, old[i])
			c.gone = append(c.gone, old[i])
			i++
		case order > 0:
			c.add = append(c.add, want[j])
			j++
		default:
			if !sameElem(&old[i], &want[j]) {
				c.remove = append(c.remove, old[i])
				c.add = append(c.add, want[j])
			}
			i, j = i+1, j+1
		}
	}
	return c
}

func sameElem(a, b *Elem) bool {
	return bytes.Equal(a.To, b.To) && bytes.Equal(a.Value, b.Value) && a.Code == b.Code && a.Chain == b.Chain
}

// changed returns what is removed to get another value.
func (d *difference) changed() []Elem {
	return slices.DeleteFunc(slices.Clone(d.remove), func(e Elem) bool {
		_, gone := slices.BinarySearchFunc(d.gone, e, compareKeys)
		return gone
	})
}
