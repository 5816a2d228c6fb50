package lint

import (
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// eachNet calls f for each peer of a NetworkPolicy that is one address block.
func (l *linter) eachNet(f func(p *policy, d model.Direction, ri, i int, t model.Term)) {
	l.eachPeer(func(p *policy, d model.Direction, ri int, r *model.Rule, i int) {
		t := r.Peers[i].Terms
		if len(t) == 1 && t[0].Kind == model.NetTerm && !t[0].Not && !t[0].Nets.Empty() {
			f(p, d, ri, i, t[0])
		}
	})
}

// whole reports whether the nets cover (nearly) a whole family: what people
// write for "the world", also with exceptions.
func whole(n netset.Addrs) bool {
	v4 := n.Contains(netip.AddrFrom4([4]byte{1, 1, 1, 1})) && n.Contains(netip.AddrFrom4([4]byte{203, 0, 114, 1})) && n.Contains(netip.AddrFrom4([4]byte{8, 8, 8, 8}))
	v6 := n.Contains(netip.MustParseAddr("2001:4860:4860::8888")) && n.Contains(netip.MustParseAddr("2a00::1"))
	return v4 || v6
}

func np206(l *linter) {
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		if !t.PodsOpen || whole(t.Nets) {
			return
		}
		if _, one := l.ephemeral(t); one {
			return
		}
		pods := 0
		if !l.dead(p.rule(d, ri), i) {
			pods = l.members(p.rule(d, ri), i)
		}
		var what []string
		if pods > 0 {
			what = append(what, plural(pods, "pod"))
		}
		for _, c := range l.s.PodCIDRs {
			if !t.Nets.Intersect(netset.FromPrefix(c)).Empty() {
				what = append(what, "the pod range "+c.String())
			}
		}
		if n := l.clusterIPs(t.Nets); n > 0 {
			what = append(what, plural(n, "Service address"))
		}
		if len(what) == 0 {
			return
		}
		l.warn(p, p.Rules[d][ri].Peers[i].Origin, "select pods by namespaceSelector and podSelector, and keep the block for addresses outside the cluster",
			"ipBlock %s covers %s; whether an ipBlock matches pods depends on the network plugin (Calico: yes, Cilium: no), and Service addresses are replaced before policy looks", t.NetText, strings.Join(what, ", "))
	})
}

// clusterIPs counts the Service addresses in a block.
func (l *linter) clusterIPs(n netset.Addrs) int {
	c := 0
	for _, a := range l.svc().clusterIPs {
		if n.Contains(a) {
			c++
		}
	}
	return c
}

// ephemeral says whose the address of a block of one address is, if it is a
// pod's or a Service's.
func (l *linter) ephemeral(t model.Term) (string, bool) {
	rs := t.Nets.Ranges()
	if len(rs) != 1 || rs[0].From != rs[0].To {
		return "", false
	}
	if o, ok := l.t.Owner[rs[0].From]; ok && o.Endpoint != verdict.None && !l.s.Endpoints[o.Endpoint].Assigned {
		return "is the address of pod " + l.s.Endpoints[o.Endpoint].String() + ", which it loses when it is replaced", true
	}
	for i := range l.s.Services {
		if slices.Contains(l.s.Services[i].ClusterIPs, rs[0].From) {
			return "is the cluster address of Service " + l.s.Services[i].String() + ", which policy never sees: it is replaced by a pod's address first", true
		}
	}
	return "", false
}

func np207(l *linter) {
	l.eachNet(func(p *policy, d model.Direction, ri, i int, t model.Term) {
		if what, ok := l.ephemeral(t); ok {
			l.warn(p, p.Rules[d][ri].Peers[i].Origin, "select the pods by their labels", "ipBlock %s %s", t.NetText, what)
		}
	})
}
