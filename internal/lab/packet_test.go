//go:build linux

package lab

import (
	"encoding/binary"
	"testing"

	"picket/internal/netset"
)

var (
	tuple4 = tuple{src: addrs("10.0.0.1")[0], dst: addrs("10.0.0.2")[0], sport: 20000, dport: 80}
	tuple6 = tuple{src: addrs("fd00::1")[0], dst: addrs("fd00::2")[0], sport: 20000, dport: 80}
)

// TestReadProbe reads back what build made, at the target and quoted in an
// ICMP error. That the packets are right otherwise, kernels say in TestReach.
func TestReadProbe(t *testing.T) {
	for _, tp := range []tuple{tuple4, tuple6} {
		for _, proto := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP, netset.ICMP, netset.ICMPv6, 47} {
			if proto == netset.ICMP && tp.src.Is6() || proto == netset.ICMPv6 && tp.src.Is4() {
				continue
			}
			tp.proto, tp.dport = proto, 80
			port := uint16(20000)
			switch proto {
			case netset.ICMP:
				tp.dport = 8 << 8
			case netset.ICMPv6:
				tp.dport = 128 << 8
			case 47:
				port = 0
			}
			p := build(nil, tp, 0x12345678)
			if got, want := readIP(p), (sight{arrival, 0x12345678, port}); got != want {
				t.Errorf("%s: %+v, want %+v", proto, got, want)
			}
			errorProto, refused, other := netset.ICMP, []byte{3, 3}, []byte{3, 13}
			if tp.src.Is6() {
				errorProto, refused, other = netset.ICMPv6, []byte{1, 4}, []byte{1, 1}
			}
			for kind, code := range map[sightKind][]byte{refusal: refused, rejected: other} {
				e := append(append(code[:2:2], make([]byte, 6)...), p...)
				if got, want := read(errorProto, e, false), (sight{kind, 0x12345678, port}); got != want {
					t.Errorf("%s in an error: %+v, want %+v", proto, got, want)
				}
			}
		}
	}
}

// FuzzRead reads anything without a fault.
func FuzzRead(f *testing.F) {
	for _, proto := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP, netset.ICMP} {
		tp := tuple4
		tp.proto = proto
		p := build(nil, tp, 1)
		f.Add(p)
		f.Add(append([]byte{0x45, 19: 0}, append([]byte{3, 3, 7: 0}, p...)...))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		readIP(p)
		readMark(p)
		for _, proto := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP, netset.ICMP, netset.ICMPv6, 47} {
			read(proto, p, false)
			read(proto, p, true)
		}
		sctpAnswer(p, func(port uint16) bool { return port%2 == 0 })
	})
}

func TestMark(t *testing.T) {
	want := mark{1, 2, 3}
	frame := want.frame(hardware(1, 2), hardware(3, 4))
	if len(frame) != 60 || binary.BigEndian.Uint16(frame[12:]) != etherFence {
		t.Errorf("% x", frame)
	}
	if got, ok := readMark(frame); !ok || got != want {
		t.Error(got, ok)
	}
}

func TestReadDrops(t *testing.T) {
	text := "entries  clashres found drop early_drop\n00000001 00000000 00000002 0000000a 00000005\n00000001 00000000 00000002 00000002 00000000\n"
	if n := readDrops(text); n != 12 {
		t.Errorf("%d drops, want 12", n)
	}
	text = "00000010 00000003 00000000\n00000010 00000011 00000000\n"
	if n := readBacklog(text); n != 20 {
		t.Errorf("%d drops, want 20", n)
	}
}
