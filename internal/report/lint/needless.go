package lint

import (
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// np407 finds ports that nobody needs of these peers: no container or Service
// of the responders has them, or only a monitoring system reads them.
func np407(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if r.Action != model.Allow || r.AnyPort || d == model.Egress && r.AnyPeer {
			return
		}
		es := l.someResponders(p, d, ri)
		if len(es) == 0 {
			return
		}
		for _, m := range r.Ports {
			k, ok := single(m)
			if !ok {
				continue
			}
			o := m.Origin
			if o.Path == "" {
				o = r.Origin
			}
			switch {
			case len(r.Ports) > 1 && slices.ContainsFunc(es, func(e int32) bool { return l.metrics(e, k) }) && !l.forMonitor(p, d, ri):
				l.warn(p, o, "remove "+k.String(), "%s is a metrics port of the pods that the rule reaches: only a monitoring system reads it, and none is on this rule's other end", k)
			case !slices.ContainsFunc(es, func(e int32) bool { return !l.declares(e) || l.listens(e, k) }):
				if l.translated(es, k) {
					continue // NP305 has more to say
				}
				l.warn(p, o, "remove it, or declare the containerPort", "no pod that the rule reaches has a container port or Service target %s", k)
			}
		}
	})
}

// translated reports whether k is the port of a Service of one of the pods.
func (l *linter) translated(es []int32, k netset.Key) bool {
	return slices.ContainsFunc(es, func(e int32) bool {
		return slices.ContainsFunc(l.svc().of[e], func(i int) bool { return slices.Contains(l.svc().byPort[k], i) })
	})
}

// someResponders returns one pod of each workload that a rule's ports are ports
// of, nil if an address block is among the responders.
func (l *linter) someResponders(p *policy, d model.Direction, ri int) []int32 {
	var seen sampler
	var out []int32
	add := func(e int32) {
		if ep := &l.s.Endpoints[e]; seen.fresh(ep) {
			out = append(out, e)
		}
	}
	if d == model.Ingress {
		for _, id := range p.targets[d] {
			for _, e := range l.t.Targets[d][id].Endpoints {
				add(e)
			}
		}
		return out
	}
	for i, x := range p.Rules[d][ri].Peers {
		if len(x.Terms) != 1 || x.Terms[0].Kind != model.PodTerm || everything(x.Terms[0]) {
			return nil
		}
		for _, id := range l.atom(p.rule(d, ri), i).Yes {
			for _, m := range l.t.Peers[id].Members {
				add(m.Endpoint)
			}
		}
	}
	return out
}

// metrics reports whether k is a port of endpoint e for monitoring.
func (l *linter) metrics(e int32, k netset.Key) bool {
	ep := &l.s.Endpoints[e]
	named := func(n string) bool { return strings.Contains(n, "metrics") || strings.Contains(n, "prom") }
	for _, c := range ep.Ports {
		if netset.KeyOf(c.Proto, c.Number) == k && named(c.Name) {
			return true
		}
	}
	for _, i := range l.svc().of[e] {
		for _, sp := range l.s.Services[i].Ports {
			if n, ok := verdict.TargetPort(sp, ep); ok && netset.KeyOf(sp.Proto, n) == k && named(sp.Name) {
				return true
			}
		}
	}
	// CoreDNS serves its metrics there, declared or not.
	return k == netset.KeyOf(netset.TCP, 9153) && (ep.Labels["k8s-app"] == "kube-dns" || ep.Labels["app.kubernetes.io/name"] == "coredns")
}

// monitorWords are in the names of what reads metrics.
var monitorWords = []string{"prometheus", "monitor", "metrics", "observ", "grafana", "victoria", "telemetry", "otel", "datadog"}

// forMonitor reports whether a monitoring system may be on the initiators' end
// of a rule.
func (l *linter) forMonitor(p *policy, d model.Direction, ri int) bool {
	word := func(s string) bool {
		return slices.ContainsFunc(monitorWords, func(w string) bool { return strings.Contains(strings.ToLower(s), w) })
	}
	r := &p.Rules[d][ri]
	if d == model.Egress {
		t, ok := subject(p)
		return !ok || word(t.String()) || slices.ContainsFunc(p.targets[d], func(id verdict.TargetID) bool {
			return slices.ContainsFunc(l.t.Targets[d][id].Endpoints, func(e int32) bool { return word(l.s.Endpoints[e].Name) })
		})
	}
	if r.AnyPeer {
		return true
	}
	return slices.ContainsFunc(r.Peers, func(x model.Peer) bool {
		return slices.ContainsFunc(x.Terms, func(t model.Term) bool { return t.Kind != model.PodTerm || everything(t) || word(t.String()) })
	})
}
