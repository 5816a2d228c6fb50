//go:build linux

package nft

import (
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// delta is how one state of the table becomes another.
//
// A packet reads target, peer's class, pair and ports, in this order, while
// transactions go on. Three ways of changing keep it from hearing anything but
// the old verdict or the new one:
//
//   - direct: no pod that stays gets another target, so one transaction on the
//     classes is the change;
//   - switch: peers and blocks stay, so one transaction on the targets is the
//     change;
//   - bridged: both move. Each address whose class changes gets a number of its
//     own for the way from the old class to the new one. To targets of before
//     that number means the old class, to those of after the new one. Once all
//     addresses have them, the targets switch, and then the addresses get their
//     new classes.
//
// Targets are switched in place if no packet can read two that change. Else the
// maps of targets are written anew, and the rules change over to them in one
// transaction: a packet sees one set of rules.
type delta struct {
	numbers  *numbers
	old, now *state

	peers   []move
	blocks  bool        // address blocks change
	targets [2][]target // of pods that stay
	ways    map[way]bool

	bridged   bool
	versioned bool
	bridges   map[way]uint32
}

// move is an address whose class changes.
type move struct {
	addr           netip.Addr
	was, is        uint32 // classes that count, by number: the one of the block around, if it is in none
	hadOne, hasOne bool   // is in the map of peers
	stays, goes    bool   // a pod of the node: before and after, or only before
}

// way is a change of class, by numbers.
type way struct{ was, is uint32 }

// target is a local pod whose target changes, by index; none if it has none.
type target struct {
	addr    netip.Addr
	was, is int32
}

const none = -1

func newDelta(n *numbers, old *state, p *Plan) *delta {
	now := n.number(p)
	d := &delta{numbers: n, old: old, now: now, ways: map[way]bool{}, bridges: map[way]uint32{}}
	d.diffPeers()
	d.diffBlocks()
	same := d.sameClasses()
	d.diffTargets(same)
	var moved [2]int // local pods, by family
	for i := range d.peers {
		switch m := &d.peers[i]; {
		case m.stays:
			moved[familyOf(m.addr)]++
		case m.goes && m.hasOne: // the address is somebody else's now
			moved[familyOf(m.addr)] += 2
		}
	}
	// Packets of a pod that goes are on their way while all else changes.
	going, coming, others := false, false, 0
	for _, a := range d.old.Pods {
		going = going || !has(d.now.Pods, a)
	}
	for _, a := range d.now.Pods {
		coming = coming || !has(d.old.Pods, a)
	}
	for i := range d.peers {
		if m := &d.peers[i]; !m.goes || m.hasOne {
			others++
		}
	}
	switched := len(d.targets[0])+len(d.targets[1]) > 0 || going && (others > 0 || d.blocks)
	if (len(d.peers) > 0 || d.blocks) && (switched || len(d.peers) > 0 && d.blocks || max(moved[0], moved[1]) > 1) {
		d.bridged = true
		for w := range d.ways {
			same[w] = true
		}
		d.diffTargets(same)
		d.build()
	}
	d.versioned = d.crossing() || going && (coming || d.bridged || len(d.targets[0])+len(d.targets[1]) > 0)
	return d
}

// sameClasses are the classes that both states have.
func (d *delta) sameClasses() map[way]bool {
	out := make(map[way]bool, len(d.now.class))
	for _, id := range d.now.class {
		if _, ok := d.old.classAt[id]; ok {
			out[way{id, id}] = true
		}
	}
	return out
}

// diffPeers finds the addresses whose entry in the map of peers changes.
func (d *delta) diffPeers() {
	a, b := d.old.Peers, d.now.Peers
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = a[0].Addr.Compare(b[0].Addr)
		}
		var m move
		if order <= 0 {
			m.addr, m.hadOne, m.was = a[0].Addr, true, d.old.class[a[0].Class]
			a = a[1:]
		}
		if order >= 0 {
			m.addr, m.hasOne, m.is = b[0].Addr, true, d.now.class[b[0].Class]
			b = b[1:]
		}
		if order == 0 && m.was == m.is {
			continue
		}
		if !m.hadOne {
			m.was = d.old.class[d.old.blockOf(m.addr)]
		}
		if !m.hasOne {
			m.is = d.now.class[d.now.blockOf(m.addr)]
		}
		if has(d.old.Pods, m.addr) {
			m.stays = has(d.now.Pods, m.addr)
			m.goes = !m.stays
		}
		d.peers = append(d.peers, m)
		d.ways[way{m.was, m.is}] = true
	}
}

func has(sorted []netip.Addr, a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(sorted, a, netip.Addr.Compare)
	return ok
}

// segment is a range of addresses with its class before and after.
type segment struct {
	from, to netip.Addr
	way
}

// diffBlocks finds out whether the address blocks change, and how.
func (d *delta) diffBlocks() {
	if slices.EqualFunc(d.old.Blocks, d.now.Blocks, func(a, b Block) bool {
		return a.From == b.From && a.To == b.To && d.old.class[a.Class] == d.now.class[b.Class]
	}) {
		return
	}
	d.blocks = true
	for _, s := range d.segments() {
		d.ways[s.way] = true
	}
}

// segments cuts the address space at the borders of the blocks of before and
// after, and leaves out what is in neither.
func (d *delta) segments() []segment {
	var out []segment
	for _, f := range families {
		var starts []netip.Addr
		for _, s := range []*state{d.old, d.now} {
			for _, b := range s.Blocks {
				if netset.FamilyOf(b.From) != f {
					continue
				}
				starts = append(starts, b.From)
				if n := b.To.Next(); n.IsValid() {
					starts = append(starts, n)
				}
			}
		}
		slices.SortFunc(starts, netip.Addr.Compare)
		starts = slices.Compact(starts)
		for i, from := range starts {
			w := way{d.old.class[d.old.blockOf(from)], d.now.class[d.now.blockOf(from)]}
			if w == (way{}) {
				continue
			}
			to := lastAddr(f)
			if i+1 < len(starts) {
				to = starts[i+1].Prev()
			}
			if n := len(out); n > 0 && out[n-1].way == w && out[n-1].to.Next() == from {
				out[n-1].to = to
				continue
			}
			out = append(out, segment{from, to, w})
		}
	}
	return out
}

func lastAddr(f netset.Family) netip.Addr {
	all := netset.AllAddrs(f).Ranges()
	return all[len(all)-1].To
}

// diffTargets gives fresh numbers to targets whose verdicts change on one of
// the ways, and finds the pods that stay and whose target changes.
func (d *delta) diffTargets(ways map[way]bool) {
	for i := range d.now.Targets {
		j, ok := d.old.targetAt[d.now.target[i]]
		if !ok || d.sameRow(&d.old.Targets[j], &d.now.Targets[i], ways) {
			continue
		}
		delete(d.now.targetAt, d.now.target[i])
		d.now.target[i] = d.numbers.fresh()
		d.numbers.of[kindTarget+d.now.Targets[i].Name] = d.now.target[i]
		d.now.targetAt[d.now.target[i]] = int32(i)
	}
	for dir := range d.targets {
		d.targets[dir] = nil
		for _, a := range d.old.Pods {
			if !has(d.now.Pods, a) {
				continue
			}
			t := target{a, d.old.targetOf(dir, a), d.now.targetOf(dir, a)}
			if t.was == none && t.is == none || t.was != none && t.is != none && d.old.target[t.was] == d.now.target[t.is] {
				continue
			}
			d.targets[dir] = append(d.targets[dir], t)
		}
	}
}

func (d *delta) sameRow(old, now *Target, ways map[way]bool) bool {
	for w := range ways {
		if d.old.set[old.Sets[d.old.classAt[w.was]]] != d.now.set[now.Sets[d.now.classAt[w.is]]] {
			return false
		}
	}
	return true
}

// targetOf returns the index of a local pod's target.
func (s *state) targetOf(dir int, a netip.Addr) int32 {
	list := s.Isolated[dir]
	i, ok := slices.BinarySearchFunc(list, a, func(l Local, a netip.Addr) int { return l.Addr.Compare(a) })
	if !ok {
		return none
	}
	return list[i].Target
}

// crossing reports whether a packet between two pods of the node could read one
// target before the switch and the other one after it.
func (d *delta) crossing() bool {
	for _, f := range families {
		pods := map[netip.Addr]bool{}
		for dir := range d.targets {
			for _, t := range d.targets[dir] {
				if netset.FamilyOf(t.addr) == f {
					pods[t.addr] = true
				}
			}
		}
		if len(pods) > 1 && len(d.targets[0]) > 0 && len(d.targets[1]) > 0 {
			return true
		}
	}
	return false
}

// build gives each way its bridge. A class that is new and has one way to it
// needs none: its own number will do.
func (d *delta) build() {
	to := map[uint32]int{}
	for w := range d.ways {
		to[w.is]++
	}
	for w := range d.ways {
		_, known := d.old.classAt[w.is]
		switch {
		case w.was == w.is || !known && to[w.is] == 1:
			d.bridges[w] = w.is
		default:
			d.bridges[w] = 0
		}
	}
	// In order, so that equal changes are written the same.
	var need []way
	for w, id := range d.bridges {
		if id == 0 && w != (way{}) {
			need = append(need, w)
		}
	}
	slices.SortFunc(need, compareWays)
	for _, w := range need {
		d.bridges[w] = d.numbers.fresh()
	}
}

func compareWays(a, b way) int {
	if a.was != b.was {
		return int(int64(a.was) - int64(b.was))
	}
	return int(int64(a.is) - int64(b.is))
}

// bridgePairs are the pairs of bridges: with the targets of before they mean
// the old class, with those of after the new one. A bridge that is the number
// of the new class has its pairs with the latter anyway.
func (d *delta) bridgePairs() []Elem {
	var ways []way
	for w := range d.bridges {
		if w.was != w.is {
			ways = append(ways, w)
		}
	}
	slices.SortFunc(ways, compareWays)
	var out []Elem
	for _, w := range ways {
		id, was, is := d.bridges[w], d.old.classAt[w.was], d.now.classAt[w.is]
		for t := range d.old.Targets {
			if _, stays := d.now.targetAt[d.old.target[t]]; !stays || id != w.is {
				out = append(out, pairElem(d.old.target[t], id, d.old.set[d.old.Targets[t].Sets[was]]))
			}
		}
		for t := range d.now.Targets {
			if _, stays := d.old.targetAt[d.now.target[t]]; !stays && id != w.is {
				out = append(out, pairElem(d.now.target[t], id, d.now.set[d.now.Targets[t].Sets[is]]))
			}
		}
	}
	return out
}

// bridgedBlocks are the address blocks while bridges are in use.
func (d *delta) bridgedBlocks(f netset.Family) []Elem {
	var out []Elem
	for _, s := range d.segments() {
		if netset.FamilyOf(s.from) == f {
			out = append(out, Elem{Key: addrKey(s.from), To: addrKey(s.to), Value: be(d.bridges[s.way])})
		}
	}
	return out
}

// newPairs are the pairs that only the state of after has, oldPairs those that
// only the one of before has.
func (d *delta) newPairs() []Elem { return pairsWithout(d.now, d.old) }
func (d *delta) oldPairs() []Elem { return pairsWithout(d.old, d.now) }

func pairsWithout(s, other *state) []Elem {
	var out []Elem
	for t := range s.Targets {
		_, target := other.targetAt[s.target[t]]
		for c, set := range s.Targets[t].Sets {
			if _, class := other.classAt[s.class[c]]; !target || !class {
				out = append(out, pairElem(s.target[t], s.class[c], s.set[set]))
			}
		}
	}
	return out
}

// portsWithout are the elements of the port sets that only s has.
func portsWithout(s, other *state, dir model.Direction, exact bool) []Elem {
	each := s.eachPort
	if exact {
		each = s.eachExact
	}
	known := map[uint32]bool{}
	for _, id := range other.set {
		known[id] = true
	}
	var out []Elem
	for i := range s.PortSets {
		if s.PortSets[i].Direction == dir && !known[s.set[i]] {
			each(i, func(e Elem) { out = append(out, e) })
		}
	}
	slices.SortFunc(out, compareKeys)
	return out
}
