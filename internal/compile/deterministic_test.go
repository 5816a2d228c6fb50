package compile_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// TestDeterministic: equal snapshots give equal tables, whatever order the
// cluster was put together in.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d := clustergen.Random(coin(t)), clustergen.Dialect(coin(t))
		again := shuffled(s, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 0)))
		clustergen.Sort(again)
		if !reflect.DeepEqual(s, again) {
			t.Fatal("the generator's order is not total")
		}
		first, second := compile.Compile(s, d), compile.Compile(again, d)
		if err := first.Validate(); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatal("two tables of equal snapshots differ")
		}
	})
}

// shuffled returns s with its unordered lists in another order.
func shuffled(s *model.Snapshot, rnd *rand.Rand) *model.Snapshot {
	out := *s
	out.Namespaces = mixed(s.Namespaces, rnd)
	out.Nodes = mixed(s.Nodes, rnd)
	out.Endpoints = mixed(s.Endpoints, rnd)
	out.NetworkSets = mixed(s.NetworkSets, rnd)
	out.Tiers = slices.Clone(s.Tiers)
	for i := range out.Tiers {
		out.Tiers[i].Policies = mixed(out.Tiers[i].Policies, rnd)
	}
	return &out
}

func mixed[T any](in []T, rnd *rand.Rand) []T {
	out := slices.Clone(in)
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// TestSnapshotUntouched: Compile changes nothing in what it reads.
func TestSnapshotUntouched(t *testing.T) {
	cfg := clustergen.Config{Pods: 200, Namespaces: 8, Policies: 40}
	s := clustergen.Sized(cfg)
	compile.Compile(s, model.Dialects[0])
	if !reflect.DeepEqual(s, clustergen.Sized(cfg)) {
		t.Error("Compile changed the snapshot")
	}
}

// TestLookup: one verdict costs no allocation.
func TestLookup(t *testing.T) {
	table := compile.Compile(clustergen.Sized(clustergen.Config{Pods: 300, Namespaces: 10, Policies: 60}), model.Dialects[0])
	src, dst := twoParties(table)
	k := netset.KeyOf(netset.TCP, 443)
	if n := testing.AllocsPerRun(100, func() {
		table.Decide(table.Pair(src, dst), k)
	}); n != 0 {
		t.Errorf("one look-up allocates %g times", n)
	}
}

// twoParties returns two pods that policies judge.
func twoParties(t *verdict.Table) (src, dst verdict.Party) {
	for i := range t.Snapshot.Endpoints {
		p, ok := t.EndpointParty(i, netset.V4)
		if !ok {
			continue
		}
		if t.TargetOf[model.Egress][i] != verdict.None {
			src = p
		}
		if t.TargetOf[model.Ingress][i] != verdict.None && dst == (verdict.Party{}) {
			dst = p
		}
	}
	return src, dst
}

// TestManifests: a sized cluster read from its manifests is the same cluster.
func TestManifests(t *testing.T) {
	for _, c := range []clustergen.Config{
		{Pods: 300, Namespaces: 12, Policies: 130},
		{Pods: 100, Namespaces: 6, Policies: 20, Distinct: true},
	} {
		var b strings.Builder
		if err := clustergen.Manifests(c, &b); err != nil {
			t.Fatal(err)
		}
		r := read(t, b.String(), kube.Options{})
		for _, d := range r.Diagnostics {
			t.Errorf("%+v: %s", c, d)
		}
		made, fromFiles := compile.Compile(clustergen.Sized(c), model.Dialects[0]), compile.Compile(r.Snapshot, model.Dialects[0])
		if made.Counters != fromFiles.Counters {
			t.Errorf("%+v: made\n%+v, read\n%+v", c, made.Counters, fromFiles.Counters)
		}
		if !reflect.DeepEqual(made.Verdicts, fromFiles.Verdicts) || !reflect.DeepEqual(made.Rows, fromFiles.Rows) {
			t.Errorf("%+v: the tables differ", c)
		}
	}
}
