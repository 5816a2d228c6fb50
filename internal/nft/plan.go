//go:build linux

package nft

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Node is the part of the cluster that a kernel enforces for.
type Node struct {
	Name   string
	Pods   []int32        // its pods: endpoints of the table's snapshot that policies can guard, ascending
	Ranges []netip.Prefix // where its pods' addresses come from; what of it is no known pod is dropped
}

// LocalPods returns the pods that the snapshot places on node.
func LocalPods(s *model.Snapshot, node string) []int32 {
	var out []int32
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.Node == node && e.Kind == model.Pod {
			out = append(out, int32(i))
		}
	}
	return out
}

// Plan is what a node's table should hold. It is immutable. Targets, classes
// and port sets are known by what they are: equal clusters give equal plans,
// whatever happened before. The numbers that the kernel sees are given when a
// plan is loaded.
type Plan struct {
	Options Options
	Node    string
	Ranges  []netip.Prefix
	Pods    []netip.Addr // known local pods, ascending

	Targets  []Target
	Isolated [2][]Local // by direction: the pods that have a target, ascending by address
	Classes  []string   // of peers, by what they are; the first is anybody who is in no other
	Peers    []Peer     // pods and nodes that local policies tell apart from the rest, ascending by address
	Blocks   []Block    // address blocks outside the cluster, ascending and disjoint
	PortSets []PortSet

	// Limits lists what the kernel form cannot express, and what is denied
	// therefore.
	Limits []string
}

// Target is a class of local pods that policies isolate in the same way.
type Target struct {
	Name      string // by what it is
	Direction model.Direction
	Sets      []int32 // by class: what is allowed, an index into PortSets
}

// Local is a local pod's address with its target.
type Local struct {
	Addr   netip.Addr
	Target int32
}

// Peer is an address with its class.
type Peer struct {
	Addr  netip.Addr
	Class int32
}

// Block is a range of addresses, both ends included, with its class.
type Block struct {
	From, To netip.Addr
	Class    int32
}

// PortSet is the traffic that a target allows a class; all other is denied.
type PortSet struct {
	Name      string // by what it is
	Direction model.Direction
	Allowed   netset.Traffic
}

// anybody is the index of the class of those who are in no other.
const anybody = 0

// NewPlan computes what node's table should hold.
func NewPlan(t *verdict.Table, node Node, o Options) *Plan {
	p := &planner{t: t, node: node, plan: &Plan{
		Options: o.WithDefaults(), Node: node.Name, Ranges: node.Ranges,
	}, setOf: [2]map[verdict.VerdictID]int32{{}, {}}, setAt: map[string]int32{}}
	p.collectTargets()
	p.classifyPeers()
	p.judge()
	p.place()
	slices.Sort(p.plan.Limits)
	p.plan.Limits = slices.Compact(p.plan.Limits)
	return p.plan
}

type planner struct {
	t    *verdict.Table
	node Node
	plan *Plan

	ids     []verdict.TargetID // of the plan's targets
	classOf []int32            // by peer class of the table
	member  []verdict.PeerID   // by class of the plan: any of its members; None for an empty "anybody"
	setOf   [2]map[verdict.VerdictID]int32
	setAt   map[string]int32
}

// collectTargets finds the target classes of local pods that are isolated:
// those to whom not everything is allowed.
func (p *planner) collectTargets() {
	for _, d := range model.Directions {
		at := map[verdict.TargetID]int32{}
		for _, e := range p.node.Pods {
			id := p.t.TargetOf[d][e]
			if id == verdict.None {
				continue
			}
			i, ok := at[id]
			if !ok {
				i = -1
				if !p.open(&p.t.Rows[d][id]) {
					i = int32(len(p.ids))
					p.ids = append(p.ids, id)
					p.plan.Targets = append(p.plan.Targets, Target{Name: p.targetName(d, id), Direction: d})
				}
				at[id] = i
			}
			if i >= 0 {
				for _, a := range p.t.Snapshot.Endpoints[e].Addrs {
					p.plan.Isolated[d] = append(p.plan.Isolated[d], Local{a, i})
				}
			}
		}
		// Of pods that claim the same address the last one has it.
		slices.SortStableFunc(p.plan.Isolated[d], func(a, b Local) int { return a.Addr.Compare(b.Addr) })
		kept := p.plan.Isolated[d][:0]
		for i, l := range p.plan.Isolated[d] {
			if i+1 == len(p.plan.Isolated[d]) || p.plan.Isolated[d][i+1].Addr != l.Addr {
				kept = append(kept, l)
			}
		}
		p.plan.Isolated[d] = kept
	}
}

// open reports whether a row allows everything to everybody.
func (p *planner) open(r *verdict.Row) bool {
	for _, v := range slices.Concat(r.Patterns, r.Verdicts) {
		for _, piece := range p.t.Verdicts[v] {
			if piece.Decision != verdict.Allow {
				return false
			}
		}
	}
	return true
}

// targetName names a target class by the policies that select it and, where
// their rules ask for names of ports, the ports.
func (p *planner) targetName(d model.Direction, id verdict.TargetID) string {
	var b strings.Builder
	b.WriteString(dirNames[d])
	target := &p.t.Targets[d][id]
	for _, s := range target.Policies {
		fmt.Fprintf(&b, " %d/%s", s.Tier, p.t.Policy(s.PolicyRef).Ref())
		if s.Maybe {
			b.WriteByte('?')
		}
	}
	if len(target.Endpoints) > 0 && d == model.Ingress {
		for _, port := range namedPorts(&p.t.Snapshot.Endpoints[target.Endpoints[0]]) {
			b.WriteString(" " + port)
		}
	}
	return b.String()
}

// namedPorts lists an endpoint's named ports, as far as they are known: two
// lists are equal only if rules that name ports mean the same by them.
func namedPorts(e *model.Endpoint) []string {
	if e.Broken != "" {
		return []string{"ports not known"}
	}
	var out []string
	for _, port := range e.Ports {
		if port.Name != "" {
			out = append(out, fmt.Sprintf("%s=%s/%d", port.Name, port.Proto, port.Number))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// classifyPeers joins the table's peer classes that the local rules cannot tell
// apart, and names each by the rules' atoms that match.
func (p *planner) classifyPeers() {
	t := p.t
	local := make([]bool, len(t.Atoms))
	named := false // some local rule asks for the name of a peer's port
	for i := range p.plan.Targets {
		d := p.plan.Targets[i].Direction
		for _, s := range t.Targets[d][p.ids[i]].Policies {
			for r, atoms := range t.RuleAtoms[s.Tier][s.Policy][d] {
				for _, a := range atoms {
					local[a] = true
				}
				named = named || d == model.Egress && hasNames(&t.Policy(s.PolicyRef).Rules[d][r])
			}
		}
	}
	var texts []string
	parts := make([][]byte, len(t.Peers)) // indexes into texts, 4 bytes each
	add := func(id verdict.PeerID, text int) {
		parts[id] = binary.BigEndian.AppendUint32(parts[id], uint32(text))
	}
	for a := range t.Atoms {
		if !local[a] {
			continue
		}
		name := atomName(t.Atoms[a].Terms)
		texts = append(texts, name, name+"?")
		for _, id := range t.Atoms[a].Yes {
			add(id, len(texts)-2)
		}
		for _, id := range t.Atoms[a].Maybe {
			add(id, len(texts)-1)
		}
	}
	if named {
		seen := map[string]int{}
		for id := range t.Peers {
			for _, port := range p.peerPorts(id) {
				n, ok := seen[port]
				if !ok {
					n = len(texts)
					seen[port] = n
					texts = append(texts, port)
				}
				add(verdict.PeerID(id), n)
			}
		}
	}
	p.plan.Classes = []string{""}
	p.member = []verdict.PeerID{verdict.None}
	p.classOf = make([]int32, len(t.Peers))
	at := map[string]int32{"": anybody}
	for id := range t.Peers {
		class, ok := at[string(parts[id])]
		if !ok {
			class = int32(len(p.plan.Classes))
			at[string(parts[id])] = class
			p.plan.Classes = append(p.plan.Classes, className(parts[id], texts))
			p.member = append(p.member, verdict.PeerID(id))
		}
		if class == anybody && p.member[anybody] == verdict.None {
			p.member[anybody] = verdict.PeerID(id)
		}
		p.classOf[id] = class
	}
}

func className(parts []byte, texts []string) string {
	var names []string
	for ; len(parts) > 0; parts = parts[4:] {
		names = append(names, texts[binary.BigEndian.Uint32(parts)])
	}
	slices.Sort(names)
	return strings.Join(names, " & ")
}

func hasNames(r *model.Rule) bool {
	for _, m := range slices.Concat(r.Ports, r.NotPorts) {
		if m.Name != "" {
			return true
		}
	}
	return false
}

func (p *planner) peerPorts(id int) []string {
	for _, m := range p.t.Peers[id].Members {
		if e := &p.t.Snapshot.Endpoints[m.Endpoint]; e.Kind == model.Pod {
			return namedPorts(e)
		}
	}
	return nil
}

// atomName is equal for equal terms only.
func atomName(terms []model.Term) string {
	out := make([]string, len(terms))
	for i := range terms {
		t := &terms[i]
		out[i] = t.String()
		if t.Kind == model.NetTerm {
			out[i] = fmt.Sprintf("addresses %s open=%t not=%t", t.Nets, t.PodsOpen, t.Not)
		}
	}
	return strings.Join(out, " and ")
}

// judge fills in what each target allows each class. There are no gaps: a
// packet finds its verdict in one way only.
func (p *planner) judge() {
	for i := range p.plan.Targets {
		target := &p.plan.Targets[i]
		row := &p.t.Rows[target.Direction][p.ids[i]]
		target.Sets = make([]int32, len(p.plan.Classes))
		for class, member := range p.member {
			id := verdict.VerdictID(verdict.None)
			if member != verdict.None {
				id = row.At(member)
			}
			target.Sets[class] = p.portSet(target.Direction, id)
		}
	}
}

// portSet returns the port set of a port verdict; None allows nothing.
func (p *planner) portSet(d model.Direction, id verdict.VerdictID) int32 {
	if i, ok := p.setOf[d][id]; ok {
		return i
	}
	var traffic netset.Traffic
	if id != verdict.None {
		traffic = p.enforceable(p.t.Verdicts[id].Traffic(verdict.Allow))
	}
	name := setName(d, traffic)
	i, ok := p.setAt[name]
	if !ok {
		i = int32(len(p.plan.PortSets))
		p.setAt[name] = i
		p.plan.PortSets = append(p.plan.PortSets, PortSet{name, d, traffic})
	}
	p.setOf[d][id] = i
	return i
}

// setName is equal for equal traffic only.
func setName(d model.Direction, t netset.Traffic) string {
	b := []byte(dirNames[d])
	for _, r := range t.Ranges() {
		b = fmt.Appendf(b, " %06x-%06x", uint32(r.From), uint32(r.To))
	}
	return string(b)
}

// place hands classes to addresses.
func (p *planner) place() {
	t, s := p.t, p.t.Snapshot
	for _, e := range p.node.Pods {
		p.plan.Pods = append(p.plan.Pods, s.Endpoints[e].Addrs...)
	}
	slices.SortFunc(p.plan.Pods, netip.Addr.Compare)
	p.plan.Pods = slices.Compact(p.plan.Pods)
	if len(p.plan.Classes) > 1 {
		for a, owner := range t.Owner {
			class := p.classOf[owner.Peer]
			// Whoever is in no class needs an entry only where the block around
			// the address has one.
			if class != anybody || p.classOf[t.BlockPeer[t.Blocks.Of(a)]] != anybody {
				p.plan.Peers = append(p.plan.Peers, Peer{a, class})
			}
		}
	}
	sortPeers(p.plan.Peers)
	for b := range t.Blocks.Blocks {
		class := p.classOf[t.BlockPeer[b]]
		if class == anybody {
			continue
		}
		for _, r := range t.Blocks.Blocks[b].Addrs.Ranges() {
			p.plan.Blocks = append(p.plan.Blocks, Block{r.From, r.To, class})
		}
	}
	slices.SortFunc(p.plan.Blocks, func(a, b Block) int { return a.From.Compare(b.From) })
}

// sortPeers sorts by address. IPv4 addresses are sorted as numbers, which is
// several times faster than comparing them.
func sortPeers(ps []Peer) {
	var v4 []uint64
	var v6 []Peer
	for _, p := range ps {
		if p.Addr.Is4() {
			a := p.Addr.As4()
			v4 = append(v4, uint64(binary.BigEndian.Uint32(a[:]))<<32|uint64(uint32(p.Class)))
		} else {
			v6 = append(v6, p)
		}
	}
	slices.Sort(v4)
	for i, v := range v4 {
		ps[i] = Peer{netip.AddrFrom4([4]byte{byte(v >> 56), byte(v >> 48), byte(v >> 40), byte(v >> 32)}), int32(uint32(v))}
	}
	slices.SortFunc(v6, func(a, b Peer) int { return cmp.Or(a.Addr.Compare(b.Addr), int(a.Class-b.Class)) })
	copy(ps[len(v4):], v6)
}

// blockOf returns the class of the block around a, anybody if there is none.
func (p *Plan) blockOf(a netip.Addr) int32 {
	i, found := slices.BinarySearchFunc(p.Blocks, a, func(b Block, a netip.Addr) int { return b.From.Compare(a) })
	if !found {
		i--
	}
	if i >= 0 && netset.FamilyOf(p.Blocks[i].From) == netset.FamilyOf(a) && a.Compare(p.Blocks[i].To) <= 0 {
		return p.Blocks[i].Class
	}
	return anybody
}
