package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// np1Checks look at the shape of NetworkPolicies. Codes of the family that are
// not here are found by whoever reads the manifest.
var np1Checks = []check{
	{"NP101", false, np101},
	{"NP102", false, np102},
	{"NP115", false, np115},
	{"NP116", false, np116},
	{"NP117", false, np117},
}

// orKey names a pair of peers by its rule and first peer.
type orKey struct {
	policy *model.Policy
	d      model.Direction
	rule   int
}

// orPair is two neighbouring peers of one rule, one with a namespaceSelector
// and one with a podSelector only: usually one peer was meant.
type orPair struct {
	p        *policy
	d        model.Direction
	rule     *model.Rule
	at       int        // the first of both
	ns, pods int        // which peer has the namespaceSelector, and which the podSelector
	both     model.Term // what one peer with both selectors matches
	own      int        // pods that the podSelector matches in the policy's namespace
	or, and  int        // pods that either reading admits
	meant    bool       // OR is plausibly meant: the podSelector matches pods of the own namespace and none of the others'
}

// orPairs finds the pairs of all rules, the first of each rule.
func (l *linter) orPairs() map[orKey]*orPair {
	if l.pairs != nil {
		return l.pairs
	}
	l.pairs = map[orKey]*orPair{}
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if !p.v1() {
			return
		}
		for i := 0; i+1 < len(r.Peers); i++ {
			x := orPair{p: p, d: d, rule: r, at: i, ns: i, pods: i + 1}
			if podOnly(r.Peers[i]) {
				x.ns, x.pods = i+1, i
			}
			if !namespaceOnly(r.Peers[x.ns]) || !podOnly(r.Peers[x.pods]) {
				continue
			}
			ns, pods := r.Peers[x.ns].Terms[0], r.Peers[x.pods].Terms[0]
			if pods.Pods.IsEverything() || pods.Pods.IsNothing() {
				continue // "all of these namespaces, and all of my own": nothing to join
			}
			x.both = model.Term{Kind: model.PodTerm, Namespaces: ns.Namespaces, Pods: pods.Pods}
			x.own, _ = l.count(pods)
			x.and, _ = l.count(x.both)
			x.or, _ = l.count(ns)
			if !ns.Namespaces.Matches(l.labelsOf(p.Namespace)) {
				x.or += x.own
			}
			x.meant = x.own > 0 && x.and == 0
			l.pairs[orKey{p.Policy, d, ri}] = &x
			break
		}
	})
	return l.pairs
}

// eachPair calls f for the pairs in the order of the policies.
func (l *linter) eachPair(f func(*orPair)) {
	l.eachRule(func(p *policy, d model.Direction, ri int, _ *model.Rule) {
		if x := l.orPairs()[orKey{p.Policy, d, ri}]; x != nil {
			f(x)
		}
	})
}

func field(d model.Direction) string {
	if d == model.Egress {
		return "to"
	}
	return "from"
}

func np101(l *linter) {
	l.eachPair(func(x *orPair) {
		ns, pods := x.rule.Peers[x.ns].Terms[0], x.rule.Peers[x.pods].Terms[0]
		msg := fmt.Sprintf("%s[%d] namespaceSelector %s and %s[%d] podSelector %s are two list items, so OR: all pods of namespaces labelled %s, and besides pods labelled %s in namespace %s",
			field(x.d), x.ns, ns.Namespaces, field(x.d), x.pods, pods.Pods, ns.Namespaces, pods.Pods, x.p.Namespace)
		sev := diag.Warning
		switch {
		case l.podCount == 0:
			msg += "; one item with both selectors would mean AND"
		case x.meant:
			sev = diag.Info
			msg += fmt.Sprintf(" (%s today; no pod of those namespaces has the label, so OR may well be meant)", plural(x.own, "pod"))
		default:
			msg += fmt.Sprintf("; as one item they would mean AND: OR admits %s today, AND %d, so %d more", plural(x.or, "pod"), x.and, x.or-x.and)
		}
		var peers []model.Term
		for i, peer := range x.rule.Peers {
			switch {
			case i == x.at:
				peers = append(peers, x.both)
			case i == x.at+1:
			case len(peer.Terms) == 1:
				peers = append(peers, peer.Terms[0])
			}
		}
		fix := "if both must hold, write one list item:\n" + x.d.String() + ":\n" + yamlRule(x.p, x.d, peers, x.rule.Ports)
		l.find(x.p, x.rule.Peers[x.at].Origin, sev, msg, fix)
	})
}

func np102(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if !p.v1() || !r.AnyPeer || !r.AnyPort || r.Action != model.Allow {
			return
		}
		ref := [2]string{p.Ref(), "NP103 " + r.Origin.Path + "." + field(d)}
		if l.paths[ref] || l.paths[[2]string{p.Ref(), "NP104 " + r.Origin.Path + ".ports"}] {
			return // said already, with the list that does it
		}
		what := "from every source, inside and outside the cluster"
		if d == model.Egress {
			what = "to every destination, the node's metadata service included"
		}
		n := ""
		if l.podCount > 0 {
			n = fmt.Sprintf(" of %s", plural(p.pods[d], "pod"))
		}
		l.warn(p, r.Origin, "name the peers or the ports; to close the direction write "+d.String()+": []",
			"the rule is empty and allows all %s traffic%s, %s, with every protocol", d, n, what)
	})
}

// np115 finds policies of one name that mean different things in different
// namespaces. The same default-deny everywhere is good practice.
func np115(l *linter) {
	byName := map[string][]*policy{}
	for i := range l.policies {
		if p := &l.policies[i]; p.v1() {
			byName[p.Name] = append(byName[p.Name], p)
		}
	}
	for _, name := range sortedKeys(byName) {
		ps := byName[name]
		same := func(q *policy) bool { return q.Namespace == ps[0].Namespace || shape(q) == shape(ps[0]) }
		if !slices.ContainsFunc(ps, func(q *policy) bool { return !same(q) }) {
			continue
		}
		var where []string
		for _, q := range ps {
			where = append(where, q.Namespace)
		}
		l.info(ps[0], ps[0].Origin, "give each a name that says what it does there, or always read namespace/name in reports",
			"%d policies are called %s and differ (namespaces %s)", len(ps), name, list(where, 5))
	}
}

// shape is a policy's content with its own namespace left out.
func shape(p *policy) string {
	var b strings.Builder
	term := func(t model.Term) {
		if t.Namespace == p.Namespace && t.Namespace != "" {
			t.Namespace = "."
		}
		fmt.Fprintf(&b, "%s %s|", termKey(t), t.NetText)
	}
	for _, t := range p.Subject {
		term(t)
	}
	for _, d := range model.Directions {
		fmt.Fprintf(&b, "%v:", p.Applies[d])
		for _, r := range p.Rules[d] {
			fmt.Fprintf(&b, "%v%v[", r.AnyPeer, r.AnyPort)
			for _, peer := range r.Peers {
				for _, t := range peer.Terms {
					term(t)
				}
				b.WriteString(";")
			}
			for _, m := range r.Ports {
				b.WriteString(m.Text + m.Traffic.String() + m.Name + ",")
			}
			b.WriteString("]")
		}
	}
	return b.String()
}

// crowd is how many policies a namespace may have before only those with equal
// subjects are compared: comparing is quadratic.
const crowd = 300

// np116 finds policies that change nothing beside another one, and rules that
// another rule of the same policy covers.
func np116(l *linter) {
	for i := range l.policies {
		l.coveredRules(&l.policies[i])
	}
	for _, name := range l.names {
		ps := l.namespaces[name].policies
		for _, i := range ps {
			for _, j := range ps {
				p, q := &l.policies[i], &l.policies[j]
				if i == j || !p.v1() || !q.v1() || !p.live() || !q.live() || len(ps) > crowd && !sameSubject(p, q) {
					continue
				}
				if l.redundant(p, q) && !(j > i && l.redundant(q, p)) {
					l.info(p, p.Origin, "remove it, or say in an annotation why both are kept",
						"%s covers everything that this policy selects and allows: removing it changes no verdict", q)
					break
				}
			}
		}
	}
}

func sameSubject(p, q *policy) bool {
	return len(p.Subject) == 1 && len(q.Subject) == 1 && termKey(p.Subject[0]) == termKey(q.Subject[0])
}

// redundant reports whether p has no effect as long as q is there. A policy
// without rules is the base that others open and is redundant only beside
// another such.
func (l *linter) redundant(p, q *policy) bool {
	if !l.allImply(p.Subject, q.Subject) {
		return false
	}
	rules, others := 0, 0
	for _, d := range model.Directions {
		if !p.Applies[d] {
			others += len(q.Rules[d])
			continue
		}
		if !q.Applies[d] {
			return false
		}
		rules, others = rules+len(p.Rules[d]), others+len(q.Rules[d])
		for i := range p.Rules[d] {
			if !slices.ContainsFunc(q.Rules[d], func(r model.Rule) bool { return l.allowedBy(&p.Rules[d][i], &r) }) {
				return false
			}
		}
	}
	return rules > 0 || others == 0
}

// coveredRules finds rules and peers of a NetworkPolicy that repeat others.
func (l *linter) coveredRules(p *policy) {
	if !p.v1() || !p.live() {
		return
	}
	for _, d := range model.Directions {
		if !p.Applies[d] || len(p.Rules[d]) > crowd {
			continue
		}
		rs := p.Rules[d]
		for i := range rs {
			for j := range rs {
				if i != j && l.allowedBy(&rs[i], &rs[j]) && !(j > i && l.allowedBy(&rs[j], &rs[i])) {
					l.info(p, rs[i].Origin, "remove the rule", "%s already allows all that this rule allows", rs[j].Origin.Path)
					break
				}
			}
			l.coveredPeers(p, &rs[i])
		}
	}
}

func (l *linter) coveredPeers(p *policy, r *model.Rule) {
	if len(r.Peers) > crowd {
		return
	}
	for i, a := range r.Peers {
		for j, b := range r.Peers {
			if i != j && l.allImply(a.Terms, b.Terms) && !(j > i && l.allImply(b.Terms, a.Terms)) {
				l.info(p, a.Origin, "remove the peer", "%s already matches all that this peer matches", b.Origin.Path)
				break
			}
		}
	}
}

func np117(l *linter) {
	udp, tcp := netset.KeyOf(netset.UDP, 53), netset.KeyOf(netset.TCP, 53)
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		if !p.v1() || r.AnyPort {
			return
		}
		all, _ := numbers(r)
		for _, m := range r.Ports {
			k, ok := single(m)
			if !ok || k != udp && k != tcp || all.Contains(udp) && all.Contains(tcp) {
				continue
			}
			missing := udp
			if k == udp {
				missing = tcp
			}
			if l.elsewhere(p, d, r, missing) {
				return
			}
			o := m.Origin
			if o.Path == "" {
				o = r.Origin
			}
			if k == udp {
				l.info(p, o, "add\n- protocol: TCP\n  port: 53", "DNS is allowed over UDP only: answers that do not fit a datagram, which are repeated over TCP, fail")
			} else {
				l.warn(p, o, "add\n- protocol: UDP\n  port: 53", "port 53 is allowed over TCP only: DNS asks over UDP first, so names do not resolve")
			}
			return
		}
	})
}

// elsewhere reports whether another rule, of p or of a policy that selects at
// least the same pods, allows k with the same peers.
func (l *linter) elsewhere(p *policy, d model.Direction, r *model.Rule, k netset.Key) bool {
	for _, i := range l.namespaces[p.Namespace].policies {
		q := &l.policies[i]
		if !q.Applies[d] || !l.allImply(p.Subject, q.Subject) {
			continue
		}
		for j := range q.Rules[d] {
			o := &q.Rules[d][j]
			if all, _ := numbers(o); all.Contains(k) && l.peersWithin(r, o) {
				return true
			}
		}
	}
	return false
}

// everything is a peer term that matches all pods.
func everything(t model.Term) bool {
	return t.Kind == model.PodTerm && !t.Not && t.Namespace == "" && t.Namespaces.IsEverything() && t.Pods.IsEverything()
}

// positive lists the keys that a selector needs to be there.
func positive(s selector.Selector) []string {
	var out []string
	for _, r := range s.Requirements() {
		if r.Op == selector.In || r.Op == selector.Exists {
			out = append(out, r.Key)
		}
	}
	return out
}
