package explain

import (
	"fmt"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// change says what would turn the verdict of a cell round; nil if policies
// have no say in it.
func (b *builder) change(c cell, sides []side, d verdict.Decision) *Change {
	out := &Change{}
	switch d {
	case verdict.Allow:
		out.To = verdict.Deny
		out.Intro = "to deny it"
		for _, s := range sides {
			if s.id != verdict.None {
				out.Steps = append(out.Steps, b.denySteps(c, s)...)
			}
		}
		if sides[0].id != verdict.None && sides[1].id != verdict.None {
			out.Intro = "to deny it (one of the two sides is enough)"
		}
	case verdict.Deny:
		out.To = verdict.Allow
		out.Intro = "to allow it"
		n := 0
		for _, s := range sides {
			if s.id != verdict.None && s.piece.Decision != verdict.Allow {
				n++
				out.Steps = append(out.Steps, b.allowSteps(c, s)...)
			}
		}
		if n == 2 {
			out.Intro = "to allow it (both sides must change)"
		}
	default:
		out.To = verdict.Undefined
		out.Intro = "to settle it"
		for _, s := range sides {
			if s.id != verdict.None && s.piece.Decision == verdict.Undefined {
				out.Steps = append(out.Steps, Step{Direction: s.dir.String(), Text: b.at(s) + ": " + settle[b.t.Reasons[s.piece.Reason].Why]})
			}
		}
	}
	if len(out.Steps) == 0 {
		return nil
	}
	return out
}

func (b *builder) at(s side) string { return fmt.Sprintf("%s at %s", s.dir, b.name(s.target)) }

// settle says how one leaves nothing open.
var settle = [...]string{
	verdict.WhyNothing:  "",
	verdict.WhyProtocol: "NetworkPolicy cannot; a ClusterNetworkPolicy rule without protocols covers every protocol",
	verdict.WhyNets:     "name the pods by labels, not by addresses",
	verdict.WhyHostPod:  "pods on the host network cannot be named by labels; name the addresses of their nodes",
	verdict.WhyTie:      "give the policies different priorities",
	verdict.WhyName:     "name the addresses",
	verdict.WhyBroken:   "correct the object that could not be understood",
}

// denySteps lists what lets the connection through at one side: all of it has
// to go.
func (b *builder) denySteps(c cell, s side) []Step {
	gone := map[verdict.RuleRef]bool{}
	var rules []string
	o := b.walk(s, reading{gone: gone})
	for o.decision == verdict.Allow && o.kind == verdict.ByRule {
		gone[o.rule] = true
		rules = append(rules, b.t.RuleName(o.rule))
		o = b.walk(s, reading{gone: gone})
	}
	text := b.at(s) + ": "
	switch len(rules) {
	case 0:
	case 1:
		text += "remove or narrow " + rules[0]
	default:
		text += fmt.Sprintf("remove or narrow all %d rules that allow it: %s", len(rules), strings.Join(rules, "; "))
	}
	step := Step{Direction: s.dir.String()}
	switch {
	case o.decision == verdict.Deny && len(rules) > 0:
		text += "; then it is " + b.sayOutcome(s, o)
	case len(rules) > 0:
		text += fmt.Sprintf("; and since nothing else would deny it then, add a policy that isolates it for %s", s.dir)
		step.YAML = b.policy(c, s, false)
	default:
		text += fmt.Sprintf("no rule concerns it; a policy that isolates it for %s denies this and all else that no rule allows", s.dir)
		step.YAML = b.policy(c, s, false)
	}
	step.Text = text
	return []Step{step}
}

// allowSteps lists what stands in the way at one side, in the order in which it
// is met.
func (b *builder) allowSteps(c cell, s side) []Step {
	if s.piece.Decision == verdict.Undefined {
		return []Step{{Direction: s.dir.String(), Text: b.at(s) + " is undefined: " + settle[b.t.Reasons[s.piece.Reason].Why]}}
	}
	var out []Step
	add := func(text, yaml string) {
		out = append(out, Step{Direction: s.dir.String(), Text: b.at(s) + ": " + text, YAML: yaml})
	}
	gone := map[verdict.RuleRef]bool{}
	o := b.walk(s, reading{gone: gone})
	for o.decision == verdict.Deny && o.kind == verdict.ByRule {
		gone[o.rule] = true
		tier := b.t.Snapshot.Tiers[o.rule.Tier].Name
		add(fmt.Sprintf("change %s so that it does not match, or allow the connection before it in tier %s", b.t.RuleName(o.rule), tier), "")
		o = b.walk(s, reading{gone: gone})
	}
	if o.decision != verdict.Deny {
		return out
	}
	if near := b.nearMisses(s, o.rule.Tier); len(near) > 0 {
		add(fmt.Sprintf("add %s to %s, whose peers match already; or add a policy:", s.key, strings.Join(near, " or ")), b.policy(c, s, true))
		return out
	}
	if !b.networkPolicies(o.rule.Tier) {
		add("add a rule that allows it to a policy of tier "+b.t.Snapshot.Tiers[o.rule.Tier].Name, "")
		return out
	}
	text := "add a policy:"
	if !ported(s.key) {
		text = fmt.Sprintf("add a policy; NetworkPolicy cannot name %s, so it must be a rule without ports, which allows every protocol:", s.key.Proto())
	}
	add(text, b.policy(c, s, true))
	return out
}

// networkPolicies reports whether a tier takes NetworkPolicy objects.
func (b *builder) networkPolicies(tier int32) bool {
	for i := range b.t.Snapshot.Tiers[tier].Policies {
		if b.t.Snapshot.Tiers[tier].Policies[i].Kind == "NetworkPolicy" {
			return true
		}
	}
	return false
}

// nearMisses returns up to three rules of a tier that allow the peer but on
// other ports.
func (b *builder) nearMisses(s side, tier int32) []string {
	if !ported(s.key) {
		return nil
	}
	var out []string
	for _, ref := range b.selected(s, tier, reading{}) {
		for i := range b.t.Policy(ref).Rules[s.dir] {
			r := verdict.RuleRef{PolicyRef: ref, Direction: s.dir, Rule: int32(i)}
			if e := b.effect(s, r); e.peer == verdict.Yes && !e.port && e.action == model.Allow && len(out) < 3 {
				out = append(out, b.t.RuleName(r))
			}
		}
	}
	return out
}

func ported(k netset.Key) bool {
	switch k.Proto() {
	case netset.TCP, netset.UDP, netset.SCTP:
		return true
	}
	return false
}
