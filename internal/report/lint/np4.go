package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// np4Checks find what is open wider than it looks.
var np4Checks = []check{
	{"NP401", false, np401},
	{"NP402", false, np402},
	{"NP403", false, np403},
	{"NP404", false, np404},
	{"NP405", true, np405},
	{"NP406", false, np406},
	{"NP407", true, np407},
	{"NP408", true, np408},
	{"NP409", false, np409},
	{"NP410", false, np410},
}

// webPorts are those that servers of the public use.
var webPorts = netset.Ports(netset.TCP, 80, 80).Union(netset.Ports(netset.TCP, 443, 443)).
	Union(netset.Ports(netset.TCP, 8080, 8080)).Union(netset.Ports(netset.TCP, 8443, 8443)).
	Union(netset.Ports(netset.UDP, 443, 443))

// dnsPorts are those of name servers.
var dnsPorts = netset.Ports(netset.UDP, 53, 53).Union(netset.Ports(netset.TCP, 53, 53)).
	Union(netset.Ports(netset.UDP, 5353, 5353)).Union(netset.Ports(netset.TCP, 5353, 5353))

func np401(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, _ int, r *model.Rule) {
		if d != model.Ingress || r.Action != model.Allow || !p.v1() || r.AnyPeer && r.AnyPort {
			return // a rule without both is NP102
		}
		who, o := "everyone, inside and outside the cluster", r.Origin
		if !r.AnyPeer {
			i := slices.IndexFunc(r.Peers, func(x model.Peer) bool {
				return len(x.Terms) == 1 && (everything(x.Terms[0]) || x.Terms[0].Kind == model.NetTerm && x.Terms[0].NetText != "" && whole(x.Terms[0].Nets))
			})
			if i < 0 {
				return
			}
			o = r.Peers[i].Origin
			who = "every pod of every namespace"
			if t := r.Peers[i].Terms[0]; t.Kind == model.NetTerm {
				who = "the world (" + t.NetText + ")"
			}
		}
		all, _ := numbers(r)
		what := "all ports"
		if !r.AnyPort {
			all = all.Subtract(webPorts)
			if t, ok := subject(p); ok && coreDNSLabels(t) {
				all = all.Subtract(dnsPorts)
			}
			if what = all.String(); all.Empty() {
				return // named ports are taken to be what their names say
			}
		}
		l.warn(p, o, "name the namespaces and pods that need it", "open to %s on %s", who, what)
	})
}

// coreDNSLabels reports whether a term selects the cluster's name servers.
func coreDNSLabels(t model.Term) bool {
	for _, r := range t.Pods.Requirements() {
		if slices.ContainsFunc(r.Values, func(v string) bool { return strings.Contains(v, "dns") }) {
			return true
		}
	}
	return false
}

func np402(l *linter) {
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		r := &p.Rules[d][ri]
		if d != model.Egress || !r.AnyPort || r.Action != model.Allow || !whole(t.Nets) {
			return
		}
		if strings.Contains(t.NetText, "except") {
			l.info(p, r.Peers[i].Origin, "add ports: usually TCP 443", "egress to %s on all ports", t.NetText)
			return
		}
		l.warn(p, r.Peers[i].Origin, "add ports, and except the ranges of the cluster and of the node", "egress to every address (%s) on all ports: nothing is held back", t.NetText)
	})
}

// metadata is where clouds hand out a machine's credentials.
var metadata = netip.AddrFrom4([4]byte{169, 254, 169, 254})

func np403(l *linter) {
	const fix = "add 169.254.169.254/32 to the except list (if workload identity needs it, allow it on its own)"
	web := netset.Ports(netset.TCP, 80, 80)
	l.eachRule(func(p *policy, d model.Direction, _ int, r *model.Rule) {
		all, _ := numbers(r)
		if d != model.Egress || r.Action != model.Allow || all.Intersect(web).Empty() || r.AnyPeer && r.AnyPort {
			return
		}
		if r.AnyPeer {
			l.warn(p, r.Origin, "name destinations, with 169.254.169.254/32 excepted", "the rule names no destination, so the cloud's metadata service %s, which hands out the node's credentials, can be reached too", metadata)
			return
		}
		for _, x := range r.Peers {
			for _, t := range x.Terms {
				if t.Kind != model.NetTerm || !t.Nets.Contains(metadata) || t.Nets.Equal(netset.FromAddr(metadata)) {
					continue
				}
				l.warn(p, x.Origin, fix, "ipBlock %s includes the cloud's metadata service %s, which hands out the node's credentials", t.NetText, metadata)
			}
		}
	})
}

func np404(l *linter) {
	if !l.s.DualStack {
		return
	}
	l.eachRule(func(p *policy, d model.Direction, _ int, r *model.Rule) {
		var nets netset.Addrs
		var o model.Origin
		for _, x := range r.Peers {
			for _, t := range x.Terms {
				if t.Kind == model.NetTerm {
					if nets.Empty() {
						o = x.Origin
					}
					nets = nets.Union(t.Nets)
				}
			}
		}
		has, lacks := "IPv4", "IPv6"
		switch v4, v6 := nets.Only(netset.V4).Empty(), nets.Only(netset.V6).Empty(); {
		case v4 == v6:
			return
		case v4:
			has, lacks = lacks, has
		}
		var effect string
		switch {
		case r.Action == model.Deny:
			effect = "not denied, so left open by this rule"
		case p.tier.Continue:
			effect = "not allowed by this rule"
		default:
			effect = "closed"
		}
		l.warn(p, o, "add a block of the other family: ::/0 is to IPv6 what 0.0.0.0/0 is to IPv4", "the rule has only %s blocks, but the cluster uses both families: %s is %s", has, lacks, effect)
	})
}

// np405 finds pods that only a block for the whole world lets a policy's pods
// talk to: whether it does depends on the network plugin.
func np405(l *linter) {
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		if !t.PodsOpen || !whole(t.Nets) || len(p.targets[d]) == 0 {
			return
		}
		r := &p.Rules[d][ri]
		id := p.targets[d][0]
		covered := map[verdict.PeerID]bool{}
		for _, s := range l.t.Targets[d][id].Policies {
			q := l.policyAt(s.PolicyRef)
			if q.tier.Continue {
				continue
			}
			for qi := range q.Rules[d] {
				qr := &q.Rules[d][qi]
				if !trafficWithin(r, qr) {
					continue
				}
				if qr.AnyPeer {
					return
				}
				for k, x := range qr.Peers {
					if len(x.Terms) == 1 && x.Terms[0].Kind == model.PodTerm {
						for _, id := range l.atom(q.rule(d, qi), k).Yes {
							covered[id] = true
						}
					}
				}
			}
		}
		n := 0
		for _, id := range l.atom(p.rule(d, ri), i).Yes {
			if !covered[id] {
				for _, m := range l.t.Peers[id].Members {
					if l.s.Endpoints[m.Endpoint].Kind == model.Pod && m.Family == netset.FamilyOf(t.Nets.First()) {
						n++
					}
				}
			}
		}
		if n > 0 {
			l.info(p, r.Peers[i].Origin, "except the pod range and allow pods by selectors, so that every plugin agrees",
				"whether %s also means %s that no other rule allows depends on the network plugin: Calico yes, Cilium no", t.NetText, plural(n, "pod"))
		}
	})
}

// private are the ranges that people except from "the internet", and wide are
// those they forget.
var (
	private = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
	wide    = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
)

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func np406(l *linter) {
	v6 := prefixes("fd00::/8", "fe80::/10")
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		if !whole(t.Nets) {
			return
		}
		f := netset.FamilyOf(t.Nets.First())
		gone := netset.AllAddrs(f).Subtract(t.Nets.Only(f))
		candidates := slices.Concat(wide, l.s.PodCIDRs)
		meant := slices.ContainsFunc(private, func(x netip.Prefix) bool { return !gone.Intersect(netset.FromPrefix(x)).Empty() })
		if f == netset.V6 {
			candidates = slices.Concat(v6, l.s.PodCIDRs)
			meant = !gone.Intersect(netset.FromPrefix(netip.MustParsePrefix("fc00::/7"))).Empty()
		}
		if !meant {
			return
		}
		var missing []string
		var seen netset.Addrs
		for _, x := range candidates {
			in := netset.FromPrefix(x)
			if netset.FamilyOf(x.Addr()) == f && !in.Intersect(t.Nets).Empty() && !in.Subtract(seen).Empty() {
				seen = seen.Union(in)
				missing = append(missing, x.String())
			}
		}
		if len(missing) == 0 {
			return
		}
		pods := ""
		if l.podCount > 0 {
			pods = fmt.Sprintf("; %d of %s are in the rest", l.podsWithin(t.Nets), plural(len(l.s.Endpoints), "pod"))
		}
		l.info(p, p.Rules[d][ri].Peers[i].Origin, "add to except: "+strings.Join(missing, ", "),
			"the except list names private ranges but not %s, where clusters have pods, nodes and metadata services%s", strings.Join(missing, ", "), pods)
	})
}

// podsWithin counts the pods with an address in n.
func (l *linter) podsWithin(n netset.Addrs) int {
	k := n.String()
	if c, ok := l.inNets[k]; ok {
		return c
	}
	c := 0
	for e := range l.s.Endpoints {
		if slices.ContainsFunc(l.s.Endpoints[e].Addrs, n.Contains) {
			c++
		}
	}
	l.inNets[k] = c
	return c
}

// np408 says once that name resolution alone is a way out.
func np408(l *linter) {
	n := 0
	var names []string
	var first *policy
	var rule *model.Rule
	l.eachIsolated(model.Egress, func(id verdict.TargetID, pods []int32, by []*policy) {
		if l.reachesOutside(id) {
			return
		}
		for _, p := range by {
			for i := range p.Rules[model.Egress] {
				r := &p.Rules[model.Egress][i]
				all, _ := numbers(r)
				if r.AnyPort || !all.Contains(netset.KeyOf(netset.UDP, 53)) || !coreDNS.admits(r, netset.KeyOf(netset.UDP, 53)) {
					continue
				}
				if first == nil || r.Origin.Compare(rule.Origin.Position) < 0 {
					first, rule = p, r
				}
				n += len(pods)
				for _, e := range pods {
					if ns := l.s.Endpoints[e].Namespace; !slices.Contains(names, ns) {
						names = append(names, ns)
					}
				}
				return
			}
		}
	})
	if first != nil {
		slices.Sort(names)
		l.info(first, rule.Origin, "watch or filter queries at the DNS servers if that matters to you",
			"%s in %s may reach nothing outside but DNS: the servers forward queries to the internet, so data can still leave in names", plural(n, "pod"), plural(len(names), "namespace")+" ("+list(names, 3)+")")
	}
}

// reachesOutside reports whether a class may send anything to a host outside the
// cluster.
func (l *linter) reachesOutside(id verdict.TargetID) bool {
	if l.outside == nil {
		l.outside = l.outsidePeers()
	}
	return slices.ContainsFunc(l.outside, func(p verdict.PeerID) bool {
		v := l.t.Verdict(l.t.Rows[model.Egress][id].At(p))
		return slices.ContainsFunc(v, func(x verdict.Piece) bool { return x.Decision == verdict.Allow })
	})
}

// outsidePeers returns the classes of hosts outside the cluster: a block that
// holds only addresses of pods, nodes or the node-local DNS has none.
func (l *linter) outsidePeers() []verdict.PeerID {
	inside := netset.FromAddr(localDNS)
	for _, p := range l.s.PodCIDRs {
		inside = inside.Union(netset.FromPrefix(p))
	}
	out := []verdict.PeerID{}
	for b := range l.t.Blocks.Blocks {
		if slices.ContainsFunc(l.t.Blocks.Blocks[b].Addrs.Subtract(inside).Ranges(), l.unowned) {
			out = append(out, l.t.BlockPeer[b])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unowned reports whether the range holds an address that nobody in the cluster
// has.
func (l *linter) unowned(r netset.Range[netip.Addr]) bool {
	for a := r.From; ; a = a.Next() {
		if _, ok := l.t.Owner[a]; !ok {
			return true
		}
		if a == r.To {
			return false
		}
	}
}

// np409 says what the OR of two peers could admit beyond the AND, whatever pods
// there are today.
func np409(l *linter) {
	l.eachPair(func(x *orPair) {
		if x.meant {
			return
		}
		ns, pods := x.rule.Peers[x.ns].Terms[0], x.rule.Peers[x.pods].Terms[0]
		more := []string{fmt.Sprintf("any pod without %s in a namespace labelled %s", pods.Pods, ns.Namespaces)}
		if name, fixed := requires(ns.Namespaces, nameLabel); fixed {
			more[0] = fmt.Sprintf("any pod without %s in namespace %s", pods.Pods, name)
		} else if ns.Namespaces.IsEverything() {
			more[0] = fmt.Sprintf("any pod without %s in any namespace", pods.Pods)
		} else {
			more[0] += ", also in one that gets the label later"
		}
		if !l.implies(pods, x.both) {
			more = append(more, fmt.Sprintf("any pod labelled %s in namespace %s", pods.Pods, pods.Namespace))
		}
		today := ""
		if l.podCount > 0 {
			today = fmt.Sprintf(" (%d such today)", x.or-x.and)
		}
		l.warn(x.p, x.rule.Origin, "write both selectors as one list item, see NP101", "wider than its AND reading: it could additionally admit, as a %s, %s%s", map[model.Direction]string{model.Ingress: "source", model.Egress: "destination"}[x.d], strings.Join(more, ", and "), today)
	})
}

func np410(l *linter) {
	l.eachPeer(func(p *policy, d model.Direction, _ int, r *model.Rule, i int) {
		t := r.Peers[i].Terms
		if d == model.Ingress && r.Action == model.Allow && len(t) == 1 && t[0].Kind == model.PodTerm && !t[0].Not &&
			t[0].Namespace == "" && t[0].Namespaces.IsEverything() && len(positive(t[0].Pods)) > 0 && p.v1() {
			l.find(p, r.Peers[i].Origin, diag.Info,
				fmt.Sprintf("whoever may make pods in any namespace can give them %s and pass: pod labels are no identity across namespaces", t[0].Pods),
				"name the namespaces too, by "+nameLabel)
		}
	})
}
