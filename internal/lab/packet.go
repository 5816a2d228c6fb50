//go:build linux

package lab

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// magic starts the payload of every probe that has room for one; the probe's
// number follows.
const magic = "PkPr"

const (
	finFlag = 1 << iota
	synFlag
	rstFlag
	_
	ackFlag
)

const (
	sctpInit    = 1
	sctpInitAck = 2
	sctpAbort   = 6
)

// A tuple is what a probe looks like on the wire.
type tuple struct {
	src, dst     netip.Addr
	proto        netset.Proto
	sport, dport uint16 // of ICMP, identifier and type*256+code
}

// build appends the IP packet of a probe with number id to b. Where the
// protocol has a number that the answer must repeat (the sequence number of
// TCP, the tag of SCTP) id goes there, else into the payload.
func build(b []byte, t tuple, id uint32) []byte {
	at := len(b)
	size := 20
	if t.src.Is6() {
		size = 40
	}
	b = append(b, make([]byte, size)...)
	b = payload(b, t, id)
	ip, l4 := b[at:at+size], b[at+size:]
	src, dst := t.src.AsSlice(), t.dst.AsSlice()
	if t.src.Is4() {
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(len(b)-at))
		ip[8], ip[9] = 64, byte(t.proto)
		copy(ip[12:], src)
		copy(ip[16:], dst)
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip)))
	} else {
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		ip[6], ip[7] = byte(t.proto), 64
		copy(ip[8:], src)
		copy(ip[24:], dst)
	}
	checksum(l4, t.proto, src, dst)
	return b
}

func payload(b []byte, t tuple, id uint32) []byte {
	be := binary.BigEndian
	switch t.proto {
	case netset.TCP:
		b = be.AppendUint32(be.AppendUint16(be.AppendUint16(b, t.sport), t.dport), id)
		b = append(b, 0, 0, 0, 0, 6<<4, synFlag, 0xfa, 0xf0, 0, 0, 0, 0)
		return append(b, 2, 4, 0x05, 0xb4) // maximum segment size 1460
	case netset.SCTP:
		b = be.AppendUint16(be.AppendUint16(b, t.sport), t.dport)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		b = append(b, sctpInit, 0, 0, 20)
		b = be.AppendUint32(b, max(id, 1)) // initiate tag
		b = be.AppendUint32(b, 64<<10)     // receiver window
		b = append(b, 0, 1, 0, 1)          // streams
		return be.AppendUint32(b, id)
	case netset.UDP:
		b = be.AppendUint16(be.AppendUint16(b, t.sport), t.dport)
		b = append(b, 0, 8+8, 0, 0)
	case netset.ICMP, netset.ICMPv6:
		b = append(b, byte(t.dport>>8), byte(t.dport), 0, 0)
		b = be.AppendUint16(be.AppendUint16(b, t.sport), 1)
	}
	return be.AppendUint32(append(b, magic...), id)
}

// checksum fills in the checksum of a payload whose field is zero.
func checksum(l4 []byte, proto netset.Proto, src, dst []byte) {
	at, pseudo := 0, true
	switch proto {
	case netset.TCP:
		at = 16
	case netset.UDP:
		at = 6
	case netset.ICMP:
		at, pseudo = 2, false
	case netset.ICMPv6:
		at = 2
	case netset.SCTP:
		binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, castagnoli))
		return
	default:
		return
	}
	var s uint32
	if pseudo {
		s = sum(sum(uint32(proto)+uint32(len(l4)), src), dst)
	}
	c := ^fold(sum(s, l4))
	if c == 0 && proto == netset.UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], c)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(s uint32, b []byte) uint32 {
	for len(b) >= 2 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// sctpAnswer returns what an SCTP endpoint says to an INIT: INIT ACK if it
// listens on the port, else ABORT.
func sctpAnswer(p []byte, listens func(port uint16) bool) ([]byte, bool) {
	if len(p) < 32 || p[12] != sctpInit {
		return nil, false
	}
	be := binary.BigEndian
	tag := p[16:20]                                     // theirs, to be repeated
	b := append(append([]byte{}, p[2:4]...), p[0:2]...) // ports the other way round
	b = append(append(b, tag...), 0, 0, 0, 0)
	if listens(be.Uint16(p[2:])) {
		b = append(b, sctpInitAck, 0, 0, 20+8)
		b = append(b, tag...) // ours: nobody will use it
		b = be.AppendUint32(b, 64<<10)
		b = append(b, 0, 1, 0, 1)
		b = append(b, tag...)
		b = append(b, 0, 7, 0, 8, 0, 0, 0, 1) // a state cookie
	} else {
		b = append(b, sctpAbort, 0, 0, 4)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	return b, true
}

// sightKind is what a packet seen by a tap tells about a probe.
type sightKind uint8

const (
	nothing  sightKind = iota
	arrival            // the probe itself
	answer             // the answer of somebody who listens
	refusal            // a reset, or an ICMP error that says that nobody listens
	rejected           // another ICMP error
)

// A sight is what a packet tells about the probe with number id. port is its
// source port, or identifier, as far as the packet tells.
type sight struct {
	kind sightKind
	id   uint32
	port uint16
}

// readIP reads an IP packet.
func readIP(p []byte) sight {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		n := int(p[0]&15) * 4
		if n < 20 || len(p) < n || binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
			return sight{}
		}
		return read(netset.Proto(p[9]), p[n:], false)
	case len(p) >= 40 && p[0]>>4 == 6:
		return read(netset.Proto(p[6]), p[40:], false)
	}
	return sight{}
}

// read reads what follows the IP header. quoted says that it comes from inside
// an ICMP error, cut short perhaps; then only probes are understood.
func read(proto netset.Proto, p []byte, quoted bool) sight {
	be := binary.BigEndian
	switch proto {
	case netset.TCP:
		if quoted && len(p) >= 8 {
			return sight{arrival, be.Uint32(p[4:]), be.Uint16(p)}
		}
		if len(p) < 20 {
			return sight{}
		}
		back := sight{answer, be.Uint32(p[8:]) - 1, be.Uint16(p[2:])}
		switch flags := p[13]; {
		case flags&(synFlag|ackFlag|rstFlag|finFlag) == synFlag:
			return sight{arrival, be.Uint32(p[4:]), be.Uint16(p)}
		case flags&rstFlag != 0:
			back.kind = refusal
			return back
		case flags&(synFlag|ackFlag) == synFlag|ackFlag:
			return back
		}
		return sight{}
	case netset.SCTP:
		switch {
		case len(p) >= 32 && p[12] == sctpInit:
			return sight{arrival, be.Uint32(p[28:]), be.Uint16(p)}
		case quoted || len(p) < 16:
			return sight{}
		case p[12] == sctpInitAck:
			return sight{answer, be.Uint32(p[4:]), be.Uint16(p[2:])}
		case p[12] == sctpAbort:
			return sight{refusal, be.Uint32(p[4:]), be.Uint16(p[2:])}
		}
		return sight{}
	case netset.UDP:
		if len(p) < 16 || string(p[8:12]) != magic {
			return sight{}
		}
		s := sight{arrival, be.Uint32(p[12:]), be.Uint16(p)}
		// An answer carries more than the probe did: the responder's name.
		if be.Uint16(p[4:]) > 16 {
			s.kind, s.port = answer, be.Uint16(p[2:])
		}
		return s
	case netset.ICMP, netset.ICMPv6:
		return readICMP(proto, p, quoted)
	}
	if len(p) < 8 || string(p[:4]) != magic {
		return sight{}
	}
	return sight{kind: arrival, id: be.Uint32(p[4:])}
}

func readICMP(proto netset.Proto, p []byte, quoted bool) sight {
	if len(p) < 8 {
		return sight{}
	}
	be := binary.BigEndian
	if !quoted {
		if kind := icmpError(proto, p[0], p[1]); kind != nothing {
			in, inside := p[8:], sight{}
			switch {
			case len(in) >= 20 && in[0]>>4 == 4 && len(in) >= int(in[0]&15)*4:
				inside = read(netset.Proto(in[9]), in[int(in[0]&15)*4:], true)
			case len(in) >= 40 && in[0]>>4 == 6:
				inside = read(netset.Proto(in[6]), in[40:], true)
			}
			if inside.kind != arrival {
				return sight{}
			}
			inside.kind = kind
			return inside
		}
	}
	if len(p) < 16 || string(p[8:12]) != magic {
		return sight{}
	}
	s := sight{arrival, be.Uint32(p[12:]), be.Uint16(p[4:])}
	if proto == netset.ICMP && p[0] == 0 || proto == netset.ICMPv6 && p[0] == 129 {
		s.kind = answer
	}
	return s
}

// icmpError classes an ICMP message: refusal where the target itself says that
// nobody listens, rejected for other errors, nothing for what is no error.
func icmpError(proto netset.Proto, typ, code byte) sightKind {
	switch {
	case proto == netset.ICMP && typ == 3 && (code == 2 || code == 3),
		proto == netset.ICMPv6 && typ == 1 && code == 4,
		proto == netset.ICMPv6 && typ == 4 && code == 1:
		return refusal
	case proto == netset.ICMP && (typ == 3 || typ == 11 || typ == 12),
		proto == netset.ICMPv6 && typ >= 1 && typ <= 4:
		return rejected
	}
	return nothing
}

// etherFence is the type of the frames that fences are made of; IEEE 802 keeps
// it for local experiments.
const etherFence = unix.ETH_P_802_EX1

// A mark is what a fence frame carries.
type mark struct {
	run, fence uint32 // which fence of which run
	hop        uint32 // the number of the hop that the frame proves
}

const markSize = 14 + 4 + 12

func (m mark) frame(dst, src []byte) []byte {
	b := append(append(make([]byte, 0, 60), dst...), src...)
	b = binary.BigEndian.AppendUint16(b, etherFence)
	b = append(b, magic...)
	for _, v := range []uint32{m.run, m.fence, m.hop} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, make([]byte, 60-len(b))...)
}

func readMark(p []byte) (mark, bool) {
	if len(p) < markSize || string(p[14:18]) != magic {
		return mark{}, false
	}
	be := binary.BigEndian
	return mark{be.Uint32(p[18:]), be.Uint32(p[22:]), be.Uint32(p[26:])}, true
}
