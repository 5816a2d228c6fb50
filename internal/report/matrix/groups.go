package matrix

import (
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// groupKind tells what the members of a group are.
type groupKind uint8

const (
	pods      groupKind = iota
	hostPods            // pods on the host network, of one node
	nodes               // nodes themselves
	addresses           // addresses outside the cluster
)

func (k groupKind) String() string {
	return [...]string{"pods", "hostPods", "nodes", "addresses"}[k]
}

// group is a set of endpoints, nodes or outside addresses that the table cannot
// tell apart: a row, a column, or both.
type group struct {
	name       string
	kind       groupKind
	endpoints  []int32
	nodes      []int32
	addrs      netset.Addrs
	external   bool                // addrs are, or include, the rest of the world
	namespaces []string            // of the endpoints, sorted
	targets    [2]verdict.TargetID // by direction
	peers      [2]verdict.PeerID   // by family
}

// same reports whether g and o have the same members.
func (g *group) same(o *group) bool {
	return g.kind == o.kind && slices.Equal(g.endpoints, o.endpoints) && slices.Equal(g.nodes, o.nodes) && g.addrs.Equal(o.addrs)
}

// groupKey is what groups with the same members share, and few others.
type groupKey struct {
	kind  groupKind
	first int32
	addr  netip.Addr
}

func (g *group) key() groupKey {
	k := groupKey{kind: g.kind, addr: g.addrs.First()}
	if ms := append(g.endpoints[:len(g.endpoints):len(g.endpoints)], g.nodes...); len(ms) > 0 {
		k.first = ms[0]
	}
	return k
}

// inside reports whether the members are pods.
func (g *group) inside() bool { return g.kind == pods || g.kind == hostPods }

func familyIndex(f netset.Family) int {
	if f == netset.V6 {
		return 1
	}
	return 0
}

// all returns every group of the cluster, as the options want it: pods, then
// nodes, then outside addresses with the rest of the world last.
func (r *Report) all() []*group {
	var out []*group
	for _, g := range r.t.Groups(false) {
		out = append(out, r.podGroup(g.Endpoints))
	}
	if r.o.Nodes {
		out = append(out, r.nodeGroups(nil)...)
	}
	if r.o.External {
		out = append(out, r.blockGroups()...)
	}
	return out
}

// podGroup returns the group of endpoints, which are all of one class.
func (r *Report) podGroup(endpoints []int32) *group {
	g := &group{endpoints: endpoints}
	first := endpoints[0]
	if r.t.Snapshot.Endpoints[first].Kind == model.HostPod {
		g.kind = hostPods
	}
	for d := range g.targets {
		g.targets[d] = r.t.TargetOf[d][first]
	}
	for f := range g.peers {
		g.peers[f] = r.t.PeerOf[f][first]
	}
	for _, e := range endpoints {
		ns := r.t.Snapshot.Endpoints[e].Namespace
		if n := len(g.namespaces); n == 0 || g.namespaces[n-1] != ns {
			g.namespaces = append(g.namespaces, ns)
		}
	}
	return g
}

// nodeGroups groups the nodes that only has, or all if it is nil.
func (r *Report) nodeGroups(only map[int32]bool) []*group {
	var out []*group
	at := map[[2]verdict.PeerID]*group{}
	for i := range r.t.Snapshot.Nodes {
		peers := [2]verdict.PeerID{r.t.NodePeer[0][i], r.t.NodePeer[1][i]}
		if only != nil && !only[int32(i)] || peers == [2]verdict.PeerID{verdict.None, verdict.None} {
			continue
		}
		g := at[peers]
		if g == nil {
			g = &group{kind: nodes, peers: peers, targets: noTargets}
			at[peers] = g
			out = append(out, g)
		}
		g.nodes = append(g.nodes, int32(i))
	}
	return out
}

var noTargets = [2]verdict.TargetID{verdict.None, verdict.None}

// blockGroups returns the classes of outside addresses, the rest of the world
// last. A class with addresses of both families is one group.
func (r *Report) blockGroups() []*group {
	var out []*group
	at := map[verdict.PeerID]*group{}
	for _, f := range r.t.Families() {
		rest := r.t.ExternalBlock(f)
		for b := range r.t.Blocks.Blocks {
			p, ok := r.t.BlockParty(b, f)
			if !ok {
				continue
			}
			g := at[p.Peer]
			if g == nil {
				g = &group{kind: addresses, targets: noTargets, peers: [2]verdict.PeerID{verdict.None, verdict.None}}
				at[p.Peer] = g
				out = append(out, g)
			}
			g.peers[familyIndex(f)] = p.Peer
			g.addrs = g.addrs.Union(r.t.Blocks.Blocks[b].Addrs.Only(f))
			g.external = g.external || b == rest
		}
	}
	if r.o.Evidence != nil {
		out = slices.DeleteFunc(out, r.nobody)
	}
	slices.SortStableFunc(out, func(a, b *group) int {
		switch {
		case a.external == b.external:
			return a.addrs.First().Compare(b.addrs.First())
		case b.external:
			return -1
		}
		return 1
	})
	return out
}

// chosen returns the groups of what refs name: of endpoints and nodes only the
// named ones, and an address by itself.
func (r *Report) chosen(refs []verdict.Ref) ([]*group, error) {
	endpoints, machines := map[int32]bool{}, map[int32]bool{}
	var outside []*group
	external := false
	for _, ref := range refs {
		ps := r.t.Parties(ref)
		if len(ps) == 0 {
			return nil, missing(ref)
		}
		if ref.External {
			external = true
			continue
		}
		for _, p := range ps {
			switch {
			case p.Endpoint != verdict.None:
				endpoints[p.Endpoint] = true
			case p.Node != verdict.None:
				machines[p.Node] = true
			default:
				outside = append(outside, hostGroup(p))
			}
		}
	}
	var out []*group
	for _, g := range r.t.Groups(false) {
		es := slices.DeleteFunc(slices.Clone(g.Endpoints), func(e int32) bool { return !endpoints[e] })
		if len(es) > 0 {
			out = append(out, r.podGroup(es))
		}
	}
	out = append(out, r.nodeGroups(machines)...)
	for i, g := range outside {
		if !slices.ContainsFunc(outside[:i], g.same) {
			out = append(out, g)
		}
	}
	if external {
		for _, g := range r.blockGroups() {
			if g.external {
				out = append(out, g)
			}
		}
	}
	return out, nil
}

// hostGroup is the group of one outside address.
func hostGroup(p verdict.Party) *group {
	g := &group{kind: addresses, targets: noTargets, peers: [2]verdict.PeerID{verdict.None, verdict.None}}
	g.peers[familyIndex(p.Family)] = p.Peer
	g.addrs = netset.FromPrefix(netip.PrefixFrom(p.Addr, p.Addr.BitLen()))
	return g
}
