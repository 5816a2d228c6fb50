package diff

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// delta is traffic whose verdict changed in one way.
type delta struct {
	was, is verdict.Decision
	traffic netset.Traffic
	text    string     // the traffic in words
	first   netset.Key // the lowest key of the traffic, to ask for reasons
}

// kind identifies deltas that may share a sentence.
type kind struct {
	was, is verdict.Decision
	traffic string
	family  int
}

// relation is the pairs of joint groups with deltas of one kind, as rows.
type relation struct {
	first netset.Key
	rows  map[int32][]int32 // source → destinations, ascending
}

// flows compares every pair of joint groups and puts pairs of the same change
// together.
func (c *comparer) flows() []Flow {
	cache := map[[4]verdict.VerdictID][]delta{}
	found := map[kind]*relation{}
	for fi := range bothFamilies {
		for s := range c.groups {
			src := &c.groups[s]
			if !src.ok[fi] {
				continue
			}
			for d := range c.groups {
				dst := &c.groups[d]
				if !dst.ok[fi] || !src.watched && !dst.watched || s == d && src.single() {
					continue
				}
				before := sides(c.tables[0], src.party[fi][0], dst.party[fi][0])
				after := sides(c.tables[1], src.party[fi][1], dst.party[fi][1])
				key := [4]verdict.VerdictID{before[0], before[1], after[0], after[1]}
				ds, ok := cache[key]
				if !ok {
					ds = c.compare(before, after)
					cache[key] = ds
				}
				if len(ds) > 0 && src.host && c.sameNode(src, dst) {
					continue
				}
				for _, x := range ds {
					k := kind{x.was, x.is, x.text, fi}
					r := found[k]
					if r == nil {
						r = &relation{first: x.first, rows: map[int32][]int32{}}
						found[k] = r
					}
					r.rows[int32(s)] = append(r.rows[int32(s)], int32(d))
				}
			}
		}
	}
	var out []Flow
	for k, r := range found {
		for _, rect := range c.rectangles(r.rows) {
			out = append(out, c.flow(k, r.first, rect))
		}
	}
	return joinFamilies(out, len(c.tables[1].Families()))
}

// compare returns how the traffic of a pair changed, by decision before and
// after.
func (c *comparer) compare(before, after [2]verdict.VerdictID) []delta {
	join := func(n int, s [2]verdict.VerdictID) []verdict.Joint {
		t := c.tables[n]
		return verdict.Join(t.Verdict(s[model.Ingress]), t.Verdict(s[model.Egress]))
	}
	a, b := join(0, before), join(1, after)
	traffic := map[[2]verdict.Decision]netset.Traffic{}
	from := netset.Key(0)
	for i, j := 0, 0; i < len(a) && j < len(b); {
		to := min(a[i].To, b[j].To)
		if x, y := a[i].Decision, b[j].Decision; x != y {
			k := [2]verdict.Decision{x, y}
			traffic[k] = traffic[k].Union(netset.Span(from, to))
		}
		from = to + 1
		if a[i].To == to {
			i++
		}
		if b[j].To == to {
			j++
		}
	}
	var out []delta
	for _, was := range []verdict.Decision{verdict.Deny, verdict.Allow, verdict.Undefined} {
		for _, is := range []verdict.Decision{verdict.Deny, verdict.Allow, verdict.Undefined} {
			t := traffic[[2]verdict.Decision{was, is}].Intersect(c.ports)
			if !t.Empty() {
				out = append(out, delta{was, is, t, t.String(), t.Ranges()[0].From})
			}
		}
	}
	return out
}

// sameNode reports whether all destinations run on the node of the source,
// which reaches them whatever the policies say.
func (c *comparer) sameNode(src, dst *joint) bool {
	if len(dst.members) == 0 {
		return false
	}
	for n, t := range c.tables {
		node := t.Snapshot.Endpoints[c.members[src.members[0]].at[n]].Node
		for _, m := range dst.members {
			if e := &t.Snapshot.Endpoints[c.members[m].at[n]]; node == "" || e.Node != node {
				return false
			}
		}
	}
	return true
}

// rectangle is sources and destinations all pairs of which changed.
type rectangle struct{ from, to []int32 }

// rectangles covers a relation with few rectangles: sources with the same
// destinations together, or destinations with the same sources, whichever
// gives fewer.
func (c *comparer) rectangles(rows map[int32][]int32) []rectangle {
	cols := map[int32][]int32{}
	for _, s := range slices.Sorted(maps.Keys(rows)) {
		for _, d := range rows[s] {
			cols[d] = append(cols[d], s)
		}
	}
	byRow, byCol := c.bundle(rows), c.bundle(cols)
	if len(byCol) < len(byRow) {
		for i := range byCol {
			byCol[i].from, byCol[i].to = byCol[i].to, byCol[i].from
		}
		return byCol
	}
	return byRow
}

// bundle puts rows with equal columns together. A single endpoint is no
// neighbour of itself; whether its row holds it is free, and it is chosen so
// that more rows are equal.
func (c *comparer) bundle(rows map[int32][]int32) []rectangle {
	keys := slices.Sorted(maps.Keys(rows))
	with := map[int32]string{}
	count := map[string]int{}
	for _, r := range keys {
		count[rowKey(rows[r])]++
		if c.groups[r].single() {
			i, ok := slices.BinarySearch(rows[r], r)
			if !ok {
				with[r] = rowKey(slices.Insert(slices.Clone(rows[r]), i, r))
				count[with[r]]++
			}
		}
	}
	var out []rectangle
	at := map[string]int{}
	for _, r := range keys {
		k, cols := rowKey(rows[r]), rows[r]
		if w, ok := with[r]; ok && count[w] > count[k] {
			i, _ := slices.BinarySearch(cols, r)
			k, cols = w, slices.Insert(slices.Clone(cols), i, r)
		}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, rectangle{to: cols})
		}
		out[i].from = append(out[i].from, r)
	}
	return out
}

func rowKey(row []int32) string {
	b := make([]byte, 0, 4*len(row))
	for _, x := range row {
		b = binary.BigEndian.AppendUint32(b, uint32(x))
	}
	return string(b)
}

// flow words a rectangle.
func (c *comparer) flow(k kind, first netset.Key, r rectangle) Flow {
	f := Flow{
		From: c.set(r.from, k.family), To: c.set(r.to, k.family), Traffic: k.traffic, Was: k.was, Is: k.is,
		Families: []string{familyName(k.family)}, Why: []string{},
	}
	f.weight = max(1, f.From.Pods) * max(1, f.To.Pods)
	seen := map[string]bool{}
	ask := func(s, d int32) {
		if s == d && c.groups[s].single() || len(f.Why) > 4*maxReasons {
			return
		}
		for _, why := range c.why(k, first, &c.groups[s], &c.groups[d]) {
			if !seen[why] {
				seen[why] = true
				f.Why = append(f.Why, why)
			}
		}
		f.NodeOwn = f.NodeOwn || c.groups[s].host && len(c.groups[d].members) > 0
	}
	for _, s := range r.from {
		ask(s, r.to[len(r.to)-1])
	}
	for _, d := range r.to {
		ask(r.from[0], d)
	}
	slices.Sort(f.Why)
	if len(f.Why) > maxReasons {
		f.Why, f.MoreWhy = f.Why[:maxReasons], len(f.Why)-maxReasons
	}
	return f
}

// whyKey is all that the reason of one side depends on.
type whyKey struct {
	dir     model.Direction
	sides   [2]verdict.VerdictID // old and new
	targets [2]verdict.TargetID
	key     netset.Key
}

// why says what changed, for each side of a pair whose decision changed.
func (c *comparer) why(k kind, key netset.Key, src, dst *joint) []string {
	var looked [2][2]verdict.VerdictID
	for n, t := range c.tables {
		looked[n] = sides(t, src.party[k.family][n], dst.party[k.family][n])
	}
	var out []string
	for _, dir := range []model.Direction{model.Egress, model.Ingress} {
		end := src
		if dir == model.Ingress {
			end = dst
		}
		w := whyKey{dir: dir, key: key}
		for n, t := range c.tables {
			w.sides[n] = looked[n][dir]
			if w.sides[n] != verdict.None {
				w.targets[n] = t.TargetOf[dir][end.party[k.family][n].Endpoint]
			}
		}
		text, ok := c.whys[w]
		if !ok {
			text = c.sideWhy(w)
			c.whys[w] = text
		}
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

// sideWhy says what changed at one side, "" if its decision is the same. What
// was before is told only where it names what went away: the rule that
// allowed, or what denied where nothing does now.
func (c *comparer) sideWhy(w whyKey) string {
	var said [2]string
	var decision [2]verdict.Decision
	var byRule [2]bool
	for n, t := range c.tables {
		id := w.sides[n]
		if id == verdict.None {
			said[n], decision[n] = "not judged", verdict.Allow
			continue
		}
		piece := t.Verdicts[id].At(w.key)
		decision[n] = piece.Decision
		byRule[n] = t.Reasons[piece.Reason].Kind == verdict.ByRule
		said[n] = t.SideSentence(w.dir, w.targets[n], piece)
	}
	switch {
	case decision[0] == decision[1]:
		return ""
	case decision[0] == verdict.Deny && decision[1] == verdict.Allow && byRule[1],
		decision[0] == verdict.Allow && !byRule[0]:
		return fmt.Sprintf("%s is now %s", w.dir, said[1])
	}
	return fmt.Sprintf("%s was %s; now %s", w.dir, said[0], said[1])
}

func familyName(fi int) string { return [...]string{"IPv4", "IPv6"}[fi] }

// joinFamilies puts flows that differ only in the family together, and sorts:
// those of the most pods first.
func joinFamilies(flows []Flow, families int) []Flow {
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), strings.Compare(a.From.Text, b.From.Text), strings.Compare(a.To.Text, b.To.Text),
			strings.Compare(a.Traffic, b.Traffic), cmp.Compare(a.Was, b.Was), cmp.Compare(a.Is, b.Is), slices.Compare(a.Families, b.Families))
	})
	var out []Flow
	for _, f := range flows {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.From.Text == f.From.Text && last.To.Text == f.To.Text && last.Traffic == f.Traffic && last.Was == f.Was && last.Is == f.Is {
				last.Families = append(last.Families, f.Families...)
				continue
			}
		}
		out = append(out, f)
	}
	return out
}
