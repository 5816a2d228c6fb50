//go:build linux

package prove

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"picket/internal/lab"
	"picket/internal/netset"
	"picket/internal/report/matrix"
	"picket/internal/verdict"
)

// Changes is what a step made of the one before, by packets: between pods, and
// between pods and hosts outside.
type Changes struct {
	Opened, Closed []Change
	Pairs          [2]int // ordered pairs of pods that gained, and that lost, traffic
}

// Change is traffic that got through in one of two steps only.
type Change struct {
	Sources, Targets []string // names in the lab
	From, To         string   // the same for people
	Traffic          netset.Traffic
}

// passed returns the traffic that got through from one end to the other, by the
// packets: each stands for its slot. Packets of this very pair go before those
// of others.
func (p *Proof) passed(src, dst int32) (netset.Traffic, bool) {
	k, _, ok := p.between(src, dst)
	f, found := p.faceAt[k]
	if !ok || !found {
		return netset.Traffic{}, false
	}
	t, ok := p.seen[f].passed, p.seen[f].some
	for _, i := range p.deviant[[2]int32{src, dst}] {
		t = p.amend(t, i)
	}
	return t, ok
}

// amend corrects t by what a shot found.
func (p *Proof) amend(t netset.Traffic, i int32) netset.Traffic {
	k := netset.Span(p.shots[i].key, p.shots[i].key)
	if p.outcomes[i].Result.Reached() {
		return t.Union(k)
	}
	return t.Subtract(k)
}

// sight is what the packets of a face showed.
type sight struct {
	passed  netset.Traffic
	some    bool // packets were sent
	packets int
	deviant []int32 // shots that found otherwise than their slot
}

// look works out what the packets of each face showed. A slot counts as what
// most of its packets found; those that found otherwise count for themselves.
func (p *Proof) look() {
	p.seen = make([]sight, len(p.faces))
	p.deviant = map[[2]int32][]int32{}
	for i := range p.faces {
		f := &p.faces[i]
		for s := range f.slots {
			r := &f.results[s]
			if r.sent == 0 {
				if f.slots[s].decision == verdict.Allow {
					p.seen[i].passed = p.seen[i].passed.Union(f.slots[s].traffic)
				}
				continue
			}
			p.seen[i].some = true
			p.seen[i].packets += int(r.sent)
			if r.passed*2 > r.sent {
				p.seen[i].passed = p.seen[i].passed.Union(f.slots[s].traffic)
			}
		}
	}
	for i := range p.shots {
		s, o := &p.shots[i], &p.outcomes[i]
		r := &p.faces[s.face].results[s.slot]
		if o.Result != lab.Error && o.Result.Reached() != (r.passed*2 > r.sent) {
			pair := [2]int32{s.src, s.dst}
			p.deviant[pair] = append(p.deviant[pair], int32(i))
			p.seen[s.face].deviant = append(p.seen[s.face].deviant, int32(i))
		}
	}
}

// compare works out the changes since before.
func (p *Proof) compare(before *Proof) {
	type name struct {
		name   string
		family netset.Family
	}
	old := map[name]int32{}
	for i := range before.ends {
		old[name{before.ends[i].name, before.ends[i].Family}] = int32(i)
	}
	var opened, closed []pairTraffic
	c := &Changes{}
	for i := range p.ends {
		for j := range p.ends {
			a, b := &p.ends[i], &p.ends[j]
			if a.kind == node || b.kind == node {
				continue
			}
			x, ok := old[name{a.name, a.Family}]
			y, also := old[name{b.name, b.Family}]
			now, seen := p.passed(int32(i), int32(j))
			if !ok || !also || !seen {
				continue
			}
			then, seen := before.passed(x, y)
			if !seen {
				continue
			}
			pods := a.kind != outside && b.kind != outside
			for n, t := range []netset.Traffic{now.Subtract(then), then.Subtract(now)} {
				if t.Empty() {
					continue
				}
				if pods {
					c.Pairs[n]++
				}
				list := [...]*[]pairTraffic{&opened, &closed}[n]
				*list = append(*list, pairTraffic{int32(i), int32(j), t})
			}
		}
	}
	names := matrix.NewNames(p.t)
	c.Opened, c.Closed = p.gather(opened, names), p.gather(closed, names)
	p.Changes = c
}

// pairTraffic is traffic from one end to another.
type pairTraffic struct {
	src, dst int32
	traffic  netset.Traffic
}

// gather makes few changes of many pairs: sources with the same targets for the
// same traffic are one, and before that targets with the same sources where
// that leaves fewer.
func (p *Proof) gather(pairs []pairTraffic, names *matrix.Names) []Change {
	byTraffic := map[string][]pairTraffic{}
	var order []string
	for _, x := range pairs {
		// Hosts outside are their group: which address was tried is no change.
		k := x.traffic.String()
		if byTraffic[k] == nil {
			order = append(order, k)
		}
		byTraffic[k] = append(byTraffic[k], x)
	}
	var out []Change
	for _, k := range order {
		list := byTraffic[k]
		bySource, byTarget := bundle(list, false), bundle(list, true)
		best := bySource
		if len(byTarget) < len(bySource) {
			best = byTarget
		}
		for _, b := range best {
			out = append(out, Change{
				Sources: p.names(b.src), Targets: p.names(b.dst),
				From: names.Of(p.parties(b.src), 48), To: names.Of(p.parties(b.dst), 48), Traffic: list[0].traffic,
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(len(b.Sources)*len(b.Targets), len(a.Sources)*len(a.Targets)), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return out
}

// block is all pairs of some sources with some targets.
type block struct{ src, dst []int32 }

// bundle joins the sources that have the same targets, or the other way round.
// That nobody connects to himself keeps no source out: a block means the pairs
// of different ends.
func bundle(pairs []pairTraffic, flip bool) []block {
	to := map[int32][]int32{}
	var order []int32
	for _, x := range pairs {
		a, b := x.src, x.dst
		if flip {
			a, b = b, a
		}
		if to[a] == nil {
			order = append(order, a)
		}
		to[a] = append(to[a], b)
	}
	slices.Sort(order)
	with, without := map[string]int{}, map[string]int{}
	for _, a := range order {
		slices.Sort(to[a])
		with[key(to[a], a)]++
		without[key(to[a])]++
	}
	var out []block
	at := map[string]int{}
	for _, a := range order {
		k, self := key(to[a]), false
		if s := key(to[a], a); with[s] > without[k] {
			k, self = "with "+s, true
		}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, block{dst: slices.Clone(to[a])})
			if self {
				out[i].dst = append(out[i].dst, a)
				slices.Sort(out[i].dst)
			}
		}
		out[i].src = append(out[i].src, a)
	}
	if flip {
		for i := range out {
			out[i].src, out[i].dst = out[i].dst, out[i].src
		}
	}
	return out
}

// key is equal for equal sets.
func key(set []int32, more ...int32) string {
	set = append(more, set...)
	slices.Sort(set)
	return fmt.Sprint(set)
}

func (p *Proof) names(ends []int32) []string {
	out := []string{}
	for _, e := range ends {
		if !slices.Contains(out, p.ends[e].name) {
			out = append(out, p.ends[e].name)
		}
	}
	return out
}

func (p *Proof) parties(ends []int32) (out []verdict.Party) {
	for _, e := range ends {
		out = append(out, p.ends[e].Party)
	}
	return out
}
