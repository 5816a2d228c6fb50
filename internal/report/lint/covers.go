package lint

import (
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// implies reports whether everything that a matches, today or later, b matches
// too. It may miss an implication, never invent one; only the labels of a
// namespace that a names are taken as they are today.
func (l *linter) implies(a, b model.Term) bool {
	if a.Kind != b.Kind || a.Not != b.Not {
		return false
	}
	if a.Not {
		a, b = b, a
	}
	switch a.Kind {
	case model.PodTerm, model.SetTerm:
		return l.namespaceImplies(a, b) && a.Pods.Implies(b.Pods)
	case model.NetTerm:
		return a.Nets.Subtract(b.Nets).Empty()
	case model.NodeTerm:
		return a.Nodes.Implies(b.Nodes)
	case model.NameTerm:
		return !slices.ContainsFunc(a.Names, func(n string) bool { return !slices.Contains(b.Names, n) })
	}
	return true
}

func (l *linter) namespaceImplies(a, b model.Term) bool {
	switch {
	case a.Namespace != "" && b.Namespace != "":
		return a.Namespace == b.Namespace
	case a.Namespace != "":
		return b.Namespaces.IsEverything() || l.namespaces[a.Namespace] != nil && b.Namespaces.Matches(l.labelsOf(a.Namespace))
	case b.Namespace != "":
		name, ok := requires(a.Namespaces, nameLabel)
		return ok && name == b.Namespace || a.Namespaces.IsNothing()
	}
	return a.Namespaces.Implies(b.Namespaces)
}

// allImply is implies for lists of terms that must all match.
func (l *linter) allImply(a, b []model.Term) bool {
	if len(b) == 0 {
		return false // matches nothing
	}
	for _, y := range b {
		if !slices.ContainsFunc(a, func(x model.Term) bool { return l.implies(x, y) }) {
			return false
		}
	}
	return true
}

// peersWithin reports whether every peer of a is a peer of b.
func (l *linter) peersWithin(a, b *model.Rule) bool {
	if b.AnyPeer {
		return true
	}
	if a.AnyPeer {
		return false
	}
	for _, x := range a.Peers {
		if !slices.ContainsFunc(b.Peers, func(y model.Peer) bool { return l.allImply(x.Terms, y.Terms) }) {
			return false
		}
	}
	return true
}

// trafficWithin reports whether b matches all traffic that a matches, at
// whatever responder.
func trafficWithin(a, b *model.Rule) bool {
	if len(b.NotPorts) > 0 {
		return false
	}
	if b.AnyPort {
		return true
	}
	if a.AnyPort {
		return false
	}
	var numbers netset.Traffic
	for _, m := range b.Ports {
		if m.Name == "" {
			numbers = numbers.Union(m.Traffic)
		}
	}
	for _, m := range a.Ports {
		if m.Name == "" {
			if !m.Traffic.Subtract(numbers).Empty() {
				return false
			}
			continue
		}
		if !slices.ContainsFunc(b.Ports, func(o model.PortMatch) bool {
			return o.Name == m.Name && (len(o.Protos) == 0 || slices.Equal(o.Protos, m.Protos))
		}) {
			return false
		}
	}
	return true
}

// within reports whether b matches everything that a matches.
func (l *linter) within(a, b *model.Rule) bool { return trafficWithin(a, b) && l.peersWithin(a, b) }

// allowedBy is within for rules of NetworkPolicies: whether b allows everything
// that a allows.
func (l *linter) allowedBy(a, b *model.Rule) bool {
	return a.Action == model.Allow && b.Action == model.Allow && l.within(a, b)
}

// numbers returns the traffic of a rule as far as it is given by numbers, and
// whether it names ports too.
func numbers(r *model.Rule) (t netset.Traffic, named bool) {
	if r.AnyPort {
		return netset.AllTraffic(), false
	}
	for _, m := range r.Ports {
		if m.Name != "" {
			named = true
		} else {
			t = t.Union(m.Traffic)
		}
	}
	return t, named
}

// single returns the one port that m stands for, and false if it is a name, a
// range or a whole protocol.
func single(m model.PortMatch) (netset.Key, bool) {
	rs := m.Traffic.Ranges()
	if m.Name != "" || len(rs) != 1 || rs[0].From != rs[0].To {
		return 0, false
	}
	return rs[0].From, true
}
