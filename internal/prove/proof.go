//go:build linux

package prove

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"picket/internal/lab"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Proof is what packets showed of one table.
type Proof struct {
	Name    string
	Elapsed time.Duration

	Cells    int // of the table, between those who take part
	Proved   int // in which at least one packet was sent, and all agreed with the table
	Refuted  int // in which a packet disagreed
	Unproved []Unproved
	Sent     int // packets
	Results  [lab.Answered + 1]int

	Mismatches []Mismatch // by cell
	Notes      []string   // what is left out, for people
	Changes    *Changes   // against the step before; nil for the first

	Pods, Nodes, Hosts int

	t        *verdict.Table
	outcomes []lab.Outcome        // by shot
	seen     []sight              // by face
	deviant  map[[2]int32][]int32 // by ends: shots that found otherwise than their slot
	wrongOf  map[int32][]int      // by face: indices into Mismatches
	*plan
}

// Unproved counts the cells that packets can say nothing about.
type Unproved struct {
	Why   string
	Cells int
}

// Mismatch is a packet that did not do what the table says.
type Mismatch struct {
	shot     int32
	From, To string        // names in the lab
	Dst      string        // address
	Family   netset.Family //
	Key      netset.Key    //
	Predict  verdict.Decision
	Result   lab.Result
	Reasons  [2]string // by direction: why the table says so; "" where that side is not judged
	Bypass   string    // why no policy is asked, "" if one is
	Policies []string  // the policies that isolate an end without a rule that matches, each with its place
}

// Kind says in a word or two what went wrong.
func (m *Mismatch) Kind() string {
	switch {
	case m.Predict != verdict.Allow:
		return "wrongly open"
	case m.Result == lab.Arrived:
		return "answer lost"
	}
	return "wrongly closed"
}

// place notes who takes part, and who does not.
func (p *Proof) place(r *runner, limits []string) {
	p.Nodes, p.Hosts = len(p.t.Snapshot.Nodes), len(r.hosts)
	p.Pods = len(p.t.Snapshot.Endpoints)
	for i := range p.t.Snapshot.Endpoints {
		e := &p.t.Snapshot.Endpoints[i]
		if why := r.missing[e.String()]; why != "" {
			p.Pods--
			p.Notes = append(p.Notes, "pod "+e.String()+" takes no part: "+why)
		}
	}
	slices.Sort(limits)
	p.Notes = append(p.Notes, slices.Compact(limits)...)
}

// predicted is what the table says of a shot.
func (p *Proof) predicted(i int32) verdict.Decision {
	s := &p.shots[i]
	return p.faces[s.face].slots[s.slot].decision
}

// mute reports whether no answer to a shot can be seen: a node's kernel leaves
// what is not TCP, UDP or ICMP to the socket that watches for it, and of ICMP
// only echo replies are known.
func (p *Proof) mute(i int32) bool {
	s := &p.shots[i]
	proto := s.key.Proto()
	if isICMP(proto) {
		return s.key != netset.Echo(p.ends[s.src].Family)
	}
	return p.ends[s.dst].kind != pod && p.ends[s.dst].kind != outside && proto != netset.TCP && proto != netset.UDP
}

// mismatch reports whether a shot did what the table excludes.
func (p *Proof) mismatch(i int32) bool {
	o := &p.outcomes[i]
	switch {
	case o.Result == lab.Error:
		return false
	case p.predicted(i) != verdict.Allow:
		return o.Result.Reached()
	}
	return !o.Result.Reached() || o.Result == lab.Arrived && !p.mute(i)
}

// settle adds up what became of the shots.
func (p *Proof) settle() {
	for i := range p.shots {
		s, o := &p.shots[i], &p.outcomes[i]
		r := &p.faces[s.face].results[s.slot]
		p.Results[o.Result]++
		if o.Result == lab.Error {
			r.failed++
			continue
		}
		r.sent++
		if o.Result.Reached() {
			r.passed++
		}
		if p.mismatch(int32(i)) {
			r.wrong++
			p.Mismatches = append(p.Mismatches, p.explain(int32(i)))
		}
	}
	why := map[string]int{}
	for i := range p.faces {
		f := &p.faces[i]
		for s := range f.slots {
			p.Cells++
			switch r := &f.results[s]; {
			case r.wrong > 0:
				p.Refuted++
			case r.sent > 0:
				p.Proved++
			default:
				why[p.unprovedWhy(f, s)]++
			}
		}
	}
	for _, w := range slices.Sorted(maps.Keys(why)) {
		p.Unproved = append(p.Unproved, Unproved{w, why[w]})
	}
	p.look()
	slices.SortStableFunc(p.Mismatches, func(a, b Mismatch) int {
		x, y := &p.shots[a.shot], &p.shots[b.shot]
		return cmp.Or(cmp.Compare(x.face, y.face), cmp.Compare(x.slot, y.slot), cmp.Compare(x.key, y.key), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	p.wrongOf = map[int32][]int{}
	for i := range p.Mismatches {
		f := p.shots[p.Mismatches[i].shot].face
		p.wrongOf[f] = append(p.wrongOf[f], i)
	}
}

// unprovedWhy says why packets say nothing about a cell.
func (p *Proof) unprovedWhy(f *face, s int) string {
	switch r := &f.results[s]; {
	case f.slots[s].why != "":
		return f.slots[s].why
	case p.groups[f.src].why != "":
		return p.groups[f.src].why
	case p.groups[f.dst].why != "":
		return p.groups[f.dst].why
	case r.failed > 0:
		return "a packet could not be sent: " + p.outcomes[r.first].Err.Error()
	}
	return "no two members of the groups are in the lab"
}

func (p *Proof) explain(i int32) Mismatch {
	s := &p.shots[i]
	src, dst := &p.ends[s.src], &p.ends[s.dst]
	m := Mismatch{shot: i, From: src.name, To: dst.name, Dst: dst.Addr.String(), Family: src.Family, Key: s.key, Predict: p.predicted(i), Result: p.outcomes[i].Result}
	pair := p.t.Pair(src.Party, dst.Party)
	m.Bypass = pair.Bypass.String()
	_, pieces := p.t.Decide(pair, s.key)
	for _, d := range model.Directions {
		if pair.Sides[d] == verdict.None {
			continue
		}
		target := dst.Endpoint
		if d == model.Egress {
			target = src.Endpoint
		}
		id := p.t.TargetOf[d][target]
		m.Reasons[d] = p.t.SideSentence(d, id, pieces[d])
		if r := p.t.Reasons[pieces[d].Reason]; r.Kind == verdict.Isolated {
			m.Policies = append(m.Policies, p.isolating(d, id, r.Rule.Tier)...)
		}
	}
	return m
}

// isolating names the policies of a tier that isolate a target.
func (p *Proof) isolating(d model.Direction, id verdict.TargetID, tier int32) (out []string) {
	for _, s := range p.t.Targets[d][id].Policies {
		policy := p.t.Policy(s.PolicyRef)
		if s.Tier != tier || policy.Staged {
			continue
		}
		at := policy.Origin.Position
		at.Col = 0
		name := policy.Ref()
		if place := at.String(); place != "" {
			name += " (" + place + ")"
		}
		out = append(out, name)
	}
	return out
}

// Agrees reports whether no packet disagreed with the table.
func (p *Proof) Agrees() bool { return len(p.Mismatches) == 0 }

// missed is the number of cells about which packets said nothing.
func (p *Proof) missed() (n int) {
	for _, u := range p.Unproved {
		n += u.Cells
	}
	return n
}
