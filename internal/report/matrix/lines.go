package matrix

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"picket/internal/term"
)

// The most that text lists before it sums up: sources, and lines of a source.
const (
	maxSources = 100
	maxTraffic = 12
)

// reach is traffic with those who are reached by it.
type reach struct {
	cell   *shown
	groups []int // as far as they are kept
	count  int   // pods, nodes and blocks
}

// writeLines writes what each source of v may reach, a line for each traffic.
func (r *Report) writeLines(w *term.Writer, v *view, width int) error {
	s := r.scanner()
	cells := make([]int32, len(r.columns))
	var silent []line
	var undefined [][]int32
	written, more := 0, 0
	var b strings.Builder
	for _, row := range v.sources {
		if written >= maxSources {
			more++
			continue
		}
		s.row(row.groups[0], cells)
		if len(row.groups) > 1 {
			for c, id := range cells {
				if id != noCell && r.cells[id].bypass == itself {
					cells[c] = s.pair
				}
			}
		}
		rs := r.reaches(cells)
		if len(rs) == 0 {
			silent = append(silent, row)
			continue
		}
		undefined = append(undefined, r.undefinedOf(cells))
		written++
		name := row.name
		if len(row.groups) > 1 {
			name = r.namer.name(r.union(row.groups), max(width, nameWidth))
		}
		b.WriteString(w.Bold(term.Clean(name)) + "\n")
		if err := r.traffic(&b, w, row, rs, width); err != nil {
			return err
		}
	}
	for kind := pods; kind <= addresses; kind++ {
		var groups []int
		for _, row := range silent {
			if r.groups[row.groups[0]].kind == kind {
				groups = append(groups, row.groups...)
			}
		}
		if len(groups) > 0 {
			fmt.Fprintf(&b, "%s %s\n", w.Bold("nothing may be reached from"), term.Clean(r.namer.name(r.union(groups), max(width-28, nameWidth))))
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, "%s\n", w.Dim(fmt.Sprintf("… and from %s: narrow it with -n, --from, --to or --port, or use -o html or json",
			plural(more, "more group"))))
	}
	for _, why := range r.whys(undefined) {
		fmt.Fprintf(&b, "%s undefined: %s\n", w.Yellow("?"), why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// undefinedOf returns the distinct cells with undefined traffic.
func (r *Report) undefinedOf(cells []int32) []int32 {
	var out []int32
	seen := map[int32]bool{}
	for _, id := range cells {
		if id != noCell && !seen[id] && r.shown(id).undefined {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// reaches groups the columns of a row by what they read, the most first.
func (r *Report) reaches(cells []int32) []reach {
	var out []reach
	at := map[int32]int{}
	for c, id := range cells {
		if id == noCell {
			continue
		}
		s := r.shown(id)
		if s.level == closed || s.level == self {
			continue
		}
		i, ok := at[s.label]
		if !ok {
			i = len(out)
			at[s.label] = i
			out = append(out, reach{cell: s})
		}
		g := r.groups[r.columns[c]]
		out[i].groups = append(out[i].groups, r.columns[c])
		out[i].count += max(1, len(g.endpoints)+len(g.nodes))
	}
	slices.SortStableFunc(out, func(a, b reach) int {
		return cmp.Or(cmp.Compare(b.cell.level, a.cell.level), cmp.Compare(b.count, a.count),
			strings.Compare(a.cell.text, b.cell.text))
	})
	return out
}

func (r *Report) traffic(b *strings.Builder, w *term.Writer, row line, rs []reach, width int) error {
	var t term.Table
	t.Indent, t.Gap = "  ", 1
	for i, rc := range rs {
		if i == maxTraffic-1 && len(rs) > maxTraffic {
			t.Add(term.Cell{Text: "…", Style: w.Dim}, term.Cell{}, term.Cell{Text: fmt.Sprintf("%d more kinds of traffic", len(rs)-i), Style: w.Dim})
			break
		}
		t.Add(term.Cell{Text: rc.cell.String(), Style: style(w, rc.cell.level)},
			term.Cell{Text: "→", Style: w.Dim}, term.Cell{Text: r.destinations(row, rc.groups, max(width-20, nameWidth))})
	}
	return t.Write(w.To(b))
}

// destinations names groups of any kinds.
func (r *Report) destinations(row line, groups []int, width int) string {
	var parts []string
	for kind := pods; kind <= addresses; kind++ {
		var of []int
		for _, g := range groups {
			if r.groups[g].kind == kind {
				of = append(of, g)
			}
		}
		switch {
		case len(of) == 0:
		case len(of) == 1:
			parts = append(parts, r.groups[of[0]].name)
		default:
			u := r.union(of)
			if me := r.groups[row.groups[0]].endpoints; len(me) == 1 && len(u.endpoints) == len(r.t.Snapshot.Endpoints)-1 && !slices.Contains(u.endpoints, me[0]) {
				parts = append(parts, fmt.Sprintf("all other pods (%d)", len(u.endpoints)))
				continue
			}
			parts = append(parts, r.namer.name(u, width))
		}
	}
	return strings.Join(parts, "; ")
}
