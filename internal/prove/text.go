//go:build linux

package prove

import (
	"fmt"
	"io"
	"strings"

	"picket/internal/report/matrix"
	"picket/internal/term"
	"picket/internal/verdict"
)

const shownCells = 20 // mismatches of how many cells the text shows

// WriteText writes proofs for people: for each the matrix as measured, what it
// opened and closed compared with the one before, each mismatch, and what came
// of it in a line.
func WriteText(w *term.Writer, proofs []*Proof) error {
	for i, p := range proofs {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if p.Name != "" {
			if _, err := fmt.Fprintf(w, "%s\n", w.Bold("== "+term.Clean(p.Name))); err != nil {
				return err
			}
		}
		if err := p.writeText(w); err != nil {
			return err
		}
	}
	if len(proofs) < 2 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", w.Bold(fmt.Sprintf("%d steps: %s", len(proofs), sum(proofs...).line())))
	return err
}

func (p *Proof) writeText(w *term.Writer) error {
	m, err := p.Matrix()
	if err != nil {
		return err
	}
	if err := m.WriteText(w); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("\n")
	if c := p.Changes; c != nil {
		c.write(&b, w)
		b.WriteString("\n")
	}
	p.writeMismatches(&b, w)
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", term.Clean(n))
	}
	for _, u := range p.Unproved {
		fmt.Fprintf(&b, "could not be proved: %s: %s\n", plural(u.Cells, "cell"), term.Clean(u.Why))
	}
	line := p.Summary()
	if p.Agrees() {
		line = w.Green(line)
	} else {
		line = w.Red(line)
	}
	b.WriteString(line + "\n")
	_, err = io.WriteString(w, b.String())
	return err
}

const shownChanges = 12

func (c *Changes) write(b *strings.Builder, w *term.Writer) {
	if len(c.Opened)+len(c.Closed) == 0 {
		b.WriteString("the step changed nothing that packets can tell\n")
		return
	}
	for _, part := range []struct {
		list  []Change
		word  string
		sign  string
		style func(string) string
		pairs int
	}{{c.Opened, "opened", "+", w.Green, c.Pairs[0]}, {c.Closed, "closed", "-", w.Red, c.Pairs[1]}} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s, by packets: %s of pods\n", part.word, plural(part.pairs, "ordered pair"))
		for i, x := range part.list {
			if i == shownChanges {
				fmt.Fprintf(b, "  … and %d lines more; -o json has all\n", len(part.list)-i)
				break
			}
			fmt.Fprintf(b, "  %s\n", part.style(term.Clean(fmt.Sprintf("%s %s → %s  %s", part.sign, x.From, x.To, x.Traffic))))
		}
	}
}

func (p *Proof) writeMismatches(b *strings.Builder, w *term.Writer) {
	names := matrix.NewNames(p.t)
	cells := 0
	for i := 0; i < len(p.Mismatches); {
		m := &p.Mismatches[i]
		s := p.shots[m.shot]
		n := i + 1
		for n < len(p.Mismatches) && p.shots[p.Mismatches[n].shot].face == s.face && p.shots[p.Mismatches[n].shot].slot == s.slot {
			n++
		}
		if cells++; cells > shownCells {
			i = n
			continue
		}
		f := &p.faces[s.face]
		fmt.Fprintf(b, "%s\n", w.Red(term.Clean(m.String())))
		fmt.Fprintf(b, "  cell: %s → %s  %s, %s of %s wrong\n", term.Clean(p.groupName(names, f.src)), term.Clean(p.groupName(names, f.dst)),
			p.cellName(f, &f.slots[s.slot]), number(n-i), plural(int(f.results[s.slot].sent), "packet"))
		for _, line := range p.why(m) {
			fmt.Fprintf(b, "  %s\n", term.Clean(line))
		}
		i = n
	}
	if cells > shownCells {
		fmt.Fprintf(b, "… and mismatches in %s more; -o json has all\n", plural(cells-shownCells, "cell"))
	}
	if cells > 0 {
		b.WriteString("\n")
	}
}

// why says why the table predicts what it does.
func (p *Proof) why(m *Mismatch) []string {
	if m.Bypass != "" {
		return []string{"predicted " + m.Predict.String() + ": " + m.Bypass}
	}
	var out []string
	for _, d := range []int{1, 0} { // egress comes first on the way
		if m.Reasons[d] != "" {
			at := []string{"ingress at " + m.To, "egress at " + m.From}[d]
			out = append(out, at+": "+m.Reasons[d])
		}
	}
	// One policy is named with its place by the reason itself.
	for _, name := range m.Policies {
		if !strings.Contains(strings.Join(m.Reasons[:], " "), name) {
			out = append(out, "  "+name)
		}
	}
	return out
}

func (p *Proof) groupName(names *matrix.Names, g int32) string {
	if len(p.groups[g].ends) == 0 {
		return names.Of([]verdict.Party{p.groups[g].party}, 48)
	}
	return names.Of(p.parties(p.groups[g].ends), 48)
}
