//go:build linux

package prove

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
)

// Placer gives each pod a node and each node an address, as a scheduler and a
// machine would. Pods stay where they are from one snapshot to the next.
type Placer struct {
	// Nodes is the least number of nodes.
	Nodes int

	nodeOf map[string]string // pod → node, of those without one
	next   int
	addrOf map[addrKey]netip.Addr // of nodes without one
}

type addrKey struct {
	node   string
	family int // index
}

// Place returns the snapshot with every pod on a node. Nodes that pods name but
// the snapshot does not have are added, and as many more as there must be; pods
// without a node are dealt out in order. Nodes without an address get one of
// each family that the cluster uses, in 172.18.0.0/16 or fd00:172:18::/64, and
// pods on the host network get their node's. The snapshot is not changed.
func (p *Placer) Place(s *model.Snapshot) *model.Snapshot {
	if p.nodeOf == nil {
		p.nodeOf, p.addrOf = map[string]string{}, map[addrKey]netip.Addr{}
	}
	out := *s
	out.Nodes, out.Endpoints = slices.Clone(s.Nodes), slices.Clone(s.Endpoints)
	p.addNodes(&out)
	p.address(&out)
	at := map[string]*model.Node{}
	for i := range out.Nodes {
		at[out.Nodes[i].Name] = &out.Nodes[i]
	}
	for i := range out.Endpoints {
		e := &out.Endpoints[i]
		if e.Node == "" {
			if _, ok := p.nodeOf[e.String()]; !ok {
				p.nodeOf[e.String()] = out.Nodes[p.next%len(out.Nodes)].Name
				p.next++
			}
			e.Node = p.nodeOf[e.String()]
			if at[e.Node] == nil { // it was there in an earlier snapshot
				e.Node = out.Nodes[0].Name
			}
		}
		if e.Kind == model.HostPod {
			e.Addrs = onePerFamily(at[e.Node].Addrs)
		}
	}
	return &out
}

func (p *Placer) addNodes(s *model.Snapshot) {
	known := map[string]bool{}
	for i := range s.Nodes {
		known[s.Nodes[i].Name] = true
	}
	add := func(name string) {
		if !known[name] {
			known[name] = true
			s.Nodes = append(s.Nodes, model.Node{Name: name})
		}
	}
	for i := range s.Endpoints {
		if n := s.Endpoints[i].Node; n != "" {
			add(n)
		}
	}
	for i := 1; len(s.Nodes) < max(p.Nodes, 1); i++ {
		add(fmt.Sprintf("node-%d", i))
	}
	slices.SortFunc(s.Nodes, func(a, b model.Node) int { return strings.Compare(a.Name, b.Name) })
}

// address gives nodes the addresses that they lack. A pod on the host network
// may know its node's.
func (p *Placer) address(s *model.Snapshot) {
	used := map[netip.Addr]bool{}
	told := map[string][]netip.Addr{}
	var family [2]bool
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, a := range e.Addrs {
			used[a] = true
			family[familyIndex(netset.FamilyOf(a))] = true
			if e.Kind == model.HostPod && !e.Assigned {
				told[e.Node] = append(told[e.Node], a)
			}
		}
	}
	for i := range s.Nodes {
		for _, a := range s.Nodes[i].Addrs {
			used[a] = true
		}
	}
	for i := range s.Services {
		for _, a := range s.Services[i].ClusterIPs {
			used[a] = true
		}
	}
	next := [2]netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00:172:18::2")}
	family[0] = family[0] || !family[1]
	claimed := map[netip.Addr]bool{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Addrs = slices.DeleteFunc(slices.Clone(n.Addrs), func(a netip.Addr) bool {
			twice := claimed[a]
			claimed[a] = true
			return twice
		})
		for f, want := range family {
			has := func(a netip.Addr) bool { return familyIndex(netset.FamilyOf(a)) == f }
			if !want || slices.ContainsFunc(n.Addrs, has) {
				continue
			}
			if k := slices.IndexFunc(told[n.Name], func(a netip.Addr) bool { return has(a) && !claimed[a] }); k >= 0 {
				claimed[told[n.Name][k]] = true
				n.Addrs = append(n.Addrs, told[n.Name][k])
				continue
			}
			key := addrKey{n.Name, f}
			if a := p.addrOf[key]; !a.IsValid() || used[a] {
				for used[next[f]] || p.given(next[f]) {
					next[f] = next[f].Next()
				}
				p.addrOf[key] = next[f]
			}
			claimed[p.addrOf[key]] = true
			n.Addrs = append(n.Addrs, p.addrOf[key])
		}
	}
}

func (p *Placer) given(a netip.Addr) bool {
	for _, other := range p.addrOf {
		if other == a {
			return true
		}
	}
	return false
}

func onePerFamily(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, f := range families {
		for _, a := range addrs {
			if netset.FamilyOf(a) == f {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

var families = [2]netset.Family{netset.V4, netset.V6}

func familyIndex(f netset.Family) int {
	if f == netset.V6 {
		return 1
	}
	return 0
}

// compareAddrs orders addresses, IPv4 first.
func compareAddrs(a, b netip.Addr) int {
	return cmp.Or(cmp.Compare(a.BitLen(), b.BitLen()), a.Compare(b))
}
