package matrix

import (
	"slices"

	"picket/internal/model"
	"picket/internal/verdict"
)

// noCell is the cell of a pair that nobody asked about: both ends are outside
// the cluster, or in none of the wanted namespaces.
const noCell = -1

// cell is what decides between two groups: the verdicts of both sides, in each
// family that both have.
type cell struct {
	bypass verdict.Bypass
	joint  [2]int32 // by family: index into interner.joints, -1 if the ends don't both have it

	// deviates is where packets showed something else: index into
	// interner.deviations plus 1, 0 if they did not, or unmeasured.
	deviates int32
}

// interner numbers the distinct pairs of (ingress, egress) verdicts, and the
// distinct cells made of them. There are few of them however many pods there
// are; everything written per cell is a number.
type interner struct {
	joints  [][2]verdict.VerdictID // by direction
	jointAt map[[2]verdict.VerdictID]int32
	recent  []recent // of jointAt, by hash: most look-ups end here
	cells   []cell
	cellAt  map[cell]int32
	texts   []shown // by cell, as far as looked at

	deviations  []deviation
	deviationAt map[[2]*group]int32 // index plus 1
	labels      map[string]int32    // of texts
}

// recent is an entry of a small cache before a map.
type recent struct {
	sides [2]verdict.VerdictID
	id    int32 // plus 1; 0 is no entry
}

// recentBits is the logarithm of the cache's size.
const recentBits = 14

func newInterner() *interner {
	in := &interner{}
	in.reset()
	return in
}

// reset forgets all cells, so that numbers are given out anew.
func (in *interner) reset() {
	in.joints, in.cells, in.texts, in.deviations = nil, nil, nil, nil
	in.jointAt, in.cellAt, in.labels = map[[2]verdict.VerdictID]int32{}, map[cell]int32{}, map[string]int32{}
	in.deviationAt = map[[2]*group]int32{}
	in.recent = make([]recent, 1<<recentBits)
}

func (in *interner) jointID(ingress, egress verdict.VerdictID) int32 {
	k := [2]verdict.VerdictID{ingress, egress}
	slot := &in.recent[(uint32(ingress)*0x9e3779b1^uint32(egress)*0x85ebca6b)>>(32-recentBits)]
	if slot.id != 0 && slot.sides == k {
		return slot.id - 1
	}
	id, ok := in.jointAt[k]
	if !ok {
		id = int32(len(in.joints))
		in.joints = append(in.joints, k)
		in.jointAt[k] = id
	}
	*slot = recent{k, id + 1}
	return id
}

func (in *interner) cellID(c cell) int32 {
	id, ok := in.cellAt[c]
	if !ok {
		id = int32(len(in.cells))
		in.cells = append(in.cells, c)
		in.cellAt[c] = id
	}
	return id
}

// eachRow calls f with each row's group and its cells, in the order of the
// columns. The slice is used again for the next row.
func (r *Report) eachRow(f func(group int, cells []int32)) {
	s := r.scanner()
	cells := make([]int32, len(r.columns))
	for _, g := range r.rows {
		s.row(g, cells)
		f(g, cells)
	}
}

// scanner computes rows of cells. It keeps what all rows need of the columns.
type scanner struct {
	r        *Report
	families []int
	targets  []verdict.TargetID             // the distinct ingress targets of the columns
	ingress  []verdict.VerdictID            // of the row's source as a peer, by target
	egress   []verdict.VerdictID            // of the row's source as a target, by peer; empty if it is none
	except   map[verdict.PeerID][]exception // of the ingress rows, by peer
	pair     int32                          // in a row of one pod: the cell that two pods like it would have, else noCell
	cellOf   []int32                        // by joint, in a cluster of one family
}

func (r *Report) scanner() *scanner {
	s := &scanner{r: r, ingress: make([]verdict.VerdictID, len(r.t.Targets[model.Ingress])), except: map[verdict.PeerID][]exception{}}
	for _, f := range r.t.Families() {
		s.families = append(s.families, familyIndex(f))
	}
	for _, c := range r.columns {
		if id := r.groups[c].targets[model.Ingress]; id != verdict.None {
			s.targets = append(s.targets, id)
		}
	}
	slices.Sort(s.targets)
	s.targets = slices.Compact(s.targets)
	for _, id := range s.targets {
		row := &r.t.Rows[model.Ingress][id]
		for i, p := range row.Peers {
			s.except[p] = append(s.except[p], exception{id, row.Verdicts[i]})
		}
	}
	return s
}

// exception is an entry of an ingress row that differs from the background.
type exception struct {
	target  verdict.TargetID
	verdict verdict.VerdictID
}

// row computes the cells of the row of group g.
func (s *scanner) row(g int, cells []int32) {
	r, src := s.r, s.r.groups[g]
	if len(s.families) == 1 {
		s.single(g, cells)
	} else {
		s.dual(src, cells)
	}
	s.pair = noCell
	for c, col := range r.columns {
		dst := r.groups[col]
		switch {
		case !src.inside() && !dst.inside(), r.asked != nil && !r.asked[g] && !r.asked[col]:
			cells[c] = noCell
		case len(src.endpoints) == 1 && len(dst.endpoints) == 1 && src.endpoints[0] == dst.endpoints[0]:
			s.pair = cells[c]
			cells[c] = r.cellID(cell{bypass: verdict.Itself, joint: [2]int32{-1, -1}})
		}
	}
	if r.o.Evidence != nil {
		r.deviates(src, cells)
	}
}

// prepare looks up what the row of src needs: the ingress verdict of each
// target for it as a peer, and its egress verdict for each peer. It goes
// through whole rows and columns of the table at once, since a search for each
// cell would take most of the time.
func (s *scanner) prepare(src *group, f int) {
	peer := src.peers[f]
	for _, id := range s.targets {
		s.ingress[id] = background(&s.r.t.Rows[model.Ingress][id], peer)
	}
	for _, e := range s.except[peer] {
		s.ingress[e.target] = e.verdict
	}
	s.egress = s.egress[:0]
	if id := src.targets[model.Egress]; id != verdict.None {
		row := &s.r.t.Rows[model.Egress][id]
		for p := range s.r.t.Peers {
			s.egress = append(s.egress, background(row, verdict.PeerID(p)))
		}
		for i, p := range row.Peers {
			s.egress[p] = row.Verdicts[i]
		}
	}
}

// background is what the row says for p unless p is one of its exceptions.
func background(row *verdict.Row, p verdict.PeerID) verdict.VerdictID {
	if row.Of == nil {
		return row.Patterns[0]
	}
	return row.Patterns[row.Of[p]]
}

// sides returns the joint of the prepared source and dst in family f.
func (s *scanner) sides(dst *group, f int) int32 {
	if dst.peers[f] == verdict.None {
		return -1
	}
	ingress, egress := verdict.VerdictID(verdict.None), verdict.VerdictID(verdict.None)
	if id := dst.targets[model.Ingress]; id != verdict.None {
		ingress = s.ingress[id]
	}
	if len(s.egress) > 0 {
		egress = s.egress[dst.peers[f]]
	}
	return s.r.jointID(ingress, egress)
}

// single computes a row where the cluster has one family, which is nearly
// always: without a map look-up where neighbours are alike.
func (s *scanner) single(g int, cells []int32) {
	f, src := s.families[0], s.r.groups[g]
	if src.peers[f] == verdict.None {
		for c := range cells {
			cells[c] = noCell
		}
		return
	}
	s.prepare(src, f)
	for c, col := range s.r.columns {
		k := cell{joint: [2]int32{-1, -1}}
		if k.joint[f] = s.sides(s.r.groups[col], f); k.joint[f] < 0 {
			cells[c] = noCell
			continue
		}
		j := k.joint[f]
		for int(j) >= len(s.cellOf) {
			s.cellOf = append(s.cellOf, noCell)
		}
		if s.cellOf[j] == noCell {
			s.cellOf[j] = s.id(k)
		}
		cells[c] = s.cellOf[j]
	}
}

// dual computes a row where the cluster has two families.
func (s *scanner) dual(src *group, cells []int32) {
	ks := make([]cell, len(cells))
	for c := range ks {
		ks[c].joint = [2]int32{-1, -1}
	}
	for _, f := range s.families {
		if src.peers[f] == verdict.None {
			continue
		}
		s.prepare(src, f)
		for c, col := range s.r.columns {
			ks[c].joint[f] = s.sides(s.r.groups[col], f)
		}
	}
	for c, k := range ks {
		cells[c] = noCell
		if k.joint != [2]int32{-1, -1} {
			cells[c] = s.id(k)
		}
	}
}

// id returns the number of cell k, whose bypass it finds out.
func (s *scanner) id(k cell) int32 {
	for _, j := range k.joint {
		if j >= 0 && s.r.joints[j] == [2]verdict.VerdictID{verdict.None, verdict.None} {
			k.bypass = verdict.Unguarded
		}
	}
	return s.r.cellID(k)
}

// joined returns the pieces of traffic of cell c in family f, nil if the ends
// don't both have the family.
func (r *Report) joined(c cell, f int) []verdict.Joint {
	if c.bypass == verdict.Itself {
		return verdict.Join(nil, nil)
	}
	if c.joint[f] < 0 {
		return nil
	}
	j := r.joints[c.joint[f]]
	return verdict.Join(r.t.Verdict(j[model.Ingress]), r.t.Verdict(j[model.Egress]))
}

// families returns the families, as indices, in which cell c speaks apart:
// both if they differ, else one.
func (r *Report) families(c cell) []int {
	switch {
	case c.bypass == verdict.Itself:
		return []int{familyIndex(r.t.Families()[0])}
	case c.joint[0] < 0:
		return []int{1}
	case c.joint[1] < 0 || c.joint[0] == c.joint[1] && r.mask[0].Equal(r.mask[1]):
		return []int{0}
	}
	return []int{0, 1}
}
