package verdict

import (
	"fmt"
	"strings"

	"picket/internal/model"
)

// Sentence says in one line why decision d was taken, without the target:
// "allowed by NetworkPolicy prod/allow-dns spec.egress[0] (policies.yaml:12)",
// "open: no policy selects it for egress". "It" is the endpoint that was
// judged. None is a side that policies cannot guard.
func (t *Table) Sentence(id ReasonID, d Decision) string {
	if id == None {
		return "not judged: it is no pod that policies can guard"
	}
	r := t.Reasons[id]
	switch r.Kind {
	case NotSelected:
		return fmt.Sprintf("open: no policy selects it for %s", r.Rule.Direction)
	case Unmatched:
		return fmt.Sprintf("open: policies judge its %s but no rule of theirs matches, and they deny nothing else", r.Rule.Direction)
	case ByRule:
		return past(d) + " by " + t.RuleName(r.Rule)
	case Isolated:
		return fmt.Sprintf("denied: policies of tier %s isolate it for %s and no rule of theirs matches", t.tierName(r.Rule), r.Rule.Direction)
	}
	return "undefined: " + r.Why.String() + t.where(r.Rule)
}

// SideSentence says what Sentence says, and names the policies that isolate
// the target: "denied: prod/deny-all isolates it for ingress and has no rules".
// The piece is the one of the target's verdict that holds the connection.
func (t *Table) SideSentence(dir model.Direction, target TargetID, piece Piece) string {
	if target == None || piece.Reason == None {
		return t.Sentence(None, piece.Decision)
	}
	r := t.Reasons[piece.Reason]
	if r.Kind != Isolated {
		return t.Sentence(piece.Reason, piece.Decision)
	}
	refs := t.isolating(dir, target, r.Rule.Tier)
	if len(refs) == 0 {
		return t.Sentence(piece.Reason, piece.Decision)
	}
	rules := 0
	names := make([]string, len(refs))
	for i, ref := range refs {
		p := t.Policy(ref)
		rules += len(p.Rules[dir])
		names[i] = p.String()
	}
	if len(refs) == 1 {
		p := t.Policy(refs[0])
		tail := "none of its rules matches"
		if rules == 0 {
			tail = "has no rules"
		}
		return fmt.Sprintf("denied: %s%s isolates it for %s and %s", p.Ref(), at(p.Origin), dir, tail)
	}
	tail := fmt.Sprintf("no rule of its %d policies matches", len(refs))
	if rules == 0 {
		tail = "they have no rules"
	}
	if n := len(names) - 3; n > 0 {
		names = append(names[:3:3], fmt.Sprintf("%d more", n))
	}
	return fmt.Sprintf("denied: %s isolate it for %s and %s", list(names), dir, tail)
}

// RuleName names a rule with its place: "NetworkPolicy prod/allow-dns
// spec.egress[0] (policies.yaml:12)". A rule that has a name of its own shows
// it.
func (t *Table) RuleName(r RuleRef) string {
	p, rule := t.Policy(r.PolicyRef), t.Rule(r)
	s := p.Ref()
	if rule.Origin.Path != "" {
		s += " " + rule.Origin.Path
	} else {
		s += fmt.Sprintf(" %s rule %d", r.Direction, r.Rule+1)
	}
	if rule.Name != "" {
		s += fmt.Sprintf(" %q", rule.Name)
	}
	o := rule.Origin
	if o.File == "" {
		o = p.Origin
	}
	return s + at(o)
}

// isolating returns the policies of a tier that isolate the target.
func (t *Table) isolating(dir model.Direction, target TargetID, tier int32) []PolicyRef {
	var out []PolicyRef
	for _, s := range t.Targets[dir][target].Policies {
		if s.Tier == tier && !t.Policy(s.PolicyRef).Staged {
			out = append(out, s.PolicyRef)
		}
	}
	return out
}

func (t *Table) tierName(r RuleRef) string {
	if r.Tier < 0 || int(r.Tier) >= len(t.Snapshot.Tiers) {
		return "unknown"
	}
	return t.Snapshot.Tiers[r.Tier].Name
}

// where names the policy or rule that leaves a verdict open, in brackets.
func (t *Table) where(r RuleRef) string {
	switch {
	case r.Tier < 0 || int(r.Tier) >= len(t.Snapshot.Tiers):
		return ""
	case r.Policy == None:
		return " (tier " + t.tierName(r) + ")"
	case r.Rule == None:
		p := t.Policy(r.PolicyRef)
		return ": " + p.Ref() + at(p.Origin)
	}
	return ": " + t.RuleName(r)
}

// at returns " (file:line)", or "" for no place. The column is left out: it
// only makes a sentence longer.
func at(o model.Origin) string {
	p := o.Position
	p.Col = 0
	if s := p.String(); s != "" {
		return " (" + s + ")"
	}
	return ""
}

// past returns "allowed", "denied" or "undefined".
func past(d Decision) string {
	return [...]string{"denied", "allowed", "undefined"}[d]
}

// list joins names as a sentence does: "a, b and c".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
