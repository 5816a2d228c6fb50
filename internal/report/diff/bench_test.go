package diff

import (
	"fmt"
	"strings"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/term"
	"picket/internal/verdict"
)

// BenchmarkBuild compares a cluster with itself less every tenth policy, and
// with itself less all policies.
func BenchmarkBuild(b *testing.B) {
	for _, cfg := range []clustergen.Config{
		{Pods: 1000, Namespaces: 30, Policies: 300},
		{Pods: 10000, Namespaces: 300, Policies: 3000},
		{Pods: 1000, Namespaces: 30, Policies: 300, Distinct: true},
	} {
		after := compile.Compile(clustergen.Sized(cfg), model.Dialects[0])
		for _, every := range []int{10, 1} {
			before := compile.Compile(without(cfg, every), model.Dialects[0])
			b.Run(fmt.Sprintf("pods=%d/policies=%d/distinct=%v/less=%d", cfg.Pods, cfg.Policies, cfg.Distinct, every), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Build(before, after, Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// without is the cluster without every n-th policy.
func without(cfg clustergen.Config, n int) *model.Snapshot {
	s := clustergen.Sized(cfg)
	for i := range s.Tiers {
		var kept []model.Policy
		for j, p := range s.Tiers[i].Policies {
			if j%n != n-1 {
				kept = append(kept, p)
			}
		}
		s.Tiers[i].Policies = kept
	}
	return s
}

// TestSizedDiffStaysShort holds that a large change is told in few sentences,
// and that each is true: the flows that the report names are those that a
// comparison of every pair of pods finds.
func TestSizedDiffStaysShort(t *testing.T) {
	cfg := clustergen.Config{Pods: 200, Namespaces: 10, Policies: 60}
	before := compile.Compile(without(cfg, 1), model.Dialects[0])
	after := compile.Compile(clustergen.Sized(cfg), model.Dialects[0])
	r, err := Build(before, after, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Lost); n == 0 || n > 120 {
		t.Errorf("%d sentences about traffic lost", n)
	}
	var b strings.Builder
	if err := r.WriteText(term.Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 7*shown*maxReasons {
		t.Errorf("%d lines of text", n)
	}
}

// TestRectanglesCoverExactlyWhatChanged compares the pairs behind the sentences
// with a comparison of every pair of pods.
func TestRectanglesCoverExactlyWhatChanged(t *testing.T) {
	cfg := clustergen.Config{Pods: 120, Namespaces: 8, Policies: 40}
	c := &comparer{tables: [2]*verdict.Table{
		compile.Compile(without(cfg, 4), model.Dialects[0]),
		compile.Compile(clustergen.Sized(cfg), model.Dialects[0]),
	}, ports: netset.AllTraffic()}
	c.matchEndpoints()
	c.joinGroups()
	rows := map[int32][]int32{}
	for s := range c.groups {
		for d := range c.groups {
			if s == d && c.groups[s].single() || !c.groups[s].ok[0] || !c.groups[d].ok[0] {
				continue
			}
			if len(c.compare(sides(c.tables[0], c.groups[s].party[0][0], c.groups[d].party[0][0]), sides(c.tables[1], c.groups[s].party[0][1], c.groups[d].party[0][1]))) > 0 {
				rows[int32(s)] = append(rows[int32(s)], int32(d))
			}
		}
	}
	got := map[[2]int32]bool{}
	for _, rect := range c.rectangles(rows) {
		for _, s := range rect.from {
			for _, d := range rect.to {
				for _, m := range c.groups[s].members {
					for _, n := range c.groups[d].members {
						if m != n {
							got[[2]int32{m, n}] = true
						}
					}
				}
			}
		}
	}
	want := 0
	for m := range c.members {
		for n := range c.members {
			if m == n {
				continue
			}
			changed := c.pairChanged(t, int32(m), int32(n))
			if changed {
				want++
			}
			if changed != got[[2]int32{int32(m), int32(n)}] {
				t.Fatalf("%d → %d changed: %v, the sentences say %v", m, n, changed, !changed)
			}
		}
	}
	if want == 0 {
		t.Error("nothing changed: the test shows nothing")
	}
}

// pairChanged looks a pair of pods up, without groups.
func (c *comparer) pairChanged(t *testing.T, m, n int32) bool {
	t.Helper()
	var js [2]string
	for i, table := range c.tables {
		src, ok1 := table.EndpointParty(int(c.members[m].at[i]), bothFamilies[0])
		dst, ok2 := table.EndpointParty(int(c.members[n].at[i]), bothFamilies[0])
		if !ok1 || !ok2 {
			return false
		}
		pair := table.Pair(src, dst)
		if pair.Bypass == verdict.FromNode {
			pair.Sides = sides(table, src, dst)
		}
		joint := table.Join(pair)
		for _, d := range []verdict.Decision{verdict.Allow, verdict.Deny, verdict.Undefined} {
			js[i] += verdict.JointTraffic(joint, d).String() + ";"
		}
	}
	return js[0] != js[1]
}
