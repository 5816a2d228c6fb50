package reference

import (
	"cmp"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// conn is a connection as one of its sides sees it.
type conn struct {
	dir           model.Direction
	subject, peer End
	key           netset.Key
}

// outcome is what a rule, a policy or a tier can do with a connection.
type outcome uint8

const (
	allow outcome = iota
	deny
	pass // leave the tier
	none // say nothing; what comes next decides
)

// outcomes is the set of all that can happen.
type outcomes map[outcome]bool

func (o outcomes) add(more outcomes) {
	for k := range more {
		o[k] = true
	}
}

// side evaluates the tiers in order (ClusterNetworkPolicySpec.tier: "If a given
// connection wasn't allowed or denied by any of the tiers, the default
// kubernetes policy is applied, which says that all pods can communicate with
// each other").
func (w world) side(c conn) outcomes {
	result := outcomes{}
	for i := range w.s.Tiers {
		out := w.tier(&w.s.Tiers[i], c)
		goesOn := out[none]
		delete(out, none)
		result.add(out)
		if !goesOn {
			return result
		}
	}
	result[allow] = true
	return result
}

// tier evaluates one tier: allow and deny are final, none goes on to the next
// tier. A tier none of whose policies judges the connection does nothing. Where
// order counts, a policy that could not be understood may come first and do
// anything.
func (w world) tier(t *model.Tier, c conn) outcomes {
	judging, broken := No, false
	for i := range t.Policies {
		p := &t.Policies[i]
		m := w.applies(p, c.dir, c.subject)
		judging = max(judging, m)
		broken = broken || m != No && p.Broken != ""
	}
	switch {
	case judging == No:
		return outcomes{none: true}
	case w.otherProtocol(t, c.key), broken && !t.Union:
		return outcomes{allow: true, deny: true}
	}
	var result outcomes
	if t.Union {
		result = w.union(t, c)
	} else {
		result = w.ordered(t, c)
	}
	if result[none] {
		delete(result, none)
		result.add(end(t, judging))
	}
	if result[pass] {
		delete(result, pass)
		result[none] = true
	}
	return result
}

// otherProtocol reports whether the API says nothing about the protocol
// (NetworkPolicyPort.protocol: "the protocol (TCP, UDP, or SCTP) which traffic
// must match"); what becomes of anything else at an isolated pod is left to the
// implementation.
func (w world) otherProtocol(t *model.Tier, k netset.Key) bool {
	switch k.Proto() {
	case netset.TCP, netset.UDP, netset.SCTP:
		return false
	}
	return t.Ports && w.d.OpenProtocols
}

// end says what becomes of a connection that no rule of the tier matched. A
// ClusterNetworkPolicy isolates nothing; a NetworkPolicy does
// (NetworkPolicySpec.ingress: "serves solely to ensure that the pods it selects
// are isolated by default"). If a pod may be selected, either can be.
func end(t *model.Tier, judging Match) outcomes {
	switch {
	case t.Continue:
		return outcomes{none: true}
	case judging == Yes:
		return outcomes{deny: true}
	}
	return outcomes{deny: true, none: true}
}

// union evaluates policies without order (NetworkPolicySpec.podSelector: "the
// ingress rules for each are combined additively"). What one of them allows is
// allowed whatever a broken one says; everything else at the subject of a
// broken one is open.
func (w world) union(t *model.Tier, c conn) outcomes {
	result := outcomes{none: true}
	broken := false
	for i := range t.Policies {
		p := &t.Policies[i]
		m := w.applies(p, c.dir, c.subject)
		if m == No {
			continue
		}
		if p.Broken != "" {
			broken = true
			continue
		}
		out := w.policy(p, m, c)
		if !out[none] {
			return outcomes{allow: true}
		}
		result.add(out)
	}
	if broken {
		return outcomes{allow: true, deny: true}
	}
	return result
}

// ordered evaluates policies by priority (ClusterNetworkPolicySpec.priority:
// "Policies with lower priority values have higher precedence").
func (w world) ordered(t *model.Tier, c conn) outcomes {
	result := outcomes{}
	for _, group := range w.order(t) {
		out := w.group(group, c)
		goesOn := out[none]
		delete(out, none)
		result.add(out)
		if !goesOn {
			return result
		}
	}
	result[none] = true
	return result
}

// order returns the policies of a tier in their order: lower numbers first,
// and equal ones by name. Where the dialect leaves the order of equal ones
// open they are one group (ClusterNetworkPolicySpec.priority: "the
// implementation can apply any of the matching policies to the connection").
func (w world) order(t *model.Tier) [][]*model.Policy {
	var sorted []*model.Policy
	for i := range t.Policies {
		sorted = append(sorted, &t.Policies[i])
	}
	slices.SortStableFunc(sorted, func(a, b *model.Policy) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(w.tie(a), w.tie(b)))
	})
	var groups [][]*model.Policy
	for _, p := range sorted {
		n := len(groups)
		if w.d.OpenTies && n > 0 && groups[n-1][0].Order == p.Order {
			groups[n-1] = append(groups[n-1], p)
		} else {
			groups = append(groups, []*model.Policy{p})
		}
	}
	return groups
}

// tie returns what breaks ties between policies of equal order.
func (w world) tie(p *model.Policy) string {
	if w.d.SlashTies {
		return p.Name + "/" + p.Namespace + "/" + p.Kind
	}
	return p.Name
}

// group evaluates policies of which any may come first: what one of them does
// can happen, and nothing happens only if none of them does anything.
func (w world) group(ps []*model.Policy, c conn) outcomes {
	result := outcomes{}
	goesOn := true
	for _, p := range ps {
		m := w.applies(p, c.dir, c.subject)
		if m == No {
			continue
		}
		out := w.policy(p, m, c)
		goesOn = goesOn && out[none]
		delete(out, none)
		result.add(out)
	}
	if goesOn {
		result[none] = true
	}
	return result
}

// policy evaluates the rules of a policy in their order
// (ClusterNetworkPolicySpec.ingress: "a rule that appears at the top of the
// ingress rules would take the highest precedence"). A rule that may match can
// decide, and the next can too. Pass leaves the tier, and Log does nothing.
func (w world) policy(p *model.Policy, applies Match, c conn) outcomes {
	result := outcomes{}
	for i := range p.Rules[c.dir] {
		r := &p.Rules[c.dir][i]
		if r.Action == model.Log {
			continue
		}
		m, action := w.rule(r, c)
		if m = min(m, applies); m == No {
			continue
		}
		switch action {
		case model.Allow:
			result[allow] = true
		case model.Pass:
			result[pass] = true
		default:
			result[deny] = true
		}
		if m == Yes {
			return result
		}
	}
	result[none] = true
	return result
}

// applies reports whether the policy judges a direction at the subject: it
// lists the direction among its types, it is enforced, and its selector
// matches. A policy that could not be understood may mean both directions.
func (w world) applies(p *model.Policy, dir model.Direction, subject End) Match {
	if p.Staged || !p.Applies[dir] && p.Broken == "" || w.pod(subject) == nil {
		return No
	}
	return w.terms(p.Subject, subject)
}
