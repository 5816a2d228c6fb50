//go:build linux

package nft

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// network is every node of a cluster with its plan.
type network struct {
	t      *verdict.Table
	tracer map[string]*Tracer
	partly bool // some plan has limits
}

func newNetwork(t *verdict.Table) *network {
	n := &network{t: t, tracer: map[string]*Tracer{}}
	names := map[string]bool{"": true}
	for i := range t.Snapshot.Endpoints {
		names[t.Snapshot.Endpoints[i].Node] = true
	}
	for i := range t.Snapshot.Nodes {
		names[t.Snapshot.Nodes[i].Name] = true
	}
	for name := range names {
		p := NewPlan(t, Node{Name: name, Pods: LocalPods(t.Snapshot, name)}, Options{})
		n.partly = n.partly || len(p.Limits) > 0
		n.tracer[name] = NewTracer(p)
	}
	return n
}

// home returns the node whose kernel sees the party's packets first or last,
// and false for a host outside the cluster.
func (n *network) home(p verdict.Party) (string, bool) {
	switch {
	case p.Endpoint != verdict.None:
		return n.t.Snapshot.Endpoints[p.Endpoint].Node, true
	case p.Node != verdict.None:
		return n.t.Snapshot.Nodes[p.Node].Name, true
	}
	return "", false
}

// send walks the first packet of a connection through every node on its way.
func (n *network) send(tb testing.TB, src, dst verdict.Party, k netset.Key) (Code, []*Trace) {
	pkt := Packet{Src: src.Addr, Dst: dst.Addr, Initiator: src.Addr, Responder: dst.Addr, Proto: k.Proto(), State: StateNew, Dir: Original}
	if hasPorts(k.Proto()) {
		pkt.Port = k.Port()
	} else {
		pkt.Port = 4711 // an ICMP identifier; policies must not look at it
		pkt.Query = k.Port()
	}
	pkt.Payload = make([]byte, 20)
	if k.Proto() == netset.TCP {
		pkt.Payload[13] = 2
	}
	if k == netset.Echo(netset.FamilyOf(src.Addr)) {
		pkt.Payload[0] = byte(k.Port() >> 8)
	}
	from, fromInside := n.home(src)
	to, toInside := n.home(dst)
	var traces []*Trace
	run := func(node, hook string, own bool) Code {
		pkt.FromNode = own
		tr, err := n.tracer[node].Run(hook, pkt)
		if err != nil {
			tb.Fatal(err)
		}
		traces = append(traces, tr)
		pkt.Mark = tr.Mark
		return tr.Verdict
	}
	code := Accept
	sourceIsNode := src.Endpoint == verdict.None
	targetIsNode := dst.Endpoint == verdict.None && toInside
	same := fromInside && toInside && from == to
	if fromInside && sourceIsNode {
		code = run(from, "output", true)
	}
	if fromInside && !(same && targetIsNode) && code == Accept {
		code = run(from, "postrouting", sourceIsNode)
	}
	if !same {
		pkt.Mark = 0 // another kernel
	}
	if code == Accept && toInside && targetIsNode {
		code = run(to, "input", same && sourceIsNode)
	} else if code == Accept && toInside && !same {
		code = run(to, "postrouting", false)
	}
	return code, traces
}

// A pod whose ports could not be read is no target of others, even if all it
// says of itself is the same: what a rule with a named port means by it is open.
func TestBrokenPodIsATargetOfItsOwn(t *testing.T) {
	ports := []model.Port{{Name: "web", Proto: netset.TCP, Number: 80}}
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "a"}},
		Endpoints: []model.Endpoint{
			{Namespace: "a", Name: "broken", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: ports, Broken: "it could not be read"},
			{Namespace: "a", Name: "intact", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Ports: ports},
		},
		Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Policies: []model.Policy{{
			Kind: "NetworkPolicy", Namespace: "a", Name: "web", Applies: [2]bool{model.Ingress: true},
			Subject: []model.Term{{Kind: model.PodTerm, Namespace: "a", Pods: selector.Everything()}},
			Rules:   [2][]model.Rule{model.Ingress: {{Action: model.Allow, AnyPeer: true, Ports: []model.PortMatch{{Name: "web"}}}}},
		}}}},
	}
	p := NewPlan(compile.Compile(s, model.Dialects[0]), Node{Pods: []int32{0, 1}}, Options{})
	if len(p.Targets) != 2 || p.Targets[0].Name == p.Targets[1].Name {
		t.Fatalf("targets %+v, want two of different names", p.Targets)
	}
}

// The rules that a plan loads decide as the table does, for every pair of
// endpoints, nodes and outside addresses, in both families.
func TestTraceAgreesWithTable(t *testing.T) {
	compared := 0
	rapid.Check(t, func(rt *rapid.T) {
		coin := func(what string) bool { return rapid.Bool().Draw(rt, what) }
		s := clustergen.Random(coin)
		tab := compile.Compile(s, model.Dialects[0])
		n := newNetwork(tab)
		keys := []netset.Key{
			netset.KeyOf(netset.TCP, 80), netset.KeyOf(netset.TCP, 81), netset.KeyOf(netset.TCP, 8080), netset.KeyOf(netset.UDP, 53),
			netset.KeyOf(netset.UDP, 80), netset.KeyOf(netset.SCTP, 80), netset.KeyOf(netset.TCP, 65535), netset.KeyOf(netset.TCP, 443), netset.KeyOf(47, 0), netset.KeyOf(netset.ICMP, 13<<8), netset.KeyOf(netset.ICMPv6, 139<<8),
		}
		for _, f := range families {
			parties := partiesOf(tab, f)
			for _, src := range parties {
				for _, dst := range parties {
					pair := tab.Pair(src, dst)
					if pair.Bypass == verdict.Unguarded || src.Addr == dst.Addr {
						continue
					}
					for _, k := range append(keys, netset.Echo(f)) {
						if !hasPorts(k.Proto()) && !isICMP(k.Proto()) && !uniform(tab, pair, k.Proto()) {
							continue
						}
						want, _ := tab.Decide(pair, k)
						got, traces := n.send(t, src, dst, k)
						compared++
						if (got == Accept) != (want == verdict.Allow) {
							for _, tr := range traces {
								t.Logf("%+v", *tr)
							}
							for i := range s.Endpoints {
								t.Logf("%+v", s.Endpoints[i])
							}
							for i := range s.Nodes {
								t.Logf("%+v", s.Nodes[i])
							}
							for i := range s.Tiers {
								t.Logf("%+v", s.Tiers[i])
							}
							_, pieces := tab.Decide(pair, k)
							t.Logf("%+v %+v %+v %+v %+v", src, dst, pair, tab.Reasons[pieces[0].Reason], tab.Reasons[pieces[1].Reason])
							rt.Fatalf("%s from %s to %s: table says %s, the rules %v\n%+v", k, src.Addr, dst.Addr, want, got == Accept, traces)
						}
					}
				}
			}
		}
	})
	t.Logf("compared %d verdicts", compared)
	if compared == 0 {
		t.Fatal("compared nothing")
	}
}

// uniform reports whether a protocol without ports is decided as one.
func uniform(t *verdict.Table, p verdict.Pair, proto netset.Proto) bool {
	allowed := verdict.JointTraffic(t.Join(p), verdict.Allow).Intersect(netset.AllPorts(proto))
	for _, id := range p.Sides {
		if id != verdict.None {
			side := t.Verdicts[id].Traffic(verdict.Allow).Intersect(netset.AllPorts(proto))
			if !side.Empty() && !side.Equal(netset.AllPorts(proto)) {
				return false
			}
		}
	}
	return allowed.Empty() || allowed.Equal(netset.AllPorts(proto))
}

// partiesOf lists pods, nodes and some outside addresses. An address that two
// of them have is left out: the kernel cannot tell them apart.
func partiesOf(t *verdict.Table, f netset.Family) []verdict.Party {
	var out []verdict.Party
	count := map[netip.Addr]int{}
	for i := range t.Snapshot.Endpoints {
		for _, a := range t.Snapshot.Endpoints[i].Addrs {
			count[a]++
		}
		if p, ok := t.EndpointParty(i, f); ok && t.Snapshot.Endpoints[i].Kind == model.Pod {
			out = append(out, p)
		}
	}
	for i := range t.Snapshot.Nodes {
		for _, a := range t.Snapshot.Nodes[i].Addrs {
			count[a] += 2 // one may be a host-network pod's
		}
		if p, ok := t.NodeParty(i, f); ok {
			out = append(out, p)
		}
	}
	for i := range t.Blocks.Blocks {
		for _, r := range t.Blocks.Blocks[i].Addrs.Only(f).Ranges() {
			for _, a := range []netip.Addr{r.From, r.To} {
				if _, taken := t.Owner[a]; !taken && count[a] == 0 {
					out = append(out, t.AddrParty(a))
				}
			}
		}
	}
	kept := out[:0]
	for _, p := range out {
		if p.Endpoint == verdict.None && p.Node == verdict.None || count[p.Addr] <= 1 || p.Node != verdict.None && p.Endpoint == verdict.None && count[p.Addr] < 4 {
			kept = append(kept, p)
		}
	}
	return kept
}
