package clustergen

import (
	"fmt"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// tiers draws the three tiers of Kubernetes, and sometimes more.
func (g *gen) tiers() {
	extra := func(name string) {
		if g.exotic && g.one("extra tier", 3) {
			t := model.Tier{Name: name, Continue: g.one("continue", 2), Ports: g.one("ports only", 3)}
			g.fill(&t, g.ordered)
			g.s.Tiers = append(g.s.Tiers, t)
		}
	}
	extra("first")
	admin := model.Tier{Name: "Admin", Continue: true}
	g.fill(&admin, g.ordered)
	middle := model.Tier{Name: "NetworkPolicy", Union: true, Ports: true}
	g.fill(&middle, g.allowing)
	baseline := model.Tier{Name: "Baseline", Continue: true}
	g.fill(&baseline, g.ordered)
	g.s.Tiers = append(g.s.Tiers, admin)
	extra("between")
	g.s.Tiers = append(g.s.Tiers, middle, baseline)
	extra("last")
}

func (g *gen) fill(t *model.Tier, policy func(i int) model.Policy) {
	for i := range pick(g, "policies", []int{0, 2, 3, 1, 2, 3, 4, 2}) {
		p := policy(i)
		p.Staged = g.one("staged", 12)
		if g.broken && g.one("broken policy", 5) {
			p.Broken = "it could not be understood"
		}
		if !slices.ContainsFunc(t.Policies, func(q model.Policy) bool { return q.Ref() == p.Ref() }) {
			t.Policies = append(t.Policies, p)
		}
	}
}

// allowing draws a policy of the union tier, like a NetworkPolicy: it isolates
// the directions it lists and allows.
func (g *gen) allowing(i int) model.Policy {
	ns := pick(g, "namespace", g.s.Namespaces).Name
	p := model.Policy{
		Kind: "NetworkPolicy", Namespace: ns, Name: fmt.Sprintf("np%d", i),
		Order:   float64(g.n("order", 2)), // means nothing here
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: ns, Pods: g.selector()}},
	}
	for _, d := range model.Directions {
		p.Applies[d] = g.one("applies", 2)
		for range g.n("rules", 3) {
			r := g.rule(ns)
			if r.Action != model.Log {
				r.Action = model.Allow
			}
			p.Rules[d] = append(p.Rules[d], r)
		}
	}
	return p
}

// ordered draws a policy with an order, like a ClusterNetworkPolicy or one of
// Calico's.
func (g *gen) ordered(int) model.Policy {
	p := model.Policy{
		Kind:    pick(g, "kind", []string{"ClusterNetworkPolicy", "B", "A"}),
		Name:    pick(g, "name", []string{"x", "x-y", "x0"}),
		Order:   float64(g.n("order", 2)),
		Subject: []model.Term{g.pods("")},
	}
	if g.exotic && g.one("namespaced", 3) {
		p.Namespace = pick(g, "namespace", g.s.Namespaces).Name
	}
	if g.exotic && g.one("second term", 4) {
		p.Subject = append(p.Subject, g.pods(""))
	}
	for _, d := range model.Directions {
		p.Applies[d] = g.n("applies", 4) > 0
		for range pick(g, "rules", []int{1, 2, 0, 3}) {
			p.Rules[d] = append(p.Rules[d], g.rule(""))
		}
	}
	return p
}

// pods draws a term that selects pods, of namespace ns if it is not "" and the
// dice say so.
func (g *gen) pods(ns string) model.Term {
	t := model.Term{Kind: model.PodTerm, Pods: g.selector()}
	switch {
	case ns != "" && g.one("own namespace", 2):
		t.Namespace = ns
	case g.one("by name", 6):
		t.Namespace = pick(g, "namespace", g.s.Namespaces).Name
	default:
		t.Namespaces = g.selector()
	}
	t.Not = g.exotic && g.one("not", 4)
	return t
}

func (g *gen) rule(ns string) model.Rule {
	r := model.Rule{Action: pick(g, "action", []model.Action{model.Allow, model.Deny, model.Pass})}
	if g.exotic && g.one("log", 8) {
		r.Action = model.Log
	}
	if r.AnyPeer = g.one("any peer", 4); !r.AnyPeer {
		// No peer at all happens too: a rule that fails closed.
		for range pick(g, "peers", []int{1, 2, 1, 3, 2, 1, 2, 0}) {
			r.Peers = append(r.Peers, g.peer(ns))
		}
	}
	if r.AnyPort = g.one("any port", 2); !r.AnyPort {
		r.Ports = g.portMatches(pick(g, "ports", []int{1, 2, 3, 0}))
	}
	if g.exotic && g.one("not ports", 3) {
		r.NotPorts = g.portMatches(1 + g.n("ports", 2))
	}
	return r
}

func (g *gen) peer(ns string) model.Peer {
	terms := 1
	if g.exotic {
		terms = pick(g, "terms", []int{1, 1, 2, 1, 2, 1, 3, 0})
	}
	var p model.Peer
	for range terms {
		p.Terms = append(p.Terms, g.term(ns))
	}
	return p
}

func (g *gen) term(ns string) model.Term {
	var t model.Term
	kinds := 6
	if g.exotic {
		kinds = 8
	}
	switch g.n("term", kinds) {
	case 0, 1, 2:
		return g.pods(ns)
	case 3, 4:
		t = model.Term{Kind: model.NetTerm, Nets: g.nets(), PodsOpen: g.one("pods open", 2)}
		t.NetText = t.Nets.String()
	case 5:
		if g.one("names", 2) {
			t = model.Term{Kind: model.NameTerm, Names: []string{"example.org"}}
		} else {
			t = model.Term{Kind: model.NodeTerm, Nodes: g.selector()}
		}
	case 6:
		t = g.pods(ns)
		t.Kind = model.SetTerm
		t.PodsOpen = g.one("pods open", 4)
	case 7:
		t = model.Term{Kind: model.NoTerm}
	}
	t.Not = g.exotic && g.one("not", 4)
	return t
}

func (g *gen) portMatches(n int) []model.PortMatch {
	var out []model.PortMatch
	for range n {
		out = append(out, g.portMatch())
	}
	return out
}

func (g *gen) portMatch() model.PortMatch {
	p := pick(g, "protocol", protos)
	a, b := pick(g, "port", portNumbers), pick(g, "port", portNumbers)
	switch g.n("port match", 6) {
	case 0, 1:
		return model.PortMatch{Traffic: netset.Ports(p, a, a)}
	case 2:
		return model.PortMatch{Traffic: netset.Ports(p, min(a, b), max(a, b))}
	case 3:
		return model.PortMatch{Traffic: pick(g, "traffic", []netset.Traffic{
			netset.AllPorts(p), netset.AllPorts(protos...), netset.AllTraffic(), {},
			netset.AllPorts(netset.ICMP), netset.Ports(netset.ICMP, 8<<8, 8<<8), netset.Ports(netset.ICMP, 3<<8, 3<<8|255),
			netset.AllPorts(netset.ICMPv6), netset.Ports(netset.ICMPv6, 128<<8, 128<<8),
			netset.AllPorts(47), netset.AllTraffic().Subtract(netset.AllPorts(netset.TCP)),
		})}
	}
	m := model.PortMatch{Name: pick(g, "port name", portNames)}
	if g.n("protocols", 3) > 0 {
		m.Protos = []netset.Proto{p}
	}
	return m
}
