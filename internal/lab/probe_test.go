//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// at returns a netlink handle on the namespace of an endpoint.
func at(t *testing.T, l *Lab, name string) *netlink.Handle {
	t.Helper()
	fd, err := l.NS(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func cidr(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// TestFaults plants a fault on the way from dev/a to dev/c, or back, and
// expects it to be told from others, while the ways beside it stay open.
func TestFaults(t *testing.T) {
	for _, f := range families {
		for _, c := range []struct {
			name, to string // the node of dev/c loses its way to this endpoint
			route    int
			want     Result
		}{
			{"silent drop", "dev/c", unix.RTN_BLACKHOLE, NoAnswer},
			{"drop with an error", "dev/c", unix.RTN_UNREACHABLE, Rejected},
			{"answer dropped", "dev/a", unix.RTN_BLACKHOLE, Arrived},
		} {
			t.Run(fmt.Sprintf("%s in IPv%d", c.name, f), func(t *testing.T) {
				l := start(t, small())
				h := at(t, l, "n2")
				to := l.Addr(c.to, f)
				if err := h.RouteReplace(&netlink.Route{Dst: cidr(to), Type: c.route, Priority: priority(f)}); err != nil {
					t.Fatal(err)
				}
				var probes []Probe
				kinds := []Port{{netset.TCP, 80}, {netset.UDP, 54}, {netset.ICMP, 0}, {netset.TCP, 81}, {netset.UDP, 53}, {netset.SCTP, 7000}}
				if c.want == Rejected {
					kinds = kinds[:3] // the kernel limits its errors to a few a second
				}
				for _, k := range kinds {
					for _, from := range []string{"dev/a", "dev/b", "n2"} {
						probes = append(probes, Probe{From: from, To: l.Addr("dev/c", f), Proto: k.Proto, Port: k.Number})
					}
				}
				out, err := l.ProbeAll(context.Background(), probes, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range probes {
					want := c.want
					switch {
					case p.From == "n2" && c.to == "dev/c":
						continue // its own kernel tells it at once, one way or other
					case p.From != "dev/a" && c.to == "dev/a":
						want = expect("dev/c", Port{p.Proto, p.Port})
					}
					if out[i].Result != want || out[i].Err != nil {
						t.Errorf("%s: %s (%v), want %s", p, out[i].Result, out[i].Err, want)
					}
				}
			})
		}
	}
}

// priority is the metric that the kernel gives to IPv6 routes without one, so
// that a route replaces the lab's.
func priority(f netset.Family) int {
	if f == netset.V6 {
		return 1024
	}
	return 0
}

// TestDelay makes a link so slow that the probes wait in its queue: those that
// have not arrived when all are sent are not taken for dropped.
func TestDelay(t *testing.T) {
	l := start(t, small())
	h := at(t, l, "n1")
	link, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	err = h.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       20_000, Limit: 1 << 20, Buffer: 64_000_000 / 20_000 * 30,
	})
	if err != nil {
		t.Skipf("skipped: this kernel has no token bucket filter: %v", err)
	}
	probes := make([]Probe, 200)
	for i := range probes {
		probes[i] = Probe{From: "dev/a", To: l.Addr("dev/c", netset.V4), Proto: netset.TCP, Port: uint16(80 + i)}
	}
	r := newRun(l, probes, func(int, int) {})
	defer r.close()
	ctx := context.Background()
	if err := r.open(ctx); err != nil {
		t.Fatal(err)
	}
	arrived := func() (n int) {
		for _, s := range r.state {
			if s.at >= 0 {
				n++
			}
		}
		return n
	}
	all := make([]int32, len(probes))
	for i := range all {
		all[i] = int32(i)
	}
	err = onThread(func() error {
		if err := r.sendAll(ctx, all, 0); err != nil {
			return err
		}
		if n := arrived(); n == len(probes) {
			t.Error("the link is not slow: the test shows nothing")
		} else {
			t.Logf("%d of %d arrived without a fence", n, len(probes))
		}
		return r.fence(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := arrived(); n != len(probes) {
		t.Errorf("%d of %d probes arrived before the fence ended", n, len(probes))
	}
}

// TestFenceLost cuts a link: without frames no drop is established.
func TestFenceLost(t *testing.T) {
	l := start(t, small())
	h := at(t, l, "n2")
	link, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	_, err = l.Probe(context.Background(), Probe{From: "dev/a", To: l.Addr("dev/c", netset.V4), Proto: netset.TCP, Port: 80})
	if !errors.Is(err, errFence) {
		t.Error(err)
	}
}

// TestTwoLabs builds the same lab twice and probes in both at once.
func TestTwoLabs(t *testing.T) {
	labs := []*Lab{start(t, small()), start(t, small())}
	h := at(t, labs[1], "n2")
	if err := h.RouteReplace(&netlink.Route{Dst: cidr(labs[1].Addr("dev/c", netset.V4)), Type: unix.RTN_BLACKHOLE}); err != nil {
		t.Fatal(err)
	}
	want := []Result{Answered, NoAnswer}
	got := make([]Result, 2)
	err := each(context.Background(), 2, func(i int) error {
		for range 20 {
			o, err := labs[i].Probe(context.Background(), Probe{From: "dev/a", To: labs[i].Addr("dev/c", netset.V4), Proto: netset.TCP, Port: 80})
			if got[i] = o.Result; err != nil || got[i] != want[i] {
				return fmt.Errorf("lab %d: %s, want %s: %w", i, got[i], want[i], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRealSockets talks to the responders as programs do.
func TestRealSockets(t *testing.T) {
	l := start(t, small())
	ctx := context.Background()
	for _, c := range []struct{ network, addr, send, want string }{
		{"tcp", "10.2.0.1:80", "", "dev/c tcp/80\n"},
		{"tcp", "[fd00:2::1]:80", "", "dev/c tcp/80\n"},
		{"tcp", "192.168.7.2:9100", "", "n2 tcp/9100\n"},
		{"udp", "10.2.0.1:53", "hello", "hello dev/c udp/53\n"},
		{"udp", "[fd00:2::1]:53", "hello", "hello dev/c udp/53\n"},
	} {
		conn, err := l.Dial(ctx, "dev/a", c.network, c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(c.send)); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if string(buf[:n]) != c.want || err != nil {
			t.Errorf("%s %s: %q, %v; want %q", c.network, c.addr, buf[:n], err, c.want)
		}
		conn.Close()
	}
}

// TestListen adds a port to a running pod, twice.
func TestListen(t *testing.T) {
	l := start(t, small())
	p := Probe{From: "internet", To: l.Addr("dev/a", netset.V6), Proto: netset.TCP, Port: 4433}
	for _, want := range []Result{Refused, Answered, Answered} {
		if o, err := l.Probe(context.Background(), p); o.Result != want || err != nil {
			t.Errorf("%s, %v; want %s", o.Result, err, want)
		}
		if err := l.Listen("dev/a", Port{netset.TCP, 4433}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBadProbes checks that a probe which cannot be sent says so and does not
// keep others from it.
func TestBadProbes(t *testing.T) {
	l := start(t, small())
	good := Probe{From: "dev/a", To: l.Addr("dev/b", netset.V4), Proto: netset.TCP, Port: 80}
	out, err := l.ProbeAll(context.Background(), []Probe{
		{From: "dev/x", To: good.To, Proto: netset.TCP, Port: 80},
		{From: "odd", To: l.Addr("dev/b", netset.V6), Proto: netset.TCP, Port: 80},
		{From: "dev/a", Proto: netset.TCP, Port: 80},
		{From: "dev/a", To: good.To, Proto: netset.UDP},
		good, good, good,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if bad := i < 4; bad != (o.Result == Error) || bad != (o.Err != nil) {
			t.Errorf("probe %d: %s, %v", i, o.Result, o.Err)
		}
		if i >= 4 && o.Result != Answered {
			t.Errorf("probe %d: %s", i, o.Result)
		}
	}
}

// TestCancel stops a run, and leaves nothing of it.
func TestCancel(t *testing.T) {
	l := start(t, sized(30))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.ProbeAll(ctx, allPairs(l, netset.V4, Port{netset.TCP, 80}, 900), nil); err == nil {
		t.Error("a cancelled run gave results")
	}
}
