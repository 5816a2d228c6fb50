package matrix

import (
	"fmt"
	"io"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
)

// BenchmarkJSON is the all-pairs matrix as JSON of a compiled cluster.
func BenchmarkJSON(b *testing.B) {
	for _, c := range []clustergen.Config{
		{Pods: 1000, Namespaces: 30, Policies: 300},
		{Pods: 3000, Namespaces: 60, Policies: 600},
		{Pods: 10000, Namespaces: 200, Policies: 2000},
		{Pods: 1000, Namespaces: 30, Policies: 300, Distinct: true},
		{Pods: 3000, Namespaces: 60, Policies: 600, Distinct: true},
		{Pods: 10000, Namespaces: 200, Policies: 2000, Distinct: true},
	} {
		name := fmt.Sprintf("pods=%d/policies=%d/distinct=%v", c.Pods, c.Policies, c.Distinct)
		b.Run(name, func(b *testing.B) {
			t := compile.Compile(clustergen.Sized(c), model.Dialects[0])
			b.ResetTimer()
			for b.Loop() {
				r, err := Build(t, Options{External: true})
				if err != nil {
					b.Fatal(err)
				}
				w := &counter{}
				if err := r.WriteJSON(w); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(w.n), "bytes")
				b.ReportMetric(float64(len(r.rows)), "groups")
				b.ReportMetric(float64(len(r.cells)), "verdicts")
			}
		})
	}
}

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

var _ io.Writer = (*counter)(nil)
