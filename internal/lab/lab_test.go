//go:build linux

package lab

import (
	"context"
	"net/netip"
	"testing"

	"picket/internal/netset"
)

// need makes the lab or skips the test, if the kernel lets us make none.
func start(t testing.TB, spec Spec) *Lab {
	t.Helper()
	if need, err := NeedsReexec(); err != nil || need {
		t.Skipf("skipped: no right to make network namespaces here (%v)", err)
	}
	l, err := New(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func addrs(s ...string) (as []netip.Addr) {
	for _, a := range s {
		as = append(as, netip.MustParseAddr(a))
	}
	return as
}

// small has two pods on one node, one on another, a pod on the host network and
// an external host.
func small() Spec {
	web := []Port{{netset.TCP, 80}, {netset.UDP, 53}, {netset.SCTP, 7000}}
	return Spec{
		Nodes: []NodeSpec{{Name: "n1"}, {Name: "n2", Addrs: addrs("192.168.7.2")}},
		Pods: []PodSpec{
			{Name: "dev/a", Node: "n1", Addrs: addrs("10.1.0.1", "fd00:1::1"), Ports: web},
			{Name: "dev/b", Node: "n1", Addrs: addrs("10.1.0.2", "fd00:1::2"), Ports: web},
			{Name: "dev/c", Node: "n2", Addrs: addrs("10.2.0.1", "fd00:2::1"), Ports: web},
			{Name: "kube/host", Node: "n2", HostNetwork: true, Ports: []Port{{netset.TCP, 9100}}},
		},
		Externals: []ExternalSpec{
			{Name: "internet", Addrs: addrs("198.51.100.7", "2001:db8::7")},
			{Name: "odd", Addrs: addrs("240.0.0.255")},
		},
	}
}

// TestReach sends every kind of probe between every pair of endpoints.
func TestReach(t *testing.T) {
	for _, shape := range []struct {
		name              string
		bridged, discover bool
	}{{"routed", false, false}, {"bridged", true, false}, {"routed, discovering", false, true}, {"bridged, discovering", true, true}} {
		t.Run(shape.name, func(t *testing.T) {
			spec := small()
			spec.Bridged, spec.Discover = shape.bridged, shape.discover
			l := start(t, spec)
			kinds := []Port{{netset.ICMP, 0}, {netset.TCP, 80}, {netset.TCP, 81}, {netset.TCP, 9100}, {netset.UDP, 53}, {netset.UDP, 54}, {netset.SCTP, 7000}, {netset.SCTP, 7001}, {47, 0}}
			var probes []Probe
			var want []Outcome
			for _, from := range l.Endpoints() {
				for _, to := range l.Endpoints() {
					for _, a := range l.Addrs(to) {
						if !first(l.Addrs(from), netset.FamilyOf(a)).IsValid() || to == "kube/host" || from == "odd" && to == "internet" || from == "internet" && to == "odd" {
							continue
						}
						for _, k := range kinds {
							probes = append(probes, Probe{From: from, To: a, Proto: k.Proto, Port: k.Number})
							want = append(want, Outcome{Result: expect(to, k), At: to})
						}
					}
				}
			}
			out, err := l.ProbeAll(context.Background(), probes, nil)
			if err != nil {
				t.Fatal(err)
			}
			bad := 0
			for i, o := range out {
				if o.Result != want[i].Result || o.At != want[i].At || o.Err != nil {
					if bad++; bad < 20 {
						t.Errorf("%s: %s at %q (%v), want %s", probes[i], o.Result, o.At, o.Err, want[i].Result)
					}
				}
			}
			t.Logf("%d probes, %d wrong", len(out), bad)
		})
	}
}

// expect is what an endpoint of small does with a probe.
func expect(to string, p Port) Result {
	pod := to[0] == 'd'
	switch {
	case p.Proto == netset.ICMP, pod && (p == Port{netset.TCP, 80} || p == Port{netset.UDP, 53} || p == Port{netset.SCTP, 7000}),
		to == "n2" && p == Port{netset.TCP, 9100}:
		return Answered
	case to[0] == 'n' && (p.Proto == netset.SCTP || p.Proto == 47):
		return Arrived // the tap itself keeps the node silent
	}
	return Refused
}
