package lint

import (
	"fmt"
	"slices"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// ghost is a pod that the input does not have but every cluster does.
type ghost struct {
	ns        string
	nsLabels  map[string]string
	podLabels map[string]string
}

var coreDNS = ghost{"kube-system", map[string]string{nameLabel: "kube-system"}, map[string]string{"k8s-app": "kube-dns"}}

// admits reports whether the rule could match the ghost on k. Its address is
// not known, so an address block could.
func (g ghost) admits(r *model.Rule, k netset.Key) bool {
	all, named := numbers(r)
	if !named && !all.Contains(k) {
		return false
	}
	if r.AnyPeer {
		return true
	}
	return slices.ContainsFunc(r.Peers, func(p model.Peer) bool {
		for _, t := range p.Terms {
			if t.Kind == model.PodTerm && t.Not == (t.Pods.Matches(g.podLabels) &&
				(t.Namespace == g.ns || t.Namespace == "" && t.Namespaces.Matches(g.nsLabels))) {
				return false
			}
		}
		return true
	})
}

// eachIsolated calls f for each class that NetworkPolicies isolate in a
// direction, with those policies.
func (l *linter) eachIsolated(d model.Direction, f func(id verdict.TargetID, pods []int32, by []*policy)) {
	for id := range l.t.Targets[d] {
		if pods := l.t.Targets[d][id].Endpoints; len(pods) > 0 {
			if by := l.isolating(d, verdict.TargetID(id)); len(by) > 0 {
				f(verdict.TargetID(id), pods, by)
			}
		}
	}
}

// anyRule reports whether some rule that judges the class, of any tier, allows.
func (l *linter) anyRule(d model.Direction, id verdict.TargetID, ok func(*model.Rule) bool) bool {
	for _, s := range l.t.Targets[d][id].Policies {
		p := l.t.Policy(s.PolicyRef)
		for i := range p.Rules[d] {
			if r := &p.Rules[d][i]; r.Action == model.Allow && ok(r) {
				return true
			}
		}
	}
	return false
}

// perNamespace gathers classes without a permission by namespace and first
// policy, and reports each group.
func (l *linter) perNamespace(d model.Direction, allowed func(id verdict.TargetID) bool, want func(*model.Endpoint) bool, say func(c cut)) {
	groups := map[[2]string]*cut{}
	l.eachIsolated(d, func(id verdict.TargetID, pods []int32, by []*policy) {
		if allowed(id) {
			return
		}
		for _, e := range pods {
			ep := &l.s.Endpoints[e]
			if want != nil && !want(ep) {
				continue
			}
			k := [2]string{ep.Namespace, by[0].Ref()}
			if groups[k] == nil {
				groups[k] = &cut{ns: ep.Namespace, fault: fault{d: d, by: by, why: isolatedBy(by, d)}}
			}
			groups[k].pods = append(groups[k].pods, e)
		}
	})
	keys := make([][2]string, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, k := range keys {
		slices.Sort(groups[k].pods)
		say(*groups[k])
	}
}

func isolatedBy(by []*policy, d model.Direction) string {
	var names []string
	rules := 0
	for _, p := range by {
		names = append(names, p.String())
		rules += len(p.Rules[d])
	}
	verb, tail := "isolates", "and no rule allows it"
	if len(by) > 1 {
		verb = "isolate"
	}
	if rules == 0 {
		tail = "without any rule"
	}
	return fmt.Sprintf("%s %s them for %s %s", list(names, 3), verb, d, tail)
}

// assumedDNS judges name resolution where the input has no DNS server, as if
// CoreDNS were where every cluster has it.
func (l *linter) assumedDNS() {
	udp := netset.KeyOf(netset.UDP, 53)
	l.perNamespace(model.Egress, func(id verdict.TargetID) bool {
		return l.anyRule(model.Egress, id, func(r *model.Rule) bool {
			return coreDNS.admits(r, udp) || coreDNS.admits(r, netset.KeyOf(netset.UDP, 5353))
		})
	}, nil, func(c cut) {
		fix := dnsPolicy(c.ns, coreDNS.ns, selector.FromLabels(coreDNS.podLabels), []netset.Key{netset.KeyOf(netset.TCP, 53), udp})
		l.report(c, diag.Warning, fix, "%s cannot reach the cluster's DNS (none is in the input; taken as k8s-app=kube-dns in kube-system) on udp/53, so no name resolves", l.who(c.pods))
	})
}

// assumed judges ports that somebody outside the input must reach: what is
// wrong for certain is a port that no rule admits from another namespace or
// address.
func (l *linter) assumed(ports func(*model.Endpoint) []model.Port, sev diag.Severity, msg, fix string) {
	type group struct {
		cut
		t netset.Traffic
	}
	groups := map[[2]string]*group{}
	var order [][2]string
	l.eachIsolated(model.Ingress, func(id verdict.TargetID, pods []int32, by []*policy) {
		for _, e := range pods {
			ep := &l.s.Endpoints[e]
			for _, p := range ports(ep) {
				if l.anyRule(model.Ingress, id, func(r *model.Rule) bool {
					if !verdict.TrafficOf(r, ep.Ports).Contains(netset.KeyOf(p.Proto, p.Number)) {
						return false
					}
					return r.AnyPeer || slices.ContainsFunc(r.Peers, func(x model.Peer) bool {
						return !slices.ContainsFunc(x.Terms, func(t model.Term) bool { return t.Kind == model.PodTerm && t.Namespace == ep.Namespace })
					})
				}) {
					continue
				}
				k := [2]string{ep.Namespace, by[0].Ref()}
				g := groups[k]
				if g == nil {
					g = &group{cut: cut{ns: ep.Namespace, fault: fault{by: by, why: isolatedBy(by, model.Ingress)}}}
					groups[k] = g
					order = append(order, k)
				}
				g.t = g.t.Union(netset.Ports(p.Proto, p.Number, p.Number))
				if n := len(g.pods); n == 0 || g.pods[n-1] != e {
					g.pods = append(g.pods, e)
				}
			}
		}
	})
	slices.SortFunc(order, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, k := range order {
		g := groups[k]
		slices.Sort(g.pods)
		l.report(g.cut, sev, fix, msg, l.who(g.pods), g.t)
	}
}
