package diff

import (
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// joint is a set of endpoints, or of outside addresses, that neither table can
// tell apart.
type joint struct {
	members  []int32      // into comparer.members, ascending; empty for addresses
	addrs    netset.Addrs // of one family; empty for endpoints
	text     string       // of the addresses
	external bool         // holds the rest of the world
	watched  bool
	host     bool // on the host network in some snapshot

	// By family index, then old and new: any of the set; ok if both tables
	// know one.
	party [2][2]verdict.Party
	ok    [2]bool
}

// single reports whether the set is one endpoint, which always reaches itself.
func (j *joint) single() bool { return len(j.members) == 1 }

// joinGroups cuts endpoints and addresses into joint groups, endpoints first.
func (c *comparer) joinGroups() {
	var of [2][]int32 // group by endpoint; -1 without address
	for n, t := range c.tables {
		of[n] = make([]int32, len(t.Snapshot.Endpoints))
		for i := range of[n] {
			of[n][i] = -1
		}
		for g, group := range t.Groups(false) {
			for _, e := range group.Endpoints {
				of[n][e] = int32(g)
			}
		}
	}
	type key struct {
		groups  [2]int32
		watched bool
	}
	at := map[key]int{}
	for m, mem := range c.members {
		e := &c.tables[1].Snapshot.Endpoints[mem.at[1]]
		k := key{[2]int32{of[0][mem.at[0]], of[1][mem.at[1]]}, c.watched(e)}
		if k.groups[0] < 0 || k.groups[1] < 0 {
			continue
		}
		g, ok := at[k]
		if !ok {
			g = len(c.groups)
			at[k] = g
			j := joint{watched: k.watched}
			for n, t := range c.tables {
				j.host = j.host || t.Snapshot.Endpoints[mem.at[n]].Kind == model.HostPod
			}
			for fi, f := range bothFamilies {
				ok0, ok1 := false, false
				j.party[fi][0], ok0 = c.tables[0].EndpointParty(int(mem.at[0]), f)
				j.party[fi][1], ok1 = c.tables[1].EndpointParty(int(mem.at[1]), f)
				j.ok[fi] = ok0 && ok1
			}
			c.groups = append(c.groups, j)
		}
		c.groups[g].members = append(c.groups[g].members, int32(m))
	}
	for fi, f := range bothFamilies {
		if slices.Contains(c.tables[0].Families(), f) && slices.Contains(c.tables[1].Families(), f) {
			c.joinBlocks(fi, f)
		}
	}
}

// joinBlocks adds the groups of outside addresses of a family.
func (c *comparer) joinBlocks(fi int, f netset.Family) {
	var sets []netset.Addrs
	for _, t := range c.tables {
		for i := range t.Blocks.Blocks {
			sets = append(sets, t.Blocks.Blocks[i].Addrs.Only(f))
		}
	}
	ext := [2]int{c.tables[0].ExternalBlock(f), c.tables[1].ExternalBlock(f)}
	at := map[[2]verdict.PeerID]int{}
	for _, b := range netset.NewPartition(sets).Blocks {
		addrs := b.Addrs.Only(f)
		if addrs.Empty() {
			continue
		}
		var peers [2]verdict.PeerID
		rest := true
		for n, t := range c.tables {
			block := t.Blocks.Of(addrs.First())
			peers[n] = t.BlockPeer[block]
			rest = rest && block == ext[n]
		}
		g, ok := at[peers]
		if !ok {
			g = len(c.groups)
			at[peers] = g
			j := joint{}
			j.ok[fi] = true
			for n := range c.tables {
				j.party[fi][n] = verdict.Party{Endpoint: verdict.None, Node: verdict.None, Family: f, Peer: peers[n]}
			}
			c.groups = append(c.groups, j)
			c.outside[fi] = append(c.outside[fi], int32(g))
		}
		c.groups[g].addrs = c.groups[g].addrs.Union(addrs)
		c.groups[g].external = c.groups[g].external || rest
	}
	for _, g := range c.outside[fi] {
		c.groups[g].text = addrsText(c.groups[g].addrs)
	}
}

// sides looks up both judgements of the connections from src to dst, also
// where they are the same endpoint: another one of their group is meant then.
func sides(t *verdict.Table, src, dst verdict.Party) [2]verdict.VerdictID {
	out := [2]verdict.VerdictID{verdict.None, verdict.None}
	if dst.Endpoint != verdict.None {
		if id := t.TargetOf[model.Ingress][dst.Endpoint]; id != verdict.None {
			out[model.Ingress] = t.Rows[model.Ingress][id].At(src.Peer)
		}
	}
	if src.Endpoint != verdict.None {
		if id := t.TargetOf[model.Egress][src.Endpoint]; id != verdict.None {
			out[model.Egress] = t.Rows[model.Egress][id].At(dst.Peer)
		}
	}
	return out
}
