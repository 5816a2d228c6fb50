// Package clustergen makes clusters for tests: small random ones that reach
// every feature of the model (Random), and large ones that look like real ones
// (Sized). Both are functions of their arguments alone.
package clustergen

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// A Coin is tossed for each choice; what says what the choice is about. Tests
// draw from a source of randomness that can shrink: false is always the simpler
// choice.
type Coin func(what string) bool

// Random makes a small cluster. Names, labels, ports and addresses come from
// short lists, so that everything meets everything.
func Random(coin Coin) *model.Snapshot {
	g := &gen{coin: coin, s: &model.Snapshot{}}
	g.flavour()
	g.namespaces()
	g.nodes()
	g.endpoints()
	g.sets()
	g.tiers()
	Sort(g.s)
	return g.s
}

// Dialect draws one of the named dialects, and sometimes one with knobs of its
// own.
func Dialect(coin Coin) model.Dialect {
	g := gen{coin: coin}
	if i := g.n("dialect", len(model.Dialects)+1); i < len(model.Dialects) {
		return model.Dialects[i]
	}
	knobs := g.n("knobs", 128)
	return model.Dialect{
		Name:          "mixed",
		OpenProtocols: knobs&1 != 0,
		OpenNets:      knobs&2 != 0,
		OpenHostPods:  knobs&4 != 0,
		OpenTies:      knobs&8 != 0,
		OpenNames:     knobs&16 != 0,
		OwnPodsOnly:   knobs&32 != 0,
		SlashTies:     knobs&64 != 0,
	}
}

// Sort brings the lists of s into the order that the model promises. Where that
// leaves room it takes the namespace, then the kind.
func Sort(s *model.Snapshot) {
	slices.SortStableFunc(s.Namespaces, func(a, b model.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(s.Nodes, func(a, b model.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(s.Endpoints, func(a, b model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(s.Services, func(a, b model.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(s.NetworkSets, func(a, b model.NetworkSet) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for i := range s.Tiers {
		union := s.Tiers[i].Union
		slices.SortStableFunc(s.Tiers[i].Policies, func(a, b model.Policy) int {
			if union {
				return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
			}
			return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name),
				cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind))
		})
	}
}

// gen draws the parts of one cluster.
type gen struct {
	coin Coin
	s    *model.Snapshot

	v4, v6 bool // the families in use
	broken bool // some things could not be read
	exotic bool // what the Kubernetes APIs can't say: negation, sets, Log, more tiers
}

// flavour draws what kind of cluster it is. Rare features are switched for a
// whole cluster: were they in each, they would drown the others.
func (g *gen) flavour() {
	switch g.n("families", 4) {
	case 0:
		g.v6 = true
	case 1, 2:
		g.v4, g.v6 = true, true
	default:
		g.v4 = true
	}
	g.s.DualStack = g.v4 && g.v6
	g.broken = g.one("broken", 3)
	g.exotic = g.one("exotic", 2)
}

// n draws a number below limit, all about equally often.
func (g *gen) n(what string, limit int) int {
	v := 0
	for range bits.Len(uint(limit-1)) + 2 {
		v <<= 1
		if g.coin(what) {
			v++
		}
	}
	return v % limit
}

// one draws true in about one of k cases.
func (g *gen) one(what string, k int) bool { return g.n(what, k) == k-1 }

func pick[T any](g *gen, what string, from []T) T { return from[g.n(what, len(from))] }

var (
	namespaceNames = []string{"a", "b", "c"}
	podNames       = []string{"p", "q", "r", "s"}
	nodeNames      = []string{"n1", "n2"}
	keys           = []string{"app", "tier", "kubernetes.io/metadata.name"}
	values         = []string{"a", "b"}
	portNames      = []string{"web", "dns"}
	portNumbers    = []uint16{80, 443, 8080, 53, 1, 65535, 0}
	protos         = []netset.Proto{netset.TCP, netset.UDP, netset.SCTP}
)

func (g *gen) labels() map[string]string {
	m := map[string]string{}
	for _, k := range keys[:2] {
		if v := g.n(k, len(values)+1); v > 0 {
			m[k] = values[v-1]
		}
	}
	return m
}

func (g *gen) namespaces() {
	n := 1 + g.n("namespaces", len(namespaceNames))
	for _, name := range namespaceNames[:n] {
		ns := model.Namespace{Name: name, Labels: g.labels()}
		ns.Labels["kubernetes.io/metadata.name"] = name
		if g.broken && g.one("broken namespace", 4) {
			ns.Broken = "its labels could not be read"
		}
		g.s.Namespaces = append(g.s.Namespaces, ns)
	}
}

func (g *gen) nodes() {
	for i, name := range nodeNames[:pick(g, "nodes", []int{2, 1, 2, 0})] {
		n := model.Node{Name: name, Labels: g.labels()}
		if g.v4 {
			n.Addrs = append(n.Addrs, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
		}
		if g.v6 {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", i+1)))
		}
		g.s.Nodes = append(g.s.Nodes, n)
	}
}

func (g *gen) endpoints() {
	n := 2 + g.n("endpoints", 6)
	for i := range n {
		ns := pick(g, "namespace", g.s.Namespaces).Name
		e := model.Endpoint{
			Namespace: ns,
			Name:      fmt.Sprintf("%s%d", pick(g, "pod", podNames), i),
			Labels:    g.labels(),
		}
		e.Node = pick(g, "node", []string{"", "n1", "n2", "n1", "n2", "ghost"})
		if g.v4 {
			e.Addrs = append(e.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
		}
		if g.v6 {
			e.Addrs = append(e.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)))
		}
		if g.s.DualStack && g.one("single", 6) {
			j := g.n("family", 2)
			e.Addrs = e.Addrs[j : j+1]
		}
		for range g.n("ports", 4) {
			e.Ports = append(e.Ports, g.port())
		}
		if g.broken && g.one("broken pod", 4) {
			e.Broken = "it could not be read"
		}
		if g.one("host", 4) {
			e.Kind = model.HostPod
			e.Addrs = nil
			for i := range g.s.Nodes {
				if g.s.Nodes[i].Name == e.Node {
					e.Addrs = g.s.Nodes[i].Addrs
				}
			}
		}
		g.s.Endpoints = append(g.s.Endpoints, e)
	}
}

func (g *gen) port() model.Port {
	return model.Port{
		Name:   pick(g, "port name", append(slices.Clone(portNames), "")),
		Proto:  pick(g, "protocol", protos),
		Number: pick(g, "port", portNumbers),
	}
}

func (g *gen) sets() {
	if !g.exotic {
		return
	}
	for i := range g.n("network sets", 4) {
		set := model.NetworkSet{Name: fmt.Sprintf("set%d", i), Labels: g.labels(), Nets: g.nets()}
		if g.one("namespaced", 2) {
			set.Namespace = pick(g, "namespace", g.s.Namespaces).Name
		}
		g.s.NetworkSets = append(g.s.NetworkSets, set)
	}
}

// selector draws a selector: of everything, of one or two requirements, or of
// nothing.
func (g *gen) selector() selector.Selector {
	kind := g.n("selector", 16)
	switch {
	case kind < 7:
		return selector.Everything()
	case kind == 15:
		return selector.Selector{}
	}
	var reqs []selector.Requirement
	for range pick(g, "requirements", []int{1, 1, 1, 2}) {
		r := selector.Requirement{
			Key: pick(g, "key", []string{"app", "app", "tier", "kubernetes.io/metadata.name"}),
			Op:  pick(g, "operator", []selector.Op{selector.In, selector.NotIn, selector.In, selector.Exists, selector.NotExists}),
		}
		if r.Op == selector.In || r.Op == selector.NotIn {
			r.Values = append(r.Values, pick(g, "value", values))
			if g.one("second value", 4) {
				r.Values = append(r.Values, "a", "b", "c")
			}
		}
		reqs = append(reqs, r)
	}
	return selector.New(reqs...)
}

// cidrs are blocks around, across and beside the addresses in use.
var cidrs = prefixes("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/29", "10.0.0.0/30", "10.0.0.2/32",
	"10.0.1.0/24", "10.0.1.1/32", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.7/32", "128.0.0.0/1", "255.255.255.255/32",
	"fd00::/16", "fd00::/126", "fd00::2/128", "fd00:1::/64", "2001:db8::/32", "2001:db8::1/128")

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// nets draws blocks less some others.
func (g *gen) nets() netset.Addrs {
	var a netset.Addrs
	for range 1 + g.n("blocks", 2) {
		a = a.Union(netset.FromPrefix(pick(g, "block", cidrs)))
	}
	for range g.n("except", 3) {
		a = a.Subtract(netset.FromPrefix(pick(g, "block", cidrs)))
	}
	return a
}
