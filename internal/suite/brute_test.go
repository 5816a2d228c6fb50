package suite

import (
	"math/rand/v2"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// TestAgainstEveryPair compares the check by groups with one that asks the
// table about every pair of pods, on random clusters.
func TestAgainstEveryPair(t *testing.T) {
	ports := []string{"tcp/80", "udp/53", "icmp", "sctp/9"}
	seen := map[verdict.Decision]int{}
	bypassed := 0
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		coin := func(string) bool { return rnd.IntN(2) == 1 }
		s := clustergen.Random(coin)
		tab := compile.Compile(s, clustergen.Dialect(coin))
		port, err := verdict.ParsePort(ports[seed%4])
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePort(ports[seed%4])
		if err != nil {
			t.Fatal(err)
		}
		want := map[verdict.Decision]int{} // pod pairs with the decision in some family
		pairs := 0
		for i := range s.Endpoints {
			for k := range s.Endpoints {
				if i == k {
					continue
				}
				got := map[verdict.Decision]bool{}
				for _, f := range tab.Families() {
					a, okA := tab.EndpointParty(i, f)
					b, okB := tab.EndpointParty(k, f)
					if okA && okB {
						pair := tab.Pair(a, b)
						d, _ := tab.Decide(pair, port.In(f))
						got[d] = true
						if pair.Bypass != verdict.Judged {
							bypassed++
						}
					}
				}
				if len(got) > 0 {
					pairs++
				}
				for d := range got {
					want[d]++
					seen[d]++
				}
			}
		}
		everybody := []Choice{{Namespaces: selector.Everything(), Pods: selector.Everything(), Position: diag.Position{Line: 1}}}
		for _, expect := range []verdict.Decision{verdict.Allow, verdict.Deny, verdict.Undefined} {
			r := Run(tab, []Test{{Name: "x", From: everybody, To: everybody, Ports: []Port{p}, Expect: expect, AllowEmpty: true}}, Options{})
			res := r.Tests[0]
			if res.Connections != pairs {
				t.Fatalf("seed %d: %d connections, want %d", seed, res.Connections, pairs)
			}
			got := map[verdict.Decision]int{}
			for _, f := range res.Failures {
				got[f.Got] += f.Pairs
			}
			for _, d := range []verdict.Decision{verdict.Allow, verdict.Deny, verdict.Undefined} {
				// A pair that fails in both families for two reasons counts twice.
				most := want[d] * len(tab.Families())
				if d != expect && res.MoreFailures == 0 && (got[d] < want[d] || got[d] > most) {
					t.Fatalf("seed %d: want %s: %d pairs are %s, want %d", seed, expect, got[d], d, want[d])
				}
			}
			if passed := want[verdict.Allow]+want[verdict.Deny]+want[verdict.Undefined] == want[expect] && !mixed(want, pairs); res.Passed != passed {
				t.Fatalf("seed %d: want %s: passed %v, want %v", seed, expect, res.Passed, passed)
			}
		}
	}
	if seen[verdict.Allow] < 1000 || seen[verdict.Deny] < 1000 || seen[verdict.Undefined] < 100 || bypassed < 10 {
		t.Errorf("the clusters reach too little: %v, %d bypassed", seen, bypassed)
	}
}

// mixed reports whether some pair has different decisions in its families.
func mixed(want map[verdict.Decision]int, pairs int) bool {
	return want[verdict.Allow]+want[verdict.Deny]+want[verdict.Undefined] > pairs
}
