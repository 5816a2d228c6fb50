package netset_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"picket/internal/netset"
)

// addrs returns the union of prefixes and single addresses.
func addrs(t testing.TB, texts ...string) netset.Addrs {
	t.Helper()
	var s netset.Addrs
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			s = s.Union(netset.FromAddr(netip.MustParseAddr(text)))
			continue
		}
		s = s.Union(netset.FromPrefix(p))
	}
	return s
}

func TestAddrsByHand(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  netset.Addrs
		want string
	}{
		{"nothing", netset.Addrs{}, "none"},
		{"host bits are ignored", addrs(t, "10.1.2.3/8"), "10.0.0.0/8"},
		{"halves join", addrs(t, "10.0.0.0/9", "10.128.0.0/9"), "10.0.0.0/8"},
		{"neighbours that are no prefix", addrs(t, "10.0.0.1", "10.0.0.2"), "10.0.0.1/32,10.0.0.2/32"},
		{"hole", addrs(t, "10.0.0.0/8").Subtract(addrs(t, "10.128.0.0/9")), "10.0.0.0/9"},
		{"hole in the middle", addrs(t, "10.0.0.0/30").Subtract(addrs(t, "10.0.0.1")), "10.0.0.0/32,10.0.0.2/31"},
		{"ends of IPv4", addrs(t, "0.0.0.0/0").Subtract(addrs(t, "0.0.0.0", "255.255.255.255")).
			Intersect(addrs(t, "0.0.0.0/31", "255.255.255.254/31")), "0.0.0.1/32,255.255.255.254/32"},
		{"families do not touch", addrs(t, "255.255.255.255", "::"), "255.255.255.255/32,::/128"},
		{"both families", addrs(t, "fd00::/8", "10.0.0.0/8"), "10.0.0.0/8,fd00::/8"},
		{"only IPv4", addrs(t, "fd00::/8", "10.0.0.0/8").Only(netset.V4), "10.0.0.0/8"},
		{"only IPv6", addrs(t, "fd00::/8", "10.0.0.0/8").Only(netset.V6), "fd00::/8"},
		{"mapped address is IPv4", addrs(t, "::ffff:10.0.0.1"), "10.0.0.1/32"},
		{"mapped prefix is IPv4", addrs(t, "::ffff:10.0.0.0/104"), "10.0.0.0/8"},
		{"zone is dropped", addrs(t, "fe80::1%eth0"), "fe80::1/128"},
		{"invalid prefix", netset.FromPrefix(netip.Prefix{}), "none"},
		{"invalid address", netset.FromAddr(netip.Addr{}), "none"},
		{"everything", netset.AllAddrs(netset.V4).Union(netset.AllAddrs(netset.V6)), "0.0.0.0/0,::/0"},
	} {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestAddrsContains(t *testing.T) {
	s := addrs(t, "10.0.0.0/8", "fe80::/64").Subtract(addrs(t, "10.1.0.0/16"))
	for text, want := range map[string]bool{
		"10.0.0.0": true, "10.0.255.255": true, "10.1.0.0": false, "10.1.255.255": false,
		"10.2.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "9.255.255.255": false,
		"::ffff:10.0.0.1": true, "fe80::1%eth0": true, "fe81::": false, "::": false,
	} {
		if got := s.Contains(netip.MustParseAddr(text)); got != want {
			t.Errorf("Contains(%s) = %v, want %v", text, got, want)
		}
	}
	if s.Contains(netip.Addr{}) || (netset.Addrs{}).Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("an invalid address, or an empty set, contains something")
	}
	if got := s.First(); got != netip.MustParseAddr("10.0.0.0") {
		t.Errorf("First() = %v", got)
	}
	if (netset.Addrs{}).First().IsValid() {
		t.Error("an empty set has a first address")
	}
}

// anyPrefix draws prefixes that crowd each other, and the ends of both
// families, so that borders meet.
func anyPrefix(t *rapid.T, label string) netip.Prefix {
	base := rapid.SampledFrom([]string{"10.0.0.0", "10.0.1.255", "0.0.0.0", "255.255.255.255", "fd00::", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}).Draw(t, label+" base")
	a := netip.MustParseAddr(base)
	b := a.AsSlice()
	b[len(b)-1] ^= byte(rapid.IntRange(0, 15).Draw(t, label+" low"))
	a, _ = netip.AddrFromSlice(b)
	bits := a.BitLen() - rapid.IntRange(0, 6).Draw(t, label+" size")
	if rapid.IntRange(0, 19).Draw(t, label+" wide") == 0 {
		bits = rapid.IntRange(0, a.BitLen()).Draw(t, label+" bits")
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// pair is one set in our form and in that of netipx.
type pair struct {
	ours   netset.Addrs
	theirs *netipx.IPSet
}

func build(t interface{ Fatal(...any) }, f func(*netipx.IPSetBuilder)) *netipx.IPSet {
	var b netipx.IPSetBuilder
	f(&b)
	s, err := b.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func anyPair(t *rapid.T, label string) pair {
	var p pair
	p.theirs = build(t, func(b *netipx.IPSetBuilder) {
		for range rapid.IntRange(0, 6).Draw(t, label+" n") {
			x := anyPrefix(t, label)
			if rapid.IntRange(0, 3).Draw(t, label+" remove") == 0 {
				p.ours = p.ours.Subtract(netset.FromPrefix(x))
				b.RemovePrefix(x)
			} else {
				p.ours = p.ours.Union(netset.FromPrefix(x))
				b.AddPrefix(x)
			}
		}
	})
	return p
}

// canonical fails unless the ranges are sorted, disjoint, of one family each,
// and not joinable.
func canonical(t interface{ Fatalf(string, ...any) }, s netset.Addrs) {
	var last netip.Addr
	for _, r := range s.Ranges() {
		if r.From.BitLen() != r.To.BitLen() || r.To.Less(r.From) {
			t.Fatalf("bad range %v-%v", r.From, r.To)
		}
		if last.IsValid() && (!last.Less(r.From) || last.Next() == r.From) {
			t.Fatalf("range at %v follows one that ends at %v", r.From, last)
		}
		last = r.To
	}
}

func TestAddrsAgainstNetipx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyPair(t, "a"), anyPair(t, "b")
		for _, op := range []struct {
			name string
			got  netset.Addrs
			want func(*netipx.IPSetBuilder)
		}{
			{"a", a.ours, func(x *netipx.IPSetBuilder) { x.AddSet(a.theirs) }},
			{"union", a.ours.Union(b.ours), func(x *netipx.IPSetBuilder) { x.AddSet(a.theirs); x.AddSet(b.theirs) }},
			{"intersect", a.ours.Intersect(b.ours), func(x *netipx.IPSetBuilder) { x.AddSet(a.theirs); x.Intersect(b.theirs) }},
			{"subtract", a.ours.Subtract(b.ours), func(x *netipx.IPSetBuilder) { x.AddSet(a.theirs); x.RemoveSet(b.theirs) }},
		} {
			canonical(t, op.got)
			want := build(t, op.want)
			if got := op.got.Prefixes(); !slices.Equal(got, want.Prefixes()) {
				t.Fatalf("%s: got %v, want %v", op.name, got, want.Prefixes())
			}
			probe := anyPrefix(t, "probe").Addr()
			if op.got.Contains(probe) != want.Contains(probe) {
				t.Fatalf("%s: Contains(%v) = %v", op.name, probe, op.got.Contains(probe))
			}
		}
		if a.ours.Equal(b.ours) != a.theirs.Equal(b.theirs) {
			t.Fatalf("Equal(%v, %v) = %v", a.ours, b.ours, a.ours.Equal(b.ours))
		}
	})
}

func TestAddrsAreImmutable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyPair(t, "a").ours, anyPair(t, "b").ours
		beforeA, beforeB := a.String(), b.String()
		a.Union(b).Union(netset.AllAddrs(netset.V6))
		a.Intersect(b).Union(a)
		a.Subtract(b).Union(b)
		a.Only(netset.V4).Union(b)
		if a.String() != beforeA || b.String() != beforeB {
			t.Fatalf("operands changed: %s → %v, %s → %v", beforeA, a, beforeB, b)
		}
	})
}

func TestPartitionByHand(t *testing.T) {
	p := netset.NewPartition([]netset.Addrs{
		addrs(t, "128.0.0.0/1").Subtract(addrs(t, "192.0.0.0/2")),
		addrs(t, "128.0.0.0/1"),
		addrs(t, "0.0.0.0/0"),
	})
	type block struct {
		Addrs   string
		Members []int
	}
	var got []block
	for _, b := range p.Blocks {
		got = append(got, block{b.Addrs.String(), b.Members})
	}
	want := []block{
		{"0.0.0.0/1", []int{2}},
		{"128.0.0.0/2", []int{0, 1, 2}},
		{"192.0.0.0/2", []int{1, 2}},
		{"::/0", []int{}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("blocks (-want +got):\n%s", d)
	}
	if b := p.Of(netip.MustParseAddr("192.168.2.3")); b != 2 {
		t.Errorf("192.168.2.3 is in block %d, want 2", b)
	}
	if n := len(netset.NewPartition(nil).Blocks); n != 1 {
		t.Errorf("no sets give %d blocks, want 1", n)
	}
}

func TestPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sets []netset.Addrs
		for range rapid.IntRange(0, 6).Draw(t, "sets") {
			sets = append(sets, anyPair(t, "set").ours)
		}
		p := netset.NewPartition(sets)
		var all netset.Addrs
		seen := map[string]bool{}
		for i, b := range p.Blocks {
			canonical(t, b.Addrs)
			switch {
			case b.Addrs.Empty():
				t.Fatalf("block %d is empty", i)
			case !all.Intersect(b.Addrs).Empty():
				t.Fatalf("block %d overlaps an earlier one", i)
			case i > 0 && !p.Blocks[i-1].Addrs.First().Less(b.Addrs.First()):
				t.Fatalf("block %d is out of order", i)
			}
			all = all.Union(b.Addrs)
			key := ""
			for j, s := range sets {
				switch in := slices.Contains(b.Members, j); {
				case in && !b.Addrs.Subtract(s).Empty():
					t.Fatalf("block %d is not inside its member %d", i, j)
				case !in && !b.Addrs.Intersect(s).Empty():
					t.Fatalf("block %d meets set %d, no member", i, j)
				case in:
					key += string(rune('a' + j))
				}
			}
			if seen[key] || !slices.IsSorted(b.Members) {
				t.Fatalf("members %v of block %d: repeated or unsorted", b.Members, i)
			}
			seen[key] = true
			for _, r := range b.Addrs.Ranges() {
				if p.Of(r.From) != i || p.Of(r.To) != i {
					t.Fatalf("Of disagrees on block %d at %v-%v", i, r.From, r.To)
				}
			}
		}
		if all.String() != "0.0.0.0/0,::/0" {
			t.Fatalf("blocks cover only %v", all)
		}
	})
}

func FuzzAddrs(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 8, 1, 10, 128, 0, 0, 9, 0})
	f.Add([]byte{255, 255, 255, 255, 32, 1, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours [2]netset.Addrs
		var theirs [2]netipx.IPSetBuilder
		for i := 0; len(data) >= 6 && i < 64; i++ {
			p, err := netip.AddrFrom4([4]byte(data)).Prefix(int(data[4] % 33))
			if err != nil {
				t.Fatal(err)
			}
			if data[5]&4 != 0 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, data[0], data[1], data[2], data[3]}), 96+p.Bits()).Masked()
			}
			which := i % 2
			if data[5]&1 != 0 {
				ours[which] = ours[which].Union(netset.FromPrefix(p))
				theirs[which].AddPrefix(p)
			} else {
				ours[which] = ours[which].Subtract(netset.FromPrefix(p))
				theirs[which].RemovePrefix(p)
			}
			data = data[6:]
		}
		b, err := theirs[1].IPSet()
		if err != nil {
			t.Fatal(err)
		}
		want := build(t, func(x *netipx.IPSetBuilder) {
			a, _ := theirs[0].IPSet()
			x.AddSet(a)
			x.Intersect(b)
		})
		got := ours[0].Intersect(ours[1])
		canonical(t, got)
		if !slices.Equal(got.Prefixes(), want.Prefixes()) {
			t.Fatalf("got %v, want %v", got, want.Prefixes())
		}
		if !got.Union(ours[0].Subtract(ours[1])).Equal(ours[0]) {
			t.Fatalf("(a ∩ b) ∪ (a − b) is not a: %v, %v", ours[0], ours[1])
		}
	})
}
