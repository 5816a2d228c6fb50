package lint

import (
	"fmt"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

func cn501(l *linter) {
	ps := l.ordered()
	for i, p := range ps {
		for _, q := range ps[i+1 : min(len(ps), i+1+crowd)] {
			if q.ref.Tier != p.ref.Tier || q.Order != p.Order {
				break
			}
			for _, d := range model.Directions {
				if p.Applies[d] && q.Applies[d] && l.tie(p, q, d) {
					break
				}
			}
		}
	}
}

// tie reports the first pair of rules by which two policies of equal order
// decide a connection differently.
func (l *linter) tie(p, q *policy, d model.Direction) bool {
	for i := range p.Rules[d] {
		for j := range q.Rules[d] {
			a, b := &p.Rules[d][i], &q.Rules[d][j]
			if a.Action == b.Action || a.Action == model.Log || b.Action == model.Log {
				continue
			}
			if flow, ok := l.witness(p, q, d, i, j); ok {
				l.warn(q, b.Origin, "give the policies different priorities",
					"%s %s has the same priority %g and decides otherwise (%s, here %s): which comes first is undefined, for example for %s",
					p.Name, a.Origin.Path, p.Order, a.Action, b.Action, flow)
				return true
			}
		}
	}
	for i := range p.Rules[d] {
		for j := range q.Rules[d] {
			a, b := &p.Rules[d][i], &q.Rules[d][j]
			if a.Action != b.Action && l.mayOverlap(p.Subject, q.Subject) && l.rulesOverlap(a, b) && len(p.targets[d]) == 0 {
				l.info(q, b.Origin, "give the policies different priorities",
					"%s %s has the same priority %g and another action (%s, here %s): no pod of the input is under both, but one could be", p.Name, a.Origin.Path, p.Order, a.Action, b.Action)
				return true
			}
		}
	}
	return false
}

// witness finds a connection that rule i of p and rule j of q decide, each the
// first of its policy to match, and no policy before them.
func (l *linter) witness(p, q *policy, d model.Direction, i, j int) (string, bool) {
	a, b := &p.Rules[d][i], &q.Rules[d][j]
	tried := 0
	for _, id := range p.targets[d] {
		if _, ok := slices.BinarySearch(q.targets[d], id); !ok || len(l.t.Targets[d][id].Endpoints) == 0 {
			continue
		}
		target := l.t.Targets[d][id].Endpoints[0]
		for _, peer := range l.rulePeers(p.rule(d, i), a) {
			if m, _ := l.t.RuleMatch(q.rule(d, j), peer); m != verdict.Yes {
				continue
			}
			if tried++; tried > combos {
				return "", false
			}
			ports := l.s.Endpoints[target].Ports
			if d == model.Egress {
				ports = nil
				if ms := l.t.Peers[peer].Members; len(ms) > 0 {
					ports = l.s.Endpoints[ms[0].Endpoint].Ports
				}
			}
			both := verdict.TrafficOf(a, ports).Intersect(verdict.TrafficOf(b, ports))
			both = both.Subtract(l.before(p, d, i, id, peer, ports)).Subtract(l.before(q, d, j, id, peer, ports))
			if both.Empty() {
				continue
			}
			src, dst := l.peerName(peer), l.s.Endpoints[target].String()
			if d == model.Egress {
				src, dst = dst, src
			}
			return fmt.Sprintf("%s → %s %s", src, dst, handy(both)), true
		}
	}
	return "", false
}

// handy returns a point of t that a person would try.
func handy(t netset.Traffic) netset.Key {
	for _, k := range []netset.Key{netset.KeyOf(netset.TCP, 80), netset.KeyOf(netset.TCP, 443), netset.KeyOf(netset.UDP, 53)} {
		if t.Contains(k) {
			return k
		}
	}
	return t.Ranges()[0].From
}

// before returns the traffic that earlier rules of p, and policies of a lower
// order in its tier, decide for a target and peer.
func (l *linter) before(p *policy, d model.Direction, rule int, id verdict.TargetID, peer verdict.PeerID, ports []model.Port) netset.Traffic {
	var out netset.Traffic
	for _, s := range l.t.Targets[d][id].Policies {
		q := l.policyAt(s.PolicyRef)
		if q.ref.Tier != p.ref.Tier || q.ref != p.ref && q.Order >= p.Order {
			continue
		}
		for i := range q.Rules[d] {
			if q.ref == p.ref && i >= rule {
				break
			}
			r := &q.Rules[d][i]
			if m, _ := l.t.RuleMatch(q.rule(d, i), peer); m == verdict.Yes && r.Action != model.Log {
				out = out.Union(verdict.TrafficOf(r, ports))
			}
		}
	}
	return out
}

// rulePeers returns the peer classes that a rule matches.
func (l *linter) rulePeers(ref verdict.RuleRef, r *model.Rule) []verdict.PeerID {
	var out []verdict.PeerID
	if r.AnyPeer {
		for i := range l.t.Peers {
			out = append(out, verdict.PeerID(i))
		}
		return out
	}
	for i := range r.Peers {
		out = append(out, l.atom(ref, i).Yes...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (l *linter) peerName(id verdict.PeerID) string {
	p := &l.t.Peers[id]
	switch {
	case len(p.Members) > 0:
		return l.s.Endpoints[p.Members[0].Endpoint].String()
	case len(p.Nodes) > 0:
		return "node " + l.s.Nodes[p.Nodes[0]].Name
	case len(p.Blocks) > 0:
		return l.t.Blocks.Blocks[p.Blocks[0]].Addrs.First().String()
	}
	return "anyone"
}

// mayOverlap reports whether something could match both lists of terms.
func (l *linter) mayOverlap(a, b []model.Term) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Not || y.Not || x.Kind != y.Kind {
				continue
			}
			if x.Kind == model.PodTerm && (x.Pods.Disjoint(y.Pods) || x.Namespace == "" && y.Namespace == "" && x.Namespaces.Disjoint(y.Namespaces)) ||
				x.Kind == model.NetTerm && x.Nets.Intersect(y.Nets).Empty() {
				return false
			}
		}
	}
	return true
}

// rulesOverlap reports whether something could match both rules.
func (l *linter) rulesOverlap(a, b *model.Rule) bool {
	ta, na := numbers(a)
	tb, nb := numbers(b)
	if !na && !nb && ta.Intersect(tb).Empty() {
		return false
	}
	return a.AnyPeer || b.AnyPeer || slices.ContainsFunc(a.Peers, func(x model.Peer) bool {
		return slices.ContainsFunc(b.Peers, func(y model.Peer) bool { return l.mayOverlap(x.Terms, y.Terms) })
	})
}
