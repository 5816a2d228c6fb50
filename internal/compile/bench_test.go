package compile_test

import (
	"fmt"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
)

// sizes are the clusters that benchmarks compile, from a small one to one of
// the largest that people run.
var sizes = []struct {
	name string
	clustergen.Config
}{
	{"pods=1k/namespaces=30/policies=300", clustergen.Config{Pods: 1_000, Namespaces: 30, Policies: 300}},
	{"pods=10k/namespaces=100/policies=1k", clustergen.Config{Pods: 10_000, Namespaces: 100, Policies: 1_000}},
	{"pods=100k/namespaces=1k/policies=10k", clustergen.Config{Pods: 100_000, Namespaces: 1_000, Policies: 10_000}},
	{"distinct=1k", clustergen.Config{Pods: 1_000, Namespaces: 30, Policies: 300, Distinct: true}},
	{"distinct=10k", clustergen.Config{Pods: 10_000, Namespaces: 100, Policies: 1_000, Distinct: true}},
}

func BenchmarkCompile(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			s := clustergen.Sized(size.Config)
			b.ReportAllocs()
			for b.Loop() {
				t := compile.Compile(s, model.Dialects[0])
				b.ReportMetric(float64(len(t.Peers)), "peers")
				b.ReportMetric(float64(t.Counters.Targets), "targets")
				b.ReportMetric(float64(t.Counters.Cells), "cells")
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			t := compile.Compile(clustergen.Sized(size.Config), model.Dialects[0])
			src, dst := twoParties(t)
			k := netset.KeyOf(netset.TCP, 443)
			b.ReportAllocs()
			for b.Loop() {
				t.Decide(t.Pair(src, dst), k)
			}
		})
	}
}

// BenchmarkSized tells the cost of making the clusters, which is none of the
// compiler's.
func BenchmarkSized(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			for b.Loop() {
				if n := len(clustergen.Sized(size.Config).Endpoints); n != size.Pods {
					b.Fatal(fmt.Errorf("%d pods", n))
				}
			}
		})
	}
}
