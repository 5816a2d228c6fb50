//go:build linux

package prove

import (
	"fmt"

	"picket/internal/netset"
	"picket/internal/report/matrix"
	"picket/internal/verdict"
)

// Matrix is the matrix as the packets found it.
func (p *Proof) Matrix() (*matrix.Report, error) {
	return matrix.Build(p.t, matrix.Options{External: true, Evidence: p})
}

// Between says what the packets of a group of the table showed, as the matrix
// asks for it.
func (p *Proof) Between(src, dst verdict.Party) (matrix.Measured, bool) {
	a, ok := p.groupAt[p.keyOf(src)]
	b, also := p.groupAt[p.keyOf(dst)]
	if !ok || !also {
		return matrix.Measured{}, false
	}
	i, ok := p.faceAt[faceKey{a, b, verdict.Judged}]
	if !ok {
		// A node that has no pod but its own.
		if i, ok = p.faceAt[faceKey{a, b, verdict.FromNode}]; !ok {
			return matrix.Measured{}, false
		}
	}
	s, f := &p.seen[i], &p.faces[i]
	m := matrix.Measured{Passed: s.passed, Cells: len(f.slots), Packets: s.packets}
	for _, d := range s.deviant {
		m.Passed = p.amend(m.Passed, d)
	}
	for n, r := range f.results {
		if r.wrong == 0 && r.sent > 0 {
			m.Proved++
		}
		line := fmt.Sprintf("%s, predicted %s: ", p.cellName(f, &f.slots[n]), f.slots[n].decision)
		switch {
		case r.sent > 0:
			line += fmt.Sprintf("%d of %s passed", r.passed, plural(int(r.sent), "packet"))
		default:
			line += "not proved: " + p.unprovedWhy(f, n)
		}
		m.Detail = append(m.Detail, line)
	}
	for _, n := range p.wrongOf[i] {
		m.Wrong = append(m.Wrong, p.Mismatches[n].String())
	}
	return m, s.some
}

// String says the mismatch in a line.
func (m *Mismatch) String() string {
	to := m.To
	if to != m.Dst {
		to += " (" + m.Dst + ")"
	}
	return fmt.Sprintf("%s: %s → %s  %s: %s, predicted %s", m.Kind(), m.From, to, m.Key, m.Result, m.Predict)
}

// Summary says in a line what the packets showed.
func (p *Proof) Summary() string { return sum(p).line() }

// tally adds up proofs.
type tally struct {
	cells, proved, refuted, missed, sent, wrong int
	seconds                                     float64
}

func sum(ps ...*Proof) (t tally) {
	for _, p := range ps {
		t.cells += p.Cells
		t.proved += p.Proved
		t.refuted += p.Refuted
		t.missed += p.missed()
		t.sent += p.Sent
		t.wrong += len(p.Mismatches)
		t.seconds += p.Elapsed.Seconds()
	}
	return t
}

func (t tally) line() string {
	with := fmt.Sprintf("%s in %.1f s", plural(t.sent, "packet"), t.seconds)
	switch {
	case t.refuted > 0:
		return fmt.Sprintf("refuted in %s: %s of %s did not do what the policies say (%.1f s)", plural(t.refuted, "cell"), number(t.wrong), plural(t.sent, "packet"), t.seconds)
	case t.missed > 0:
		return fmt.Sprintf("proved %s of %s with %s: prediction and kernel agree where packets can tell", number(t.proved), plural(t.cells, "cell"), with)
	}
	return fmt.Sprintf("proved %s with %s: prediction and kernel agree", plural(t.proved, "cell"), with)
}

// number writes n with commas: 1,234.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + one + "s"
}

// cellName names the traffic of a cell, with the family where that matters.
func (p *Proof) cellName(f *face, s *slot) string {
	name := trafficName(s.traffic)
	if len(p.t.Families()) > 1 && p.groups[f.src].family == netset.V6 {
		name += " (IPv6)"
	}
	return name
}
