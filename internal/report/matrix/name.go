package matrix

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/term"
	"picket/internal/verdict"
)

// nameWidth is how many columns a name may take before members are left out.
const nameWidth = 40

// namer names groups by their workloads and pods.
type namer struct {
	t         *verdict.Table
	workload  map[workload]int  // its pods
	namesakes map[[2]string]int // by namespace and name: bare pods and kinds of workload so called
	pods      map[string]int    // by namespace
}

type workload struct {
	namespace string
	model.Owner
}

func newNamer(t *verdict.Table) *namer {
	n := &namer{t: t, workload: map[workload]int{}, namesakes: map[[2]string]int{}, pods: map[string]int{}}
	for i := range t.Snapshot.Endpoints {
		e := &t.Snapshot.Endpoints[i]
		n.pods[e.Namespace]++
		n.namesakes[[2]string{e.Namespace, e.Name}]++
		if w := (workload{e.Namespace, e.Owner}); e.Owner.Name != "" {
			if n.workload[w] == 0 {
				n.namesakes[[2]string{e.Namespace, e.Owner.Name}]++
			}
			n.workload[w]++
		}
	}
	return n
}

// name returns a name of g of about width columns that tells it from groups
// with other members.
func (n *namer) name(g *group, width int) string {
	switch g.kind {
	case nodes:
		return n.nodes(g.nodes, width)
	case addresses:
		return n.addresses(g)
	case hostPods:
		return n.endpoints(g.endpoints, width) + " (host network)"
	default:
		return n.endpoints(g.endpoints, width)
	}
}

// unit is a workload as a whole, or a pod.
type unit struct{ namespace, name string }

func (n *namer) units(endpoints []int32) []unit {
	here := map[workload]int{}
	for _, i := range endpoints {
		e := &n.t.Snapshot.Endpoints[i]
		here[workload{e.Namespace, e.Owner}]++
	}
	var out []unit
	for _, i := range endpoints {
		e := &n.t.Snapshot.Endpoints[i]
		w := workload{e.Namespace, e.Owner}
		switch {
		case e.Owner.Name == "" || here[w] != n.workload[w]:
			out = append(out, unit{e.Namespace, e.Name})
		case n.namesakes[[2]string{e.Namespace, e.Owner.Name}] > 1:
			out = append(out, unit{e.Namespace, strings.ToLower(e.Owner.Kind) + "/" + e.Owner.Name})
		default:
			out = append(out, unit{e.Namespace, e.Owner.Name})
		}
	}
	slices.SortFunc(out, func(a, b unit) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return slices.Compact(out)
}

// endpoints names endpoints within about width columns: all of them if that
// fits, else with whole namespaces as "shop/*", else only the first ones.
func (n *namer) endpoints(endpoints []int32, width int) string {
	units := n.units(endpoints)
	if s := listUnits(units); len(units) == 1 || term.Columns(s) <= width && len(units) <= 12 && !n.manyWhole(endpoints, units) {
		if len(endpoints) > len(units) {
			s += fmt.Sprintf(" (%d pods)", len(endpoints))
		}
		return s
	}
	count := fmt.Sprintf(" (%d pods)", len(endpoints))
	if len(endpoints) == len(n.t.Snapshot.Endpoints) && len(n.pods) > 1 {
		return "all pods" + count
	}
	units = n.whole(endpoints, units)
	if s := listUnits(units); term.Columns(s) <= width && len(units) <= 12 {
		return s + count
	}
	s, k := listUnits(units[:1]), 1
	for k < len(units) && term.Columns(listUnits(units[:k+1])) <= width-20 {
		k++
		s = listUnits(units[:k])
	}
	if k == len(units) {
		return s + count
	}
	s += fmt.Sprintf(" … +%d", len(units)-k)
	spaces := 1
	for i := 1; i < len(units); i++ {
		if units[i].namespace != units[i-1].namespace {
			spaces++
		}
	}
	if spaces > 1 {
		s += fmt.Sprintf(" in %d namespaces", spaces)
	}
	if len(endpoints) > len(units) {
		s += count
	}
	return s
}

// manyWhole reports whether units list all of a namespace of four or more.
func (n *namer) manyWhole(endpoints []int32, units []unit) bool {
	return len(units)-len(n.whole(endpoints, units)) >= 3
}

// whole replaces the units of each namespace of which all pods are among
// endpoints by one called "*", if they are several.
func (n *namer) whole(endpoints []int32, units []unit) []unit {
	here := map[string]int{}
	for _, i := range endpoints {
		here[n.t.Snapshot.Endpoints[i].Namespace]++
	}
	var out []unit
	for i, u := range units {
		lone := (i == 0 || units[i-1].namespace != u.namespace) && (i+1 == len(units) || units[i+1].namespace != u.namespace)
		if here[u.namespace] == n.pods[u.namespace] && !lone {
			u.name = "*"
		}
		out = append(out, u)
	}
	return slices.Compact(out)
}

// listUnits lists units as a shell would expand them: "prod/prod{1,2}, qa/x".
func listUnits(units []unit) string {
	var out []string
	for i := 0; i < len(units); {
		j := i
		var names []string
		for j < len(units) && units[j].namespace == units[i].namespace {
			names = append(names, units[j].name)
			j++
		}
		out = append(out, units[i].namespace+"/"+braces(names))
		i = j
	}
	return strings.Join(out, ", ")
}

// braces joins names with what they begin with in common before the braces,
// where that ends a word or only numbers follow.
func braces(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	prefix := names[0]
	for _, s := range names[1:] {
		for !strings.HasPrefix(s, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	numbers := !slices.ContainsFunc(names, func(s string) bool {
		rest := s[len(prefix):]
		return rest == "" || strings.Trim(rest, "0123456789") != ""
	})
	if !numbers {
		prefix = prefix[:strings.LastIndexAny(prefix, "-./")+1]
	}
	rests := make([]string, len(names))
	for i, s := range names {
		rests[i] = s[len(prefix):]
	}
	return prefix + "{" + strings.Join(rests, ",") + "}"
}

func (n *namer) nodes(ids []int32, width int) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = n.t.Snapshot.Nodes[id].Name
	}
	s := "node/" + braces(names)
	switch {
	case term.Columns(s) <= width:
		return s
	case len(names) == len(n.t.Snapshot.Nodes):
		return fmt.Sprintf("all nodes (%d)", len(names))
	}
	return fmt.Sprintf("node/%s … +%d", names[0], len(names)-1)
}

// addresses names outside addresses by their CIDRs. The rest of the world is
// "external", with the family where each has its own.
func (n *namer) addresses(g *group) string {
	switch {
	case !g.external:
		return shortAddrs(g.addrs)
	case len(n.t.Families()) == 1 || !g.addrs.Only(netset.V4).Empty() && !g.addrs.Only(netset.V6).Empty():
		return "external"
	case g.addrs.Only(netset.V6).Empty():
		return "external (IPv4)"
	}
	return "external (IPv6)"
}

// shortAddrs writes a set of addresses as prefixes, or as one prefix except
// others where that is shorter, and at most three of them.
func shortAddrs(a netset.Addrs) string {
	ps := prefixes(a)
	if len(ps) > 2 {
		for _, cover := range covers(a) {
			if except := prefixes(netset.FromPrefix(cover).Subtract(a)); len(except) < len(ps)-1 && len(except) <= 3 {
				return cover.String() + " except " + strings.Join(except, ", ")
			}
		}
	}
	if len(ps) > 3 {
		return fmt.Sprintf("%s, %s … +%d", ps[0], ps[1], len(ps)-2)
	}
	return strings.Join(ps, ", ")
}

// distinguish numbers names that are equal.
func distinguish(gs []*group) {
	seen := map[string]int{}
	for _, g := range gs {
		seen[g.name]++
		if n := seen[g.name]; n > 1 {
			g.name += fmt.Sprintf(" #%d", n)
		}
	}
}
