package matrix

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// numbers gives out the numbers of reasons, rules and policies as they occur.
type numbers struct {
	t        *verdict.Table
	reasons  []jsonReason
	rules    []jsonRule
	policies []jsonPolicy
	reasonAt map[verdict.ReasonID]int
	ruleAt   map[verdict.RuleRef]int
	policyAt map[verdict.PolicyRef]int
}

func newNumbers(t *verdict.Table) *numbers {
	return &numbers{t: t, reasons: []jsonReason{}, rules: []jsonRule{}, policies: []jsonPolicy{},
		reasonAt: map[verdict.ReasonID]int{}, ruleAt: map[verdict.RuleRef]int{}, policyAt: map[verdict.PolicyRef]int{}}
}

func (n *numbers) policy(ref verdict.PolicyRef) int {
	id, ok := n.policyAt[ref]
	if !ok {
		id = len(n.policies)
		n.policyAt[ref] = id
		p := n.t.Policy(ref)
		n.policies = append(n.policies, jsonPolicy{
			ID: id, Kind: p.Kind, Name: p.String(), Tier: n.t.Snapshot.Tiers[ref.Tier].Name,
			File: p.Origin.File, Line: p.Origin.Line,
		})
	}
	return id
}

func (n *numbers) rule(ref verdict.RuleRef) int {
	id, ok := n.ruleAt[ref]
	if !ok {
		id = len(n.rules)
		n.ruleAt[ref] = id
		r := n.t.Rule(ref)
		n.rules = append(n.rules, jsonRule{
			ID: id, Policy: n.policy(ref.PolicyRef), Direction: ref.Direction.String(), Index: int(ref.Rule), Name: r.Name,
			Action: r.Action.String(), File: r.Origin.File, Line: r.Origin.Line, Path: r.Origin.Path,
		})
	}
	return id
}

// reason returns the number of reason id, nil for None.
func (n *numbers) reason(id verdict.ReasonID) *int {
	if id == verdict.None {
		return nil
	}
	at, ok := n.reasonAt[id]
	if !ok {
		at = len(n.reasons)
		n.reasonAt[id] = at
		r := &n.t.Reasons[id]
		j := jsonReason{ID: at, Kind: reasonKinds[r.Kind], Direction: r.Rule.Direction.String(), Text: reasonText(n.t, r)}
		switch {
		case r.Kind == verdict.Isolated:
			j.Tier = n.t.Snapshot.Tiers[r.Rule.Tier].Name
		case r.Kind == verdict.ByRule || r.Kind == verdict.Open && r.Rule.Policy != verdict.None && r.Rule.Rule != verdict.None:
			rule := n.rule(r.Rule)
			j.Rule, j.Policy = &rule, &n.rules[rule].Policy
		case r.Kind == verdict.Open && r.Rule.Policy != verdict.None:
			p := n.policy(r.Rule.PolicyRef)
			j.Policy = &p
		}
		n.reasons = append(n.reasons, j)
	}
	return &at
}

var reasonKinds = [...]string{"notSelected", "unmatched", "rule", "isolated", "open"}

// reasonText says a reason in a clause about "the pod", the one under judgement.
func reasonText(t *verdict.Table, r *verdict.Reason) string {
	d := r.Rule.Direction
	switch r.Kind {
	case verdict.NotSelected:
		return fmt.Sprintf("no policy selects the pod for %s", d)
	case verdict.Unmatched:
		return fmt.Sprintf("no %s rule of the policies that select the pod matches, and they let the rest pass", d)
	case verdict.Isolated:
		return fmt.Sprintf("the pod is isolated for %s and no rule allows it", d)
	case verdict.ByRule:
		rule, did := t.Rule(r.Rule), "allows it"
		switch rule.Action {
		case model.Deny:
			did = "denies it"
		case model.Pass:
			did = "passes it on"
		}
		return fmt.Sprintf("%s rule %d of %s %s", d, r.Rule.Rule+1, t.Policy(r.Rule.PolicyRef).Ref(), did)
	}
	return r.Why.String()
}

// pieces returns the traffic of cell c by decision and reasons.
func (r *Report) pieces(c cell, n *numbers) []jsonTraffic {
	out := []jsonTraffic{}
	fs := r.families(c)
	for _, f := range fs {
		for _, p := range merge(r.joined(c, f)) {
			t := p.traffic.Intersect(r.mask[f])
			if c.joint[0] >= 0 && c.joint[1] >= 0 && len(fs) == 1 {
				t = p.traffic.Intersect(r.mask[0].Union(r.mask[1]))
			}
			for _, pt := range protocols(t) {
				if len(fs) > 1 {
					pt.Family = [...]string{"IPv4", "IPv6"}[f]
				}
				pt.Decision = p.Decision.String()
				pt.Ingress, pt.Egress = n.reason(p.Reasons[model.Ingress]), n.reason(p.Reasons[model.Egress])
				out = append(out, pt)
			}
		}
	}
	return out
}

type piece struct {
	verdict.Joint
	traffic netset.Traffic
}

// merge joins the pieces with equal decisions and reasons, in the order of the
// first of each: allowed ones first, denied ones last.
func merge(js []verdict.Joint) []piece {
	var out []piece
	from := netset.Key(0)
	for _, j := range js {
		span := netset.Span(from, j.To)
		from = j.To + 1
		i := slices.IndexFunc(out, func(p piece) bool { return p.Decision == j.Decision && p.Reasons == j.Reasons })
		if i < 0 {
			i = len(out)
			out = append(out, piece{Joint: j})
		}
		out[i].traffic = out[i].traffic.Union(span)
	}
	rank := [...]int{verdict.Allow: 0, verdict.Undefined: 1, verdict.Deny: 2}
	slices.SortStableFunc(out, func(a, b piece) int { return rank[a.Decision] - rank[b.Decision] })
	return out
}

// protocols writes t as entries of one protocol each.
func protocols(t netset.Traffic) []jsonTraffic {
	if t.All() {
		return []jsonTraffic{{Protocol: "all"}}
	}
	var out []jsonTraffic
	for _, p := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP, netset.ICMP, netset.ICMPv6} {
		whole := netset.AllPorts(p)
		if e, ok := protocol(p.String(), t.Intersect(whole)); ok {
			out = append(out, e)
		}
		t = t.Subtract(whole)
	}
	if t.Equal(otherProtocols) {
		return append(out, jsonTraffic{Protocol: "other"})
	}
	for len(t.Ranges()) > 0 {
		p := t.Ranges()[0].From.Proto()
		e, _ := protocol(p.String(), t.Intersect(netset.AllPorts(p)))
		out = append(out, e)
		t = t.Subtract(netset.AllPorts(p))
	}
	return out
}

var otherProtocols = netset.AllTraffic().Subtract(netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP, netset.ICMP, netset.ICMPv6))

func protocol(name string, t netset.Traffic) (jsonTraffic, bool) {
	e := jsonTraffic{Protocol: name}
	for _, r := range t.PortRanges() {
		if !r.Whole() {
			e.Ports = append(e.Ports, [2]uint16{r.From, r.To})
		}
	}
	return e, !t.Empty()
}

// jsonGroups describes the used groups and returns the identifier of each.
func (r *Report) jsonGroups(n *numbers) ([]jsonGroup, map[int]int) {
	var out []jsonGroup
	ids := map[int]int{}
	for _, i := range r.used() {
		g := r.groups[i]
		j := jsonGroup{ID: len(out), Name: g.name, Kind: g.kind.String(), Namespaces: g.namespaces, External: g.external}
		ids[i] = j.ID
		for _, e := range g.endpoints {
			ep := &r.t.Snapshot.Endpoints[e]
			j.Pods = append(j.Pods, ep.String())
			if ep.Owner.Name != "" {
				j.Workloads = append(j.Workloads, ep.Namespace+"/"+ep.Owner.Kind+"/"+ep.Owner.Name)
			}
		}
		slices.Sort(j.Workloads)
		j.Workloads = slices.Compact(j.Workloads)
		for _, node := range g.nodes {
			j.Nodes = append(j.Nodes, r.t.Snapshot.Nodes[node].Name)
		}
		for _, p := range g.addrs.Prefixes() {
			j.Addresses = append(j.Addresses, p.String())
		}
		for d, to := range []*[]int{&j.Ingress, &j.Egress} {
			if id := g.targets[d]; id != verdict.None {
				for _, s := range r.t.Targets[d][id].Policies {
					*to = append(*to, n.policy(s.PolicyRef))
				}
			}
		}
		out = append(out, j)
	}
	return out, ids
}

// WriteJSON writes the matrix as one JSON object, described above.
func (r *Report) WriteJSON(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	n := newNumbers(r.t)
	groups, ids := r.jsonGroups(n)
	head := []any{"picket/v1", "Matrix", r.t.Dialect.Name}
	for i, key := range []string{"apiVersion", "kind", "dialect"} {
		fmt.Fprintf(b, "%s%q: %s", [...]string{"{\n", ",\n", ",\n"}[i], key, marshal(head[i]))
	}
	if len(r.o.Ports) > 0 {
		var ps []string
		for _, p := range r.o.Ports {
			ps = append(ps, p.String())
		}
		fmt.Fprintf(b, ",\n\"ports\": %s", marshal(ps))
	}
	list(b, "groups", groups)
	for _, axis := range []struct {
		key string
		of  []int
	}{{"rows", r.rows}, {"columns", r.columns}} {
		out := make([]int, len(axis.of))
		for i, g := range axis.of {
			out[i] = ids[g]
		}
		fmt.Fprintf(b, ",\n%q: %s", axis.key, marshal(out))
	}
	s := r.summarize()
	r.writeCells(b, s)
	if r.o.Evidence != nil {
		r.writeEvidence(b)
	}
	verdicts := make([]jsonVerdict, len(r.cells))
	for i, c := range r.cells {
		sh := r.shown(int32(i))
		verdicts[i] = jsonVerdict{ID: i, Text: sh.String(), Level: sh.level.String(), Undefined: sh.undefined, Bypass: c.bypass.String(), Traffic: r.pieces(c, n)}
	}
	list(b, "verdicts", verdicts)
	list(b, "reasons", n.reasons)
	list(b, "rules", n.rules)
	list(b, "policies", n.policies)
	fmt.Fprintf(b, ",\n\"summary\": %s\n}\n", marshal(s))
	return b.Flush()
}

// writeCells numbers the cells anew, in the order of their first, and writes
// them: in a row, how many neighbours have a cell, not each of them, since
// policies rarely tell neighbours apart.
func (r *Report) writeCells(b *bufio.Writer, s *summary) {
	r.reset()
	b.WriteString(",\n\"cells\": [")
	var buf []byte
	first := true
	r.eachRow(func(g int, cells []int32) {
		s.add(r, g, cells)
		buf = buf[:0]
		if !first {
			buf = append(buf, ',')
		}
		first = false
		buf = appendRuns(append(buf, '\n'), cells)
		b.Write(buf)
	})
	b.WriteString("]")
}

// appendRuns writes a row of numbers as pairs of a number, null for noCell, and
// how often it follows itself.
func appendRuns(buf []byte, row []int32) []byte {
	buf = append(buf, '[')
	for from := 0; from < len(row); {
		id, to := row[from], from+1
		for to < len(row) && row[to] == id {
			to++
		}
		if from > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, '[')
		if id == noCell {
			buf = append(buf, "null"...)
		} else {
			buf = strconv.AppendInt(buf, int64(id), 10)
		}
		buf = append(buf, ',')
		buf = append(strconv.AppendInt(buf, int64(to-from), 10), ']')
		from = to
	}
	return append(buf, ']')
}

// list writes a member that is a list, an entry a line.
func list[T any](b *bufio.Writer, key string, entries []T) {
	fmt.Fprintf(b, ",\n%q: [", key)
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(marshal(e))
	}
	b.WriteByte(']')
}

// marshal encodes v, which holds nothing that can fail. It escapes <, > and &,
// so that the text may stand in a page.
func marshal(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}
