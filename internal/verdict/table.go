package verdict

import (
	"fmt"
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// Table is the compiled form of a snapshot under a dialect. It is immutable,
// and equal snapshots give equal tables.
type Table struct {
	Snapshot *model.Snapshot
	Dialect  model.Dialect

	Targets  [2][]Target // by direction
	Peers    []Peer
	Verdicts []PortVerdict // no two are equal
	Reasons  []Reason      // no two are equal
	Atoms    []Atom
	Rows     [2][]Row // by direction, then TargetID

	TargetOf [2][]TargetID // by direction, then endpoint; None if no policy can guard it
	PeerOf   [2][]PeerID   // by family (0 for IPv4, 1 for IPv6), then endpoint; None without such an address
	NodePeer [2][]PeerID   // by family, then node; None without such an address

	Blocks    *netset.Partition // the address space, cut at the borders of all address blocks that policies name
	BlockPeer []PeerID          // by block: the class of its addresses outside the cluster
	World     [2]int32          // by family: the block of the rest of the world, see ExternalBlock

	// RuleAtoms are the atoms of each rule's peers, by tier, policy, direction
	// and rule. SubjectAtoms are those of each policy's subject.
	RuleAtoms    [][][2][][]AtomID
	SubjectAtoms [][]AtomID

	Owner map[netip.Addr]Owner // who has an address in the cluster

	Counters Counters
}

// Owner tells whose an address is: an endpoint's or, with Endpoint None, a
// node's. Host-network pods do not own their node's address.
type Owner struct {
	Endpoint, Node int32
	Peer           PeerID // the class of the address
}

// Counters say how much work compiling was. They are the same for equal
// snapshots, so that a test can hold them.
type Counters struct {
	Endpoints, Policies, Rules int
	Atoms                      int // distinct descriptions of peers and subjects
	Shapes                     int // distinct label sets, as far as policies look at labels
	Blocks                     int // address blocks
	Candidates                 int // distinct (namespace, shape, block) that were matched against the atoms
	Matches                    int // pairs of candidate and atom that match
	Peers, Targets             int // classes; targets of both directions
	Cells                      int // row entries that differ from their row's background
	Folds                      int // times that rules were folded into a port verdict
	Verdicts, Reasons          int
}

// Target is a class of pods that the same policies of one direction select, in
// the same way.
type Target struct {
	Policies  []Selection // in order of evaluation
	Endpoints []int32     // ascending
}

// Selection is a policy that selects a target.
type Selection struct {
	PolicyRef
	Maybe bool // not certain: the target's labels, or its namespace's, could not be read
}

// Peer is a class of addresses that no rule can tell apart.
type Peer struct {
	Members []Member
	Nodes   []int32 // nodes with an address in the class, ascending
	Blocks  []int32 // address blocks whose outside addresses are in the class, ascending
}

// Member is an endpoint by its address of one family.
type Member struct {
	Endpoint int32
	Family   netset.Family
}

// Atom is a distinct description of peers or subjects, and what it matches.
type Atom struct {
	Terms []model.Term
	Yes   []PeerID // ascending; empty unless some rule names the atom as a peer
	Maybe []PeerID // ascending; the dialect leaves open whether these match
}

// Match tells whether something matches.
type Match uint8

// The possible answers. Maybe stands for what the dialect leaves open.
const (
	No Match = iota
	Maybe
	Yes
)

// Row holds the verdicts of one target for every peer: a background that many
// rows share, and the peers that differ from it.
type Row struct {
	Of       []uint16    // by PeerID: index into Patterns; shared between rows. nil means 0 for all
	Patterns []VerdictID // the background
	Peers    []PeerID    // ascending; exceptions
	Verdicts []VerdictID // of the exceptions
}

// At returns the verdict for peer p.
func (r *Row) At(p PeerID) VerdictID {
	lo, hi := 0, len(r.Peers)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if r.Peers[mid] < p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(r.Peers) && r.Peers[lo] == p {
		return r.Verdicts[lo]
	}
	if r.Of == nil {
		return r.Patterns[0]
	}
	return r.Patterns[r.Of[p]]
}

// Party is one end of a connection.
type Party struct {
	Endpoint int32      // into Snapshot.Endpoints; None if it is no pod
	Node     int32      // into Snapshot.Nodes: the node itself, or the node whose address a host-network pod has; else None
	Addr     netip.Addr // may be invalid: then it stands for any address of its class
	Family   netset.Family
	Peer     PeerID
}

func familyIndex(f netset.Family) int {
	if f == netset.V6 {
		return 1
	}
	return 0
}

// EndpointParty returns endpoint i by its address of family f, and false if it
// has none.
func (t *Table) EndpointParty(i int, f netset.Family) (Party, bool) {
	p := t.PeerOf[familyIndex(f)][i]
	if p == None {
		return Party{}, false
	}
	e := &t.Snapshot.Endpoints[i]
	node := int32(None)
	if e.Kind == model.HostPod {
		node = t.nodeIndex(e.Node)
	}
	return Party{Endpoint: int32(i), Node: node, Addr: e.Addr(f), Family: f, Peer: p}, true
}

// NodeParty returns node i by its first address of family f, and false if it
// has none.
func (t *Table) NodeParty(i int, f netset.Family) (Party, bool) {
	p := t.NodePeer[familyIndex(f)][i]
	if p == None {
		return Party{}, false
	}
	for _, a := range t.Snapshot.Nodes[i].Addrs {
		if netset.FamilyOf(a) == f {
			return Party{Endpoint: None, Node: int32(i), Addr: a, Family: f, Peer: p}, true
		}
	}
	return Party{}, false
}

// AddrParty returns whoever has address a: a pod, a node, or else a host
// outside the cluster.
func (t *Table) AddrParty(a netip.Addr) Party {
	a = a.Unmap().WithZone("")
	f := netset.FamilyOf(a)
	if o, ok := t.Owner[a]; ok {
		if o.Endpoint != None {
			p, _ := t.EndpointParty(int(o.Endpoint), f)
			return p
		}
		return Party{Endpoint: None, Node: o.Node, Addr: a, Family: f, Peer: o.Peer}
	}
	return Party{Endpoint: None, Node: None, Addr: a, Family: f, Peer: t.BlockPeer[t.Blocks.Of(a)]}
}

// BlockParty returns any host outside the cluster whose address of family f is
// in block b, and false if the block has no such address.
func (t *Table) BlockParty(b int, f netset.Family) (Party, bool) {
	if t.Blocks.Blocks[b].Addrs.Only(f).Empty() {
		return Party{}, false
	}
	return Party{Endpoint: None, Node: None, Family: f, Peer: t.BlockPeer[b]}, true
}

// External returns any host of "the rest of the world" in family f.
func (t *Table) External(f netset.Family) Party {
	p, _ := t.BlockParty(t.ExternalBlock(f), f)
	return p
}

// ExternalBlock returns the block that "the rest of the world" means in family
// f: the addresses that no block shorter than a whole family names. If there
// are none, it is the largest block of the family.
func (t *Table) ExternalBlock(f netset.Family) int { return int(t.World[familyIndex(f)]) }

func (t *Table) nodeIndex(name string) int32 {
	i, ok := slices.BinarySearchFunc(t.Snapshot.Nodes, name, func(n model.Node, name string) int {
		switch {
		case n.Name < name:
			return -1
		case n.Name > name:
			return 1
		}
		return 0
	})
	if !ok {
		return None
	}
	return int32(i)
}

// Bypass tells why a connection is not judged by policies at all.
type Bypass uint8

// The bypasses.
const (
	Judged    Bypass = iota // it is judged
	Itself                  // a pod reaches itself by its own address
	FromNode                // a node reaches the pods that run on it
	Unguarded               // neither end is a pod that policies can guard
)

// String says it in a clause, "" for Judged.
func (b Bypass) String() string {
	return [...]string{
		"",
		"a pod always reaches itself",
		"a node always reaches the pods that run on it",
		"neither end is a pod that policies can guard",
	}[b]
}

// Pair is what is known of the connections between two parties.
type Pair struct {
	Bypass Bypass
	Sides  [2]VerdictID // by direction; None where the end is not guarded by policies
}

// Pair looks up the connections from src to dst, which must be of one family.
func (t *Table) Pair(src, dst Party) Pair {
	p := Pair{Sides: [2]VerdictID{None, None}}
	switch {
	case src.Endpoint != None && src.Endpoint == dst.Endpoint:
		p.Bypass = Itself
		return p
	case dst.Endpoint != None && src.Node != None && dst.Node == None &&
		t.Snapshot.Endpoints[dst.Endpoint].Node == t.Snapshot.Nodes[src.Node].Name:
		p.Bypass = FromNode
		return p
	}
	p.Sides[model.Ingress] = t.side(model.Ingress, dst, src)
	p.Sides[model.Egress] = t.side(model.Egress, src, dst)
	if p.Sides[0] == None && p.Sides[1] == None {
		p.Bypass = Unguarded
	}
	return p
}

func (t *Table) side(d model.Direction, target, peer Party) VerdictID {
	if target.Endpoint == None {
		return None
	}
	id := t.TargetOf[d][target.Endpoint]
	if id == None {
		return None
	}
	return t.Rows[d][id].At(peer.Peer)
}

// Verdict returns port verdict id, nil for None.
func (t *Table) Verdict(id VerdictID) PortVerdict {
	if id == None {
		return nil
	}
	return t.Verdicts[id]
}

// Join returns the pair's traffic by decision and reasons. A bypassed pair is
// all allowed.
func (t *Table) Join(p Pair) []Joint {
	return Join(t.Verdict(p.Sides[model.Ingress]), t.Verdict(p.Sides[model.Egress]))
}

// Decide looks up one connection: its decision, and the piece of each side
// that is judged (by direction; meaningless where p.Sides is None).
func (t *Table) Decide(p Pair, k netset.Key) (Decision, [2]Piece) {
	d := Allow
	var pieces [2]Piece
	for dir, id := range p.Sides {
		if id != None {
			pieces[dir] = t.Verdicts[id].At(k)
			d = d.And(pieces[dir].Decision)
		}
	}
	return d, pieces
}

// Policy returns the policy that r names.
func (t *Table) Policy(r PolicyRef) *model.Policy {
	return &t.Snapshot.Tiers[r.Tier].Policies[r.Policy]
}

// Rule returns the rule that r names.
func (t *Table) Rule(r RuleRef) *model.Rule {
	return &t.Policy(r.PolicyRef).Rules[r.Direction][r.Rule]
}

// PeerMatch reports whether peer description i of rule r matches class p.
func (t *Table) PeerMatch(r RuleRef, i int, p PeerID) Match {
	a := &t.Atoms[t.RuleAtoms[r.Tier][r.Policy][r.Direction][r.Rule][i]]
	if _, ok := slices.BinarySearch(a.Yes, p); ok {
		return Yes
	}
	if _, ok := slices.BinarySearch(a.Maybe, p); ok {
		return Maybe
	}
	return No
}

// RuleMatch reports whether any peer of rule r matches class p, and the index
// of the first that matches best, None for a rule that matches every peer.
func (t *Table) RuleMatch(r RuleRef, p PeerID) (Match, int) {
	rule := t.Rule(r)
	if rule.AnyPeer {
		return Yes, None
	}
	best, at := No, None
	for i := range rule.Peers {
		if m := t.PeerMatch(r, i, p); m > best {
			best, at = m, i
		}
	}
	return best, at
}

// RuleTraffic returns the traffic that rule r matches when the connection's
// responder has the given ports.
func (t *Table) RuleTraffic(r RuleRef, ports []model.Port) netset.Traffic {
	return TrafficOf(t.Rule(r), ports)
}

// TrafficOf returns the traffic that rule matches when the connection's
// responder has the given ports.
func TrafficOf(rule *model.Rule, ports []model.Port) netset.Traffic {
	var out netset.Traffic
	if rule.AnyPort {
		out = netset.AllTraffic()
	}
	for _, m := range rule.Ports {
		out = out.Union(m.Resolve(ports))
	}
	for _, m := range rule.NotPorts {
		out = out.Subtract(m.Resolve(ports))
	}
	return out
}

// PeerEndpoints returns the endpoints that peer description i of rule r
// matches for certain, ascending.
func (t *Table) PeerEndpoints(r RuleRef, i int) []int32 {
	return t.AtomEndpoints(t.RuleAtoms[r.Tier][r.Policy][r.Direction][r.Rule][i])
}

// AtomEndpoints returns the endpoints that peer atom a matches for certain,
// ascending.
func (t *Table) AtomEndpoints(a AtomID) []int32 {
	var out []int32
	for _, p := range t.Atoms[a].Yes {
		for _, m := range t.Peers[p].Members {
			out = append(out, m.Endpoint)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SelectedBy returns the target classes of a direction that the policy selects,
// ascending.
func (t *Table) SelectedBy(d model.Direction, ref PolicyRef) []TargetID {
	var out []TargetID
	for id := range t.Targets[d] {
		for _, s := range t.Targets[d][id].Policies {
			if s.PolicyRef == ref {
				out = append(out, TargetID(id))
				break
			}
		}
	}
	return out
}

// Endpoint returns the index of endpoint namespace/name, and false if there is
// none.
func (t *Table) Endpoint(namespace, name string) (int, bool) {
	return slices.BinarySearchFunc(t.Snapshot.Endpoints, [2]string{namespace, name}, func(e model.Endpoint, k [2]string) int {
		switch {
		case e.Namespace != k[0]:
			if e.Namespace < k[0] {
				return -1
			}
			return 1
		case e.Name < k[1]:
			return -1
		case e.Name > k[1]:
			return 1
		}
		return 0
	})
}

// Group is a set of endpoints, or of outside addresses, that the whole table
// cannot tell apart in either direction: a row and a column of the matrix.
type Group struct {
	Endpoints []int32 // ascending; empty for addresses outside the cluster
	Block     int     // valid iff Endpoints is empty: the first block of the class
	Party     Party   // any of them
}

// Groups returns the groups of endpoints in the order of their first one,
// those of the host network told apart by node; then, if external is set, the
// classes of outside addresses of the given families in the order of their
// first block. An endpoint without an address is in no group.
func (t *Table) Groups(external bool, families ...netset.Family) []Group {
	type key struct {
		targets [2]TargetID
		peers   [2]PeerID
		node    string
	}
	var out []Group
	at := map[key]int{}
	for i := range t.Snapshot.Endpoints {
		e := &t.Snapshot.Endpoints[i]
		k := key{peers: [2]PeerID{t.PeerOf[0][i], t.PeerOf[1][i]}}
		if k.peers[0] == None && k.peers[1] == None {
			continue
		}
		for d := range t.TargetOf {
			k.targets[d] = t.TargetOf[d][i]
		}
		if e.Kind == model.HostPod {
			k.node = "/" + e.Node
		}
		g, ok := at[k]
		if !ok {
			f := netset.V4
			if k.peers[0] == None {
				f = netset.V6
			}
			p, _ := t.EndpointParty(i, f)
			g = len(out)
			at[k] = g
			out = append(out, Group{Block: None, Party: p})
		}
		out[g].Endpoints = append(out[g].Endpoints, int32(i))
	}
	if !external {
		return out
	}
	for _, f := range families {
		seen := map[PeerID]bool{}
		for b := range t.Blocks.Blocks {
			if p, ok := t.BlockParty(b, f); ok && !seen[p.Peer] {
				seen[p.Peer] = true
				out = append(out, Group{Block: b, Party: p})
			}
		}
	}
	return out
}

// Validate reports the first broken invariant of the table, for tests: every
// identifier is in range, every verdict covers the traffic space, every row
// knows every peer.
func (t *Table) Validate() error {
	for i, v := range t.Verdicts {
		if len(v) == 0 || v[len(v)-1].To != netset.KeyOf(255, 65535) {
			return fmt.Errorf("verdict %d does not cover the traffic space", i)
		}
		for j, p := range v {
			if j > 0 && v[j-1].To >= p.To {
				return fmt.Errorf("verdict %d: pieces %d and %d are out of order", i, j-1, j)
			}
			if p.Reason < 0 || int(p.Reason) >= len(t.Reasons) {
				return fmt.Errorf("verdict %d: no reason %d", i, p.Reason)
			}
		}
	}
	for d, rows := range t.Rows {
		if len(rows) != len(t.Targets[d]) {
			return fmt.Errorf("%d %s rows for %d targets", len(rows), model.Direction(d), len(t.Targets[d]))
		}
		for i := range rows {
			r := &rows[i]
			if r.Of != nil && len(r.Of) != len(t.Peers) {
				return fmt.Errorf("%s row %d knows %d of %d peers", model.Direction(d), i, len(r.Of), len(t.Peers))
			}
			for p := range t.Peers {
				if v := r.At(PeerID(p)); v < 0 || int(v) >= len(t.Verdicts) {
					return fmt.Errorf("%s row %d, peer %d: no verdict %d", model.Direction(d), i, p, v)
				}
			}
		}
	}
	return nil
}
