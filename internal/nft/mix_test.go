//go:build linux

package nft

import (
	"maps"
	"slices"
	"testing"

	"picket/internal/netset"
)

// image is what the kernel holds after a transaction: sets by their names in
// the kernel, and the rules with the sets that they name.
type image struct {
	sets   map[string][]Elem
	names  map[string]string
	chains map[string]*Chain
	begins int // the first image that a packet may have begun in and still be on its way
}

func imageOf(k *Kernel) *image {
	m := &image{sets: map[string][]Elem{}, names: maps.Clone(k.names), chains: map[string]*Chain{}}
	for _, s := range specs() {
		m.sets[k.names[s.Name]] = k.loaded.elements(s.Name)
	}
	m.rewrite(k.options.chains(k.generation))
	return m
}

func (m *image) rewrite(chains []Chain) {
	m.chains = maps.Clone(m.chains)
	for i := range chains {
		m.chains[chains[i].Name] = &chains[i]
	}
}

// after plays a batch through.
func (m *image) after(t *testing.T, b *batch) *image {
	n := &image{sets: maps.Clone(m.sets), names: m.names, chains: m.chains}
	for _, o := range b.ops {
		switch {
		case o.chains != nil:
			n.rewrite(o.chains)
			n.names = maps.Clone(b.names)
		case o.spec == nil:
			delete(n.sets, o.set)
		default:
			elems := slices.Clone(n.sets[o.set])
			for _, e := range o.elems {
				i, found := slices.BinarySearchFunc(elems, e, compareKeys)
				if found != o.remove {
					t.Fatalf("set %s, remove=%t: element %x", o.set, o.remove, e.Key)
				}
				if o.remove {
					elems = slices.Delete(elems, i, i+1)
				} else {
					elems = slices.Insert(elems, i, e)
				}
			}
			n.sets[o.set] = elems
		}
	}
	return n
}

// A packet that reads some sets before transactions and the others after them
// hears nothing but the old verdict or the new one, wherever the border lies.
// Sets of intervals may show their changes later than the others.
func TestNoPacketMixesPolicies(t *testing.T) {
	k := open(t, Options{LogGroup: 7})
	c := standInChurn(uint64(soakSeed()) + 11)
	names := []string{"a", "b", "c", "d", "e", "out"}
	was := vector{}
	walks, mixed := 0, 0
	for step := range soak(t, 60, 2000) {
		c.change()
		table := c.table()
		p, want := c.plan(table), c.vector(table, names)
		if step == 0 {
			if err := k.Apply(p); err != nil {
				t.Fatal(err)
			}
			was = want
			continue
		}
		images := []*image{imageOf(k)}
		d := newDelta(&numbers{of: maps.Clone(k.numbers.of), last: k.numbers.last}, k.loaded, p)
		k.staged = func(b *batch, settled bool) {
			last := images[len(images)-1]
			m := last.after(t, b)
			m.begins = last.begins
			if settled {
				m.begins = len(images) - 1
			}
			images = append(images, m)
		}
		if err := k.Apply(p); err != nil {
			t.Fatal(err)
		}
		if len(images) > 1 {
			for name, elems := range imageOf(k).sets {
				if !slices.EqualFunc(elems, images[len(images)-1].sets[name], func(a, b Elem) bool { return compareKeys(a, b) == 0 && sameElem(&a, &b) }) {
					t.Fatalf("step %d: set %s is not what the batches make of it", step, name)
				}
			}
		}
		for at := 1; at < len(images); at++ {
			for from := images[at].begins; from < at; from++ {
				for cell := range want {
					for _, lag := range []bool{false, true} {
						for border := 0; ; border++ {
							verdict, lookups := mixedWalk(t, c, images[from], images[at-1], images[at], cell, border, lag)
							walks++
							if verdict != was[cell] && verdict != want[cell] {
								t.Logf("bridged %t, versioned %t, targets %v, ways %v, peers %+v", d.bridged, d.versioned, d.targets, d.ways, d.peers)
								t.Fatalf("step %d: %+v passes=%t for a packet that asks %d sets in image %d and the others in image %d of %d (intervals lag: %t); before %t, after %t",
									step, cell, verdict, border, from, at, len(images)-1, lag, was[cell], want[cell])
							}
							if border >= lookups {
								break
							}
							mixed++
						}
					}
				}
			}
		}
		was = want
	}
	t.Logf("%d walks, %d of them across a border", walks, mixed)
}

// mixedWalk asks the first sets in one image and the others in a later one. The
// rules are those of the image in which the packet begins.
func mixedWalk(t *testing.T, c *churn, from, before, at *image, what cell, border int, lag bool) (passes bool, lookups int) {
	rules := from
	if border == 0 {
		rules = at
	}
	tr := &Tracer{chains: rules.chains, sets: specByName}
	tr.ask = func(set string) []Elem {
		lookups++
		switch {
		case lookups <= border:
			return from.sets[rules.names[set]]
		case lag && specByName[set].Interval: // as after the transaction before
			return before.sets[rules.names[set]]
		}
		return at.sets[rules.names[set]]
	}
	src, dst := c.addrs[what.src][what.family], c.addrs[what.dst][what.family]
	out, err := tr.Run("postrouting", Packet{
		Src: src, Dst: dst, Initiator: src, Responder: dst, Proto: netset.UDP, Port: what.port, State: StateNew, Payload: make([]byte, 20),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Verdict == Accept, lookups
}
