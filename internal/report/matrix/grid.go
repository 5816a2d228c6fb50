package matrix

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"picket/internal/term"
)

// longCell is how many columns the text of a cell may take before a letter
// stands for it.
const longCell = 14

// grid is a view laid out as a table.
type grid struct {
	r       *Report
	v       *view
	header  [][]string // by column: its lines; nil for numbered columns
	letters map[string]string
	legend  []string // texts that have letters, in order
}

// fit lays v out for width columns, with names over the columns if they fit
// and numbers if not. It returns nil if neither does.
func (r *Report) fit(v *view, width int) *grid {
	g := &grid{r: r, v: v, letters: map[string]string{}}
	g.abbreviate()
	for _, column := range v.columns {
		g.header = append(g.header, stack(column.name))
	}
	if g.table(nil).Width() <= width {
		return g
	}
	g.header = nil
	if g.table(nil).Width() <= width {
		return g
	}
	return nil
}

// stack cuts a name into the lines of a column's head.
func stack(name string) []string {
	if strings.Contains(name, ", ") {
		return strings.Split(strings.ReplaceAll(name, ", ", ",\n"), "\n")
	}
	if block, except, ok := strings.Cut(name, " except "); ok {
		return []string{block, "except " + except}
	}
	var out []string
	name, count, counted := strings.Cut(name, " (")
	if i := strings.LastIndex(name, "/"); i > 0 && strings.Trim(name[i+1:], "0123456789") != "" {
		out = append(out, name[:i])
		name = name[i+1:]
	}
	name, more, cut := strings.Cut(name, " … ")
	out = append(out, name)
	if cut {
		out = append(out, "… "+more)
	}
	if counted {
		out = append(out, "("+count)
	}
	return out
}

// abbreviate gives letters to the long texts, the most frequent first.
func (g *grid) abbreviate() {
	count := map[string]int{}
	for _, row := range g.v.cells {
		for _, id := range row {
			if id == noCell {
				continue
			}
			if s := g.r.shown(id); term.Columns(s.text) > longCell {
				count[s.text]++
			}
		}
	}
	for text := range count {
		g.legend = append(g.legend, text)
	}
	slices.SortFunc(g.legend, func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), strings.Compare(a, b))
	})
	for i, text := range g.legend {
		g.letters[text] = letter(i)
	}
}

// letter returns A, B, … Z, AA, AB, …
func letter(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return letter(i/26-1) + string(rune('A'+i%26))
}

// table builds the grid; w may be nil to measure only.
func (g *grid) table(w *term.Writer) *term.Table {
	t := &term.Table{}
	bold, dim := func(s string) string { return s }, func(s string) string { return s }
	if w != nil {
		bold, dim = w.Bold, w.Dim
	}
	g.head(t, bold, dim)
	for i, row := range g.v.rows {
		label := row.name
		if g.header == nil && g.v.square {
			label = fmt.Sprintf("%d %s", i+1, row.name)
		}
		cells := []term.Cell{{Text: label, Style: bold}}
		for _, id := range g.v.cells[i] {
			if id == noCell {
				cells = append(cells, term.Cell{})
				continue
			}
			s := *g.r.shown(id)
			if l, ok := g.letters[s.text]; ok {
				s.text = l
			}
			c := term.Cell{Text: s.String()}
			if w != nil {
				c.Style = style(w, s.level)
			}
			cells = append(cells, c)
		}
		t.Add(cells...)
	}
	return t
}

// head adds the lines above the rows: names, flush at the bottom, or numbers.
func (g *grid) head(t *term.Table, bold, dim func(string) string) {
	corner := term.Cell{Text: "from ↓  to →", Style: dim}
	if g.header == nil {
		cells := []term.Cell{corner}
		for i := range g.v.columns {
			cells = append(cells, term.Cell{Text: fmt.Sprint(i + 1), Style: bold})
		}
		t.Add(cells...)
		return
	}
	height := 0
	for _, lines := range g.header {
		height = max(height, len(lines))
	}
	for i := range height {
		cells := []term.Cell{{}}
		if i == height-1 {
			cells[0] = corner
		}
		for _, lines := range g.header {
			text := ""
			if k := i - (height - len(lines)); k >= 0 {
				text = lines[k]
			}
			cells = append(cells, term.Cell{Text: text, Style: bold})
		}
		t.Add(cells...)
	}
}

func (g *grid) write(w *term.Writer) error {
	if len(g.v.rows) == 0 || len(g.v.columns) == 0 {
		_, err := io.WriteString(w, "nothing to show\n")
		return err
	}
	if err := g.table(w).Write(w); err != nil {
		return err
	}
	var notes term.Table
	if g.header == nil && !g.v.square {
		for i, c := range g.v.columns {
			notes.Add(term.Cell{Text: fmt.Sprint(i + 1), Style: w.Bold}, term.Cell{Text: c.name})
		}
	}
	for _, text := range g.legend {
		notes.Add(term.Cell{Text: g.letters[text], Style: w.Green}, term.Cell{Text: text})
	}
	for _, why := range g.r.whys(g.v.cells) {
		notes.Add(term.Cell{Text: "?", Style: w.Yellow}, term.Cell{Text: "undefined: " + why})
	}
	for _, note := range g.r.deviationNotes(g.v.cells) {
		notes.Add(note...)
	}
	if notes.Width() == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return notes.Write(w)
}
