//go:build linux

package prove

import (
	"net/netip"
	"slices"

	"picket/internal/netset"
	"picket/internal/verdict"
)

const (
	smallEnough = 30_000    // packets that are sent without being asked for: those of every pair
	manyPairs   = 250_000   // pairs of ends beyond which not each is tried
	manyKeys    = 1_000_000 // packets for those that stand for a face beyond which not every named port is tried
	hostsPerRow = 8         // hosts of one group that stand for it
)

// A plan is what is to be sent.
type plan struct {
	t        *verdict.Table
	named    []netset.Key // the ports that somebody names, ascending
	listened map[netset.Key]bool

	ends    []end
	groups  []group
	groupAt map[groupKey]int32
	slots   map[slotsKey][]slot
	faces   []face
	faceAt  map[faceKey]int32
	shots   []shot
	all     bool // every pair with every key
	brief   bool // not every named port
}

// A face is the connections from one group to another that the table treats
// alike. A face with a slot is a cell.
type face struct {
	faceKey
	sides   [2]verdict.VerdictID
	slots   []slot
	results []result // by slot
	reps    [][2]int32
}

type faceKey struct {
	src, dst int32 // groups
	bypass   verdict.Bypass
}

// result is what is known of a cell.
type result struct {
	sent, passed int32
	first        int32 // shot; -1 if none was sent
	wrong        int32 // shots that are mismatches
	failed       int32 // shots that could not be sent
}

// A shot is one packet.
type shot struct {
	face, slot int32
	src, dst   int32 // ends
	key        netset.Key
}

func newPlan(t *verdict.Table, named []netset.Key, listened map[netset.Key]bool, hosts []netip.Addr, missing map[string]string, o Options) *plan {
	p := &plan{
		t: t, named: named, listened: listened, all: o.All,
		groupAt: map[groupKey]int32{}, slots: map[slotsKey][]slot{}, faceAt: map[faceKey]int32{},
	}
	p.listEnds(hosts, missing)
	p.represent()
	if !o.All && !o.few && p.complete() <= smallEnough {
		p.all = true
	}
	if !p.all {
		n := 0
		for i := range p.faces {
			for s := range p.faces[i].slots {
				n += len(p.faces[i].slots[s].keys)
			}
		}
		p.brief = n > manyKeys
	}
	p.aim()
	for i := range p.faces {
		f := &p.faces[i]
		f.results = make([]result, len(f.slots))
		for j := range f.results {
			f.results[j].first = -1
		}
	}
	for i, s := range p.shots {
		if r := &p.faces[s.face].results[s.slot]; r.first < 0 {
			r.first = int32(i)
		}
	}
	return p
}

// face returns the face of two ends, -1 if policies have no say between them.
func (p *plan) face(src, dst int32) int32 {
	k, sides, ok := p.between(src, dst)
	if !ok {
		return -1
	}
	i, ok := p.faceAt[k]
	if !ok {
		i = int32(len(p.faces))
		p.faceAt[k] = i
		p.faces = append(p.faces, face{faceKey: k, sides: sides, slots: p.slotsOf(sides, p.ends[src].Family)})
	}
	return i
}

// between returns the key of the face of two ends, and false if policies have
// no say between them.
func (p *plan) between(src, dst int32) (k faceKey, sides [2]verdict.VerdictID, ok bool) {
	a, b := &p.ends[src], &p.ends[dst]
	if a.Family != b.Family || a.Addr == b.Addr || a.kind != pod && b.kind != pod {
		return k, sides, false
	}
	pair := p.t.Pair(a.Party, b.Party)
	if pair.Bypass == verdict.Itself || pair.Bypass == verdict.Unguarded {
		return k, sides, false
	}
	return faceKey{a.group, b.group, pair.Bypass}, pair.Sides, true
}

// represent chooses for each face the pairs of ends that stand for it: one on
// the same node and one across nodes.
func (p *plan) represent() {
	for src := range p.groups {
		for dst := range p.groups {
			if p.groups[src].family != p.groups[dst].family {
				continue
			}
			p.absent(int32(src), int32(dst))
			for _, pair := range p.candidates(&p.groups[src], &p.groups[dst]) {
				if f := p.face(pair[0], pair[1]); f >= 0 {
					p.faces[f].reps = append(p.faces[f].reps, pair)
				}
			}
		}
	}
}

// absent makes the face of two groups one of which nobody of is in the lab, so
// that its cells are counted.
func (p *plan) absent(src, dst int32) {
	a, b := &p.groups[src], &p.groups[dst]
	if len(a.ends) > 0 && len(b.ends) > 0 || a.kind != pod && b.kind != pod || src == dst {
		return
	}
	if pair := p.t.Pair(a.party, b.party); pair.Bypass == verdict.Judged {
		k := faceKey{src, dst, pair.Bypass}
		p.faceAt[k] = int32(len(p.faces))
		p.faces = append(p.faces, face{faceKey: k, sides: pair.Sides, slots: p.slotsOf(pair.Sides, a.family)})
	}
}

func (p *plan) candidates(src, dst *group) (out [][2]int32) {
	if len(src.ends) == 0 || len(dst.ends) == 0 {
		return nil
	}
	if src.kind == outside || dst.kind == outside {
		for i := range min(hostsPerRow, max(len(src.ends), len(dst.ends))) {
			if src.kind == outside && i >= len(src.ends) || dst.kind == outside && i >= len(dst.ends) {
				break
			}
			out = append(out, [2]int32{src.ends[i%len(src.ends)], dst.ends[i%len(dst.ends)]})
		}
		return out
	}
	same, across := false, false
	for _, a := range src.ends {
		n := p.ends[a].node
		if !same {
			for _, b := range dst.byNode[n] {
				if p.ends[a].Addr != p.ends[b].Addr {
					out, same = append(out, [2]int32{a, b}), true
					break
				}
			}
		}
		if !across {
			if i := slices.IndexFunc(dst.ends, func(b int32) bool { return p.ends[b].node != n }); i >= 0 {
				out, across = append(out, [2]int32{a, dst.ends[i]}), true
			}
		}
		if same && across {
			break
		}
	}
	return out
}

// complete counts the packets for every pair and every key.
func (p *plan) complete() int {
	n := 0
	for i := range p.ends {
		if n > smallEnough {
			break
		}
		for j := range p.ends {
			if f := p.face(int32(i), int32(j)); f >= 0 {
				for k := range p.faces[f].slots {
					n += len(p.faces[f].slots[k].keys)
				}
			}
		}
	}
	return n
}

// aim lists the packets: those of the representatives first, of which one gets
// every key, and the others one for each slot.
func (p *plan) aim() {
	done := map[[2]int32]bool{}
	for i := 0; i < len(p.faces); i++ {
		for n, pair := range p.faces[i].reps {
			done[pair] = true
			for s := range p.faces[i].slots {
				keys := p.faces[i].slots[s].keys
				switch {
				case p.all:
				case n > 0:
					keys = keys[:min(1, len(keys))]
				case p.brief:
					keys = p.faces[i].slots[s].ends()
				}
				for _, k := range keys {
					p.shots = append(p.shots, shot{int32(i), int32(s), pair[0], pair[1], k})
				}
			}
		}
	}
	few := !p.all && len(p.ends)*len(p.ends) > manyPairs
	for i := range p.ends {
		for j := range p.ends {
			pair := [2]int32{int32(i), int32(j)}
			if done[pair] || few && p.groups[p.ends[i].group].ends[0] != pair[0] && p.groups[p.ends[j].group].ends[0] != pair[1] {
				continue
			}
			f := p.face(pair[0], pair[1])
			if f < 0 {
				continue
			}
			slots := p.faces[f].slots
			if !p.all {
				p.tell(f, pair)
				continue
			}
			for s := range slots {
				for _, k := range slots[s].keys {
					p.shots = append(p.shots, shot{f, int32(s), pair[0], pair[1], k})
				}
			}
		}
	}
}

// ends returns the key that stands for the slot and those at its borders.
func (s *slot) ends() []netset.Key {
	if len(s.keys) < 3 {
		return s.keys
	}
	lo, hi := slices.Min(s.keys), slices.Max(s.keys)
	return slices.Compact([]netset.Key{s.keys[0], lo, hi})
}

// tell adds the packets that tell most about a pair which does not stand for
// its face: an echo request, the first that should pass, and the first that
// should not.
func (p *plan) tell(f int32, pair [2]int32) {
	var seen [2]bool
	slots := p.faces[f].slots
	echo := netset.Echo(p.ends[pair[0]].Family)
	for s := range slots {
		if len(slots[s].keys) == 0 || slots[s].keys[0].Proto() > 0 && !hasPorts(slots[s].keys[0].Proto()) && slots[s].keys[0] != echo {
			continue
		}
		d := slots[s].decision
		if slots[s].keys[0] == echo {
			p.shots = append(p.shots, shot{f, int32(s), pair[0], pair[1], echo})
		} else if !seen[d] {
			seen[d] = true
			p.shots = append(p.shots, shot{f, int32(s), pair[0], pair[1], slots[s].keys[0]})
		}
	}
}
