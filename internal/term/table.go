package term

import (
	"io"
	"strings"
)

// Cell is a cell of a Table. Its text is one line.
type Cell struct {
	Text  string
	Style func(string) string // such as Writer.Red; nil for none
	Right bool                // flush right
}

// Table is lines of cells whose columns are aligned by what the eye sees: the
// text is padded first and coloured after. The zero value is ready, with two
// blanks between columns.
type Table struct {
	Gap    int    // blanks between columns; 0 means 2
	Indent string // before each line
	rows   [][]Cell
}

// Row adds a line of unstyled cells.
func (t *Table) Row(cells ...string) {
	row := make([]Cell, len(cells))
	for i, c := range cells {
		row[i].Text = c
	}
	t.rows = append(t.rows, row)
}

// Add adds a line of cells.
func (t *Table) Add(cells ...Cell) { t.rows = append(t.rows, cells) }

// Width returns how many columns of a terminal the table takes.
func (t *Table) Width() int {
	n := Columns(t.Indent)
	for i, w := range t.widths() {
		if i > 0 {
			n += t.gap()
		}
		n += w
	}
	return n
}

func (t *Table) gap() int {
	if t.Gap == 0 {
		return 2
	}
	return t.Gap
}

func (t *Table) widths() []int {
	var out []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(out) {
				out = append(out, 0)
			}
			out[i] = max(out[i], Columns(Clean(c.Text)))
		}
	}
	return out
}

// Write writes the table. No line ends in blanks.
func (t *Table) Write(w *Writer) error {
	widths := t.widths()
	gap := strings.Repeat(" ", t.gap())
	var b strings.Builder
	for _, row := range t.rows {
		last := len(row) - 1
		for last >= 0 && row[last].Text == "" {
			last--
		}
		line := t.Indent
		for i, c := range row[:last+1] {
			text := Clean(c.Text)
			pad := strings.Repeat(" ", widths[i]-Columns(text))
			if i > 0 {
				line += gap
			}
			if c.Right {
				line += pad
			}
			if c.Style != nil && w.colour && text != "" {
				text = c.Style(text)
			}
			line += text
			if !c.Right && i < last {
				line += pad
			}
		}
		if last < 0 {
			line = ""
		}
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
