package diff

import (
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// lifelines lists the lifelines that were cut or mended, those lost first.
func (c *comparer) lifelines() []Lifeline {
	var lines [2]map[string]verdict.Lifeline
	var order []string
	for n, t := range c.tables {
		lines[n] = map[string]verdict.Lifeline{}
		for _, l := range t.Lifelines() {
			k := lineKey(l)
			if _, ok := lines[n][k]; ok {
				continue
			}
			lines[n][k] = l
			if n == 1 {
				order = append(order, k)
			}
		}
	}
	var out []Lifeline
	for _, k := range order {
		was, had := lines[0][k]
		out = append(out, c.line(lines[1][k], was, had)...)
	}
	rank := map[string]int{"lost": 0, "missing": 1, "gained": 2}
	slices.SortStableFunc(out, func(a, b Lifeline) int { return rank[a.Change] - rank[b.Change] })
	return out
}

// lineKey identifies a lifeline in both snapshots. There is one DNS and one API
// server, however they are found.
func lineKey(l verdict.Lifeline) string {
	switch l.Kind {
	case verdict.LifelineDNS, verdict.LifelineAPIServer, verdict.LifelineScrape:
		return l.Kind
	}
	return l.Kind + " " + l.Name
}

// line compares one lifeline. Endpoints that lost the same ports are told
// together.
func (c *comparer) line(is, was verdict.Lifeline, had bool) []Lifeline {
	before, after := c.tables[0], c.tables[1]
	needed := map[int32]bool{}
	if had {
		for _, e := range before.LifelineNeeds(was) {
			needed[e] = true
		}
	}
	old := map[int32]int32{} // old endpoint by new one
	index := map[int32]int32{}
	for m, mem := range c.members {
		old[mem.at[1]], index[mem.at[1]] = mem.at[0], int32(m)
	}
	type bucket struct {
		change string
		ports  string
		keys   []netset.Key
		ends   []int32 // new endpoints
		line   verdict.Lifeline
		table  *verdict.Table
		asks   int32 // an endpoint of table, to say why
	}
	var buckets []*bucket
	put := func(change string, keys []netset.Key, e int32, t *verdict.Table, l verdict.Lifeline, ask int32) {
		ports := strings.Join(keyTexts(keys), " ")
		for _, b := range buckets {
			if b.change == change && b.ports == ports {
				b.ends = append(b.ends, e)
				return
			}
		}
		buckets = append(buckets, &bucket{change, ports, keys, []int32{e}, l, t, ask})
	}
	for _, e := range after.LifelineNeeds(is) {
		if !c.watched(&after.Snapshot.Endpoints[e]) {
			continue
		}
		now := after.LifelineMissing(is, e)
		o, matched := old[e]
		if !matched || !needed[o] {
			if len(now) > 0 {
				put("missing", now, e, after, is, e)
			}
			continue
		}
		then := before.LifelineMissing(was, o)
		switch {
		case len(now) > 0 && len(then) == 0:
			put("lost", now, e, after, is, e)
		case len(now) == 0 && len(then) > 0:
			put("gained", then, e, before, was, o)
		case len(now) > len(then):
			put("lost", slices.DeleteFunc(now, func(k netset.Key) bool { return slices.Contains(then, k) }), e, after, is, e)
		}
	}
	var out []Lifeline
	for _, b := range buckets {
		why := lineWhy(b.table, b.line, b.asks, b.keys[0])
		if b.change == "gained" {
			why = "was " + why
		}
		out = append(out, Lifeline{Kind: is.Kind, Name: is.Name, Change: b.change, For: c.who(b.ends, index), Ports: keyTexts(b.keys), Why: why})
	}
	return out
}

// who names new endpoints, those that the old snapshot lacks one by one.
func (c *comparer) who(endpoints []int32, index map[int32]int32) Set {
	var members []int32
	var fresh []string
	for _, e := range endpoints {
		if m, ok := index[e]; ok {
			members = append(members, m)
		} else {
			fresh = append(fresh, c.tables[1].Snapshot.Endpoints[e].String())
		}
	}
	slices.Sort(members)
	s := c.people.set(members)
	s.Pods += len(fresh)
	s.Parts = append(s.Parts, fresh...)
	s.Text = joinParts(s.Parts)
	return s
}

// lineWhy says why endpoint e has no way on key: what stops it at the first of
// the other ends.
func lineWhy(t *verdict.Table, l verdict.Lifeline, e int32, key netset.Key) string {
	for _, from := range l.From {
		for _, to := range l.To {
			mine := from.Endpoint == e && l.Needs == model.Egress || to.Endpoint == e && l.Needs == model.Ingress
			if !mine || from.Family != to.Family || !slices.Contains(to.Keys, key) {
				continue
			}
			pair := t.Pair(from, to.Party)
			d, pieces := t.Decide(pair, key)
			if d == verdict.Allow {
				continue
			}
			for _, dir := range []model.Direction{model.Egress, model.Ingress} {
				end := from
				if dir == model.Ingress {
					end = to.Party
				}
				if pair.Sides[dir] != verdict.None && pieces[dir].Decision == d {
					return dir.String() + " " + t.SideSentence(dir, t.TargetOf[dir][end.Endpoint], pieces[dir])
				}
			}
		}
	}
	return "no way is left"
}

func keyTexts(keys []netset.Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.String()
	}
	return out
}
