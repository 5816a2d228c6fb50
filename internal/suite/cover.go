package suite

import (
	"fmt"
	"strings"

	"picket/internal/netset"
	"picket/internal/verdict"
)

// Coverage says which pairs of groups some assertion is about, at whatever
// port. A group is the pods, or the outside addresses, that no policy tells
// apart. Pairs of two outside groups and of a single pod with itself do not
// count.
type Coverage struct {
	Pairs     int         `json:"pairs"`
	Covered   int         `json:"covered"`
	Percent   float64     `json:"percent"` // with one decimal; 100 if there are no pairs
	Uncovered []Uncovered `json:"uncovered"`
}

// Uncovered are pairs of groups that no assertion is about: each of From to
// each of To. Groups are named by their first pod and how many more they have.
type Uncovered struct {
	From []string `json:"from"`
	To   []string `json:"to"`
}

// cover collects covered pairs. A nil cover collects nothing.
type cover struct {
	n    int
	bits []uint64
}

func newCover(groups int) *cover {
	return &cover{n: groups, bits: make([]uint64, (groups*groups+63)/64)}
}

func (c *cover) add(from, to int) {
	if c != nil && from != verdict.None && to != verdict.None {
		i := from*c.n + to
		c.bits[i/64] |= 1 << (i % 64)
	}
}

func (c *cover) has(from, to int) bool {
	i := from*c.n + to
	return c.bits[i/64]&(1<<(i%64)) != 0
}

// coverage sums up. Sources that lack the same destinations are listed
// together.
func (x *index) coverage(c *cover) *Coverage {
	out := &Coverage{Uncovered: []Uncovered{}}
	names := make([]string, len(x.groups))
	for i := range names {
		names[i] = x.groupName(i)
	}
	at := map[string]int{}
	for i := range x.groups {
		var lacks []int
		for k := range x.groups {
			a, b := x.groups[i].Endpoints, x.groups[k].Endpoints
			if len(a) == 0 && len(b) == 0 || i == k && len(a) == 1 {
				continue
			}
			out.Pairs++
			if c.has(i, k) {
				out.Covered++
			} else {
				lacks = append(lacks, k)
			}
		}
		if len(lacks) == 0 {
			continue
		}
		key := fmt.Sprint(lacks)
		n, ok := at[key]
		if !ok {
			n = len(out.Uncovered)
			at[key] = n
			u := Uncovered{}
			for _, k := range lacks {
				u.To = append(u.To, names[k])
			}
			out.Uncovered = append(out.Uncovered, u)
		}
		out.Uncovered[n].From = append(out.Uncovered[n].From, names[i])
	}
	out.Percent = 100
	if out.Pairs > 0 {
		out.Percent = float64(out.Covered*1000/out.Pairs) / 10
	}
	return out
}

// groupName names a group by its first pod, or by its addresses.
func (x *index) groupName(i int) string {
	g := &x.groups[i]
	if n := len(g.Endpoints); n > 0 {
		s := x.table.Snapshot.Endpoints[g.Endpoints[0]].String()
		if n > 1 {
			s += fmt.Sprintf(" (+%d)", n-1)
		}
		return s
	}
	f := g.Party.Family
	if g.Block == x.table.ExternalBlock(f) {
		if f == netset.V6 {
			return "external (IPv6)"
		}
		return "external"
	}
	ps := x.table.Blocks.Blocks[g.Block].Addrs.Only(f).Prefixes()
	out := make([]string, 0, 3)
	for _, p := range ps[:min(len(ps), 2)] {
		out = append(out, p.String())
	}
	if len(ps) > 2 {
		out = append(out, "…")
	}
	return strings.Join(out, ",")
}
