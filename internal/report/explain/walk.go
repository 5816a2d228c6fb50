package explain

import (
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// side is one end's judgement of a connection.
type side struct {
	dir          model.Direction
	target, peer verdict.Party
	key          netset.Key
	id           verdict.TargetID // None if policies cannot guard the end
	piece        verdict.Piece    // meaningless with id None
}

// ports returns the ports that named ports are resolved with: the responder's.
// To its peers a pod on the host network is its node, which has none.
func (b *builder) ports(s side) []model.Port {
	p := s.target
	if s.dir == model.Egress {
		p = s.peer
	}
	if p.Endpoint == verdict.None || b.t.Snapshot.Endpoints[p.Endpoint].Kind == model.HostPod {
		return nil
	}
	return b.t.Snapshot.Endpoints[p.Endpoint].Ports
}

// effect is what a rule does with a connection.
type effect struct {
	action model.Action
	peer   verdict.Match
	port   bool
	note   string // why it is not what is written
}

// effect holds rule r against the connection.
func (b *builder) effect(s side, r verdict.RuleRef) effect {
	rule := b.t.Rule(r)
	if b.t.Dialect.OwnPodsOnly && foreign(rule) {
		if rule.Action == model.Deny || rule.Action == model.Pass {
			return effect{model.Deny, verdict.Yes, true, "dialect " + b.t.Dialect.Name + " does not know such peers: the rule denies everything"}
		}
		return effect{rule.Action, verdict.No, false, "dialect " + b.t.Dialect.Name + " does not know such peers: the rule matches nothing"}
	}
	peer, _ := b.t.RuleMatch(r, s.peer.Peer)
	return effect{rule.Action, peer, b.t.RuleTraffic(r, b.ports(s)).Contains(s.key), ""}
}

// foreign reports whether a peer is something other than pods and addresses.
func foreign(r *model.Rule) bool {
	for _, p := range r.Peers {
		for _, t := range p.Terms {
			if t.Kind == model.NodeTerm || t.Kind == model.NameTerm {
				return true
			}
		}
	}
	return false
}

// reading settles what a dialect leaves open.
type reading struct {
	maybe   bool // what may match matches
	reverse bool // of policies of equal order the last comes first
	gone    map[verdict.RuleRef]bool
}

// outcome is what a walk ended with.
type outcome struct {
	decision verdict.Decision
	kind     verdict.ReasonKind
	rule     verdict.RuleRef // ByRule: the rule; Isolated: its tier
}

// walk answers what the table does not hold: what the verdict of a side would
// be if some rules were gone, or if something open were read one way. Without
// either it repeats the table's verdict, which a test holds.
func (b *builder) walk(s side, rd reading) outcome {
	selected := false
	for ti := range b.t.Snapshot.Tiers {
		tier := &b.t.Snapshot.Tiers[ti]
		policies := b.selected(s, int32(ti), rd)
		pass := false
		for _, ref := range policies {
			selected = true
			rule, action, ok := b.firstMatch(s, ref, rd)
			if !ok {
				continue
			}
			switch action {
			case model.Allow:
				return outcome{verdict.Allow, verdict.ByRule, rule}
			case model.Deny:
				return outcome{verdict.Deny, verdict.ByRule, rule}
			}
			pass = true
			break
		}
		if !pass && len(policies) > 0 && !tier.Continue {
			r := verdict.RuleRef{PolicyRef: verdict.PolicyRef{Tier: int32(ti), Policy: verdict.None}, Direction: s.dir, Rule: verdict.None}
			return outcome{verdict.Deny, verdict.Isolated, r}
		}
	}
	kind := verdict.NotSelected
	if selected {
		kind = verdict.Unmatched
	}
	return outcome{decision: verdict.Allow, kind: kind, rule: verdict.RuleRef{Direction: s.dir}}
}

// selected returns the policies of a tier that judge the side, in order of
// evaluation.
func (b *builder) selected(s side, tier int32, rd reading) []verdict.PolicyRef {
	var out []verdict.PolicyRef
	for _, sel := range b.t.Targets[s.dir][s.id].Policies {
		p := b.t.Policy(sel.PolicyRef)
		if sel.Tier == tier && p.Applies[s.dir] && !p.Staged && (!sel.Maybe || rd.maybe) {
			out = append(out, sel.PolicyRef)
		}
	}
	if rd.reverse && !b.t.Snapshot.Tiers[tier].Union {
		slices.Reverse(out)
		slices.SortStableFunc(out, func(x, y verdict.PolicyRef) int {
			switch ox, oy := b.t.Policy(x).Order, b.t.Policy(y).Order; {
			case ox < oy:
				return -1
			case ox > oy:
				return 1
			}
			return 0
		})
	}
	return out
}

// firstMatch returns the first rule of a policy that matches and has an effect.
func (b *builder) firstMatch(s side, ref verdict.PolicyRef, rd reading) (verdict.RuleRef, model.Action, bool) {
	for i := range b.t.Policy(ref).Rules[s.dir] {
		r := verdict.RuleRef{PolicyRef: ref, Direction: s.dir, Rule: int32(i)}
		if rd.gone[r] {
			continue
		}
		e := b.effect(s, r)
		if e.action != model.Log && e.port && (e.peer == verdict.Yes || e.peer == verdict.Maybe && rd.maybe) {
			return r, e.action, true
		}
	}
	return verdict.RuleRef{}, 0, false
}

// sayOutcome words an outcome as Table.Sentence words a verdict.
func (b *builder) sayOutcome(s side, o outcome) string {
	switch o.kind {
	case verdict.ByRule:
		return past(o.decision) + " by " + b.t.RuleName(o.rule)
	case verdict.Isolated:
		return "denied: tier " + b.t.Snapshot.Tiers[o.rule.Tier].Name + " isolates it for " + s.dir.String() + " and no rule matches"
	case verdict.Unmatched:
		return "allowed: no rule matches, and the policies deny nothing else"
	}
	return "allowed: no policy selects it for " + s.dir.String()
}

// readings lists what an undefined verdict becomes either way.
func (b *builder) readings(s side) []Reading {
	r := b.t.Reasons[s.piece.Reason]
	say := func(cond string, rd reading) Reading {
		o := b.walk(s, rd)
		return Reading{If: cond, Verdict: o.decision, Reason: b.sayOutcome(s, o)}
	}
	switch r.Why {
	case verdict.WhyProtocol:
		return []Reading{
			say("policies judge "+s.key.Proto().String()+" as they judge TCP (Calico and Picket do: a rule without ports matches every protocol)", reading{}),
			{If: "policies restrict only TCP, UDP and SCTP", Verdict: verdict.Allow, Reason: "allowed: no policy concerns " + s.key.Proto().String()},
		}
	case verdict.WhyNets:
		return []Reading{
			say("an ipBlock matches addresses of pods (Calico and Picket do)", reading{maybe: true}),
			say("it matches only addresses outside the cluster (Cilium does by default)", reading{}),
		}
	case verdict.WhyHostPod:
		return []Reading{
			say("pod selectors match pods on the host network", reading{maybe: true}),
			say("they do not (most implementations)", reading{}),
		}
	case verdict.WhyTie:
		return []Reading{
			say("of policies of equal order the one first by name comes first (Picket and Calico do)", reading{}),
			say("the other comes first", reading{reverse: true}),
		}
	case verdict.WhyName:
		return []Reading{
			say("the DNS name has this address", reading{maybe: true}),
			say("it has not", reading{}),
		}
	}
	return []Reading{
		say("what could not be understood matches", reading{maybe: true}),
		say("it does not", reading{}),
	}
}
