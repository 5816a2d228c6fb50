package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// destination is an end that is connected to, with the point of the traffic
// space as that end sees it.
type destination struct {
	verdict.Party
	key netset.Key
}

// cell is a set of connections that share everything the table knows.
type cell struct {
	src, dst []verdict.Party
	key      netset.Key
	pair     verdict.Pair
	families []netset.Family
}

// group is ends that the table cannot tell apart.
type group[T any] struct {
	members []T
	family  netset.Family
}

func party(p verdict.Party) verdict.Party { return p }
func toParty(d destination) verdict.Party { return d.Party }
func (b *builder) sources(r verdict.Ref) []group[verdict.Party] {
	type key struct {
		family netset.Family
		target verdict.TargetID
		peer   verdict.PeerID
		node   int32
	}
	return groupBy(b.t.Parties(r), party, func(p verdict.Party) key {
		return key{p.Family, b.target(model.Egress, p), p.Peer, p.Node}
	})
}

func groupBy[T any, K comparable](members []T, p func(T) verdict.Party, key func(T) K) []group[T] {
	var out []group[T]
	at := map[K]int{}
	for _, m := range members {
		k := key(m)
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, group[T]{family: p(m).Family})
		}
		out[i].members = append(out[i].members, m)
	}
	return out
}

func (b *builder) target(d model.Direction, p verdict.Party) verdict.TargetID {
	if p.Endpoint == verdict.None {
		return verdict.None
	}
	return b.t.TargetOf[d][p.Endpoint]
}

// cells lays sources and destinations against each other, one cell for each
// pair of groups of the same family.
func (b *builder) cells(froms []group[verdict.Party], tos []destination) []cell {
	type key struct {
		family netset.Family
		target verdict.TargetID
		peer   verdict.PeerID
		key    netset.Key
		node   string
	}
	nodes := slices.ContainsFunc(froms, func(g group[verdict.Party]) bool { return g.members[0].Node != verdict.None })
	groups := groupBy(tos, toParty, func(d destination) key {
		k := key{d.Family, b.target(model.Ingress, d.Party), d.Peer, d.key, ""}
		if nodes && d.Endpoint != verdict.None {
			k.node = b.t.Snapshot.Endpoints[d.Endpoint].Node
		}
		return k
	})
	var out []cell
	for _, f := range froms {
		for _, g := range groups {
			if f.family != g.family {
				continue
			}
			c := cell{src: f.members, key: g.members[0].key, families: []netset.Family{f.family}}
			for _, d := range g.members {
				c.dst = append(c.dst, d.Party)
			}
			s, d := representatives(c.src, c.dst)
			c.pair = b.t.Pair(s, d)
			c.src, c.dst = first(c.src, s), first(c.dst, d)
			out = append(out, c)
		}
	}
	return out
}

// representatives picks two different ends if it can, since a pod and itself
// are no example for the group.
func representatives(src, dst []verdict.Party) (verdict.Party, verdict.Party) {
	for _, s := range src[:min(2, len(src))] {
		for _, d := range dst[:min(2, len(dst))] {
			if s.Endpoint == verdict.None || s.Endpoint != d.Endpoint {
				return s, d
			}
		}
	}
	return src[0], dst[0]
}

// first returns list with p in front.
func first(list []verdict.Party, p verdict.Party) []verdict.Party {
	i := slices.Index(list, p)
	return slices.Concat(list[i:i+1], list[:i], list[i+1:])
}

// merge joins cells that have verdict, reasons and policies in common, over
// destinations, then sources, then families.
func (b *builder) merge(cells []cell) []cell {
	join := func(key func(cell) string, into func(a *cell, b cell)) {
		var out []cell
		at := map[string]int{}
		for _, c := range cells {
			k := key(c)
			if i, ok := at[k]; ok {
				into(&out[i], c)
				continue
			}
			at[k] = len(out)
			out = append(out, c)
		}
		cells = out
	}
	why := func(c cell) string {
		d, pieces := b.t.Decide(c.pair, c.key)
		s := fmt.Sprint(d, c.pair.Bypass, portText(c.key))
		for _, dir := range model.Directions {
			if c.pair.Sides[dir] != verdict.None {
				end := c.src[0]
				if dir == model.Ingress {
					end = c.dst[0]
				}
				s += fmt.Sprint("/", dir, b.target(dir, end), pieces[dir].Decision, pieces[dir].Reason)
			}
		}
		return s
	}
	join(func(c cell) string { return fmt.Sprint(why(c), c.families, ends(c.src)) },
		func(a *cell, b cell) { a.dst = append(slices.Clip(a.dst), b.dst...) })
	join(func(c cell) string { return fmt.Sprint(why(c), c.families, ends(c.dst)) },
		func(a *cell, b cell) { a.src = append(slices.Clip(a.src), b.src...) })
	// The two families of an end are different peers, but mostly of one verdict.
	join(func(c cell) string { return fmt.Sprint(why(c), ends(c.src), ends(c.dst)) },
		func(a *cell, b cell) { a.families = append(slices.Clip(a.families), b.families...) })
	return cells
}

// portText returns the port as a person writes it; an echo request is "icmp"
// in both families.
func portText(k netset.Key) string {
	if k == netset.Echo(netset.V6) {
		k = netset.Echo(netset.V4)
	}
	return k.String()
}

// ends identifies parties whatever their order and family.
func ends(ps []verdict.Party) string {
	ids := make([]string, len(ps))
	for i, p := range ps {
		ids[i] = fmt.Sprint(p.Endpoint, p.Node)
		if p.Endpoint == verdict.None && p.Node == verdict.None && p.Addr.IsValid() {
			ids[i] += p.Addr.String()
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, ",")
}

// name returns what a person calls the party.
func (b *builder) name(p verdict.Party) string {
	switch {
	case p.Endpoint != verdict.None:
		return b.t.Snapshot.Endpoints[p.Endpoint].String()
	case p.Node != verdict.None:
		return "node/" + b.t.Snapshot.Nodes[p.Node].Name
	case p.Addr.IsValid():
		return p.Addr.String()
	}
	return "external"
}

func (b *builder) names(ps []verdict.Party) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = b.name(p)
	}
	return out
}

// refNotes says what a word of the question turned out to mean.
func (b *builder) refNotes(r verdict.Ref, which string) []string {
	var out []string
	if r.Service != nil && which == "from" {
		out = append(out, fmt.Sprintf("service %s opens no connections itself: its pods are meant", r.Service))
	}
	a, err := netip.ParseAddr(r.Text)
	if err != nil {
		if len(r.Endpoints) > 1 && r.Service == nil {
			out = append(out, fmt.Sprintf("%s is a workload of %d pods", r.Text, len(r.Endpoints)))
		}
		return out
	}
	a = a.Unmap().WithZone("")
	switch p := b.t.AddrParty(a); {
	case r.Service != nil:
		out = append(out, fmt.Sprintf("%s is the cluster IP of service %s: policies never see it, they see the pods behind it", a, r.Service))
	case p.Endpoint != verdict.None:
		s := fmt.Sprintf("%s is the address of pod %s", a, b.name(p))
		if b.t.Snapshot.Endpoints[p.Endpoint].Assigned {
			s += "; the address was made up here, for the input gives none"
		}
		out = append(out, s)
	case p.Node != verdict.None:
		out = append(out, fmt.Sprintf("%s is an address of %s", a, b.name(p)))
	}
	return out
}

// some joins the first n names and counts the others.
func some(names []string, n int) string {
	if len(names) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
	}
	return strings.Join(names, ", ")
}
