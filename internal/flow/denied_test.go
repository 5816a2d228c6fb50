//go:build linux

package flow

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/florianl/go-nflog/v2"

	"picket/internal/model"
	"picket/internal/netset"
)

// attr is one netlink attribute; nested ones carry a flag that readers ignore.
func attr(typ uint16, parts ...[]byte) []byte {
	var data []byte
	for _, p := range parts {
		data = append(data, p...)
	}
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The packet goes to a Service; its connection knows the pod behind it.
func TestReadDenied(t *testing.T) {
	const nested = 0x8000
	// 10.0.0.1 > 10.96.0.1 tcp 40000 > 443
	packet := unhex(t, "4500002800000000400600000a0000010a600001"+"9c4001bb")
	ct := append(
		attr(1|nested, attr(1|nested, attr(1, []byte{10, 0, 0, 1}), attr(2, []byte{10, 96, 0, 1})),
			attr(2|nested, attr(1, []byte{6}), attr(2, []byte{0x9c, 0x40}), attr(3, []byte{1, 0xbb}))),
		attr(2|nested, attr(1|nested, attr(1, []byte{10, 0, 0, 2}), attr(2, []byte{10, 0, 0, 1})),
			attr(2|nested, attr(1, []byte{6}), attr(2, []byte{0x20, 0xfb}), attr(3, []byte{0x9c, 0x40})))...)
	read := func(prefix string, payload, ct []byte) (Denied, bool) {
		a := nflog.Attribute{Prefix: &prefix, Payload: &payload}
		if ct != nil {
			a.Ct = &ct
		}
		return readDenied(a)
	}
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name, prefix string
		packet, ct   []byte
		want         Denied
	}{
		{"by its connection", "picket:in:deny\x00", packet, ct, Denied{
			Direction: model.Ingress, Initiator: addr("10.0.0.1"), Responder: addr("10.0.0.2"), Key: netset.KeyOf(netset.TCP, 8443)}},
		{"by itself", "picket:eg:deny", packet, nil, Denied{
			Direction: model.Egress, Initiator: addr("10.0.0.1"), Responder: addr("10.96.0.1"), Key: netset.KeyOf(netset.TCP, 443)}},
		{"cut short", "picket:unknown", packet[:20], nil, Denied{
			Unknown: true, Initiator: addr("10.0.0.1"), Responder: addr("10.96.0.1"), Key: netset.KeyOf(netset.TCP, 0)}},
		{"ICMPv6", "picket:in:deny", unhex(t, "60000000000400ff"+"fd000000000000000000000000000001"+"fd000000000000000000000000000002"+"80000000")[:44], nil, Denied{}},
	} {
		if c.name == "ICMPv6" {
			c.packet[6] = 58
			c.want = Denied{Initiator: addr("fd00::1"), Responder: addr("fd00::2"), Key: netset.Echo(netset.V6)}
		}
		got, ok := read(c.prefix, c.packet, c.ct)
		got.At = c.want.At
		if !ok || got != c.want {
			t.Errorf("%s: %+v %t, want %+v", c.name, got, ok, c.want)
		}
	}
	if _, ok := read("somebody else", packet, nil); ok {
		t.Error("another's message was taken for ours")
	}
	if _, ok := read("picket:in:deny", packet[:10], nil); ok {
		t.Error("half a header was taken for a packet")
	}
}

// Whatever the log says, reading it does not panic.
func FuzzDenied(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20}, []byte{8, 0, 1, 0x80, 4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, packet, ct []byte) {
		prefix := "picket:in:deny"
		readDenied(nflog.Attribute{Prefix: &prefix, Payload: &packet, Ct: &ct})
		readDenied(nflog.Attribute{Prefix: &prefix, Payload: &packet})
	})
}
