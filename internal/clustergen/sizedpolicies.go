package clustergen

import (
	"fmt"
	"net/netip"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// policies adds NetworkPolicies to the namespaces in turn, each time the next
// kind of the list that many teams write.
func (z *sizer) policies() {
	t := &z.s.Tiers[1]
	left := z.c.Policies - len(z.s.Tiers[0].Policies) - len(z.s.Tiers[2].Policies)
	if z.c.Distinct {
		for i := 0; i < len(z.s.Endpoints); i += perPolicy {
			t.Policies = append(t.Policies, z.naming(i))
			left--
		}
	}
	kinds := []func(ns, n int) model.Policy{
		z.defaultDeny, z.sameNamespace, z.dns, z.frontendToAPI, z.monitoring, z.ingressController,
		z.database, z.outside, z.otherTeam, z.vpn,
	}
	spaces := len(z.s.Namespaces) - system
	for n := range max(left, 0) {
		ns := system + n%spaces
		round := n / spaces
		p := kinds[round%len(kinds)](ns, round)
		if round >= len(kinds) {
			p.Name = fmt.Sprintf("%s-again-%d", p.Name, round/len(kinds))
		}
		t.Policies = append(t.Policies, p)
	}
}

// policy starts a NetworkPolicy on the pods of namespace ns that pods matches.
func (z *sizer) policy(ns int, name string, pods selector.Selector) model.Policy {
	space := z.s.Namespaces[ns].Name
	return model.Policy{
		Kind: "NetworkPolicy", Namespace: space, Name: name,
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: space, Pods: pods}},
	}
}

// allow adds a rule. No peer means any, no port likewise.
func allow(p *model.Policy, d model.Direction, peers []model.Term, ports ...model.PortMatch) {
	p.Applies[d] = true
	r := model.Rule{Action: model.Allow, AnyPeer: peers == nil, AnyPort: len(ports) == 0, Ports: ports}
	for _, t := range peers {
		r.Peers = append(r.Peers, model.Peer{Terms: []model.Term{t}})
	}
	p.Rules[d] = append(p.Rules[d], r)
}

func near(p *model.Policy, pods selector.Selector) []model.Term {
	return []model.Term{{Kind: model.PodTerm, Namespace: p.Namespace, Pods: pods}}
}

func far(namespaces, pods selector.Selector) []model.Term {
	return []model.Term{{Kind: model.PodTerm, Namespaces: namespaces, Pods: pods}}
}

// block is an ipBlock: a CIDR less others.
func block(cidr string, except ...string) model.Term {
	nets := netset.FromPrefix(netip.MustParsePrefix(cidr))
	text := cidr
	for _, e := range except {
		nets = nets.Subtract(netset.FromPrefix(netip.MustParsePrefix(e)))
	}
	if len(except) > 0 {
		text += " except " + strings.Join(except, ", ")
	}
	return model.Term{Kind: model.NetTerm, Nets: nets, NetText: text, PodsOpen: true}
}

// naming lets ten pods reach each other by the label that each has for itself.
func (z *sizer) naming(i int) model.Policy {
	e := &z.s.Endpoints[i]
	// The namespace of the first decides; the peers come from wherever.
	p := model.Policy{
		Kind: "NetworkPolicy", Namespace: e.Namespace, Name: fmt.Sprintf("pods-%06d", i),
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: e.Namespace, Pods: in("pod", e.Labels["pod"])}},
	}
	var peers []model.Term
	for j := i; j < min(i+perPolicy, len(z.s.Endpoints)); j++ {
		peers = append(peers, far(selector.Everything(), in("pod", z.s.Endpoints[j].Labels["pod"]))...)
	}
	p.Applies[model.Ingress] = true
	for n, t := range peers {
		p.Rules[model.Ingress] = append(p.Rules[model.Ingress], model.Rule{
			Action: model.Allow, Peers: []model.Peer{{Terms: []model.Term{t}}}, Ports: []model.PortMatch{number(netset.TCP, uint16(7000+n))},
		})
	}
	return p
}

func (z *sizer) defaultDeny(ns, _ int) model.Policy {
	p := z.policy(ns, "default-deny", selector.Everything())
	p.Applies = [2]bool{true, ns%3 == 0}
	return p
}

func (z *sizer) sameNamespace(ns, _ int) model.Policy {
	p := z.policy(ns, "allow-same-namespace", selector.Everything())
	allow(&p, model.Ingress, near(&p, selector.Everything()))
	return p
}

func (z *sizer) dns(ns, _ int) model.Policy {
	p := z.policy(ns, "allow-dns", selector.Everything())
	allow(&p, model.Egress, far(in("kubernetes.io/metadata.name", "kube-system"), in("k8s-app", "kube-dns")), number(netset.UDP, 53), number(netset.TCP, 53))
	allow(&p, model.Egress, near(&p, selector.Everything()))
	return p
}

func (z *sizer) frontendToAPI(ns, _ int) model.Policy {
	p := z.policy(ns, "frontend-to-api", in("app", "api"))
	allow(&p, model.Ingress, near(&p, in("app", "frontend")), named("http"), named("grpc"))
	allow(&p, model.Ingress, far(in("team", z.s.Namespaces[ns].Labels["team"]), in("app", "frontend")), named("http"))
	return p
}

func (z *sizer) monitoring(ns, _ int) model.Policy {
	p := z.policy(ns, "allow-monitoring", selector.Everything())
	allow(&p, model.Ingress, far(in("purpose", "monitoring"), in("app", "prometheus")), named("metrics"))
	return p
}

func (z *sizer) ingressController(ns, _ int) model.Policy {
	p := z.policy(ns, "allow-ingress", in("tier", "web"))
	allow(&p, model.Ingress, far(in("purpose", "ingress"), selector.Everything()), number(netset.TCP, 8080))
	return p
}

func (z *sizer) database(ns, _ int) model.Policy {
	p := z.policy(ns, "database", in("app", "postgres"))
	allow(&p, model.Ingress, near(&p, in("tier", "backend")), number(netset.TCP, 5432))
	allow(&p, model.Egress, near(&p, in("app", "postgres")), number(netset.TCP, 5432))
	return p
}

func (z *sizer) outside(ns, _ int) model.Policy {
	p := z.policy(ns, "allow-outside", in("app", "api", "mailer"))
	allow(&p, model.Egress, []model.Term{block("0.0.0.0/0", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")}, number(netset.TCP, 443))
	allow(&p, model.Egress, []model.Term{block(fmt.Sprintf("203.0.%d.0/24", ns%64))}, model.PortMatch{Traffic: netset.Ports(netset.TCP, 1024, 2048), Text: "tcp/1024-2048"})
	return p
}

func (z *sizer) otherTeam(ns, n int) model.Policy {
	team := teams[(ns+n)%len(teams)]
	p := z.policy(ns, fmt.Sprintf("allow-%s-%d", team, n), in("tier", "backend"))
	allow(&p, model.Ingress, far(selector.New(
		selector.Requirement{Key: "team", Op: selector.In, Values: []string{team}},
		selector.Requirement{Key: "env", Op: selector.In, Values: []string{envs[ns%len(envs)]}},
	), in("tier", "backend")), named("http"))
	return p
}

func (z *sizer) vpn(ns, n int) model.Policy {
	// Each round opens another application, and other networks.
	workloads := z.byNamespace[ns]
	name := "none"
	if len(workloads) > 0 {
		name = workloads[n%len(workloads)]
	}
	p := z.policy(ns, fmt.Sprintf("allow-vpn-%d", n), in("instance", name))
	office := z.rnd.IntN(32)
	allow(&p, model.Ingress, []model.Term{
		block(fmt.Sprintf("192.168.%d.0/24", office), fmt.Sprintf("192.168.%d.128/25", office)),
		block("172.31.0.0/16"),
	}, number(netset.TCP, 22), number(netset.TCP, 443))
	return p
}
