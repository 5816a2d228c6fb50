package compile

import (
	"encoding/binary"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// classify merges candidates into peer and target classes and hands the
// classes out to endpoints, nodes and address blocks.
func (c *compiler) classify() {
	t := c.table
	selecting := c.policiesByAtom()
	peers := map[string]verdict.PeerID{}
	targets := [2]map[string]verdict.TargetID{{}, {}}
	for i := range c.candidates {
		k := &c.candidates[i]
		c.classifyPeer(k, peers)
		if k.kind == pod {
			for _, d := range model.Directions {
				c.classifyTarget(k, d, selecting[d], targets[d])
			}
		}
	}
	for d := range t.TargetOf {
		t.TargetOf[d] = make([]verdict.TargetID, len(c.snap.Endpoints))
	}
	for fi, f := range [2]netset.Family{netset.V4, netset.V6} {
		t.PeerOf[fi] = make([]verdict.PeerID, len(c.snap.Endpoints))
		t.NodePeer[fi] = make([]verdict.PeerID, len(c.snap.Nodes))
		for i := range c.snap.Endpoints {
			c.placeEndpoint(i, fi, f)
		}
	}
	for i := range c.snap.Nodes {
		c.placeNode(i)
	}
	t.World = [2]int32{int32(widestBlock(t.Blocks, netset.V4)), int32(widestBlock(t.Blocks, netset.V6))}
	t.BlockPeer = make([]verdict.PeerID, len(t.Blocks.Blocks))
	for b := range t.Blocks.Blocks {
		p := c.candidates[c.byKey[outsideKey(b)]].peer
		t.BlockPeer[b] = p
		t.Peers[p].Blocks = append(t.Peers[p].Blocks, int32(b))
	}
	for i := range c.atoms {
		a := &c.atoms[i]
		n := len(a.yes) + len(a.maybe)
		a.wide = n > c.sharing.above && n > len(t.Peers)/8
	}
}

func (c *compiler) placeEndpoint(i, fi int, f netset.Family) {
	t, e := c.table, &c.snap.Endpoints[i]
	k := &c.candidates[c.anyOf[i]]
	if fi == 0 {
		for d := range t.TargetOf {
			id := k.targets[d]
			t.TargetOf[d][i] = id
			if id != none {
				t.Targets[d][id].Endpoints = append(t.Targets[d][id].Endpoints, int32(i))
			}
		}
	}
	t.PeerOf[fi][i] = none
	if n := c.ofEndpoint[i][fi]; n != none {
		p := c.candidates[n].peer
		t.PeerOf[fi][i] = p
		t.Peers[p].Members = append(t.Peers[p].Members, verdict.Member{Endpoint: int32(i), Family: f})
		if e.Kind == model.Pod {
			if _, taken := t.Owner[e.Addr(f)]; !taken {
				t.Owner[e.Addr(f)] = verdict.Owner{Endpoint: int32(i), Node: none, Peer: p}
			}
		}
	}
}

func (c *compiler) placeNode(i int) {
	t := c.table
	t.NodePeer[0][i], t.NodePeer[1][i] = none, none
	for _, a := range c.snap.Nodes[i].Addrs {
		p := c.candidates[c.byKey[candidateKey{kind: node, ns: none, shape: none, node: int32(i), block: c.blockOf(a)}]].peer
		fi := 0
		if netset.FamilyOf(a) == netset.V6 {
			fi = 1
		}
		if t.NodePeer[fi][i] == none {
			t.NodePeer[fi][i] = p
		}
		if nodes := t.Peers[p].Nodes; len(nodes) == 0 || nodes[len(nodes)-1] != int32(i) {
			t.Peers[p].Nodes = append(nodes, int32(i))
		}
		if _, taken := t.Owner[a]; !taken {
			t.Owner[a] = verdict.Owner{Endpoint: none, Node: int32(i), Peer: p}
		}
	}
}

// classifyPeer puts k into the peer class of its matches.
func (c *compiler) classifyPeer(k *candidate, classes map[string]verdict.PeerID) {
	if k.block == none {
		return // without an address it is nobody's peer
	}
	key := make([]byte, 0, 64)
	named := c.anyNamed
	for _, m := range k.matches {
		if c.atoms[m.atom].peer {
			key = binary.AppendUvarint(key, matchCode(uint64(m.atom), m.maybe))
			named = named || c.atoms[m.atom].named
		}
	}
	ports := int32(0)
	if named && k.kind == pod {
		ports = k.ports
	}
	key = binary.BigEndian.AppendUint32(key, uint32(ports))
	id, ok := classes[string(key)]
	if !ok {
		id = verdict.PeerID(len(c.table.Peers))
		classes[string(key)] = id
		c.table.Peers = append(c.table.Peers, verdict.Peer{})
		c.peerPorts = append(c.peerPorts, ports)
		for _, m := range k.matches {
			if a := &c.atoms[m.atom]; a.peer && m.maybe {
				a.maybe = append(a.maybe, id)
			} else if a.peer {
				a.yes = append(a.yes, id)
			}
		}
	}
	k.peer = id
}

func matchCode(n uint64, maybe bool) uint64 {
	n <<= 1
	if maybe {
		n |= 1
	}
	return n
}

// policiesByAtom lists, by direction and subject atom, the policies that apply:
// indices into c.policies.
func (c *compiler) policiesByAtom() [2][][]int32 {
	var out [2][][]int32
	for d := range out {
		out[d] = make([][]int32, len(c.atoms))
		for i := range c.policies {
			if p := &c.policies[i]; p.src.Applies[d] || p.src.Broken != "" {
				out[d][p.subject] = append(out[d][p.subject], int32(i))
			}
		}
	}
	return out
}

// classifyTarget puts k into the target class of the policies that select it.
func (c *compiler) classifyTarget(k *candidate, d model.Direction, byAtom [][]int32, classes map[string]verdict.TargetID) {
	var selected []uint64 // policy index and maybe bit
	for _, m := range k.matches {
		for _, p := range byAtom[m.atom] {
			selected = append(selected, matchCode(uint64(p), m.maybe))
		}
	}
	slices.Sort(selected)
	key := make([]byte, 0, 64)
	named := false
	for _, s := range selected {
		key = binary.AppendUvarint(key, s)
		named = named || d == model.Ingress && c.policies[s>>1].named
	}
	ports := int32(0)
	if named {
		ports = k.ports
	}
	key = binary.BigEndian.AppendUint32(key, uint32(ports))
	id, ok := classes[string(key)]
	if !ok {
		id = verdict.TargetID(len(c.table.Targets[d]))
		classes[string(key)] = id
		target := verdict.Target{Policies: make([]verdict.Selection, len(selected))}
		for i, s := range selected {
			target.Policies[i] = verdict.Selection{PolicyRef: c.policies[s>>1].ref, Maybe: s&1 == 1}
		}
		c.table.Targets[d] = append(c.table.Targets[d], target)
		c.targetPorts[d] = append(c.targetPorts[d], ports)
	}
	k.targets[d] = id
}

// widestBlock returns the block of p with the widest prefix in family f. That
// prefix stands for the block's size: good enough to find the rest of the
// world, which nothing else comes near.
func widestBlock(p *netset.Partition, f netset.Family) int {
	best, fewest := 0, 1<<30
	for i := range p.Blocks {
		for _, x := range p.Blocks[i].Addrs.Only(f).Prefixes() {
			if x.Bits() < fewest {
				best, fewest = i, x.Bits()
			}
		}
	}
	return best
}
