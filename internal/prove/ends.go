//go:build linux

package prove

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/lab"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// An end is who sends or receives packets, by its address of one family.
type end struct {
	verdict.Party
	name  string // of the lab's endpoint
	kind  endKind
	group int32 // index into plan.groups
	node  int32 // of the table's snapshot; None for hosts outside
}

type endKind uint8

const (
	pod endKind = iota
	hostPod
	node
	outside
)

func (k endKind) String() string { return [...]string{"pods", "hostPods", "nodes", "addresses"}[k] }

// A group is the ends of a family that the table cannot tell apart.
type group struct {
	groupKey
	party  verdict.Party     // any member
	ends   []int32           // into plan.ends; empty if nobody is in the lab
	byNode map[int32][]int32 // the same by node
	why    string            // why there are no ends
}

type groupKey struct {
	kind    endKind
	family  netset.Family
	targets [2]verdict.TargetID // None but for pods
	peer    verdict.PeerID
}

// listEnds lists everybody who takes part, family by family: pods, nodes, hosts
// outside. missing are the pods that the lab could not have; a group of which
// nobody takes part is kept, since its cells count.
func (p *plan) listEnds(hosts []netip.Addr, missing map[string]string) {
	s := p.t.Snapshot
	nodeAt := map[string]int32{}
	for i := range s.Nodes {
		nodeAt[s.Nodes[i].Name] = int32(i)
	}
	for _, f := range p.t.Families() {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			party, ok := p.t.EndpointParty(i, f)
			if !ok {
				continue
			}
			k := p.keyOf(party)
			if why := missing[e.String()]; why != "" {
				p.group(k, party, "of pods that take no part: "+why)
				continue
			}
			p.add(end{Party: party, name: e.String(), kind: k.kind, node: nodeAt[e.Node]}, k)
		}
		for i := range s.Nodes {
			if party, ok := p.t.NodeParty(i, f); ok {
				p.add(end{Party: party, name: s.Nodes[i].Name, kind: node, node: int32(i)}, p.keyOf(party))
			}
		}
		for _, a := range hosts {
			party := p.t.AddrParty(a)
			if netset.FamilyOf(a) != f || party.Endpoint != verdict.None || party.Node != verdict.None {
				continue
			}
			p.add(end{Party: party, name: a.String(), kind: outside, node: verdict.None}, p.keyOf(party))
		}
		for b := range p.t.Blocks.Blocks {
			party, ok := p.t.BlockParty(b, f)
			if in := p.t.Blocks.Blocks[b].Addrs.Only(f); ok && p.unowned(in) {
				p.group(p.keyOf(party), party, "no host in the lab can have the addresses "+in.String())
			}
		}
	}
}

// unowned reports whether hosts outside could have an address of the set: one
// that is nobody's in the cluster.
func (p *plan) unowned(s netset.Addrs) bool {
	for _, r := range s.Ranges() {
		for a, n := r.From, 0; a.IsValid() && a.Compare(r.To) <= 0; a, n = a.Next(), n+1 {
			if _, owned := p.t.Owner[a]; !owned || n > len(p.t.Owner) {
				return true
			}
		}
	}
	return false
}

// keyOf is the key of the group that a party belongs to.
func (p *plan) keyOf(x verdict.Party) groupKey {
	k := groupKey{kind: outside, family: x.Family, targets: noTargets, peer: x.Peer}
	switch {
	case x.Endpoint != verdict.None:
		k.kind = pod
		for d := range k.targets {
			k.targets[d] = p.t.TargetOf[d][x.Endpoint]
		}
		if p.t.Snapshot.Endpoints[x.Endpoint].Kind == model.HostPod {
			k.kind = hostPod
		}
	case x.Node != verdict.None:
		k.kind = node
	}
	return k
}

var noTargets = [2]verdict.TargetID{verdict.None, verdict.None}

// group returns the group with the key, which exists from then on.
func (p *plan) group(k groupKey, party verdict.Party, why string) int32 {
	g, ok := p.groupAt[k]
	if !ok {
		g = int32(len(p.groups))
		p.groupAt[k] = g
		p.groups = append(p.groups, group{groupKey: k, party: party, byNode: map[int32][]int32{}, why: why})
	}
	return g
}

func (p *plan) add(e end, k groupKey) {
	e.group = p.group(k, e.Party, "")
	n := int32(len(p.ends))
	p.ends = append(p.ends, e)
	g := &p.groups[e.group]
	g.ends, g.why = append(g.ends, n), ""
	g.byNode[e.node] = append(g.byNode[e.node], n)
}

// maxHosts bounds the hosts outside. Each class of addresses has one in any
// case.
const maxHosts = 2000

// outsiders chooses the addresses of hosts outside the cluster, so that each
// class of addresses of each table has some: in each range of addresses that
// policies cut out, one inside it and one at either border.
func outsiders(tables []*verdict.Table) []netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, t := range tables {
		for a := range t.Owner {
			taken[a] = true
		}
		for i := range t.Snapshot.Services {
			for _, a := range t.Snapshot.Services[i].ClusterIPs {
				taken[a] = true
			}
		}
		for i := range t.Snapshot.Endpoints {
			for _, a := range t.Snapshot.Endpoints[i].Addrs {
				taken[a] = true
			}
		}
	}
	chosen := map[netip.Addr]bool{}
	done := map[netset.Range[netip.Addr]]bool{}
	for _, t := range tables {
		classes := map[groupKey]bool{}
		for _, f := range t.Families() {
			for i := range t.Blocks.Blocks {
				class := groupKey{family: f, peer: t.BlockPeer[i]}
				for _, r := range t.Blocks.Blocks[i].Addrs.Only(f).Ranges() {
					if classes[class] && (done[r] || len(chosen) >= maxHosts) {
						continue
					}
					done[r] = true
					for _, a := range addressesOf(r, t.Snapshot.PodCIDRs, taken) {
						chosen[a], classes[class] = true, true
					}
				}
			}
		}
	}
	out := make([]netip.Addr, 0, len(chosen))
	for a := range chosen {
		out = append(out, a)
	}
	slices.SortFunc(out, compareAddrs)
	return out
}

// documented are addresses kept for examples: who reads a report knows that
// they are nobody's.
var documented = []netip.Addr{
	netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
}

// addressesOf chooses addresses in r. Its ends are borders only where they are
// not those of the whole address space.
func addressesOf(r netset.Range[netip.Addr], pods []netip.Prefix, taken map[netip.Addr]bool) []netip.Addr {
	free := func(a netip.Addr) bool { return a.IsValid() && !taken[a] && lab.Usable(a) == nil }
	within := func(a netip.Addr) bool { return a.IsValid() && a.Compare(r.From) >= 0 && a.Compare(r.To) <= 0 }
	search := func(a netip.Addr, step func(netip.Addr) netip.Addr) netip.Addr {
		for n := 0; n < 1024 && within(a); n++ {
			if free(a) {
				return a
			}
			a = step(a)
		}
		return netip.Addr{}
	}
	var out []netip.Addr
	middle := netip.Addr{}
	for _, a := range documented {
		if within(a) && free(a) {
			middle = a
			break
		}
	}
	if !middle.IsValid() && within(r.From.Next()) {
		// Not the first address, which looks like the name of a network, and not
		// one that pods get, if that can be helped.
		middle = search(r.From.Next(), netip.Addr.Next)
		if inPrefixes(middle, pods) {
			if last := search(r.To, netip.Addr.Prev); last.IsValid() && !inPrefixes(last, pods) {
				middle = last
			}
		}
	}
	if !middle.IsValid() {
		middle = search(skipUnusable(r.From), netip.Addr.Next)
	}
	if middle.IsValid() {
		out = append(out, middle)
	}
	if r.From.Prev().IsValid() {
		out = append(out, search(r.From, netip.Addr.Next))
	}
	if r.To.Next().IsValid() {
		out = append(out, search(r.To, netip.Addr.Prev))
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return !a.IsValid() })
}

// skipUnusable leaves the ranges at the low end of the address space that hold
// no host.
func skipUnusable(a netip.Addr) netip.Addr {
	if a.Is4() && a.As4()[0] == 0 {
		return netip.AddrFrom4([4]byte{1, 0, 0, 0})
	}
	return a
}

func inPrefixes(a netip.Addr, ps []netip.Prefix) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// labSpec is the lab for the snapshots of all tables, in which a pod of one
// name is one pod. missing says which pods have no place in it, and why.
func labSpec(tables []*verdict.Table, hosts []netip.Addr) (spec lab.Spec, missing map[string]string, err error) {
	missing = map[string]string{}
	pods, nodes := map[string]*lab.PodSpec{}, map[string]*lab.NodeSpec{}
	owner := map[netip.Addr]string{}
	for _, t := range tables {
		s := t.Snapshot
		for i := range s.Nodes {
			n := &s.Nodes[i]
			if old := nodes[n.Name]; old != nil && !slices.Equal(old.Addrs, n.Addrs) {
				return spec, nil, fmt.Errorf("node %s has other addresses than before", n.Name)
			}
			nodes[n.Name] = &lab.NodeSpec{Name: n.Name, Addrs: n.Addrs}
			for _, a := range n.Addrs {
				owner[a] = n.Name
			}
		}
	}
	for _, t := range tables {
		shared := sharedAddrs(t.Snapshot)
		s := t.Snapshot
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			name := e.String()
			spec := &lab.PodSpec{Name: name, Node: e.Node, HostNetwork: e.Kind == model.HostPod}
			if !spec.HostNetwork {
				spec.Addrs = e.Addrs
			}
			for _, c := range e.Ports {
				spec.Ports = append(spec.Ports, lab.Port{Proto: c.Proto, Number: c.Number})
			}
			if old := pods[name]; old != nil {
				if old.Node != spec.Node || old.HostNetwork != spec.HostNetwork || !slices.Equal(old.Addrs, spec.Addrs) {
					return lab.Spec{}, nil, fmt.Errorf("pod %s is elsewhere than before", name)
				}
				for _, c := range spec.Ports {
					if !slices.Contains(old.Ports, c) {
						old.Ports = append(old.Ports, c)
					}
				}
				continue
			}
			if missing[name] != "" {
				continue
			}
			if why := unfit(spec, owner, shared); why != "" {
				missing[name] = why
				continue
			}
			for _, a := range spec.Addrs {
				owner[a] = name
			}
			pods[name] = spec
		}
	}
	for _, n := range nodes {
		spec.Nodes = append(spec.Nodes, *n)
	}
	for _, p := range pods {
		p.Ports = slices.DeleteFunc(p.Ports, func(c lab.Port) bool { return c.Number == 0 || !listens(c.Proto) })
		spec.Pods = append(spec.Pods, *p)
	}
	for _, a := range hosts {
		spec.Externals = append(spec.Externals, lab.ExternalSpec{Name: a.String(), Addrs: []netip.Addr{a}})
	}
	slices.SortFunc(spec.Nodes, func(a, b lab.NodeSpec) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(spec.Pods, func(a, b lab.PodSpec) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range tables {
		spec.AddDNS(t.Snapshot)
	}
	return spec, missing, nil
}

func listens(p netset.Proto) bool { return p == netset.TCP || p == netset.UDP || p == netset.SCTP }

// sharedAddrs are the addresses that several pods have. Nobody can say whose a
// packet is then.
func sharedAddrs(s *model.Snapshot) map[netip.Addr]bool {
	out, seen := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i := range s.Endpoints {
		if s.Endpoints[i].Kind == model.HostPod {
			continue
		}
		for _, a := range s.Endpoints[i].Addrs {
			out[a] = seen[a]
			seen[a] = true
		}
	}
	return out
}

// unfit says why a pod has no place in the lab, or "".
func unfit(p *lab.PodSpec, owner map[netip.Addr]string, shared map[netip.Addr]bool) string {
	if p.HostNetwork {
		return ""
	}
	if len(p.Addrs) == 0 {
		return "it has no address"
	}
	for _, a := range p.Addrs {
		if err := lab.Usable(a); err != nil {
			return err.Error()
		}
		if shared[a] {
			return fmt.Sprintf("other pods have its address %s too", a)
		}
		if o := owner[a]; o != "" {
			return fmt.Sprintf("its address %s is that of %s", a, o)
		}
	}
	return ""
}
