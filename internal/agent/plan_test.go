//go:build linux

package agent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/verdict"
)

// TestLocalise holds that a node's plan does not depend on policies that are
// left out because they concern none of its pods.
func TestLocalise(t *testing.T) {
	dropped := 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := clustergen.Random(func(string) bool { return rnd.IntN(2) == 0 })
		nodes := map[string]bool{}
		for i := range s.Endpoints {
			nodes[s.Endpoints[i].Node] = true
		}
		for name := range nodes {
			pods := nft.LocalPods(s, name)
			local := localise(s, pods)
			for i := range s.Tiers {
				dropped += len(s.Tiers[i].Policies) - len(local.Tiers[i].Policies)
			}
			all, few := compile.Compile(s, dialect), compile.Compile(local, dialect)
			for _, addr := range addresses(all) {
				for _, i := range pods {
					a, b := allowed(all, i, addr), allowed(few, i, addr)
					if a != b {
						t.Fatalf("seed %d: %s and %s: %s with all policies, %s with the node's", seed, &s.Endpoints[i], addr, a, b)
					}
				}
			}
		}
	}
	if dropped == 0 {
		t.Error("no policy was left out: nothing was tested")
	}
}

// addresses returns one of each block of addresses that the table tells apart,
// and all of pods and nodes.
func addresses(t *verdict.Table) []netip.Addr {
	var out []netip.Addr
	for _, b := range t.Blocks.Blocks {
		for _, r := range b.Addrs.Ranges() {
			out = append(out, r.From)
			break
		}
	}
	for a := range t.Owner {
		out = append(out, a)
	}
	return out
}

// allowed says what local pod i may receive from, and send to, an address.
func allowed(t *verdict.Table, i int32, addr netip.Addr) string {
	pod, ok := t.EndpointParty(int(i), netset.FamilyOf(addr))
	if !ok {
		return ""
	}
	peer := t.AddrParty(addr)
	in, out := t.Pair(peer, pod).Sides[model.Ingress], t.Pair(pod, peer).Sides[model.Egress]
	text := ""
	for _, id := range []verdict.VerdictID{in, out} {
		if id == verdict.None {
			text += " everything"
		} else {
			text += " " + t.Verdicts[id].Traffic(verdict.Allow).String()
		}
	}
	return text
}

// TestMayConcern holds that what is not certain is kept.
func TestMayConcern(t *testing.T) {
	s := clustergen.Sized(clustergen.Config{Pods: 60, Namespaces: 4, Policies: 40})
	pods := nft.LocalPods(s, s.Nodes[0].Name)
	broken := *s
	broken.Endpoints = slices.Clone(s.Endpoints)
	for _, i := range pods {
		broken.Endpoints[i].Broken = "odd"
	}
	count := func(s *model.Snapshot) int {
		n := 0
		for _, t := range localise(s, pods).Tiers {
			n += len(t.Policies)
		}
		return n
	}
	if usual, odd := count(s), count(&broken); odd <= usual {
		t.Errorf("%d policies are kept, and %d where the pods' labels are not known: want more", usual, odd)
	}
}

// TestDefect holds that a defect of the compiler is an error and not the end.
func TestDefect(t *testing.T) {
	_, err := makePlan(kube.Result{Snapshot: nil}, Defaults(), nil)
	if err == nil {
		t.Error("no error")
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, pods := range []int{1000, 10_000} {
		s := clustergen.Sized(clustergen.Config{Pods: pods, Namespaces: pods / 100, Policies: pods / 10})
		c := Defaults()
		c.Node = s.Nodes[0].Name
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			b.ReportAllocs()
			var p *plan
			for b.Loop() {
				var err error
				if p, err = makePlan(kube.Result{Snapshot: s}, c, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(p.took["compile"].Microseconds())/1000, "compile-ms")
			b.ReportMetric(float64(p.took["plan"].Microseconds())/1000, "plan-ms")
			b.ReportMetric(float64(len(p.Pods)), "local-pods")
			b.ReportMetric(float64(len(p.Peers)), "peers")
		})
	}
}
