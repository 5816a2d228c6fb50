package netset_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"picket/internal/netset"
)

const lastKey = netset.Key(1<<24 - 1)

func TestTrafficString(t *testing.T) {
	tcp := func(from, to uint16) netset.Traffic { return netset.Ports(netset.TCP, from, to) }
	udp53 := netset.Ports(netset.UDP, 53, 53)
	three := netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP)
	for _, tt := range []struct {
		got  netset.Traffic
		want string
	}{
		{netset.Traffic{}, "none"},
		{netset.AllTraffic(), "all"},
		{tcp(80, 80), "tcp/80"},
		{tcp(80, 80).Union(tcp(443, 443)).Union(tcp(8000, 8100)).Union(udp53), "tcp/80,443,8000-8100 udp/53"},
		{tcp(80, 81), "tcp/80-81"},
		{netset.AllPorts(netset.TCP), "tcp"},
		{three, "tcp udp sctp"},
		{netset.AllPorts(netset.SCTP).Union(udp53), "udp/53 sctp"},
		{netset.AllTraffic().Subtract(tcp(80, 80)), "all except tcp/80"},
		{netset.AllTraffic().Subtract(three), "icmp icmpv6 other"},
		{netset.AllPorts(47), "47"},
		{netset.AllPorts(netset.ICMP), "icmp"},
		{netset.Ports(netset.ICMP, 8<<8, 8<<8), "icmp/8.0"},
		{netset.Ports(netset.ICMP, 8<<8, 8<<8|255), "icmp/8"},
		{netset.Ports(netset.ICMP, 3<<8|4, 3<<8|4).Union(netset.Ports(netset.ICMP, 8<<8, 8<<8)), "icmp/3.4,8.0"},
		{netset.Ports(netset.ICMPv6, 3<<8|1, 4<<8), "icmpv6/3.1-4.0"},
		{netset.Ports(netset.TCP, 2, 1), "none"},
		{netset.Span(netset.KeyOf(netset.TCP, 65535), netset.KeyOf(7, 0)), "tcp/65535 7/0"},
	} {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestTrafficStringTellsApart holds that what reads alike is alike.
func TestTrafficStringTellsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTraffic(t, "a"), anyTraffic(t, "b")
		if a.set.String() == b.set.String() && !a.set.Equal(b.set) {
			t.Fatalf("different sets read %q", a.set)
		}
	})
}

func TestKeyString(t *testing.T) {
	if netset.Echo(netset.V4) != netset.KeyOf(1, 8<<8) || netset.Echo(netset.V6) != netset.KeyOf(58, 128<<8) {
		t.Errorf("echo requests are %x and %x", netset.Echo(netset.V4), netset.Echo(netset.V6))
	}
	for k, want := range map[netset.Key]string{
		netset.KeyOf(netset.TCP, 80):      "tcp/80",
		netset.KeyOf(netset.SCTP, 9):      "sctp/9",
		netset.KeyOf(47, 0):               "47/0",
		netset.Echo(netset.V4):            "icmp",
		netset.Echo(netset.V6):            "icmpv6",
		netset.KeyOf(netset.ICMP, 3<<8|4): "icmp/3.4",
		netset.KeyOf(netset.ICMPv6, 2<<8): "icmpv6/2.0",
	} {
		if got := k.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if netset.KeyOf(k.Proto(), k.Port()) != k {
			t.Errorf("%s does not survive being taken apart", want)
		}
	}
}

func TestParseProto(t *testing.T) {
	for s, want := range map[string]netset.Proto{"tcp": netset.TCP, "UDP": netset.UDP, "Sctp": netset.SCTP, "icmp": netset.ICMP, "ICMPv6": netset.ICMPv6, "47": 47, "0": 0, "255": 255} {
		if got, err := netset.ParseProto(s); err != nil || got != want {
			t.Errorf("ParseProto(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "256", "-1", "tpc", " tcp", "0x6"} {
		if got, err := netset.ParseProto(s); err == nil || !strings.Contains(err.Error(), "unknown protocol") {
			t.Errorf("ParseProto(%q) = %v, %v; want an error", s, got, err)
		}
	}
}

// points are the keys that the random sets below begin and end at, with their
// neighbours: a set of them is told by which of the points it holds.
var points = func() []netset.Key {
	out := []netset.Key{0, 1, lastKey - 1, lastKey}
	for _, k := range []netset.Key{
		netset.KeyOf(netset.TCP, 0), netset.KeyOf(netset.TCP, 80), netset.KeyOf(netset.TCP, 65535),
		netset.KeyOf(netset.UDP, 53), netset.Echo(netset.V4), netset.KeyOf(200, 7),
	} {
		out = append(out, k-1, k, k+1)
	}
	slices.Sort(out)
	return slices.Compact(out)
}()

// a model is a Traffic with the points that it must hold.
type trafficModel struct {
	set netset.Traffic
	in  map[netset.Key]bool
}

func anyTraffic(t *rapid.T, label string) trafficModel {
	m := trafficModel{in: map[netset.Key]bool{}}
	for range rapid.IntRange(0, 5).Draw(t, label+" n") {
		from := rapid.SampledFrom(points).Draw(t, label+" from")
		to := rapid.SampledFrom(points).Draw(t, label+" to")
		m.set = m.set.Union(netset.Span(from, to))
		for _, p := range points {
			m.in[p] = m.in[p] || from <= p && p <= to
		}
	}
	return m
}

func TestTrafficAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTraffic(t, "a"), anyTraffic(t, "b")
		union, both, minus := a.set.Union(b.set), a.set.Intersect(b.set), a.set.Subtract(b.set)
		for _, p := range points {
			if union.Contains(p) != (a.in[p] || b.in[p]) || both.Contains(p) != (a.in[p] && b.in[p]) || minus.Contains(p) != (a.in[p] && !b.in[p]) {
				t.Fatalf("%v, %v: wrong at %v", a.set, b.set, p)
			}
		}
		for _, s := range []netset.Traffic{union, both, minus} {
			rs := s.Ranges()
			for i, r := range rs {
				if r.From > r.To || r.To > lastKey || i > 0 && rs[i-1].To+1 >= r.From {
					t.Fatalf("%v is not canonical", rs)
				}
			}
			var again netset.Traffic
			for _, pr := range s.PortRanges() {
				again = again.Union(netset.Ports(pr.Proto, pr.From, pr.To))
			}
			if !again.Equal(s) {
				t.Fatalf("PortRanges of %v give %v", s, again)
			}
		}
		if !minus.Union(both).Equal(a.set) || !minus.Intersect(b.set).Empty() {
			t.Fatalf("a − b and a ∩ b are no partition of a: %v, %v", a.set, b.set)
		}
		if a.set.All() != a.set.Equal(netset.AllTraffic()) {
			t.Fatalf("All() = %v of %v", a.set.All(), a.set)
		}
	})
}

func TestPortRangesOfEverything(t *testing.T) {
	rs := netset.AllTraffic().PortRanges()
	if len(rs) != 256 || !rs[0].Whole() || rs[255].Proto != 255 {
		t.Errorf("AllTraffic has %d port ranges, want 256 whole ones", len(rs))
	}
	want := []netset.PortRange{{Proto: netset.TCP, From: 65000, To: 65535}, {Proto: 7, From: 0, To: 65535}, {Proto: 8, From: 0, To: 3}}
	got := netset.Span(netset.KeyOf(netset.TCP, 65000), netset.KeyOf(8, 3)).PortRanges()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("port ranges (-want +got):\n%s", d)
	}
}

func TestCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sets []netset.Traffic
		for range rapid.IntRange(0, 5).Draw(t, "sets") {
			sets = append(sets, anyTraffic(t, "set").set)
		}
		cells := netset.Cells(sets)
		if cells[0].From != 0 || cells[len(cells)-1].To != lastKey {
			t.Fatalf("cells do not cover the space: %v", cells)
		}
		for i, c := range cells {
			apart := i == 0
			for _, s := range sets {
				if in := netset.Span(c.From, c.To).Intersect(s); !in.Empty() && !in.Equal(netset.Span(c.From, c.To)) {
					t.Fatalf("%v cuts cell %v", s, c)
				}
				apart = apart || s.Contains(c.From) != s.Contains(c.From-1)
			}
			switch {
			case c.From > c.To:
				t.Fatalf("cell %v is empty", c)
			case i > 0 && cells[i-1].To+1 != c.From:
				t.Fatalf("cells %d and %d do not meet", i-1, i)
			case !apart:
				t.Fatalf("nothing tells cell %d from the one before", i)
			}
		}
	})
}

func FuzzTraffic(f *testing.F) {
	f.Add([]byte{6, 0, 80, 6, 0, 90, 17, 0, 53, 17, 0, 53})
	f.Add([]byte{0, 0, 0, 255, 255, 255, 1, 8, 0, 1, 8, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s [2]netset.Traffic
		key := func(b []byte) netset.Key { return netset.KeyOf(netset.Proto(b[0]), uint16(b[1])<<8|uint16(b[2])) }
		for i := 0; len(data) >= 6 && i < 64; i++ {
			s[i%2] = s[i%2].Union(netset.Span(key(data), key(data[3:])))
			data = data[6:]
		}
		a, b := s[0], s[1]
		if !a.Subtract(b).Union(a.Intersect(b)).Equal(a) || !a.Union(b).Subtract(b).Equal(a.Subtract(b)) {
			t.Fatalf("%v, %v: the algebra does not hold", a, b)
		}
		not := func(x netset.Traffic) netset.Traffic { return netset.AllTraffic().Subtract(x) }
		if !not(a.Union(b)).Equal(not(a).Intersect(not(b))) {
			t.Fatalf("%v, %v: De Morgan does not hold", a, b)
		}
		if a.String() == b.String() && !a.Equal(b) {
			t.Fatalf("different sets read %q", a)
		}
	})
}
