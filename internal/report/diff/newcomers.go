package diff

import (
	"cmp"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// newcomers describes the endpoints that only table n has, by workload.
func (c *comparer) newcomers(n int) []Newcomer {
	out := []Newcomer{}
	t := c.tables[n]
	byWork := map[workload][]int32{}
	var order []workload
	for _, i := range c.only[n] {
		e := &t.Snapshot.Endpoints[i]
		if !c.watched(e) {
			continue
		}
		w := workloadOf(e)
		if byWork[w] == nil {
			order = append(order, w)
		}
		byWork[w] = append(byWork[w], i)
	}
	if len(order) == 0 {
		return out
	}
	reach := newReach(t, c.ports)
	for _, w := range order {
		out = append(out, reach.newcomer(w.namespace+"/"+w.name, byWork[w]))
	}
	slices.SortFunc(out, func(a, b Newcomer) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// reach answers whom a group of endpoints reaches on some port.
type reach struct {
	t      *verdict.Table
	ports  netset.Traffic
	groups []verdict.Group
	of     []int // group by endpoint
	open   map[[2]verdict.VerdictID]bool
	pods   int
}

func newReach(t *verdict.Table, ports netset.Traffic) *reach {
	r := &reach{t: t, ports: ports, groups: t.Groups(false), of: make([]int, len(t.Snapshot.Endpoints)), open: map[[2]verdict.VerdictID]bool{}}
	for i := range r.of {
		r.of[i] = -1
		if t.Snapshot.Endpoints[i].Kind == model.Pod {
			r.pods++
		}
	}
	for g := range r.groups {
		for _, e := range r.groups[g].Endpoints {
			r.of[e] = g
		}
	}
	return r
}

// newcomer counts whom the endpoints of a workload reach; they are counted
// among the others only by what the policies would say.
func (r *reach) newcomer(name string, endpoints []int32) Newcomer {
	out := Newcomer{Name: name, Pods: len(endpoints), Others: r.pods, Outside: "no"}
	mine := map[int32]bool{}
	var own []int
	for _, e := range endpoints {
		mine[e] = true
		if r.t.Snapshot.Endpoints[e].Kind == model.Pod {
			out.Others--
		}
		if g := r.of[e]; g >= 0 && !slices.Contains(own, g) {
			own = append(own, g)
		}
	}
	for g := range r.groups {
		n := 0
		for _, e := range r.groups[g].Endpoints {
			if !mine[e] && r.t.Snapshot.Endpoints[e].Kind == model.Pod {
				n++
			}
		}
		if n == 0 {
			continue
		}
		if slices.ContainsFunc(own, func(o int) bool { return r.between(r.groups[o].Party, r.groups[g].Party) }) {
			out.Reaches += n
		}
		if slices.ContainsFunc(own, func(o int) bool { return r.between(r.groups[g].Party, r.groups[o].Party) }) {
			out.ReachedBy += n
		}
	}
	to, from := false, false
	for _, o := range own {
		p := r.groups[o].Party
		ext := r.t.External(p.Family)
		to = to || r.between(p, ext)
		from = from || r.between(ext, p)
	}
	switch {
	case to && from:
		out.Outside = "both ways"
	case to:
		out.Outside = "out"
	case from:
		out.Outside = "in"
	}
	return out
}

// between reports whether some traffic is allowed from src to dst. Two parties
// of different families, where pods have only one, reach nothing.
func (r *reach) between(src, dst verdict.Party) bool {
	if src.Family != dst.Family {
		return false
	}
	key := sides(r.t, src, dst)
	open, ok := r.open[key]
	if !ok {
		js := verdict.Join(r.t.Verdict(key[model.Ingress]), r.t.Verdict(key[model.Egress]))
		open = !verdict.JointTraffic(js, verdict.Allow).Intersect(r.ports).Empty()
		r.open[key] = open
	}
	return open
}
