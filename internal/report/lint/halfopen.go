package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// combos bounds how many pairs of classes are looked at for one peer before it
// is taken to work: it is reached only where thousands of pairs are all dead.
const combos = 20000

// np303 finds peers that one side allows by an explicit rule and the other side
// denies for every pair of pods: the rule has no effect.
func np303(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if !p.v1() || r.AnyPeer {
			return
		}
		var dead []int
		live := 0
		for i := range r.Peers {
			t := r.Peers[i].Terms
			if len(t) != 1 || t[0].Kind != model.PodTerm || l.dead(p.rule(d, ri), i) {
				continue
			}
			if l.halfOpen(p, d, ri, i) {
				dead = append(dead, i)
			} else {
				live++
			}
		}
		if len(dead) > 0 && live == 0 {
			l.sayHalfOpen(p, d, ri, dead, r.Origin)
			return
		}
		for _, i := range dead {
			l.sayHalfOpen(p, d, ri, []int{i}, r.Peers[i].Origin)
		}
	})
}

func (l *linter) sayHalfOpen(p *policy, d model.Direction, ri int, peers []int, o model.Origin) {
	other := 0
	for _, i := range peers {
		other += l.members(p.rule(d, ri), i)
	}
	if d == model.Ingress {
		l.warn(p, o, "allow it at the sources too: an egress rule in their namespaces",
			"half open: the rule lets %s in, but egress rules of the sources deny it for each of the %s: nothing gets through",
			plural(other, "pod"), plural(other*p.pods[d], "pair"))
		return
	}
	l.warn(p, o, "allow it at the destinations too: an ingress rule in their namespaces",
		"half open: the rule lets %s out to %s, but ingress rules of the destinations deny it for each of the %s: nothing gets through",
		plural(p.pods[d], "pod"), plural(other, "pod"), plural(other*p.pods[d], "pair"))
}

// halfOpen reports whether the far side denies all traffic of a peer, for every
// pair of classes.
func (l *linter) halfOpen(p *policy, d model.Direction, ri, i int) bool {
	far := 1 - d
	r := &p.Rules[d][ri]
	tried := 0
	for _, id := range p.targets[d] {
		mine := l.classes(l.t.Targets[d][id].Endpoints)
		for _, peer := range l.atom(p.rule(d, ri), i).Yes {
			for _, e := range l.farClasses(far, peer) {
				for _, me := range mine {
					if me == e {
						continue
					}
					if tried++; tried > combos {
						return false
					}
					if l.farAllows(far, e, me, r, d) {
						return false
					}
				}
			}
		}
	}
	return tried > 0
}

// farAllows reports whether the far side of a pair lets any of the rule's
// traffic through.
func (l *linter) farAllows(far model.Direction, e, me int32, r *model.Rule, d model.Direction) bool {
	if l.t.TargetOf[far][e] == verdict.None {
		return true
	}
	responder := me
	if d == model.Egress {
		responder = e
	}
	traffic := verdict.TrafficOf(r, l.s.Endpoints[responder].Ports)
	if traffic.Empty() {
		return true // a named port that is not there: NP204
	}
	for f := range l.t.PeerOf {
		if id := l.t.PeerOf[f][me]; id != verdict.None {
			v := l.t.Verdict(l.t.Rows[far][l.t.TargetOf[far][e]].At(id))
			if !v.Traffic(verdict.Allow).Intersect(traffic).Empty() {
				return true
			}
		}
	}
	return false
}

// classes returns one endpoint of each peer class among the endpoints.
func (l *linter) classes(es []int32) []int32 {
	seen := map[[2]verdict.PeerID]bool{}
	var out []int32
	for _, e := range es {
		k := [2]verdict.PeerID{l.t.PeerOf[0][e], l.t.PeerOf[1][e]}
		if !seen[k] {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}

// farClasses returns one endpoint of each target class among a peer's members,
// and a second one so that a pod is not only compared with itself.
func (l *linter) farClasses(d model.Direction, peer verdict.PeerID) []int32 {
	seen := map[verdict.TargetID]int{}
	var out []int32
	for _, m := range l.t.Peers[peer].Members {
		id := l.t.TargetOf[d][m.Endpoint]
		if seen[id] < 2 && (len(out) == 0 || out[len(out)-1] != m.Endpoint) {
			seen[id]++
			out = append(out, m.Endpoint)
		}
	}
	return out
}

// np304 finds Services whose pods may call their own Service on one side only.
// Where neither side mentions it, nobody meant it to work.
func np304(l *linter) {
	for i := range l.s.Services {
		s := &l.s.Services[i]
		var seen sampler
		for _, e := range l.svc().backends[i] {
			ep := &l.s.Endpoints[e]
			if ep.Kind != model.Pod || !seen.fresh(ep) {
				continue
			}
			if f, k, ok := l.hairpin(s, e); ok {
				l.findIn("Service "+s.String(), s.Namespace, diag.Warning, s.Origin.Position, f.by,
					fmt.Sprintf("%s cannot reach itself by its own Service on %s although a rule of one side allows it: %s", ep, k, f.why),
					"allow the pods' own labels in the "+f.d.String()+" rules too")
				break
			}
		}
	}
}

// hairpin looks up a connection of endpoint e to itself as if it came by way
// of the Service, and reports who denies it if the other side allows it by a
// rule that names peers.
func (l *linter) hairpin(s *model.Service, e int32) (fault, netset.Key, bool) {
	ep := &l.s.Endpoints[e]
	for f := range l.t.PeerOf {
		id := l.t.PeerOf[f][e]
		if id == verdict.None {
			continue
		}
		for _, p := range s.Ports {
			n, ok := verdict.TargetPort(p, ep)
			if !ok {
				continue
			}
			k := netset.KeyOf(p.Proto, n)
			var pieces [2]verdict.Piece
			for d := range l.t.TargetOf {
				t := l.t.TargetOf[d][e]
				if t == verdict.None {
					return fault{}, 0, false
				}
				pieces[d] = l.t.Verdict(l.t.Rows[d][t].At(id)).At(k)
			}
			for d, piece := range pieces {
				o := l.t.Reasons[pieces[1-d].Reason]
				if piece.Decision != verdict.Deny || l.t.Reasons[piece.Reason].Kind != verdict.Isolated ||
					pieces[1-d].Decision != verdict.Allow || o.Kind != verdict.ByRule || l.t.Rule(o.Rule).AnyPeer {
					continue
				}
				dir := model.Direction(d)
				t := l.t.TargetOf[d][e]
				by := l.isolating(dir, t)
				return fault{d: dir, why: isolatedBy(by, dir), by: by}, k, true
			}
		}
	}
	return fault{}, 0, false
}

// np305 finds rules that name the port of a Service where the pods behind it
// listen on another one.
func np305(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if d == model.Egress && (r.AnyPeer || slices.ContainsFunc(r.Peers, func(x model.Peer) bool { return len(x.Terms) == 1 && everything(x.Terms[0]) })) {
			return // too wide to mean one Service
		}
		at, some := l.responders(p, d, ri)
		if !some {
			return
		}
		all, _ := numbers(r)
		for _, m := range r.Ports {
			k, ok := single(m)
			if !ok {
				continue
			}
			for _, si := range l.svc().byPort[k] {
				s := &l.s.Services[si]
				if d == model.Ingress && p.v1() && s.Namespace != p.Namespace {
					continue
				}
				n, target := l.misses(si, k, at)
				if n == 0 || all.Contains(target) {
					continue
				}
				o := m.Origin
				if o.Path == "" {
					o = r.Origin
				}
				l.warn(p, o, fmt.Sprintf("- protocol: %s\n  port: %d", strings.ToUpper(target.Proto().String()), target.Port()),
					"%s is the port of Service %s, but its %s on %s: policy sees the pod's port, so the rule does not let the Service's traffic through",
					k, s, plural(n, "pod")+" "+map[bool]string{true: "listens", false: "listen"}[n == 1], target)
				return
			}
		}
	})
}

// misses counts the back ends of Service si, among those that at picks, that
// its port k leads to another port of, and do not listen on k themselves; and
// returns that port.
func (l *linter) misses(si int, k netset.Key, at func(int32) bool) (n int, target netset.Key) {
	s := &l.s.Services[si]
	for _, sp := range s.Ports {
		if netset.KeyOf(sp.Proto, sp.Port) != k || sp.TargetName == "" && sp.TargetPort == sp.Port {
			continue
		}
		for _, e := range l.svc().backends[si] {
			ep := &l.s.Endpoints[e]
			num, ok := verdict.TargetPort(sp, ep)
			if !ok || num == sp.Port || ep.Kind != model.Pod || !at(e) || l.listens(e, k) {
				continue
			}
			n, target = n+1, netset.KeyOf(sp.Proto, num)
		}
	}
	return n, target
}

func np309(l *linter) {
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		if d != model.Ingress || whole(t.Nets) {
			return
		}
		for si := range l.s.Services {
			s := &l.s.Services[si]
			if !s.ExternalCluster || s.Type != "NodePort" && s.Type != "LoadBalancer" || p.v1() && s.Namespace != p.Namespace {
				continue
			}
			n := 0
			for _, e := range l.svc().backends[si] {
				if id := l.t.TargetOf[d][e]; id != verdict.None && slices.Contains(p.targets[d], id) && l.exposes(s, e, &p.Rules[d][ri]) {
					n++
				}
			}
			if n > 0 {
				l.warn(p, p.Rules[d][ri].Peers[i].Origin, "set externalTrafficPolicy: Local on the Service",
					"ipBlock %s may never match: %s Service %s (externalTrafficPolicy Cluster) leads to %s and replaces clients' addresses by a node's", t.NetText, s.Type, s, plural(n, "pod"))
				return
			}
		}
	})
}

// exposes reports whether Service s leads to endpoint e on a port that rule r
// is about.
func (l *linter) exposes(s *model.Service, e int32, r *model.Rule) bool {
	ep := &l.s.Endpoints[e]
	traffic := verdict.TrafficOf(r, ep.Ports)
	return slices.ContainsFunc(s.Ports, func(p model.ServicePort) bool {
		n, ok := verdict.TargetPort(p, ep)
		return ok && traffic.Contains(netset.KeyOf(p.Proto, n))
	})
}
