package diff

import (
	"io"
	"math/rand/v2"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/term"
	"picket/internal/verdict"
)

// TestRandomClusters holds on small clusters that reach every feature: a
// cluster does not differ from itself, and two clusters differ one way as they
// do the other.
func TestRandomClusters(t *testing.T) {
	changed := 0
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		coin := func(string) bool { return rnd.IntN(2) == 1 }
		after := clustergen.Random(coin)
		d := clustergen.Dialect(coin)
		before := *after
		before.Tiers = append(before.Tiers[:0:0], after.Tiers...)
		for i := range before.Tiers {
			if n := len(before.Tiers[i].Policies); n > 0 {
				before.Tiers[i].Policies = before.Tiers[i].Policies[:n-1]
			}
		}
		tables := [2]*verdict.Table{compile.Compile(&before, d), compile.Compile(after, d)}
		build := func(old, new int) *Report {
			r, err := Build(tables[old], tables[new], Options{})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := r.WriteText(term.Fixed(io.Discard, true, 0)); err != nil {
				t.Fatal(err)
			}
			if err := r.WriteMarkdown(io.Discard); err != nil {
				t.Fatal(err)
			}
			return r
		}
		for _, l := range build(1, 1).Lifelines {
			t.Errorf("seed %d: a lifeline differs from itself: %+v", seed, l)
		}
		if !build(0, 0).Empty() || len(build(0, 0).Policies) != 0 {
			t.Errorf("seed %d: a cluster differs from itself", seed)
		}
		there, back := build(0, 1), build(1, 0)
		if len(there.Gained) != len(back.Lost) || len(there.Lost) != len(back.Gained) || len(there.Undefined) != len(back.Undefined) {
			t.Errorf("seed %d: there %d gained, %d lost, %d undefined; back %d, %d, %d", seed,
				len(there.Gained), len(there.Lost), len(there.Undefined), len(back.Lost), len(back.Gained), len(back.Undefined))
		}
		if len(there.Gained)+len(there.Lost) > 0 {
			changed++
		}
	}
	if changed < 5 {
		t.Errorf("only %d of 50 clusters changed", changed)
	}
}
