package suite

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// unit is a part of one side of an assertion that the table cannot tell apart:
// pods of one group, reached in one way, or one party that is no pod.
type unit struct {
	group     int            // into index.groups; verdict.None for nodes
	endpoints []int32        // ascending; empty for anything but pods
	party     verdict.Party  // valid iff endpoints is empty
	family    netset.Family  // the only family that is meant; 0 means any
	service   *model.Service // towards these pods through this Service; nil for none
	targets   []uint16       // with service: the pod's port for each of its ports, 0 for none
	text      string         // how the suite names the party, for messages
}

// at returns the unit's party in family f for endpoint e, or of the party that
// is no pod.
func (u *unit) at(t *verdict.Table, e int32, f netset.Family) (verdict.Party, bool) {
	switch {
	case u.family != 0 && u.family != f:
		return verdict.Party{}, false
	case len(u.endpoints) > 0:
		return t.EndpointParty(int(e), f)
	case u.party.Family == f:
		return u.party, true
	case u.party.Node != verdict.None:
		return t.NodeParty(int(u.party.Node), f)
	}
	return verdict.Party{}, false
}

// traffic translates ports, towards a Service, to ports of the pods.
func (u *unit) traffic(p Port, f netset.Family) netset.Traffic {
	in := p.in(f)
	if u.service == nil || p.echo {
		return in
	}
	var out netset.Traffic
	for i, sp := range u.service.Ports {
		if u.targets[i] != 0 && in.Contains(netset.KeyOf(sp.Proto, sp.Port)) {
			out = out.Union(netset.Ports(sp.Proto, u.targets[i], u.targets[i]))
		}
	}
	return out
}

// index is what checking needs of the table beyond the table itself.
type index struct {
	table    *verdict.Table
	families []netset.Family
	groups   []verdict.Group
	groupOf  []int // by endpoint; verdict.None for one without an address
	outside  map[outside]int
}

// outside names a class of outside addresses.
type outside struct {
	peer   verdict.PeerID
	family netset.Family
}

func newIndex(t *verdict.Table) *index {
	x := &index{
		table: t, families: t.Families(),
		groupOf: make([]int, len(t.Snapshot.Endpoints)),
		outside: map[outside]int{},
	}
	for i := range x.groupOf {
		x.groupOf[i] = verdict.None
	}
	x.groups = t.Groups(true, x.families...)
	for g, group := range x.groups {
		for _, e := range group.Endpoints {
			x.groupOf[e] = g
		}
		if len(group.Endpoints) == 0 {
			x.outside[outside{group.Party.Peer, group.Party.Family}] = g
		}
	}
	return x
}

// units returns what the choices stand for. The second result says why the
// test fails if some choice stands for nothing.
func (x *index) units(cs []Choice, namespace string, allowEmpty bool) (units []unit, problem string) {
	chosen := map[int32]bool{}
	for _, c := range cs {
		us, endpoints, err := x.choose(c, namespace)
		switch {
		case err != nil:
			return nil, err.Error()
		case len(us) == 0 && len(endpoints) == 0 && !allowEmpty:
			return nil, fmt.Sprintf("%s: selects nobody; correct it, or set allowEmpty", c)
		}
		units = append(units, us...)
		for _, e := range endpoints {
			chosen[e] = true
		}
	}
	pods := make([]int32, 0, len(chosen))
	for e := range chosen {
		pods = append(pods, e)
	}
	slices.Sort(pods)
	return append(x.byGroup(pods, unit{}), units...), ""
}

// choose returns the pods that c means or, where they are not all that is to be
// said of them, units.
func (x *index) choose(c Choice, namespace string) ([]unit, []int32, error) {
	if c.Text == "" {
		return nil, x.selected(c), nil
	}
	if p, ok := parseCIDR(c.Text); ok {
		return x.inPrefix(p, c.Text), nil, nil
	}
	text := strings.TrimPrefix(c.Text, "ip:")
	if a, err := netip.ParseAddr(text); err == nil {
		if us, ok := x.address(a.Unmap().WithZone(""), c.Text); ok {
			return us, nil, nil
		}
	}
	ref, err := x.table.Resolve(text, namespace)
	if err != nil {
		return nil, nil, err
	}
	if ref.Service != nil {
		return x.behind(ref.Service), nil, nil
	}
	if len(ref.Endpoints) > 0 {
		return nil, x.addressed(ref.Endpoints), nil
	}
	var us []unit
	for _, p := range x.table.Parties(ref) {
		if p.Node != verdict.None && len(us) > 0 {
			continue // the unit of a node finds its other address itself
		}
		us = append(us, x.single(p, c.Text))
	}
	return us, nil, nil
}

// selected returns the pods that selectors match.
func (x *index) selected(c Choice) []int32 {
	spaces := map[string]bool{}
	for i := range x.table.Snapshot.Namespaces {
		n := &x.table.Snapshot.Namespaces[i]
		if c.Namespace != "" {
			spaces[n.Name] = n.Name == c.Namespace
		} else {
			spaces[n.Name] = c.Namespaces.Matches(n.Labels)
		}
	}
	var out []int32
	for i := range x.table.Snapshot.Endpoints {
		e := &x.table.Snapshot.Endpoints[i]
		if spaces[e.Namespace] && x.groupOf[i] != verdict.None && c.Pods.Matches(e.Labels) {
			out = append(out, int32(i))
		}
	}
	return out
}

// addressed drops endpoints without an address.
func (x *index) addressed(es []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(es), func(e int32) bool { return x.groupOf[e] == verdict.None })
}

// byGroup splits pods by group into units like the given one.
func (x *index) byGroup(pods []int32, like unit) []unit {
	var out []unit
	at := map[int]int{}
	for _, e := range pods {
		g := x.groupOf[e]
		i, ok := at[g]
		if !ok {
			i = len(out)
			at[g] = i
			u := like
			u.group = g
			out = append(out, u)
		}
		out[i].endpoints = append(out[i].endpoints, e)
	}
	return out
}

func (x *index) single(p verdict.Party, text string) unit {
	u := unit{group: verdict.None, party: p, text: text}
	if g, ok := x.outside[outside{p.Peer, p.Family}]; ok && p.Node == verdict.None {
		u.group = g
	}
	return u
}

// address returns the pod, or the host, that has address a; false if a is an
// address of a Service.
func (x *index) address(a netip.Addr, text string) ([]unit, bool) {
	for i := range x.table.Snapshot.Services {
		if slices.Contains(x.table.Snapshot.Services[i].ClusterIPs, a) {
			return nil, false
		}
	}
	p := x.table.AddrParty(a)
	if p.Endpoint != verdict.None {
		return x.byGroup([]int32{p.Endpoint}, unit{family: p.Family}), true
	}
	u := x.single(p, text)
	u.family = p.Family
	return []unit{u}, true
}

// inPrefix returns the pods, the nodes and the outside addresses in p.
func (x *index) inPrefix(p netip.Prefix, text string) []unit {
	f := netset.FamilyOf(p.Addr())
	nets := netset.FromPrefix(p)
	var pods []int32
	for i := range x.table.Snapshot.Endpoints {
		e := &x.table.Snapshot.Endpoints[i]
		if a := e.Addr(f); e.Kind == model.Pod && a.IsValid() && nets.Contains(a) && x.groupOf[i] != verdict.None {
			pods = append(pods, int32(i))
		}
	}
	out := x.byGroup(pods, unit{family: f})
	for i := range x.table.Snapshot.Nodes {
		for _, a := range x.table.Snapshot.Nodes[i].Addrs {
			if nets.Contains(a) {
				us, _ := x.address(a, a.String())
				out = append(out, us...)
			}
		}
	}
	seen := map[verdict.PeerID]bool{}
	for b := range x.table.Blocks.Blocks {
		party, ok := x.table.BlockParty(b, f)
		if !ok || seen[party.Peer] || x.table.Blocks.Blocks[b].Addrs.Intersect(nets).Empty() {
			continue
		}
		seen[party.Peer] = true
		u := x.single(party, text)
		u.family = f
		out = append(out, u)
	}
	return out
}

// behind returns what a Service leads to, with its port translation.
func (x *index) behind(s *model.Service) []unit {
	type way struct {
		pods    []int32
		targets []uint16
	}
	var ways []way
	at := map[string]int{}
	for _, e := range x.addressed(x.table.Backends(s)) {
		targets := make([]uint16, len(s.Ports))
		for i, sp := range s.Ports {
			targets[i], _ = verdict.TargetPort(sp, &x.table.Snapshot.Endpoints[e])
		}
		k := fmt.Sprint(targets)
		i, ok := at[k]
		if !ok {
			i = len(ways)
			at[k] = i
			ways = append(ways, way{targets: targets})
		}
		ways[i].pods = append(ways[i].pods, e)
	}
	var out []unit
	for _, w := range ways {
		out = append(out, x.byGroup(w.pods, unit{service: s, targets: w.targets})...)
	}
	for _, a := range s.Backends {
		if o, ok := x.table.Owner[a]; ok && o.Endpoint != verdict.None {
			continue
		}
		u := x.single(x.table.AddrParty(a), a.String())
		u.family = u.party.Family
		u.service, u.targets = s, make([]uint16, len(s.Ports))
		for i, sp := range s.Ports {
			u.targets[i], _ = verdict.TargetPort(sp, &model.Endpoint{})
		}
		out = append(out, u)
	}
	return out
}
