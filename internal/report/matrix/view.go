package matrix

import (
	"slices"
)

// view is the matrix as text shows it: lines of groups that read the same.
type view struct {
	rows, columns []line
	sources       []line    // of a merged view: rows that read the same, whatever their columns do
	cells         [][]int32 // by row and column: a cell's number, noCell if it is blank
	square        bool
	summary       *summary
}

// line is one or more groups that read the same.
type line struct {
	name   string
	groups []int
}

// viewLimit bounds the groups of an axis that a view is built for without
// merging first.
const viewLimit = 64

// plainView has a line for each group. It is nil if there are too many.
func (r *Report) plainView() *view {
	if len(r.rows) > viewLimit || len(r.columns) > viewLimit {
		return nil
	}
	v := &view{square: r.square(), summary: r.summarize()}
	lines := func(axis []int) []line {
		out := make([]line, len(axis))
		for i, g := range axis {
			out[i] = line{r.groups[g].name, []int{g}}
		}
		return out
	}
	v.rows, v.columns = lines(r.rows), lines(r.columns)
	r.eachRow(func(g int, cells []int32) {
		v.summary.add(r, g, cells)
		v.cells = append(v.cells, slices.Clone(cells))
	})
	return v
}

// digest is a hash of all that a row, or a column, shows.
type digest struct{ a, b uint64 }

func (d *digest) add(at int, label int32) {
	x := (uint64(at)<<32 | uint64(uint32(label+1))) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	d.a += x ^ x>>31
	y := (x ^ 0xd6e8feb86659fd93) * 0xff51afd7ed558ccd
	d.b += y ^ y>>33
}

// mergedView makes one line of the groups that read the same: in a square
// matrix of those whose rows and columns both do. It looks at every cell but
// keeps only those of the lines.
func (r *Report) mergedView() *view {
	v := &view{square: r.square(), summary: r.summarize()}
	rows, columns := make([]digest, len(r.rows)), make([]digest, len(r.columns))
	s := r.scanner()
	cells := make([]int32, len(r.columns))
	for i, g := range r.rows {
		s.row(g, cells)
		v.summary.add(r, g, cells)
		for c, id := range cells {
			if id != noCell && r.cells[id].bypass == itself {
				id = s.pair // what two pods like this one may do, so that alike pods are alike
			}
			label := int32(noCell)
			if id != noCell {
				label = r.shown(id).label
			}
			rows[i].add(r.columns[c], label)
			columns[c].add(g, label)
		}
	}
	at := map[int]int{} // group → column, of a square matrix
	if v.square {
		for c, g := range r.columns {
			at[g] = c
		}
	}
	v.rows = r.mergeLines(r.rows, func(i int) [2]digest {
		if v.square {
			return [2]digest{rows[i], columns[at[r.rows[i]]]}
		}
		return [2]digest{rows[i]}
	})
	v.sources, v.columns = v.rows, v.rows
	if v.square {
		v.sources = r.mergeLines(r.rows, func(i int) [2]digest { return [2]digest{rows[i]} })
	} else {
		v.columns = r.mergeLines(r.columns, func(i int) [2]digest { return [2]digest{columns[i]} })
	}
	return v
}

// mergeLines makes a line of each set of groups of a kind with equal digests,
// in the order of their first.
func (r *Report) mergeLines(axis []int, of func(i int) [2]digest) []line {
	type key struct {
		kind groupKind
		d    [2]digest
	}
	var out []line
	at := map[key]int{}
	for i, g := range axis {
		k := key{r.groups[g].kind, of(i)}
		n, ok := at[k]
		if !ok {
			n = len(out)
			at[k] = n
			out = append(out, line{})
		}
		out[n].groups = append(out[n].groups, g)
	}
	names := map[string]int{}
	for i := range out {
		out[i].name = r.groups[out[i].groups[0]].name
		if len(out[i].groups) > 1 {
			out[i].name = r.namer.name(r.union(out[i].groups), nameWidth)
		}
		if names[out[i].name]++; names[out[i].name] > 1 {
			out[i].name = r.groups[out[i].groups[0]].name
		}
	}
	return out
}

// union returns the group of all members of groups, which are of one kind. It
// is for naming only.
func (r *Report) union(groups []int) *group {
	u := &group{kind: r.groups[groups[0]].kind}
	for _, i := range groups {
		g := r.groups[i]
		u.endpoints = append(u.endpoints, g.endpoints...)
		u.nodes = append(u.nodes, g.nodes...)
		u.addrs = u.addrs.Union(g.addrs)
		u.external = u.external || g.external
	}
	for _, ids := range []*[]int32{&u.endpoints, &u.nodes} {
		slices.Sort(*ids)
		*ids = slices.Compact(*ids)
	}
	return u
}

// fill looks up the cells of the lines of a merged view.
func (r *Report) fill(v *view) {
	s := r.scanner()
	at := map[int]int{}
	for c, g := range r.columns {
		at[g] = c
	}
	cells := make([]int32, len(r.columns))
	v.cells = make([][]int32, len(v.rows))
	for i, row := range v.rows {
		g := row.groups[0]
		s.row(g, cells)
		v.cells[i] = make([]int32, len(v.columns))
		for c, column := range v.columns {
			id := cells[at[column.groups[0]]]
			if id != noCell && r.cells[id].bypass == itself && (len(row.groups) > 1 || len(column.groups) > 1) {
				id = s.pair
			}
			v.cells[i][c] = id
		}
	}
}
