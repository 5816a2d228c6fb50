package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// portsOnly is how many rules of a policy are shown that match the port but
// not the peer.
const portsOnly = 5

// explain explains the first pair of a cell.
func (b *builder) explain(c cell) Case {
	d, _ := b.t.Decide(c.pair, c.key)
	out := Case{
		From: b.names(c.src), To: b.names(c.dst), Port: portText(c.key),
		Verdict: d, Summary: b.summary(c), Bypass: c.pair.Bypass.String(), Sides: []Side{},
	}
	for _, f := range c.families {
		out.Families = append(out.Families, map[netset.Family]string{netset.V4: "IPv4", netset.V6: "IPv6"}[f])
	}
	out.Notes = b.caseNotes(c)
	if c.pair.Bypass == verdict.Itself || c.pair.Bypass == verdict.FromNode {
		return out
	}
	var sides []side
	for _, dir := range []model.Direction{model.Egress, model.Ingress} {
		s := b.side(c, dir)
		sides = append(sides, s)
		out.Sides = append(out.Sides, b.trace(s))
	}
	out.HalfOpen = halfOpen(sides)
	out.Change = b.change(c, sides, d)
	return out
}

// side sets up the judgement of one end of a cell's first pair.
func (b *builder) side(c cell, dir model.Direction) side {
	s := side{dir: dir, target: c.src[0], peer: c.dst[0], key: c.key, id: verdict.None}
	if dir == model.Ingress {
		s.target, s.peer = s.peer, s.target
	}
	if v := c.pair.Sides[dir]; v != verdict.None {
		s.id, s.piece = b.target(dir, s.target), b.t.Verdicts[v].At(c.key)
	}
	return s
}

// halfOpen reports whether exactly one of two judged sides lets the connection
// through.
func halfOpen(sides []side) bool {
	return len(sides) == 2 && sides[0].id != verdict.None && sides[1].id != verdict.None &&
		(sides[0].piece.Decision == verdict.Allow) != (sides[1].piece.Decision == verdict.Allow) &&
		(sides[0].piece.Decision == verdict.Deny || sides[1].piece.Decision == verdict.Deny)
}

// summary says the verdict of a cell in a sentence.
func (b *builder) summary(c cell) string {
	d, _ := b.t.Decide(c.pair, c.key)
	if c.pair.Bypass != verdict.Judged {
		return past(d) + ": " + c.pair.Bypass.String()
	}
	eg, in := b.side(c, model.Egress), b.side(c, model.Ingress)
	say := func(s side) string { return b.t.SideSentence(s.dir, s.id, s.piece) }
	at := func(s side) string { return fmt.Sprintf("%s at %s", s.dir, b.name(s.target)) }
	var parts []string
	for _, s := range []side{eg, in} {
		if s.id != verdict.None && s.piece.Decision == d {
			parts = append(parts, at(s)+" is "+say(s))
		}
	}
	out := strings.Join(parts, "; ")
	if halfOpen([]side{eg, in}) {
		ok, no := eg, in
		if ok.piece.Decision != verdict.Allow {
			ok, no = no, ok
		}
		if no.piece.Decision == verdict.Deny && ok.piece.Decision == verdict.Allow {
			out += fmt.Sprintf(" (half open: %s would let it through)", at(ok))
		}
	}
	return out
}

// caseNotes says what is easily overlooked about the ends.
func (b *builder) caseNotes(c cell) []string {
	var out []string
	overlap := 0
	for _, s := range c.src {
		for _, d := range c.dst {
			if s.Endpoint != verdict.None && s.Endpoint == d.Endpoint {
				overlap++
			}
		}
	}
	switch {
	case overlap > 0 && b.service != nil:
		out = append(out, "a connection that the Service leads back to the pod that opened it is not covered by this: "+
			"a pod always reaches its own address, but some implementations judge it, since it comes from the node then")
	case overlap > 0 && c.pair.Bypass != verdict.Itself:
		out = append(out, "each pod reaches itself whatever the policies say")
	}
	for i, p := range []verdict.Party{c.src[0], c.dst[0]} {
		if p.Endpoint == verdict.None {
			continue
		}
		e := &b.t.Snapshot.Endpoints[p.Endpoint]
		if e.Kind == model.HostPod {
			where := ""
			if e.Node != "" {
				where = " of node " + e.Node
			}
			out = append(out, fmt.Sprintf("%s is on the host network%s: policies do not guard it, and its peers see the node's address", e, where))
		}
		if e.Broken != "" {
			out = append(out, fmt.Sprintf("%s could not be read in full: %s", e, e.Broken))
		}
		if i == 1 && e.Kind == model.Pod && c.pair.Bypass == verdict.Judged && len(e.Ports) > 0 && !declares(e, c.key) {
			out = append(out, fmt.Sprintf("%s declares no port %s; a declaration is not needed, but perhaps nothing listens there", e, portText(c.key)))
		}
	}
	return out
}

// declares reports whether the endpoint declares the port, or the key is of no
// protocol that has ports.
func declares(e *model.Endpoint, k netset.Key) bool {
	switch k.Proto() {
	case netset.TCP, netset.UDP, netset.SCTP:
		return slices.ContainsFunc(e.Ports, func(p model.Port) bool { return p.Proto == k.Proto() && p.Number == k.Port() })
	}
	return true
}

// trace lists the tiers and policies that judge a side.
func (b *builder) trace(s side) Side {
	out := Side{Direction: s.dir.String(), Endpoint: b.name(s.target), Judged: s.id != verdict.None, Verdict: verdict.Allow}
	if !out.Judged {
		out.Reason = "not judged: " + b.unguarded(s.target)
		return out
	}
	out.Verdict = s.piece.Decision
	out.Reason = b.t.SideSentence(s.dir, s.id, s.piece)
	if s.piece.Decision == verdict.Undefined {
		out.Readings = b.readings(s)
	}
	reached := true
	for ti := range b.t.Snapshot.Tiers {
		if tier, ok := b.traceTier(s, int32(ti), &reached); ok {
			out.Tiers = append(out.Tiers, tier)
		}
	}
	return out
}

func (b *builder) unguarded(p verdict.Party) string {
	switch {
	case p.Endpoint != verdict.None && b.t.Snapshot.Endpoints[p.Endpoint].Kind == model.HostPod:
		return "it is on the host network, where policies guard nothing"
	case p.Endpoint != verdict.None:
		return "no policy can guard it"
	case p.Node != verdict.None:
		return "it is a node, and policies guard only pods"
	}
	return "it is outside the cluster"
}

// traceTier returns what a tier does with the side, and false if no policy of
// the snapshot's tier has that direction. It clears reached when the tier
// settles the verdict.
func (b *builder) traceTier(s side, ti int32, reached *bool) (Tier, bool) {
	tier := &b.t.Snapshot.Tiers[ti]
	if !slices.ContainsFunc(tier.Policies, func(p model.Policy) bool { return p.Applies[s.dir] }) {
		return Tier{}, false
	}
	out := Tier{Name: tier.Name, Reached: *reached, Policies: []Policy{}}
	live := *reached // whether rules of the tier are still asked
	reason := b.t.Reasons[s.piece.Reason]
	for _, sel := range b.t.Targets[s.dir][s.id].Policies {
		if sel.Tier == ti {
			out.Policies = append(out.Policies, b.tracePolicy(s, sel, reason, tier.Union, &live))
		}
	}
	mine := reason.Rule.Tier == ti && (reason.Kind == verdict.ByRule || reason.Kind == verdict.Isolated || reason.Kind == verdict.Open)
	switch {
	case !*reached:
		out.Outcome = "not reached: the verdict is settled before"
	case mine && reason.Kind == verdict.Isolated:
		out.Outcome = "no rule matches, so the tier denies"
	case mine:
		out.Outcome = "the tier decides: " + past(s.piece.Decision)
	case len(out.Policies) == 0:
		out.Outcome = fmt.Sprintf("no policy of the tier selects %s for %s", b.name(s.target), s.dir)
	case !live:
		out.Outcome = "a rule passes it on"
	default:
		out.Outcome = "no rule matches: it goes on"
	}
	if mine {
		*reached = false
	}
	return out, true
}

func (b *builder) tracePolicy(s side, sel verdict.Selection, reason verdict.Reason, union bool, live *bool) Policy {
	p := b.t.Policy(sel.PolicyRef)
	out := Policy{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, Position: place(p.Origin), Total: len(p.Rules[s.dir])}
	if !union {
		out.Order = "priority " + strconv.FormatFloat(p.Order, 'f', -1, 64)
	}
	var notes []string
	if p.Broken != "" {
		notes = append(notes, "could not be understood: "+p.Broken)
	}
	if sel.Maybe {
		notes = append(notes, "it is not certain that it selects the pod")
	}
	if p.Staged {
		notes = append(notes, "staged: not enforced")
	}
	if out.Total == 0 && !b.t.Snapshot.Tiers[sel.Tier].Continue {
		notes = append(notes, fmt.Sprintf("has no %s rules: isolates, and allows NOTHING", s.dir))
	}
	out.Note = strings.Join(notes, "; ")
	near := 0
	for i := range p.Rules[s.dir] {
		ref := verdict.RuleRef{PolicyRef: sel.PolicyRef, Direction: s.dir, Rule: int32(i)}
		r, concerned := b.traceRule(s, ref, reason, union, live)
		if concerned && r.PeerMatch == "no" {
			near++
		}
		if !b.all && (!concerned || r.PeerMatch == "no" && near > portsOnly) {
			out.Hidden++
			continue
		}
		out.Rules = append(out.Rules, r)
	}
	return out
}

// traceRule holds a rule against the side, and reports whether the rule has
// to do with the connection: its peers or its ports match.
func (b *builder) traceRule(s side, ref verdict.RuleRef, reason verdict.Reason, union bool, live *bool) (Rule, bool) {
	rule := b.t.Rule(ref)
	e := b.effect(s, ref)
	peer, port := e.peer, e.port
	out := Rule{
		Path: cmp.Or(rule.Origin.Path, fmt.Sprintf("%s rule %d", s.dir, ref.Rule+1)), Name: rule.Name, Position: place(rule.Origin),
		Action: e.action.String(), PeerMatch: matchText(peer), PortMatch: port, Ports: portsText(rule), Role: RoleNone,
	}
	if rule.Note != "" {
		out.Notes = append(out.Notes, rule.Note)
	}
	if e.note != "" {
		out.Notes = append(out.Notes, e.note)
	}
	out.Peers = b.tracePeers(s, ref)
	out.Notes = append(out.Notes, b.portHints(s, rule, peer, port)...)
	matches := port && peer != verdict.No
	decides := (reason.Kind == verdict.ByRule || reason.Kind == verdict.Open) && reason.Rule == ref
	switch {
	case decides && reason.Kind == verdict.Open:
		out.Role = RoleOpen
	case decides:
		out.Role = RoleDecides
		*live = *live && union
	case !*live:
		out.Role = RoleNotReached
	case !matches:
	case e.action == model.Log:
		out.Role = RoleLogs
	case peer == verdict.Maybe || reason.Kind == verdict.Open && reason.Rule.Tier == ref.Tier:
		out.Role = RoleOpen
	case e.action == model.Pass:
		out.Role = RolePasses
		*live = false
	default:
		out.Role = RoleToo
	}
	return out, peer != verdict.No || port
}

func (b *builder) tracePeers(s side, ref verdict.RuleRef) []Peer {
	rule := b.t.Rule(ref)
	what := map[model.Direction]string{model.Ingress: "sources", model.Egress: "destinations"}[s.dir]
	if rule.AnyPeer {
		return []Peer{{Text: "ALL " + what + ", inside and outside the cluster", Match: "yes"}}
	}
	if len(rule.Peers) == 0 {
		return []Peer{{Text: "NOTHING", Match: "no", Dead: true}}
	}
	var out []Peer
	for i := range rule.Peers {
		p := Peer{Match: matchText(b.t.PeerMatch(ref, i, s.peer.Peer))}
		var terms []string
		pods := true
		for _, term := range rule.Peers[i].Terms {
			terms = append(terms, term.String())
			pods = pods && (term.Kind == model.PodTerm || term.Not)
		}
		p.Text = strings.Join(terms, " and ")
		p.Today, p.Dead = b.today(s, ref, i, pods)
		out = append(out, p)
	}
	return out
}

// today counts what peer i of a rule matches in the snapshot. The other end is
// named if it is among them.
func (b *builder) today(s side, ref verdict.RuleRef, i int, pods bool) (text string, dead bool) {
	eps := b.t.PeerEndpoints(ref, i)
	atom := &b.t.Atoms[b.t.RuleAtoms[ref.Tier][ref.Policy][ref.Direction][ref.Rule][i]]
	if len(eps) == 0 {
		if pods && len(atom.Yes) == 0 && len(atom.Maybe) == 0 {
			return "none today", true
		}
		return "", false
	}
	text = fmt.Sprintf("%d pods today", len(eps))
	if len(eps) == 1 {
		text = "1 pod today"
	}
	if s.peer.Endpoint == verdict.None {
		return text, false
	}
	if _, ok := slices.BinarySearch(eps, s.peer.Endpoint); ok {
		if len(eps) == 1 {
			return text + ", " + b.name(s.peer), false
		}
		text += ", " + b.name(s.peer) + " among them"
	}
	return text, false
}

// portHints says what named ports stand for, and whether the rule names the
// port of the Service where the pod's was needed.
func (b *builder) portHints(s side, rule *model.Rule, peer verdict.Match, port bool) []string {
	var out []string
	for _, m := range rule.Ports {
		if m.Name == "" {
			continue
		}
		responder := s.target
		if s.dir == model.Egress {
			responder = s.peer
		}
		if got := m.Resolve(b.ports(s)); got.Empty() {
			out = append(out, fmt.Sprintf("%s has no port %s", b.name(responder), m.Text))
		} else {
			out = append(out, fmt.Sprintf("port %s of %s is %s", m.Name, b.name(responder), got))
		}
	}
	if !port && peer != verdict.No && b.svcPort != nil && b.svcKey != s.key && verdict.TrafficOf(rule, b.ports(s)).Contains(b.svcKey) {
		out = append(out, fmt.Sprintf("it names %s, the port of service %s; policies see the pod's port, which is %s", b.svcKey, b.service, s.key))
	}
	return out
}

// portsText says which traffic a rule is about.
func portsText(r *model.Rule) string {
	var in, not []string
	for _, m := range r.Ports {
		in = append(in, cmp.Or(m.Text, m.Traffic.String()))
	}
	for _, m := range r.NotPorts {
		not = append(not, cmp.Or(m.Text, m.Traffic.String()))
	}
	s := strings.Join(in, ", ")
	switch {
	case r.AnyPort:
		s = "ALL ports and protocols"
	case len(in) == 0:
		s = "NOTHING"
	}
	if len(not) > 0 {
		s += " except " + strings.Join(not, ", ")
	}
	return s
}

func matchText(m verdict.Match) string { return [...]string{"no", "maybe", "yes"}[m] }

// place returns "file:line".
func place(o model.Origin) string {
	p := o.Position
	p.Col = 0
	return p.String()
}
