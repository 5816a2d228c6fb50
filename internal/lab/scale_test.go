//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// sized is a spec of n pods on three nodes, each with both families and one
// TCP port.
func sized(n int) Spec {
	s := Spec{Nodes: []NodeSpec{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}}
	for i := range n {
		s.Pods = append(s.Pods, PodSpec{
			Name:  fmt.Sprintf("ns/p%d", i),
			Node:  s.Nodes[i%3].Name,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 5, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 5, 14: byte(i >> 8), 15: byte(i)})},
			Ports: []Port{{netset.TCP, 80}},
		})
	}
	return s
}

// allPairs is one probe for each ordered pair of pods.
func allPairs(l *Lab, f netset.Family, p Port, limit int) (probes []Probe) {
	for _, from := range l.Endpoints() {
		for _, to := range l.Endpoints() {
			if from[1] == 's' && to[1] == 's' && len(probes) < limit {
				probes = append(probes, Probe{From: from, To: l.Addr(to, f), Proto: p.Proto, Port: p.Number})
			}
		}
	}
	return probes
}

// BenchmarkUp builds a lab and takes it down.
func BenchmarkUp(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("pods=%d", n), func(b *testing.B) {
			for b.Loop() {
				l, err := New(context.Background(), sized(n))
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// processorTime is what this process has used of its processors, in seconds:
// the measure of a rate on a machine that has other work.
func processorTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkProbe sends from every pod to every other, 100,000 probes at most.
func BenchmarkProbe(b *testing.B) {
	for _, k := range []struct {
		name string
		port Port
	}{{"tcp", Port{netset.TCP, 80}}, {"refused", Port{netset.TCP, 81}}, {"udp-refused", Port{netset.UDP, 53}}, {"icmp", Port{netset.ICMP, 0}}} {
		for _, n := range []int{30, 300} {
			b.Run(fmt.Sprintf("%s/pods=%d", k.name, n), func(b *testing.B) {
				l := start(b, sized(n))
				probes := allPairs(l, netset.V4, k.port, 100_000)
				sent := 0
				before := processorTime(b)
				b.ResetTimer()
				for b.Loop() {
					out, err := l.ProbeAll(context.Background(), probes, nil)
					if err != nil {
						b.Fatal(err)
					}
					for i, o := range out {
						if !o.Result.Reached() {
							b.Fatal(probes[i], o)
						}
					}
					sent += len(probes)
				}
				b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "probes/s")
				b.ReportMetric(float64(sent)/(processorTime(b)-before), "probes/cpu-s")
			})
		}
	}
}

// TestHundreds probes a lab of 200 pods on every pair, some of whose ways are
// cut, and knows exactly which.
func TestHundreds(t *testing.T) {
	l := start(t, sized(200))
	cut := map[netip.Addr]bool{}
	for i := 0; i < 200; i += 7 {
		name := fmt.Sprintf("ns/p%d", i)
		cut[l.Addr(name, netset.V6)] = true
		h := at(t, l, fmt.Sprintf("n%d", i%3+1))
		if err := h.RouteReplace(&netlink.Route{Dst: cidr(l.Addr(name, netset.V6)), Type: unix.RTN_BLACKHOLE, Priority: priority(netset.V6)}); err != nil {
			t.Fatal(err)
		}
	}
	probes := allPairs(l, netset.V6, Port{netset.TCP, 80}, 1<<20)
	settled := 0
	out, err := l.ProbeAll(context.Background(), probes, func(done, total int) {
		if done < settled || total != len(probes) {
			t.Errorf("progress %d of %d after %d", done, total, settled)
		}
		settled = done
	})
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i, p := range probes {
		want := Answered
		switch {
		case cut[p.To] && l.Addr(p.From, netset.V6) != p.To:
			want = NoAnswer
		case cut[l.Addr(p.From, netset.V6)] && l.Addr(p.From, netset.V6) != p.To:
			want = Arrived // the answer cannot come back
		}
		if out[i].Result != want {
			if bad++; bad < 10 {
				t.Errorf("%s: %s, want %s", p, out[i].Result, want)
			}
		}
	}
	if settled != len(probes) {
		t.Errorf("%d of %d probes settled at the end", settled, len(probes))
	}
}
