package matrix

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"picket/internal/netset"
	"picket/internal/term"
	"picket/internal/verdict"
)

// Evidence is what packets showed of the table. With it the matrix shows what
// was measured, and marks where that is not what the table says.
type Evidence interface {
	// Between says what packets from src to dst showed, both of one family; false
	// if none were sent. The parties are any members of their groups.
	Between(src, dst verdict.Party) (Measured, bool)
	// Summary says in a line what the packets showed as a whole.
	Summary() string
}

// Measured is what packets from one group to another showed. Each packet stands
// for its cell: the range of traffic of which the table says one thing.
type Measured struct {
	Passed        netset.Traffic // what gets through, by the packets
	Cells, Proved int            // cells, and those in which packets agreed with the table
	Packets       int
	Wrong         []string // packets that did not do what the table says, a line each
	Detail        []string // what packets showed of each cell, a line each
}

// unmeasured stands in cell.deviates for a cell in which no packet was sent.
const unmeasured = -1

// deviation is a cell that packets showed to be other than the table says.
type deviation struct {
	passed [2]netset.Traffic // by family
}

// evidence gathers what is known of a pair of groups, in all families.
type evidence struct {
	Measured
	passed [2]netset.Traffic // by family
	seen   bool
}

func (r *Report) evidence(src, dst *group) evidence {
	var e evidence
	for _, f := range r.t.Families() {
		a, ok := r.member(src, f)
		b, also := r.member(dst, f)
		if !ok || !also {
			continue
		}
		m, ok := r.o.Evidence.Between(a, b)
		if !ok {
			continue
		}
		e.seen = true
		e.passed[familyIndex(f)] = m.Passed
		e.Cells += m.Cells
		e.Proved += m.Proved
		e.Packets += m.Packets
		e.Wrong = append(e.Wrong, m.Wrong...)
		e.Detail = append(e.Detail, m.Detail...)
	}
	return e
}

// member returns a member of the group as a party of the family.
func (r *Report) member(g *group, f netset.Family) (verdict.Party, bool) {
	switch peer := g.peers[familyIndex(f)]; {
	case peer == verdict.None:
		return verdict.Party{}, false
	case len(g.endpoints) > 0:
		return r.t.EndpointParty(int(g.endpoints[0]), f)
	case len(g.nodes) > 0:
		return r.t.NodeParty(int(g.nodes[0]), f)
	default:
		return verdict.Party{Endpoint: verdict.None, Node: verdict.None, Family: f, Peer: peer}, true
	}
}

// nobody reports whether all addresses of a group belong to somebody in the
// cluster, so that there is no host outside to send from.
func (r *Report) nobody(g *group) bool {
	for _, in := range g.addrs.Ranges() {
		for a, n := in.From, 0; a.IsValid() && a.Compare(in.To) <= 0; a, n = a.Next(), n+1 {
			if _, owned := r.t.Owner[a]; !owned || n > len(r.t.Owner) {
				return false
			}
		}
	}
	return true
}

// deviates marks the cells of a row where packets showed something else than
// the table says, or nothing.
func (r *Report) deviates(src *group, cells []int32) {
	for c, id := range cells {
		if id == noCell || r.cells[id].bypass != verdict.Judged {
			continue
		}
		e := r.evidence(src, r.groups[r.columns[c]])
		k := r.cells[id]
		switch {
		case !e.seen:
			k.deviates = unmeasured
		case len(e.Wrong) > 0:
			k.deviates = r.deviationID([2]*group{src, r.groups[r.columns[c]]}, e.passed)
		default:
			continue
		}
		cells[c] = r.cellID(k)
	}
}

func (r *Report) deviationID(ends [2]*group, passed [2]netset.Traffic) int32 {
	n, ok := r.deviationAt[ends]
	if !ok {
		r.deviations = append(r.deviations, deviation{passed})
		n = int32(len(r.deviations))
		r.deviationAt[ends] = n
	}
	return n
}

// showMeasured shows a cell as packets found it.
func (r *Report) showMeasured(c cell) shown {
	if c.deviates == unmeasured {
		return shown{ready: true, text: "?", level: unclear}
	}
	d := r.deviations[c.deviates-1]
	var all []shown
	for f := range c.joint {
		if c.joint[f] >= 0 {
			all = append(all, r.showTraffic(d.passed[f].Intersect(r.mask[f]), netset.Traffic{}, r.mask[f]))
		}
	}
	s := all[0]
	if len(all) == 2 && all[0] != all[1] {
		s = shown{ready: true, text: "IPv4 " + all[0].text + "; IPv6 " + all[1].text}
		s.level = min(max(all[0].level, all[1].level), partly)
	}
	s.wrong = true
	return s
}

// writeEvidence writes what packets showed, cell by cell.
func (r *Report) writeEvidence(b *bufio.Writer) {
	fmt.Fprintf(b, ",\n\"evidence\": {\"summary\": %s,\n\"cells\": [", marshal(r.o.Evidence.Summary()))
	var results []jsonEvidence
	at := map[string]int{}
	var buf []byte
	first := true
	r.eachRow(func(g int, cells []int32) {
		buf = buf[:0]
		if !first {
			buf = append(buf, ',')
		}
		first = false
		row := make([]int32, len(cells))
		for c, id := range cells {
			row[c] = noCell
			e := evidence{}
			if id != noCell {
				e = r.evidence(r.groups[g], r.groups[r.columns[c]])
			}
			if !e.seen {
				continue
			}
			j := jsonEvidence{Cells: e.Cells, Proved: e.Proved, Packets: e.Packets, Wrong: e.Wrong, Detail: e.Detail}
			key := string(marshal(j))
			n, ok := at[key]
			if !ok {
				n = len(results)
				at[key] = n
				results = append(results, j)
			}
			row[c] = int32(n)
		}
		buf = appendRuns(append(buf, '\n'), row)
		b.Write(buf)
	})
	b.WriteString("]")
	list(b, "results", results)
	b.WriteString("}")
}

// jsonEvidence is what packets showed of a cell of the matrix.
type jsonEvidence struct {
	Cells   int      `json:"cells"`  // of the table
	Proved  int      `json:"proved"` // in which packets agreed with the table
	Packets int      `json:"packets"`
	Wrong   []string `json:"wrong,omitempty"`  // packets that did not do what the table says
	Detail  []string `json:"detail,omitempty"` // what packets showed of each cell
}

// Names names parties as the matrix names its groups.
type Names struct {
	n *namer
	t *verdict.Table
}

// NewNames prepares to name the parties of t.
func NewNames(t *verdict.Table) *Names { return &Names{newNamer(t), t} }

// Of names parties in about width columns: pods by workload and namespace, then
// nodes, then addresses outside by the blocks that policies cut.
func (n *Names) Of(ps []verdict.Party, width int) string {
	var pods, machines []int32
	var out []string
	g := &group{kind: addresses}
	for _, p := range ps {
		switch {
		case p.Endpoint != verdict.None:
			pods = append(pods, p.Endpoint)
		case p.Node != verdict.None:
			machines = append(machines, p.Node)
		default:
			rest := n.t.ExternalBlock(p.Family)
			for _, b := range n.t.Peers[p.Peer].Blocks {
				in := n.t.Blocks.Blocks[b].Addrs.Only(p.Family)
				g.addrs = g.addrs.Union(in)
				g.external = g.external || int(b) == rest && !in.Empty()
			}
		}
	}
	if len(pods) > 0 {
		out = append(out, n.n.endpoints(unique(pods), width))
	}
	if len(machines) > 0 {
		out = append(out, n.n.nodes(unique(machines), width))
	}
	if !g.addrs.Empty() {
		out = append(out, n.n.addresses(g))
	}
	return join(out)
}

func unique(ids []int32) []int32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

func join(words []string) string { return strings.Join(words, ", ") }

// deviationNotes explains the marks of measured cells.
func (r *Report) deviationNotes(cells [][]int32) (notes [][]term.Cell) {
	var wrong, without bool
	for _, row := range cells {
		for _, id := range row {
			if id != noCell {
				wrong = wrong || r.cells[id].deviates > 0
				without = without || r.cells[id].deviates == unmeasured
			}
		}
	}
	if wrong {
		notes = append(notes, []term.Cell{{Text: "!"}, {Text: "not what the policies say; see below"}})
	}
	if without {
		notes = append(notes, []term.Cell{{Text: "?"}, {Text: "no packet could be sent"}})
	}
	return notes
}
