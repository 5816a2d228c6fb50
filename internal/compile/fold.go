package compile

import (
	"encoding/binary"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// folder turns the rules that match a pair of classes into a port verdict, and
// interns verdicts and reasons.
type folder struct {
	c        *compiler
	verdicts map[string]verdict.VerdictID
	reasons  map[verdict.Reason]verdict.ReasonID
	memo     map[string]verdict.VerdictID

	// of the current target
	dir    model.Direction
	ports  int32 // the target's named ports; valid iff dir is Ingress
	tiers  []tierState
	prefix []byte // of memo keys
}

// tierState is what a tier's policies without a matching rule do to a target.
type tierState struct {
	applies   verdict.Match     // whether some enforced policy selects the target
	broken    verdict.PolicyRef // valid iff hasBroken
	hasBroken bool
}

// begin prepares for the pairs of one target.
func (f *folder) begin(d model.Direction, ports int32, target *verdict.Target, place map[verdict.PolicyRef]int) {
	f.dir, f.ports = d, ports
	f.tiers = make([]tierState, len(f.c.snap.Tiers))
	for _, s := range target.Policies {
		ts := &f.tiers[s.Tier]
		m := verdict.Yes
		if s.Maybe {
			m = verdict.Maybe
		}
		ts.applies = max(ts.applies, m)
		if f.c.policies[place[s.PolicyRef]].src.Broken != "" && !ts.hasBroken {
			ts.broken, ts.hasBroken = s.PolicyRef, true
		}
	}
	f.prefix = append(f.prefix[:0], byte(d))
	for _, ts := range f.tiers {
		f.prefix = append(f.prefix, byte(ts.applies))
		if ts.hasBroken {
			f.prefix = binary.AppendUvarint(f.prefix, uint64(ts.broken.Policy)+1)
		} else {
			f.prefix = append(f.prefix, 0)
		}
	}
}

// needsPeerPorts reports whether the traffic of any hit depends on the peer.
func (f *folder) needsPeerPorts(rules []*rule, hits []hit) bool {
	if f.dir == model.Egress {
		for _, h := range hits {
			if rules[h.rule()].named {
				return true
			}
		}
	}
	return false
}

// fold returns the port verdict of a target for a peer that hits match.
// peerPorts is the peer's port list.
func (f *folder) fold(rules []*rule, hits []hit, peerPorts int32) verdict.VerdictID {
	responder := f.ports
	if f.dir == model.Egress {
		responder = peerPorts
	}
	named := uint64(0) // 1 more than the port list, if that matters
	for _, h := range hits {
		if rules[h.rule()].named {
			named = uint64(responder) + 1
		}
	}
	key := binary.AppendUvarint(f.prefix, named)
	for _, h := range hits {
		key = binary.AppendUvarint(key, matchCode(uint64(rules[h.rule()].id), h.maybe()))
	}
	f.prefix = key[:len(f.prefix)]
	if id, ok := f.memo[string(key)]; ok {
		return id
	}
	memoKey := string(key)
	f.c.table.Counters.Folds++
	id := f.intern(f.compute(rules, hits, responder))
	f.memo[memoKey] = id
	return id
}

// cellHit is a rule that matches a cell of traffic.
type cellHit struct {
	rule  *rule
	maybe bool
}

// compute folds cell by cell: inside a cell of traffic every rule matches
// everywhere or nowhere.
func (f *folder) compute(rules []*rule, hits []hit, responder int32) verdict.PortVerdict {
	yes := make([]netset.Traffic, len(hits))   // matches for certain
	maybe := make([]netset.Traffic, len(hits)) // may match besides
	sets := make([]netset.Traffic, 0, 2*len(hits)+1)
	for i, h := range hits {
		yes[i], maybe[i] = f.traffic(rules[h.rule()], responder)
		if h.maybe() {
			yes[i], maybe[i] = netset.Traffic{}, yes[i].Union(maybe[i])
		}
		sets = append(sets, yes[i], maybe[i])
	}
	if f.c.dialect.OpenProtocols {
		sets = append(sets, portProtocols)
	}
	cells := netset.Cells(sets)
	inCell := make([][]cellHit, len(cells))
	for i, h := range hits {
		r := rules[h.rule()]
		eachCell(cells, yes[i], func(n int) { inCell[n] = append(inCell[n], cellHit{r, false}) })
		eachCell(cells, maybe[i], func(n int) { inCell[n] = append(inCell[n], cellHit{r, true}) })
	}
	var out verdict.PortVerdict
	for i, cell := range cells {
		d, reason := f.decide(inCell[i], portProtocols.Contains(cell.From))
		p := verdict.Piece{To: cell.To, Decision: d, Reason: f.internReason(reason)}
		if n := len(out); n > 0 && out[n-1].Decision == p.Decision && out[n-1].Reason == p.Reason {
			out[n-1].To = p.To
		} else {
			out = append(out, p)
		}
	}
	return out
}

// portProtocols are the protocols that NetworkPolicy v1 defines.
var portProtocols = netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP)

// traffic returns what r matches for certain, and what it may match besides,
// at a responder with the given port list.
func (f *folder) traffic(r *rule, responder int32) (yes, maybe netset.Traffic) {
	if !r.named {
		return r.traffic, netset.Traffic{}
	}
	ports := f.c.portLists[responder]
	if len(ports) == 0 || ports[0].Name != brokenPorts[0].Name {
		return verdict.TrafficOf(r.src, ports), netset.Traffic{}
	}
	return unknownPorts(r.src)
}

// unknownPorts is traffic for a responder whose named ports are not known: each
// name may be any port of its protocols, or none.
func unknownPorts(r *model.Rule) (yes, maybe netset.Traffic) {
	if r.AnyPort {
		yes = netset.AllTraffic()
	}
	for _, m := range r.Ports {
		if m.Name == "" {
			yes = yes.Union(m.Traffic)
		} else {
			maybe = maybe.Union(anyPortOf(m))
		}
	}
	for _, m := range r.NotPorts {
		if m.Name == "" {
			yes, maybe = yes.Subtract(m.Traffic), maybe.Subtract(m.Traffic)
		} else {
			open := anyPortOf(m)
			maybe = maybe.Union(yes.Intersect(open))
			yes = yes.Subtract(open)
		}
	}
	return yes, maybe.Subtract(yes)
}

func anyPortOf(m model.PortMatch) netset.Traffic {
	if len(m.Protos) == 0 {
		return portProtocols
	}
	return netset.AllPorts(m.Protos...)
}

// eachCell calls visit for each cell that lies in t. Cells never straddle its
// borders.
func eachCell(cells []netset.Range[netset.Key], t netset.Traffic, visit func(int)) {
	for _, r := range t.Ranges() {
		lo, hi := 0, len(cells)
		for lo < hi {
			mid := int(uint(lo+hi) >> 1)
			if cells[mid].To < r.From {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		for n := lo; n < len(cells) && cells[n].To <= r.To; n++ {
			visit(n)
		}
	}
}

// outcome is the set of ends that are possible so far, with the first reason
// for each and the first thing that was left open.
type outcome struct {
	allow, deny             bool
	allowReason, denyReason verdict.Reason
	open                    verdict.Reason
}

func (o *outcome) add(action model.Action, r verdict.Reason) {
	switch {
	case action == model.Allow && !o.allow:
		o.allow, o.allowReason = true, r
	case action == model.Deny && !o.deny:
		o.deny, o.denyReason = true, r
	}
}

func (o *outcome) leftOpen(r verdict.Reason) {
	if o.open.Kind != verdict.Open {
		o.open = r
	}
}

func (o *outcome) decide() (verdict.Decision, verdict.Reason) {
	switch {
	case o.allow && o.deny:
		return verdict.Undefined, o.open
	case o.allow:
		return verdict.Allow, o.allowReason
	default:
		return verdict.Deny, o.denyReason
	}
}

// decide walks the tiers with the rules that match one cell of traffic, in
// order of evaluation. ported says that the cell's protocol has ports.
func (f *folder) decide(hits []cellHit, ported bool) (verdict.Decision, verdict.Reason) {
	var o outcome
	applied := false
	for ti := range f.tiers {
		ts, tier := f.tiers[ti], &f.c.snap.Tiers[ti]
		n := 0
		for n < len(hits) && int(hits[n].rule.ref.Tier) == ti {
			n++
		}
		mine := hits[:n]
		hits = hits[n:]
		if ts.applies == verdict.No {
			continue
		}
		applied = true
		if tier.Ports && !ported && f.c.dialect.OpenProtocols {
			return f.bothWays(&o, f.tierReason(ti, verdict.Open, verdict.WhyProtocol))
		}
		if ts.hasBroken && !tier.Union {
			return f.bothWays(&o, f.brokenReason(ts))
		}
		unmatched, passed := f.walk(mine, tier, &o)
		if unmatched {
			switch {
			case ts.hasBroken:
				return f.bothWays(&o, f.brokenReason(ts))
			case tier.Continue:
				passed = true
			default:
				o.add(model.Deny, f.tierReason(ti, verdict.Isolated, 0))
				if ts.applies == verdict.Maybe {
					o.leftOpen(f.tierReason(ti, verdict.Open, verdict.WhyBroken))
					passed = true
				}
			}
		}
		if !passed {
			return o.decide()
		}
	}
	end := verdict.Reason{Kind: verdict.NotSelected, Rule: verdict.RuleRef{Direction: f.dir}}
	if applied {
		end.Kind = verdict.Unmatched
	}
	o.add(model.Allow, end)
	return o.decide()
}

// bothWays ends in either decision: which one is open.
func (f *folder) bothWays(o *outcome, r verdict.Reason) (verdict.Decision, verdict.Reason) {
	o.leftOpen(r)
	o.allow, o.deny = true, true
	return o.decide()
}

func (f *folder) tierReason(tier int, k verdict.ReasonKind, w verdict.Why) verdict.Reason {
	return verdict.Reason{Kind: k, Why: w, Rule: verdict.RuleRef{
		PolicyRef: verdict.PolicyRef{Tier: int32(tier), Policy: none}, Direction: f.dir, Rule: none,
	}}
}

func (f *folder) brokenReason(ts tierState) verdict.Reason {
	return verdict.Reason{Kind: verdict.Open, Why: verdict.WhyBroken, Rule: verdict.RuleRef{PolicyRef: ts.broken, Direction: f.dir, Rule: none}}
}

// walk applies the rules of one tier that match. It reports whether it is
// possible that none decides, and that the tier is passed.
func (f *folder) walk(hits []cellHit, tier *model.Tier, o *outcome) (unmatched, passed bool) {
	for len(hits) > 0 {
		// A group is the policies whose order the dialect leaves open, or one
		// policy.
		tie := f.tieOf(hits[0], tier)
		var g group
		for len(hits) > 0 && f.tieOf(hits[0], tier) == tie {
			n := 1
			for n < len(hits) && hits[n].rule.ref.PolicyRef == hits[0].rule.ref.PolicyRef {
				n++
			}
			g.addPolicy(hits[:n])
			hits = hits[n:]
		}
		if g.mixed() {
			first := g.first[0]
			o.leftOpen(verdict.Reason{Kind: verdict.Open, Why: verdict.WhyTie, Rule: verdict.RuleRef{PolicyRef: first.rule.ref.PolicyRef, Direction: f.dir, Rule: none}})
		}
		for _, h := range g.first {
			if h.rule.action == model.Pass {
				passed = true
			} else {
				o.add(h.rule.action, verdict.Reason{Kind: verdict.ByRule, Rule: h.rule.ref})
			}
			if h.maybe {
				o.leftOpen(verdict.Reason{Kind: verdict.Open, Why: f.why(h.rule), Rule: h.rule.ref})
			}
		}
		if g.certain {
			return false, passed
		}
	}
	return true, passed
}

// tieOf identifies the group of the hit's policy.
func (f *folder) tieOf(h cellHit, tier *model.Tier) [2]int32 {
	ref := h.rule.ref.PolicyRef
	if f.c.dialect.OpenTies && !tier.Union {
		return [2]int32{-1, int32(f.c.tieOf[ref])}
	}
	return [2]int32{ref.Tier, ref.Policy}
}

// group is what the policies of one order do, each by itself.
type group struct {
	first    []cellHit // the rules that may decide, those of one action only once
	certain  bool      // some policy decides for certain
	policies int
}

// addPolicy adds the matching rules of one policy, in order.
func (g *group) addPolicy(hits []cellHit) {
	g.policies++
	for _, h := range hits {
		g.first = append(g.first, h)
		if !h.maybe {
			g.certain = true
			return
		}
	}
}

// mixed reports whether several policies may decide, and differ.
func (g *group) mixed() bool {
	if g.policies < 2 {
		return false
	}
	for _, h := range g.first {
		if h.rule.action != g.first[0].rule.action {
			return true
		}
	}
	return false
}

// why guesses what makes a match of r uncertain: the first thing in it that the
// dialect leaves open.
func (f *folder) why(r *rule) verdict.Why {
	d := f.c.dialect
	for _, p := range r.src.Peers {
		for _, t := range p.Terms {
			switch {
			case t.Kind == model.NetTerm && t.PodsOpen && d.OpenNets:
				return verdict.WhyNets
			case t.Kind == model.NameTerm && d.OpenNames:
				return verdict.WhyName
			case t.Kind == model.PodTerm && d.OpenHostPods:
				return verdict.WhyHostPod
			}
		}
	}
	return verdict.WhyBroken
}

func (f *folder) intern(v verdict.PortVerdict) verdict.VerdictID {
	key := make([]byte, 0, 12*len(v))
	for _, p := range v {
		key = binary.BigEndian.AppendUint32(key, uint32(p.To)<<8|uint32(p.Decision))
		key = binary.BigEndian.AppendUint32(key, uint32(p.Reason))
	}
	id, ok := f.verdicts[string(key)]
	if !ok {
		id = verdict.VerdictID(len(f.c.table.Verdicts))
		f.verdicts[string(key)] = id
		f.c.table.Verdicts = append(f.c.table.Verdicts, v)
	}
	return id
}

func (f *folder) internReason(r verdict.Reason) verdict.ReasonID {
	id, ok := f.reasons[r]
	if !ok {
		id = verdict.ReasonID(len(f.c.table.Reasons))
		f.reasons[r] = id
		f.c.table.Reasons = append(f.c.table.Reasons, r)
	}
	return id
}
