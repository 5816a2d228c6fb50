package lint

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// np3Checks find what cannot be reached although it must be, and what is open
// although nothing says so.
var np3Checks = []check{
	{"NP301", true, np301},
	{"NP302", true, np302},
	{"NP303", true, np303},
	{"NP304", true, np304},
	{"NP305", true, np305},
	{"NP306", true, np306},
	{"NP307", true, np307},
	{"NP308", true, np308},
	{"NP309", true, np309},
	{"NP310", true, np310},
	{"NP311", true, np311},
	{"NP312", true, np312},
	{"NP313", true, np313},
	{"NP314", true, np314},
}

// cut is a group of pods of one namespace for which a lifeline is cut for the
// same reason.
type cut struct {
	ns   string
	pods []int32
	keys []netset.Key // that do not work
	fault
}

// fault is who stops a connection.
type fault struct {
	d   model.Direction // the side that denies
	why string          // a clause
	by  []*policy
	// admin is the rule that denies, if it is a rule of a policy with an order:
	// those have a check of their own.
	admin *verdict.RuleRef
}

// blame finds which side of a pair denies k, the responder's first if first is
// Ingress.
func (l *linter) blame(src, dst verdict.Party, k netset.Key, first model.Direction) (fault, bool) {
	pair := l.t.Pair(src, dst)
	for _, d := range [2]model.Direction{first, 1 - first} {
		if pair.Sides[d] == verdict.None {
			continue
		}
		piece := l.t.Verdicts[pair.Sides[d]].At(k)
		if piece.Decision == verdict.Allow {
			continue
		}
		end := dst.Endpoint
		if d == model.Egress {
			end = src.Endpoint
		}
		target := l.t.TargetOf[d][end]
		f := fault{d: d, why: l.t.Sentence(piece.Reason, piece.Decision)}
		r := l.t.Reasons[piece.Reason]
		switch {
		case r.Kind == verdict.Isolated:
			f.by = l.isolating(d, target)
			f.why = isolatedBy(f.by, d)
		case r.Rule.Policy != verdict.None && r.Rule.Tier != verdict.None && r.Kind != verdict.NotSelected && r.Kind != verdict.Unmatched:
			f.by = []*policy{l.policyAt(r.Rule.PolicyRef)}
			if r.Kind == verdict.ByRule && l.s.Tiers[r.Rule.Tier].Continue {
				f.admin = &r.Rule
			}
		}
		return f, true
	}
	return fault{}, false
}

// lines returns the lifelines of a kind.
func (l *linter) lines(kind string) []verdict.Lifeline {
	if !l.haveLines {
		l.allLines, l.haveLines = l.t.Lifelines(), true
	}
	var out []verdict.Lifeline
	for _, x := range l.allLines {
		if x.Kind == kind {
			out = append(out, x)
		}
	}
	return out
}

// cuts returns for which pods a lifeline is cut, by namespace, side and first
// policy to blame. want, if not nil, picks the pods of interest.
func (l *linter) cuts(line verdict.Lifeline, want func(*model.Endpoint) bool) []cut {
	cached := line.Kind + " " + line.Name
	if out, ok := l.cutOf[cached]; ok && want == nil {
		return out
	}
	type key struct {
		ns, policy string
		d          model.Direction
	}
	groups := map[key]*cut{}
	for _, e := range l.t.LifelineCut(line) {
		ep := &l.s.Endpoints[e]
		if want != nil && !want(ep) {
			continue
		}
		missing := l.t.LifelineMissing(line, e)
		f, ok := l.faultOf(line, e, missing[0])
		if !ok {
			continue
		}
		k := key{ns: ep.Namespace, d: f.d}
		if len(f.by) > 0 {
			k.policy = f.by[0].Ref()
		}
		g := groups[k]
		if g == nil {
			g = &cut{ns: ep.Namespace, keys: missing, fault: f}
			groups[k] = g
		}
		g.pods = append(g.pods, e)
	}
	var out []cut
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b cut) int { return cmp.Or(strings.Compare(a.ns, b.ns), cmp.Compare(a.pods[0], b.pods[0])) })
	if want == nil {
		l.cutOf[cached] = out
	}
	return out
}

// faultOf finds who cuts endpoint e off from a lifeline.
func (l *linter) faultOf(line verdict.Lifeline, e int32, k netset.Key) (fault, bool) {
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		me, ok := l.t.EndpointParty(int(e), f)
		if !ok {
			continue
		}
		if line.Needs == model.Egress {
			for _, to := range line.To {
				if to.Family == f && slices.Contains(to.Keys, k) {
					if x, ok := l.blame(me, to.Party, k, model.Egress); ok {
						return x, true
					}
				}
			}
			continue
		}
		for _, from := range line.From {
			if from.Family == f {
				if x, ok := l.blame(from, me, k, model.Ingress); ok {
					return x, true
				}
			}
		}
	}
	return fault{}, false
}

// report emits a finding about a group of pods.
func (l *linter) report(c cut, sev diag.Severity, fix, format string, args ...any) {
	l.findIn("Namespace "+c.ns, c.ns, sev, diag.Position{}, c.by, fmt.Sprintf(format, args...)+": "+strings.TrimPrefix(c.why, "denied: "), fix)
}

// who names some of the pods of a group by their workloads.
func (l *linter) who(pods []int32) string {
	var names []string
	for _, e := range pods {
		ep := &l.s.Endpoints[e]
		n := ep.Owner.Name
		if n == "" {
			n = ep.Name
		}
		if len(names) == 0 || names[len(names)-1] != n {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return plural(len(pods), "pod") + " (" + list(slices.Compact(names), 3) + ")"
}

func keyList(ks []netset.Key) string {
	var t netset.Traffic
	for _, k := range ks {
		t = t.Union(netset.Span(k, k))
	}
	return t.String()
}

func np301(l *linter) {
	lines := l.lines(verdict.LifelineDNS)
	if len(lines) == 0 {
		l.assumedDNS()
		return
	}
	for _, line := range lines {
		ns, sel := l.serverOf(line)
		for _, c := range l.cuts(line, nil) {
			if c.admin != nil {
				continue // CN512 says it at the rule
			}
			fix := dnsPolicy(c.ns, ns, sel, line.To[0].Keys)
			if c.d == model.Ingress {
				fix = "allow ingress to the DNS pods on " + keyList(line.To[0].Keys) + " from namespace " + c.ns
			}
			l.report(c, diag.Warning, fix, "%s cannot reach %s on %s, so no name resolves", l.who(c.pods), line.Name, keyList(c.keys))
		}
	}
}

// serverOf says how a policy should select a lifeline's back ends.
func (l *linter) serverOf(line verdict.Lifeline) (ns string, sel selector.Selector) {
	e := line.To[0].Endpoint
	if e == verdict.None {
		return "kube-system", selector.FromLabels(map[string]string{"k8s-app": "kube-dns"})
	}
	ep := &l.s.Endpoints[e]
	for _, k := range []string{"k8s-app", "app.kubernetes.io/name", "app", "dns.operator.openshift.io/daemonset-dns"} {
		if v, ok := ep.Labels[k]; ok {
			return ep.Namespace, selector.FromLabels(map[string]string{k: v})
		}
	}
	return ep.Namespace, selector.FromLabels(ep.Labels)
}

// localDNS is the address of the node-local DNS cache, as its manifest has it.
var localDNS = netip.AddrFrom4([4]byte{169, 254, 20, 10})

func np302(l *linter) {
	if !slices.ContainsFunc(l.s.Endpoints, func(e model.Endpoint) bool {
		return e.Kind == model.HostPod && (e.Labels["k8s-app"] == "node-local-dns" || e.Owner.Name == "node-local-dns")
	}) {
		return
	}
	to, k := l.t.AddrParty(localDNS), netset.KeyOf(netset.UDP, 53)
	l.perNamespace(model.Egress, func(id verdict.TargetID) bool {
		v := l.t.Verdict(l.t.Rows[model.Egress][id].At(to.Peer))
		// Only who may ask the cluster's DNS is told of the cache.
		return v.At(k).Decision == verdict.Allow || !l.anyRule(model.Egress, id, func(r *model.Rule) bool { return coreDNS.admits(r, k) })
	}, nil, func(c cut) {
		fix := "egress:\n" + yamlRule(nil, model.Egress, []model.Term{{Kind: model.NetTerm, NetText: localDNS.String() + "/32"}},
			[]model.PortMatch{{Traffic: netset.Span(k, k)}, {Traffic: netset.Ports(netset.TCP, 53, 53)}})
		l.report(c, diag.Warning, fix, "%s may ask the cluster's DNS but not the node-local cache at %s, which the nodes use", l.who(c.pods), localDNS)
	})
}

func np306(l *linter) {
	const msg = "%s with a service account of their own (an API token is mounted) cannot reach the API server"
	// Nearly every pod mounts the default account's token and never uses it.
	want := func(e *model.Endpoint) bool {
		return e.Kind == model.Pod && e.MountsToken && e.ServiceAccount != "" && e.ServiceAccount != "default"
	}
	const fix = "allow egress to the API server's addresses (kubectl get endpointslices -n default kubernetes), after translation: the node's address and usually port 6443; or set automountServiceAccountToken: false"
	lines := l.lines(verdict.LifelineAPIServer)
	for _, line := range lines {
		for _, c := range l.cuts(line, want) {
			if c.admin == nil {
				l.report(c, diag.Warning, fix, msg, l.who(c.pods))
			}
		}
	}
	if len(lines) > 0 || len(l.s.APIServer) > 0 {
		return
	}
	l.perNamespace(model.Egress, func(id verdict.TargetID) bool {
		return l.anyRule(model.Egress, id, func(r *model.Rule) bool {
			all, _ := numbers(r)
			if !all.Contains(netset.KeyOf(netset.TCP, 6443)) && !all.Contains(netset.KeyOf(netset.TCP, 443)) {
				return false
			}
			return r.AnyPeer || slices.ContainsFunc(r.Peers, func(p model.Peer) bool {
				return slices.ContainsFunc(p.Terms, func(t model.Term) bool { return t.Kind == model.NetTerm || t.Kind == model.NodeTerm })
			})
		})
	}, want, func(c cut) {
		l.report(c, diag.Warning, fix, msg+" (its address is not in the input; no rule allows any address on tcp/443 or tcp/6443)", l.who(c.pods))
	})
}

func np307(l *linter) {
	lines := l.lines(verdict.LifelineScrape)
	for _, line := range lines {
		for _, c := range l.cuts(line, nil) {
			if c.admin != nil {
				continue
			}
			from := &l.s.Endpoints[line.From[0].Endpoint]
			fix := "ingress:\n" + yamlRule(nil, model.Ingress, []model.Term{{Kind: model.PodTerm,
				Namespaces: selector.FromLabels(map[string]string{nameLabel: from.Namespace}), Pods: monitorLabels(from)}}, portsOf(c.keys))
			if c.d == model.Egress {
				fix = "allow egress of " + from.String() + " to namespace " + c.ns + " on " + keyList(c.keys)
			}
			l.report(c, diag.Warning, fix, "%s, to be scraped on %s, cannot be reached by Prometheus (%s)", l.who(c.pods), keyList(c.keys), from)
		}
	}
	if len(lines) > 0 {
		return
	}
	l.assumed(func(e *model.Endpoint) []model.Port { return e.Scrape }, diag.Warning,
		"no rule admits %[2]s, to be scraped, at %[1]s from another namespace", "allow the port from the pods of Prometheus")
}

func monitorLabels(e *model.Endpoint) selector.Selector {
	for _, k := range []string{"app.kubernetes.io/name", "app"} {
		if v, ok := e.Labels[k]; ok {
			return selector.FromLabels(map[string]string{k: v})
		}
	}
	return selector.Everything()
}

func portsOf(ks []netset.Key) []model.PortMatch {
	var out []model.PortMatch
	for _, k := range ks {
		out = append(out, model.PortMatch{Traffic: netset.Span(k, k)})
	}
	return out
}

func np308(l *linter) {
	for _, line := range l.lines(verdict.LifelineWebhook) {
		for _, c := range l.cuts(line, nil) {
			if c.admin == nil {
				l.report(c, diag.Error, "allow ingress on "+keyList(c.keys)+" from the control plane's addresses with an ipBlock; it calls from its node's address",
					"%s of %s cannot be reached from the control plane on %s: calls to the API server that it must see time out", l.who(c.pods), line.Name, keyList(c.keys))
			}
		}
	}
}

func np311(l *linter) {
	lines := l.lines(verdict.LifelineIngress)
	for _, line := range lines {
		for _, c := range l.cuts(line, nil) {
			if c.admin == nil {
				l.report(c, diag.Warning, "allow ingress on "+keyList(c.keys)+" from the controller's namespace and pods",
					"%s cannot be reached by their ingress controller on %s (%s)", l.who(c.pods), keyList(c.keys), line.Name)
			}
		}
	}
	if len(lines) > 0 {
		return
	}
	ports := map[int32][]model.Port{}
	for i := range l.s.Routes {
		r := &l.s.Routes[i]
		for si := range l.s.Services {
			s := &l.s.Services[si]
			if s.Namespace != r.Namespace || s.Name != r.Service {
				continue
			}
			for _, e := range l.svc().backends[si] {
				for _, p := range s.Ports {
					if n, ok := verdict.TargetPort(p, &l.s.Endpoints[e]); ok && (r.PortName != "" && p.Name == r.PortName || r.PortName == "" && p.Port == r.Port) {
						ports[e] = append(ports[e], model.Port{Proto: p.Proto, Number: n})
					}
				}
			}
		}
	}
	l.assumed(func(e *model.Endpoint) []model.Port {
		i, _ := l.t.Endpoint(e.Namespace, e.Name)
		return ports[int32(i)]
	}, diag.Warning, "no rule admits %[2]s, the back end of an Ingress, at %[1]s from another namespace", "allow the port from the ingress controller's namespace and pods")
}
