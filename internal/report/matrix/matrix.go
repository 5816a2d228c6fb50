// Package matrix reports who may reach whom: groups of endpoints that no policy
// can tell apart against each other, as text, JSON, CSV, DOT and as a page that
// can be filtered and clicked.
//
// A cell speaks of two distinct members of its groups. That a node always
// reaches the pods that run on it is not shown, because the pods of a group may
// run on any node.
package matrix

import (
	"fmt"
	"slices"

	"picket/internal/netset"
	"picket/internal/verdict"
)

// Options choose what the report is about.
type Options struct {
	From, To   []verdict.Ref  // the rows and the columns; empty means all
	Namespaces []string       // only cells with a pod of one of these at an end; empty means all
	Ports      []verdict.Port // only this traffic; empty means all
	External   bool           // show the addresses outside the cluster, block by block
	Nodes      bool           // show the nodes
	Evidence   Evidence       // what packets showed; nil for a matrix of the table alone
}

// Report is a matrix. It holds no cell; cells are looked up when it is written.
type Report struct {
	t       *verdict.Table
	o       Options
	groups  []*group
	rows    []int // indices into groups
	columns []int // indices into groups
	at      map[groupKey][]int
	asked   []bool            // by group: whether a cell needs it at an end; nil if all are shown
	mask    [2]netset.Traffic // by family: the traffic of Options.Ports, or all
	namer   *namer
	*interner
}

// Build chooses the rows and columns. It fails if a Ref of the options stands
// for nothing that has an address.
func Build(t *verdict.Table, o Options) (*Report, error) {
	r := &Report{t: t, o: o, at: map[groupKey][]int{}, namer: newNamer(t), interner: newInterner()}
	for i, f := range []netset.Family{netset.V4, netset.V6} {
		r.mask[i] = netset.AllTraffic()
		if len(o.Ports) > 0 {
			r.mask[i] = netset.Traffic{}
			for _, p := range o.Ports {
				r.mask[i] = r.mask[i].Union(netset.Span(p.In(f), p.In(f)))
			}
		}
	}
	var err error
	if r.rows, err = r.axis(o.From); err != nil {
		return nil, err
	}
	if r.columns, err = r.axis(o.To); err != nil {
		return nil, err
	}
	distinguish(r.groups)
	if len(o.Namespaces) > 0 {
		r.narrow()
	}
	return r, nil
}

// axis returns the groups that refs stand for, or all, and adds those that are
// new to r.groups. A group of which refs name only some members is cut down.
func (r *Report) axis(refs []verdict.Ref) ([]int, error) {
	gs := r.all()
	if len(refs) > 0 {
		var err error
		if gs, err = r.chosen(refs); err != nil {
			return nil, err
		}
	}
	var out []int
	for _, g := range gs {
		k := g.key()
		i := slices.IndexFunc(r.at[k], func(i int) bool { return g.same(r.groups[i]) })
		if i >= 0 {
			out = append(out, r.at[k][i])
			continue
		}
		g.name = r.namer.name(g, nameWidth)
		r.at[k] = append(r.at[k], len(r.groups))
		out = append(out, len(r.groups))
		r.groups = append(r.groups, g)
	}
	return out, nil
}

// narrow drops the rows and columns without a pod in Options.Namespaces that
// nothing connects to one with such a pod.
func (r *Report) narrow() {
	r.asked = make([]bool, len(r.groups))
	for i, g := range r.groups {
		r.asked[i] = slices.ContainsFunc(g.namespaces, func(ns string) bool { return slices.Contains(r.o.Namespaces, ns) })
	}
	rows, columns := make([]bool, len(r.groups)), make([]bool, len(r.groups))
	r.eachRow(func(row int, cells []int32) {
		for c, id := range cells {
			if id != noCell && r.shown(id).level > closed {
				rows[row], columns[r.columns[c]] = true, true
			}
		}
	})
	r.rows = slices.DeleteFunc(r.rows, func(g int) bool { return !rows[g] && !r.asked[g] })
	r.columns = slices.DeleteFunc(r.columns, func(g int) bool { return !columns[g] && !r.asked[g] })
	r.reset()
}

// missing is the error for a Ref without an address.
func missing(ref verdict.Ref) error {
	return fmt.Errorf("%s stands for no pod, node or address that the cluster uses", ref.Text)
}

// used returns the groups that are rows or columns, ascending.
func (r *Report) used() []int {
	out := slices.Concat(r.rows, r.columns)
	slices.Sort(out)
	return slices.Compact(out)
}

// square reports whether the rows are the columns.
func (r *Report) square() bool { return slices.Equal(r.rows, r.columns) }
