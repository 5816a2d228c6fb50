//go:build linux

package nft

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
)

// BenchmarkPlan computes the plan of a node with 110 pods.
func BenchmarkPlan(b *testing.B) {
	for _, pods := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			t := compile.Compile(clustergen.Sized(clustergen.Config{Pods: pods, Namespaces: pods / 100, Policies: pods / 10}), model.Dialects[0])
			node := Node{Name: "n"}
			for i := range 110 {
				node.Pods = append(node.Pods, int32(i*len(t.Snapshot.Endpoints)/110))
			}
			b.ResetTimer()
			b.ReportAllocs()
			for b.Loop() {
				NewPlan(t, node, Options{})
			}
			p := NewPlan(t, node, Options{})
			b.ReportMetric(float64(len(p.Peers)), "peers")
			b.ReportMetric(float64(len(p.Targets)*len(p.Classes)), "pairs")
		})
	}
}

// peersPlan is a plan with many peers, of many classes, for one pod.
func peersPlan(peers int) *Plan {
	p := &Plan{Options: Options{}.WithDefaults(), Pods: []netip.Addr{netip.MustParseAddr("192.168.0.9")}, Classes: []string{""}}
	p.PortSets = []PortSet{
		{Name: "in", Direction: model.Ingress},
		{Name: "in web", Direction: model.Ingress, Allowed: netset.Ports(netset.TCP, 80, 80)},
	}
	target := Target{Name: "in t", Sets: []int32{0}}
	for i := range 100 {
		p.Classes = append(p.Classes, fmt.Sprintf("class %d", i))
		target.Sets = append(target.Sets, int32(i%2))
	}
	p.Targets = []Target{target}
	p.Isolated[model.Ingress] = []Local{{p.Pods[0], 0}}
	a := netip.MustParseAddr("10.0.0.1")
	for i := range peers {
		p.Peers = append(p.Peers, Peer{a, int32(1 + i%100)})
		a = a.Next()
	}
	return p
}

// BenchmarkLoad loads peers into an empty kernel. The memory is the largest
// that the process ever had, so each size needs a process of its own.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("elements=%d", n), func(b *testing.B) {
			k := open(b, Options{})
			p := peersPlan(n)
			for b.Loop() {
				b.StopTimer()
				if err := k.Remove(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := k.Repair(p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(resident())/1024, "MiB")
		})
	}
}

// BenchmarkAddPod adds a peer, by an Apply of the plan that has it.
func BenchmarkAddPod(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("elements=%d", n), func(b *testing.B) {
			k := open(b, Options{})
			p := peersPlan(n)
			if err := k.Apply(p); err != nil {
				b.Fatal(err)
			}
			a := p.Peers[n-1].Addr
			for b.Loop() {
				b.StopTimer()
				a = a.Next()
				q := *p
				q.Peers = append(p.Peers[:len(p.Peers):len(p.Peers)], Peer{a, 1})
				b.StartTimer()
				if err := k.Apply(&q); err != nil {
					b.Fatal(err)
				}
				p = &q
			}
		})
	}
}

// resident is the highest resident size of the process, in KiB.
func resident() int {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var n int
	fmt.Sscan(rest, &n)
	return n
}
