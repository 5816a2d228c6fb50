//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// slice is how many elements one transaction of a load carries. While it runs
// nobody else in the network namespace can change nftables.
const slice = 50_000

// load writes the whole plan: first all sets under names that are not in use,
// in several transactions; then, in one, the rules that use them. What was
// there before enforces until then and is deleted afterwards.
func (k *Kernel) load(p *Plan) error {
	k.loaded = nil
	found, err := k.inventory()
	if err != nil {
		return err
	}
	if err := k.firstGeneration(found); err != nil {
		return err
	}
	if k.checked, err = k.revision(); err != nil {
		return fmt.Errorf("ask nf_tables for its revision: %w", err)
	}
	k.version = found.version + 1
	k.numbers = numbers{}
	k.names = map[string]string{}
	for name := range specByName {
		k.names[name] = versioned(name, k.version)
	}
	want := k.numbers.number(p)
	chains := k.options.chains(k.generation)
	if found.fits(chains) {
		err = k.loadBeside(want, chains, found)
	} else {
		err = k.loadInstead(want, chains)
	}
	if err != nil {
		return err
	}
	k.loaded = want
	k.Stats.Generations++
	k.rulesSeen, err = k.rules()
	if err != nil {
		k.loaded = nil
	}
	return err
}

func versioned(set string, version uint32) string {
	if version == 1 {
		return set
	}
	return fmt.Sprintf("%s.%d", set, version)
}

func (k *Kernel) loadBeside(want *state, chains []Chain, found *inventory) error {
	b := k.batch()
	b.newTable()
	sets := specs()
	for i := range sets {
		b.newSet(&sets[i], want.room(sets[i].Name))
	}
	for i := range chains {
		// Elements of the ports maps lead to chains. Without hook and rules they
		// do nothing yet.
		if chains[i].Hook == NoHook {
			b.newChain(&chains[i])
		}
	}
	if err := k.commit(b); err != nil {
		return err
	}
	if err := k.fill(want); err != nil {
		return err
	}
	b = k.batch()
	for _, name := range Counters {
		b.newCounter(name)
	}
	b.flushTable()
	for i := range chains {
		b.newChain(&chains[i])
	}
	b.rewrite(chains)
	ours := map[string]bool{}
	for i := range chains {
		ours[chains[i].Name] = true
	}
	for _, c := range found.chains {
		if !ours[c.name] {
			b.delChain(c.name)
		}
	}
	if err := k.commit(b); err != nil {
		return err
	}
	if len(found.sets) == 0 && len(found.objects) == 0 {
		return nil
	}
	settle()
	b = k.batch()
	for _, name := range found.sets {
		b.delSet(name)
	}
	for _, o := range found.objects {
		if o.kind != objectCounter || !slices.Contains(Counters, o.name) {
			b.delObject(o.name, o.kind)
		}
	}
	return k.commit(b)
}

// room is how many elements a set is made for: half as many again, so that a
// load for want of room is rare. Large sets grow as they need.
func (s *state) room(set string) uint32 {
	n := 0
	switch set {
	case setPairs:
		n = len(s.Targets) * len(s.Classes)
	case setPeer(netset.V4), setPeer(netset.V6):
		n = len(s.Peers) // of either family: room is cheap
	default:
		s.each(set, func(Elem) { n++ })
	}
	if n > 2_000_000 {
		return 0
	}
	return uint32(n + n/2 + 1024)
}

// fill writes the elements of all sets.
func (k *Kernel) fill(want *state) error {
	b := k.batch()
	sets := specs()
	for i := range sets {
		var err error
		elems := make([]Elem, 0, 1024)
		flush := func(at int) {
			if len(elems) >= at {
				b.elements(&sets[i], elems, false)
				elems = elems[:0]
			}
			if (b.Elements >= slice || b.bytes >= k.room/4) && err == nil {
				err = k.commit(b)
				b = k.batch()
			}
		}
		want.each(sets[i].Name, func(e Elem) {
			if err == nil {
				elems = append(elems, e)
				flush(cap(elems))
			}
		})
		flush(1)
		if err != nil {
			return err
		}
	}
	return k.commit(b)
}

// loadInstead replaces a table that ours cannot be loaded beside, in one
// transaction.
func (k *Kernel) loadInstead(want *state, chains []Chain) error {
	b := k.batch()
	b.destroyTable()
	b.newTable()
	for _, name := range Counters {
		b.newCounter(name)
	}
	sets := specs()
	for i := range sets {
		b.newSet(&sets[i], want.room(sets[i].Name))
	}
	for i := range chains {
		b.newChain(&chains[i])
	}
	for i := range sets {
		var elems []Elem
		want.each(sets[i].Name, func(e Elem) { elems = append(elems, e) })
		b.elements(&sets[i], elems, false)
	}
	b.rewrite(chains)
	return k.commit(b)
}

// inventory is what a table of our name holds, by name.
type inventory struct {
	exists  bool
	strange bool // it is none that we could have made
	chains  []foundChain
	sets    []string
	objects []foundObject
	version uint32 // highest of the sets
	mask    uint32 // of the mark, and what the rules compare it with
	mark    uint32
}

type foundChain struct {
	name     string
	base     bool
	hook     uint32
	priority int32
}

type foundObject struct {
	name string
	kind uint32
}

func (k *Kernel) inventory() (*inventory, error) {
	f := &inventory{}
	table := func(e *encoder) { e.str(1, k.options.Table) }
	err := k.request(msgGetTable, 0, table, func(attrs []byte) error {
		f.exists = true
		return attributes(attrs, func(typ uint16, data []byte) error {
			f.strange = f.strange || typ == 2 && be32(data) != 0 // dormant, owned
			return nil
		})
	})
	if errors.Is(err, unix.ENOENT) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for table %s: %w", k.options.Table, err)
	}
	for _, step := range []func() error{
		func() error { return k.request(msgGetChain, netlink.Dump, nil, k.foundChain(f)) },
		func() error {
			return k.request(msgGetSet, netlink.Dump, table, func(attrs []byte) error {
				return attributes(attrs, func(typ uint16, data []byte) error {
					if typ == 2 {
						name := text(data)
						f.sets = append(f.sets, name)
						f.version = max(f.version, 1, versionOf(name))
					}
					return nil
				})
			})
		},
		func() error {
			return k.request(msgGetObj, netlink.Dump, table, func(attrs []byte) error {
				var o foundObject
				err := attributes(attrs, func(typ uint16, data []byte) error {
					switch typ {
					case 2:
						o.name = text(data)
					case 3:
						o.kind = be32(data)
					case 8:
						f.strange = true
					}
					return nil
				})
				f.objects = append(f.objects, o)
				return err
			})
		},
		func() error { return k.foundMark(f) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("look at table %s: %w", k.options.Table, err)
		}
	}
	for _, o := range f.objects {
		f.strange = f.strange || slices.Contains(Counters, o.name) && o.kind != objectCounter
	}
	return f, nil
}

// foundChain adds a chain of our table. Chains are listed of all tables.
func (k *Kernel) foundChain(f *inventory) func(attrs []byte) error {
	return func(attrs []byte) error {
		c, ours := foundChain{}, false
		err := attributes(attrs, func(typ uint16, data []byte) error {
			switch typ {
			case 1:
				ours = text(data) == k.options.Table
			case 3:
				c.name = text(data)
			case 4:
				c.base = true
				return attributes(data, func(typ uint16, data []byte) error {
					switch typ {
					case 1:
						c.hook = be32(data)
					case 2:
						c.priority = int32(be32(data))
					}
					return nil
				})
			case 5:
				f.strange = f.strange || ours && be32(data) != uint32(Accept)
			case 7:
				f.strange = f.strange || ours && text(data) != "filter"
			}
			return nil
		})
		if ours {
			f.chains = append(f.chains, c)
		}
		return err
	}
}

// foundMark reads what the first rule compares the connection mark with.
func (k *Kernel) foundMark(f *inventory) error {
	done := false
	return k.request(msgGetRule, netlink.Dump, func(e *encoder) { e.str(1, k.options.Table); e.str(2, "postrouting") }, func(attrs []byte) error {
		if done {
			return nil
		}
		done = true
		for _, x := range readExprs(attrs) {
			switch x := x.(type) {
			case Bitwise:
				if len(x.Mask) == 4 {
					f.mask = binary.NativeEndian.Uint32(x.Mask)
				}
			case Cmp:
				if len(x.Data) == 4 {
					f.mark = binary.NativeEndian.Uint32(x.Data)
				}
			}
		}
		return nil
	})
}

// fits reports whether our chains can take the place of those found.
func (f *inventory) fits(chains []Chain) bool {
	if f.strange {
		return false
	}
	for _, old := range f.chains {
		for i := range chains {
			c := &chains[i]
			if c.Name == old.name && (old.base != (c.Hook != NoHook) || old.base && (old.hook != uint32(c.Hook) || old.priority != c.Priority)) {
				return false
			}
		}
	}
	return true
}

// versionOf reads the version behind a set's name.
func versionOf(name string) uint32 {
	_, v, ok := strings.Cut(name, ".")
	n, err := strconv.ParseUint(v, 10, 31)
	if !ok || err != nil {
		return 0
	}
	return uint32(n)
}

func text(data []byte) string { return strings.TrimRight(string(data), "\x00") }

func be32(data []byte) uint32 {
	if len(data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(data)
}

// settle waits until every packet that is on its way through the kernel is
// through: a grace period of RCU, which packets are readers of.
func settle() {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	// With one processor the call returns at once, and some kernels refuse it.
	if errno != 0 || oneProcessor() {
		time.Sleep(50 * time.Millisecond)
	}
}

const membarrierGlobal = 1

func oneProcessor() bool {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	return err != nil || !strings.ContainsAny(string(b), "-,")
}
