package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/verdict"
)

// cn5Checks look at policies with an order: ClusterNetworkPolicy.
var cn5Checks = []check{
	{"CN501", false, cn501},
	{"CN502", false, cn502},
	{"CN503", true, cn503},
	{"CN504", true, cn504},
	{"CN507", false, cn507},
	{"CN508", false, cn508},
	{"CN511", false, cn511},
	{"CN512", true, cn512},
	{"CN513", false, cn513},
}

// ordered returns the policies that have an order, in their order.
func (l *linter) ordered() []*policy {
	var out []*policy
	for i := range l.policies {
		if p := &l.policies[i]; !p.tier.Union && p.tier.Continue && p.live() {
			out = append(out, p)
		}
	}
	return out
}

func cn502(l *linter) {
	ps := l.ordered()
	if len(ps) > 2*crowd {
		ps = ps[:2*crowd]
	}
	for i, p := range ps {
		for _, d := range model.Directions {
			for j := range p.Rules[d] {
				r := &p.Rules[d][j]
				if r.Note != "" || r.Action == model.Log || !p.Applies[d] {
					continue
				}
				if by, q := l.shadow(ps[:i+1], p, d, j); by != nil {
					who := q.Name + " " + by.Origin.Path
					if q == p {
						who = by.Origin.Path
					}
					effect := "so it never decides"
					if by.Action == r.Action {
						effect = "with the same action, so it is redundant"
					}
					l.warn(p, r.Origin, "remove it, or move it before the other", "%s (%s) comes earlier and matches everything that this rule matches, %s", who, by.Action, effect)
				}
			}
		}
	}
}

// shadow finds a rule that takes everything from rule j of p: an earlier one of
// p, one of an earlier policy of its tier, or a final one of an earlier tier.
func (l *linter) shadow(earlier []*policy, p *policy, d model.Direction, j int) (*model.Rule, *policy) {
	r := &p.Rules[d][j]
	for _, q := range earlier {
		if q != p && (q.ref.Tier == p.ref.Tier && q.Order >= p.Order || !q.Applies[d] || !l.allImply(p.Subject, q.Subject)) {
			continue
		}
		for i := range q.Rules[d] {
			o := &q.Rules[d][i]
			if q == p && i >= j {
				break
			}
			if o.Action == model.Log || o.Note != "" || o.Action == model.Pass && q.ref.Tier != p.ref.Tier {
				continue
			}
			if l.within(r, o) && (q.ref.Tier == p.ref.Tier || !l.passes(earlier, q, d, i, p, r)) {
				return o, q
			}
		}
	}
	return nil, nil
}

// passes reports whether a Pass before rule i of q may take some of r's
// traffic, for pods of p, out of q's tier and on to r.
func (l *linter) passes(earlier []*policy, q *policy, d model.Direction, i int, p *policy, r *model.Rule) bool {
	for _, x := range earlier {
		if x.ref.Tier != q.ref.Tier || x.Order > q.Order || !x.Applies[d] || !l.mayOverlap(x.Subject, p.Subject) {
			continue
		}
		for k := range x.Rules[d] {
			if x == q && k >= i {
				break
			}
			if o := &x.Rules[d][k]; o.Action == model.Pass && l.rulesOverlap(o, r) {
				return true
			}
		}
	}
	return false
}

// admin reports whether a policy comes before those of Kubernetes' own kind.
func (l *linter) admin(p *policy) bool {
	for i := int(p.ref.Tier) + 1; i < len(l.s.Tiers); i++ {
		if !l.s.Tiers[i].Continue {
			return true
		}
	}
	return false
}

func cn503(l *linter) {
	for _, p := range l.ordered() {
		if !l.admin(p) {
			continue
		}
		for _, d := range model.Directions {
			for i := range p.Rules[d] {
				switch r := &p.Rules[d][i]; {
				case r.Note != "" || !p.Applies[d]:
				case r.Action == model.Deny:
					l.hides(p, d, i)
				case r.Action == model.Allow && r.AnyPort:
					l.voids(p, d, i)
				}
			}
		}
	}
}

// hides reports the allow rules that an earlier deny makes void.
func (l *linter) hides(p *policy, d model.Direction, i int) {
	var hidden []string
	r := &p.Rules[d][i]
	for qi := range l.policies {
		q := &l.policies[qi]
		if q.tier.Continue || !q.Applies[d] || len(q.targets[d]) == 0 || !subset(q.targets[d], p.targets[d]) {
			continue
		}
		for j := range q.Rules[d] {
			qr := &q.Rules[d][j]
			if l.within(qr, r) && l.decides(p.rule(d, i), q, d, j) {
				hidden = append(hidden, q.String()+" "+qr.Origin.Path)
			}
		}
	}
	if len(hidden) > 0 {
		l.warn(p, r.Origin, "put a Pass rule before it for what namespaces may decide, or remove the rules",
			"denies first what %s of NetworkPolicies %s, so that they have no effect: %s", plural(len(hidden), "rule"), map[bool]string{true: "allows", false: "allow"}[len(hidden) == 1], list(hidden, 3))
	}
}

func subset(a, b []verdict.TargetID) bool {
	return !slices.ContainsFunc(a, func(x verdict.TargetID) bool {
		_, ok := slices.BinarySearch(b, x)
		return !ok
	})
}

// decides reports whether ref is what decides some of the traffic that rule j
// of q would allow, which an earlier rule may have taken away from it.
func (l *linter) decides(ref verdict.RuleRef, q *policy, d model.Direction, j int) bool {
	tried := 0
	for _, id := range q.targets[d] {
		for _, peer := range l.rulePeers(q.rule(d, j), &q.Rules[d][j]) {
			if tried++; tried > combos {
				return false
			}
			for _, piece := range l.t.Verdict(l.t.Rows[d][id].At(peer)) {
				if x := l.t.Reasons[piece.Reason]; x.Kind == verdict.ByRule && x.Rule == ref {
					return true
				}
			}
		}
	}
	return false
}

// voids reports an allow of everything that takes pods out of the hands of
// their NetworkPolicies.
func (l *linter) voids(p *policy, d model.Direction, i int) {
	r := &p.Rules[d][i]
	n := 0
	for _, id := range p.targets[d] {
		if len(l.isolating(d, id)) > 0 {
			n += len(l.t.Targets[d][id].Endpoints)
		}
	}
	if n == 0 {
		return
	}
	const fix = "name ports, or use Pass to leave the decision to the namespace"
	if r.AnyPeer || slices.ContainsFunc(r.Peers, func(x model.Peer) bool { return len(x.Terms) == 1 && everything(x.Terms[0]) }) {
		l.warn(p, r.Origin, fix, "accepts all %s of every pod first, so that NetworkPolicies of %s have no effect on it", d, plural(n, "pod"))
		return
	}
	l.info(p, r.Origin, fix, "accepts all ports of its peers first, whatever NetworkPolicies of %s say about %s", plural(n, "pod"), d)
}

func cn504(l *linter) {
	for _, p := range l.ordered() {
		if l.admin(p) {
			continue
		}
		for _, d := range model.Directions {
			n := 0
			for _, id := range p.targets[d] {
				if len(l.isolating(d, id)) > 0 {
					n += len(l.t.Targets[d][id].Endpoints)
				}
			}
			if p.Applies[d] && n > 0 && n == p.pods[d] && len(p.Rules[d]) > 0 {
				l.info(p, p.Rules[d][0].Origin, "remove it, or keep it for pods to come",
					"the %s rules are never evaluated: NetworkPolicies isolate %s for %s, all that the policy selects", d, plural(n, "pod"), d)
			}
		}
	}
}

// beyond returns what kind of peer a rule has that only some engines know.
func beyond(r *model.Rule) (kind string, o model.Origin) {
	for _, x := range r.Peers {
		for _, t := range x.Terms {
			switch t.Kind {
			case model.NodeTerm:
				return "nodes", x.Origin
			case model.NameTerm:
				return "domainNames", x.Origin
			}
		}
	}
	return "", model.Origin{}
}

func cn507(l *linter) {
	for _, p := range l.ordered() {
		for _, d := range model.Directions {
			for i := range p.Rules[d] {
				r := &p.Rules[d][i]
				kind, o := beyond(r)
				if kind == "" {
					continue
				}
				effect := "the rule matches nothing"
				if r.Action != model.Allow {
					effect = "the rule denies everything"
				}
				const fix = "use networks with the addresses, or make sure that every engine which runs it knows the field"
				if l.t.Dialect.OwnPodsOnly {
					l.warn(p, o, fix, "%s does not know peers of type %s: %s", l.t.Dialect.Name, kind, effect)
				} else {
					l.info(p, o, fix, "peers of type %s are in the experimental channel only; with Calico %s", kind, effect)
				}
			}
		}
	}
}

func cn508(l *linter) {
	for _, p := range l.ordered() {
		const d = model.Egress
		for i := range p.Rules[d] {
			r := &p.Rules[d][i]
			if r.Action != model.Deny || slices.ContainsFunc(p.Rules[d][:i], func(o model.Rule) bool {
				return o.Action != model.Log && (o.AnyPeer || slices.ContainsFunc(o.Peers, func(x model.Peer) bool { return len(x.Terms) == 1 && everything(x.Terms[0]) }))
			}) {
				continue
			}
			for k, x := range r.Peers {
				if len(x.Terms) != 1 || x.Terms[0].Kind != model.NetTerm || !whole(x.Terms[0].Nets) {
					continue
				}
				n := l.members(p.rule(d, i), k)
				what := "pods too"
				if l.podCount > 0 {
					what = "pods too, " + plural(n, "pod") + " today"
				}
				l.warn(p, x.Origin, "put before it:\n- action: Pass\n  to:\n  - namespaces: {}", "networks %s includes %s: the rule also cuts traffic inside the cluster", x.Terms[0].NetText, what)
				break
			}
		}
	}
}

func cn511(l *linter) {
	for _, p := range l.ordered() {
		for _, d := range model.Directions {
			for i := range p.Rules[d] {
				r := &p.Rules[d][i]
				n := slices.IndexFunc(r.Ports, func(m model.PortMatch) bool { return m.Name != "" })
				x := slices.IndexFunc(r.Peers, func(x model.Peer) bool {
					return slices.ContainsFunc(x.Terms, func(t model.Term) bool { return t.Kind != model.PodTerm && t.Kind != model.NoTerm })
				})
				if n >= 0 && x >= 0 {
					l.warn(p, r.Origin, "use a number", "port name %s is looked up at pods: for %s it matches nothing", r.Ports[n].Name, strings.TrimPrefix(r.Peers[x].Terms[0].String(), "all "))
				}
			}
		}
	}
}

func cn512(l *linter) {
	type loss struct {
		line string
		n    int
	}
	losses := map[verdict.RuleRef][]loss{}
	for _, kind := range []string{verdict.LifelineDNS, verdict.LifelineAPIServer, verdict.LifelineWebhook, verdict.LifelineScrape, verdict.LifelineIngress} {
		for _, line := range l.lines(kind) {
			for _, c := range l.cuts(line, nil) {
				if c.admin == nil {
					continue
				}
				ls := losses[*c.admin]
				if n := len(ls); n > 0 && ls[n-1].line == line.Name {
					ls[n-1].n += len(c.pods)
				} else {
					ls = append(ls, loss{line.Name, len(c.pods)})
				}
				losses[*c.admin] = ls
			}
		}
	}
	for _, p := range l.ordered() {
		for _, d := range model.Directions {
			for i := range p.Rules[d] {
				r := &p.Rules[d][i]
				var parts []string
				for _, x := range losses[p.rule(d, i)] {
					parts = append(parts, fmt.Sprintf("%s for %s", x.line, plural(x.n, "pod")))
				}
				if len(parts) > 0 {
					l.warn(p, r.Origin, "put an Accept or Pass rule before it for what the cluster needs", "the rule cuts %s", strings.Join(parts, "; "))
				} else if n := l.systemPods(p, d, r); n > 0 {
					l.warn(p, r.Origin, "exclude kube-system from the subject: matchExpressions with key "+nameLabel+", operator NotIn", "denies all %s of %s of kube-system, which the whole cluster depends on", d, plural(n, "pod"))
				}
			}
		}
	}
}

// systemPods counts the pods of kube-system that a rule closes a direction of.
func (l *linter) systemPods(p *policy, d model.Direction, r *model.Rule) int {
	if r.Action != model.Deny || !r.AnyPort || !r.AnyPeer && !slices.ContainsFunc(r.Peers, func(x model.Peer) bool { return len(x.Terms) == 1 && everything(x.Terms[0]) }) {
		return 0
	}
	n := 0
	for _, id := range p.targets[d] {
		for _, e := range l.t.Targets[d][id].Endpoints {
			if l.s.Endpoints[e].Namespace == "kube-system" {
				n++
			}
		}
	}
	return n
}

func cn513(l *linter) {
	kinds := map[string]bool{}
	for _, p := range l.ordered() {
		kinds[p.Kind] = true
	}
	for _, p := range l.ordered() {
		if len(p.Rules[0])+len(p.Rules[1]) == 0 {
			l.info(p, p.Origin, "add rules, or remove it", "the policy has no rules and does nothing")
		}
		if kinds["ClusterNetworkPolicy"] && strings.HasSuffix(p.Kind, "AdminNetworkPolicy") {
			l.info(p, p.Origin, "write all as ClusterNetworkPolicy", "the order between %s and ClusterNetworkPolicy is undefined", p.Kind)
		}
	}
}
