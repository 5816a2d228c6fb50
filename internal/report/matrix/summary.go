package matrix

import (
	"slices"

	"picket/internal/model"
	"picket/internal/verdict"
)

// summary is the matrix in a few numbers.
type summary struct {
	Pods       int    `json:"pods"` // in the cluster
	Namespaces int    `json:"namespaces"`
	Groups     int    `json:"groups"` // of pods, in the report
	Policies   int    `json:"policies"`
	Isolated   [2]int `json:"isolated"` // pods, by direction: ingress, egress
	HostPods   int    `json:"hostPods"` // pods on the host network, which no policy guards

	// Unselected are the groups of the report whose pods no policy selects.
	Unselected []string `json:"unselected"`

	// Pairs counts the ordered pairs of distinct pods in the report's cells:
	// all, those that may connect with all of the traffic in question, with
	// some of it, and those where what may be allowed is undefined.
	Pairs struct {
		Total     int `json:"total"`
		Open      int `json:"open"`
		Partly    int `json:"partly"`
		Undefined int `json:"undefined"`
	} `json:"pairs"`

	unselected []int32 // the endpoints of Unselected
}

// summarize counts what needs no cell.
func (r *Report) summarize() *summary {
	s := &summary{Pods: len(r.t.Snapshot.Endpoints), Unselected: []string{}}
	spaces := map[string]bool{}
	for i := range r.t.Snapshot.Endpoints {
		e := &r.t.Snapshot.Endpoints[i]
		spaces[e.Namespace] = true
		if e.Kind == model.HostPod {
			s.HostPods++
		}
	}
	s.Namespaces = len(spaces)
	for i := range r.t.Snapshot.Tiers {
		for j := range r.t.Snapshot.Tiers[i].Policies {
			if !r.t.Snapshot.Tiers[i].Policies[j].Staged {
				s.Policies++
			}
		}
	}
	for d := range r.t.Targets {
		for i := range r.t.Targets[d] {
			if t := &r.t.Targets[d][i]; r.isolated(t) {
				s.Isolated[d] += len(t.Endpoints)
			}
		}
	}
	for _, i := range r.used() {
		g := r.groups[i]
		if !g.inside() {
			continue
		}
		s.Groups++
		if g.kind == pods && !r.selected(g, model.Ingress) && !r.selected(g, model.Egress) {
			s.Unselected = append(s.Unselected, g.name)
			s.unselected = append(s.unselected, g.endpoints...)
		}
	}
	slices.Sort(s.unselected)
	s.unselected = slices.Compact(s.unselected)
	return s
}

func (r *Report) selected(g *group, d model.Direction) bool {
	return g.targets[d] != verdict.None && len(r.t.Targets[d][g.targets[d]].Policies) > 0
}

// isolated reports whether a tier that ends in deny judges the target.
func (r *Report) isolated(t *verdict.Target) bool {
	return slices.ContainsFunc(t.Policies, func(p verdict.Selection) bool {
		return !r.t.Snapshot.Tiers[p.Tier].Continue
	})
}

// add counts the pairs of a row.
func (s *summary) add(r *Report, row int, cells []int32) {
	src := r.groups[row]
	if !src.inside() {
		return
	}
	last, level := int32(noCell), closed
	for c, id := range cells {
		dst := r.groups[r.columns[c]]
		if id == noCell || !dst.inside() {
			continue
		}
		if id != last {
			last, level = id, r.shown(id).level
		}
		n := len(src.endpoints) * len(dst.endpoints)
		if src.peers == dst.peers && src.targets == dst.targets {
			n -= common(src.endpoints, dst.endpoints)
		}
		s.Pairs.Total += n
		switch level {
		case open:
			s.Pairs.Open += n
		case partly:
			s.Pairs.Partly += n
		case unclear:
			s.Pairs.Undefined += n
		}
	}
}

// common counts the members that sorted a and b share.
func common(a, b []int32) int {
	n := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			n++
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	return n
}
