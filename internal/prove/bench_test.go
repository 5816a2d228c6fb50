//go:build linux

package prove

import (
	"fmt"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
)

// BenchmarkProve proves clusters that look like real ones, from the table to
// the end of the lab.
func BenchmarkProve(b *testing.B) {
	needsLab(b)
	for _, pods := range []int{30, 100, 300, 1000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			s := (&Placer{Nodes: 3}).Place(clustergen.Sized(clustergen.Config{Pods: pods, Namespaces: max(2, pods/20), Policies: pods / 2}))
			table := compile.Compile(s, model.Dialects[0])
			packets, cells := 0, 0
			for b.Loop() {
				p := run(b, []Step{{"", table}}, Options{})[0]
				if !p.Agrees() {
					b.Fatal(p.Summary())
				}
				packets += p.Sent
				cells += p.Proved
				b.Logf("%v groups %d all %v %v %v", p.Summary(), len(p.groups), p.all, p.Unproved, p.Results)
			}
			b.ReportMetric(float64(packets)/b.Elapsed().Seconds(), "packets/s")
			b.ReportMetric(float64(cells)/float64(b.N), "cells")
		})
	}
}
