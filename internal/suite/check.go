package suite

import (
	"fmt"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// maxFailures bounds how many different failures of one test are kept. All are
// counted.
const maxFailures = 20

// checker checks one test.
type checker struct {
	*index
	test     *Test
	cover    *cover // nil unless coverage is asked for
	result   *Result
	traffics []netset.Traffic // interned
	memo     map[memoKey][]mismatch
	failures map[failureKey]int // into result.Failures, verdict.None if not kept
}

type memoKey struct {
	sides   [2]verdict.VerdictID
	traffic int
}

// mismatch is traffic whose decision is not the expected one.
type mismatch struct {
	traffic netset.Traffic
	joint   verdict.Joint
}

type failureKey struct {
	port     int
	decision verdict.Decision
	reasons  [2]verdict.ReasonID
	bypass   verdict.Bypass
}

// run checks all connections of the test.
func (c *checker) run(namespace string) {
	from, problem := c.units(c.test.From, namespace, c.test.AllowEmpty)
	if problem != "" {
		c.result.Problem = "from: " + problem
		return
	}
	to, problem := c.units(c.test.To, namespace, c.test.AllowEmpty)
	if problem != "" {
		c.result.Problem = "to: " + problem
		return
	}
	for i := range from {
		if s := from[i].service; s != nil {
			from[i].service = nil // the pods behind it open the connection, from no port of the Service
		}
	}
	for i := range to {
		if problem := c.noPort(&to[i]); problem != "" {
			c.result.Problem = "to: " + problem
			return
		}
		wanted := c.wanted(&to[i])
		homes := map[string][]unit{}
		for k := range from {
			node := c.nodeOf(&from[k])
			if node == "" {
				c.pair(&from[k], &to[i], wanted)
				continue
			}
			parts, ok := homes[node]
			if !ok {
				parts = c.byHome(&to[i], node)
				homes[node] = parts
			}
			for p := range parts {
				c.pair(&from[k], &parts[p], wanted)
			}
		}
	}
	if c.result.Connections == 0 && !c.test.AllowEmpty {
		c.result.Problem = "there is no connection to check: from and to are the same pod, or have no addresses of one family"
	}
}

// noPort says which port of the test a Service does not lead on to the unit.
func (c *checker) noPort(u *unit) string {
	if u.service == nil {
		return ""
	}
	for _, p := range c.test.Ports {
		if !p.echo && u.traffic(p, netset.V4).Empty() {
			return fmt.Sprintf("service %s leads nowhere at %s", u.service, p.Text)
		}
	}
	return ""
}

// wanted returns the traffic of each port towards u, interned, by port and
// family.
func (c *checker) wanted(u *unit) [][2]int {
	out := make([][2]int, len(c.test.Ports))
	for i, p := range c.test.Ports {
		for k, f := range c.families {
			out[i][k] = c.intern(u.traffic(p, f))
		}
	}
	return out
}

// byHome splits pods into those that run on the node and the others, since a
// node always reaches its own pods.
func (c *checker) byHome(u *unit, node string) []unit {
	here, there := *u, *u
	here.endpoints, there.endpoints = nil, nil
	for _, e := range u.endpoints {
		if c.table.Snapshot.Endpoints[e].Node == node {
			here.endpoints = append(here.endpoints, e)
		} else {
			there.endpoints = append(there.endpoints, e)
		}
	}
	if len(here.endpoints) == 0 || len(there.endpoints) == 0 {
		return []unit{*u}
	}
	return []unit{here, there}
}

// nodeOf returns the node whose address the unit uses, "" for none.
func (c *checker) nodeOf(u *unit) string {
	if len(u.endpoints) > 0 {
		if e := &c.table.Snapshot.Endpoints[u.endpoints[0]]; e.Kind == model.HostPod {
			return e.Node
		}
		return ""
	}
	if u.party.Node != verdict.None {
		return c.table.Snapshot.Nodes[u.party.Node].Name
	}
	return ""
}

// represent returns one source and one destination that are not the same pod,
// and how many such pairs there are.
func represent(s, d *unit) (src, dst int32, pairs int) {
	src, dst = verdict.None, verdict.None
	ns, nd := max(1, len(s.endpoints)), max(1, len(d.endpoints))
	pairs = ns * nd
	if len(s.endpoints) > 0 {
		src = s.endpoints[0]
	}
	if len(d.endpoints) > 0 {
		dst = d.endpoints[0]
	}
	if src == verdict.None || dst == verdict.None || s.group != d.group {
		return src, dst, pairs
	}
	for i, k := 0, 0; i < ns && k < nd; { // both ascend
		switch a, b := s.endpoints[i], d.endpoints[k]; {
		case a == b:
			pairs--
			i++
			k++
		case a < b:
			i++
		default:
			k++
		}
	}
	if src == dst && pairs > 0 {
		if nd > 1 {
			dst = d.endpoints[1]
		} else {
			src = s.endpoints[1]
		}
	}
	return src, dst, pairs
}

// pair checks the connections from one unit to another. wanted is the traffic
// of the test, by port and family.
func (c *checker) pair(s, d *unit, wanted [][2]int) {
	src, dst, pairs := represent(s, d)
	if pairs == 0 {
		return
	}
	checked := false
	var failed []int // a pod pair that fails in both families counts once
	for k, f := range c.families {
		from, ok := s.at(c.table, src, f)
		if !ok {
			continue
		}
		to, ok := d.at(c.table, dst, f)
		if !ok {
			continue
		}
		checked = true
		p := c.table.Pair(from, to)
		for i := range wanted {
			for _, m := range c.mismatches(p, wanted[i][k]) {
				failed = append(failed, c.fail(failure{p: p, m: m, port: i, from: from, to: to, s: s, d: d}))
			}
		}
	}
	if !checked {
		return
	}
	c.result.Connections += pairs * len(c.test.Ports)
	c.cover.add(s.group, d.group)
	slices.Sort(failed)
	for _, i := range slices.Compact(failed) {
		if i != verdict.None {
			c.result.Failures[i].Pairs += pairs
		}
	}
}

func (c *checker) mismatches(p verdict.Pair, traffic int) []mismatch {
	k := memoKey{sides: p.Sides, traffic: traffic}
	ms, ok := c.memo[k]
	if ok {
		return ms
	}
	from := netset.Key(0)
	for _, j := range c.table.Join(p) {
		if j.Decision != c.test.Expect {
			if bad := netset.Span(from, j.To).Intersect(c.traffics[traffic]); !bad.Empty() {
				ms = append(ms, mismatch{bad, j})
			}
		}
		from = j.To + 1
	}
	c.memo[k] = ms
	return ms
}

func (c *checker) intern(t netset.Traffic) int {
	for i := range c.traffics {
		if c.traffics[i].Equal(t) {
			return i
		}
	}
	c.traffics = append(c.traffics, t)
	return len(c.traffics) - 1
}

// failure is a mismatch of one pair of units.
type failure struct {
	p        verdict.Pair
	m        mismatch
	port     int
	from, to verdict.Party
	s, d     *unit
}

// fail returns which of the result's failures f is, verdict.None for one that
// is not kept.
func (c *checker) fail(f failure) int {
	k := failureKey{f.port, f.m.joint.Decision, f.m.joint.Reasons, f.p.Bypass}
	i, ok := c.failures[k]
	if !ok {
		i = verdict.None
		if len(c.result.Failures) < maxFailures {
			i = len(c.result.Failures)
			c.result.Failures = append(c.result.Failures, c.explain(f))
		} else {
			c.result.MoreFailures++
		}
		c.failures[k] = i
	}
	return i
}

// explain says a failure in words, with one pair of ends as the example.
func (c *checker) explain(f failure) Failure {
	out := Failure{
		From:    c.name(f.from, f.s),
		To:      c.name(f.to, f.d),
		Port:    c.test.Ports[f.port].Text,
		Traffic: f.m.traffic.String(),
		Got:     f.m.joint.Decision,
		Bypass:  f.p.Bypass.String(),
	}
	if f.p.Bypass != verdict.Judged {
		return out
	}
	k := f.m.traffic.Ranges()[0].From
	_, pieces := c.table.Decide(f.p, k)
	side := func(dir model.Direction, end verdict.Party) string {
		if f.p.Sides[dir] == verdict.None {
			return c.table.Sentence(verdict.None, verdict.Allow)
		}
		return c.table.SideSentence(dir, c.table.TargetOf[dir][end.Endpoint], pieces[dir])
	}
	out.Egress, out.Ingress = side(model.Egress, f.from), side(model.Ingress, f.to)
	return out
}

// name names one end of an example.
func (c *checker) name(p verdict.Party, u *unit) string {
	s := u.text
	switch {
	case p.Endpoint != verdict.None:
		s = c.table.Snapshot.Endpoints[p.Endpoint].String()
	case p.Node != verdict.None && s == "":
		s = "node/" + c.table.Snapshot.Nodes[p.Node].Name
	}
	if u.service != nil {
		s += " (service " + u.service.String() + ")"
	}
	if p.Family == netset.V6 && len(c.families) > 1 {
		s += " (IPv6)"
	}
	return s
}
