//go:build linux

package nft

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"sync/atomic"

	"picket/internal/netset"
)

// A packet by hand. The number in it tells it from all others.
type packet struct {
	src, dst     netip.Addr
	proto        netset.Proto
	sport, dport uint16 // of ICMP: identifier, and type*256+code
	flags        byte   // of TCP; 0 stands for SYN
	seq, ack     uint32
	size         int // of the payload
	hops         byte
	inner        []byte // in an ICMP error
	badSum       bool
}

var lastNumber atomic.Uint32

func (p packet) build(number uint32) []byte {
	bigEndian := binary.BigEndian
	body := bigEndian.AppendUint32([]byte("PiCk"), number)
	body = append(body, make([]byte, p.size)...)
	var l4 []byte
	at := -1
	switch p.proto {
	case netset.TCP:
		flags := p.flags
		if flags == 0 {
			flags = 2
		}
		l4 = bigEndian.AppendUint16(bigEndian.AppendUint16(nil, p.sport), p.dport)
		l4 = bigEndian.AppendUint32(bigEndian.AppendUint32(l4, p.seq), p.ack)
		l4 = append(append(l4, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0), body...)
		at = 16
	case netset.UDP:
		l4 = bigEndian.AppendUint16(bigEndian.AppendUint16(nil, p.sport), p.dport)
		l4 = append(bigEndian.AppendUint16(l4, uint16(8+len(body))), 0, 0)
		l4 = append(l4, body...)
		at = 6
	case netset.ICMP, netset.ICMPv6:
		l4 = []byte{byte(p.dport >> 8), byte(p.dport), 0, 0, byte(p.sport >> 8), byte(p.sport), 0, 1}
		if p.inner != nil {
			body = append(append([]byte{}, p.inner...), body...)
		}
		l4 = append(l4, body...)
		at = 2
	case netset.SCTP:
		l4 = bigEndian.AppendUint16(bigEndian.AppendUint16(nil, p.sport), p.dport)
		l4 = append(l4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20)
		l4 = bigEndian.AppendUint32(l4, 7)
		l4 = append(l4, 0, 1, 0, 0, 0, 1, 0, 1)
		l4 = bigEndian.AppendUint32(l4, 1)
		binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli)))
	default:
		l4 = body
	}
	src, dst := p.src.AsSlice(), p.dst.AsSlice()
	if at >= 0 {
		var pseudo []byte
		if p.proto != netset.ICMP {
			pseudo = append(append(append(pseudo, src...), dst...), 0, byte(p.proto), byte(len(l4)>>8), byte(len(l4)))
		}
		sum := checksum(append(pseudo, l4...))
		if p.badSum {
			sum++
		}
		bigEndian.PutUint16(l4[at:], sum)
	}
	hops := p.hops
	if hops == 0 {
		hops = 64
	}
	if p.src.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, hops, byte(p.proto)
		bigEndian.PutUint16(ip[2:], uint16(20+len(l4)))
		bigEndian.PutUint16(ip[4:], uint16(number))
		copy(ip[12:], src)
		copy(ip[16:], dst)
		bigEndian.PutUint16(ip[10:], checksum(ip))
		return append(ip, l4...)
	}
	ip := make([]byte, 40)
	ip[0], ip[6], ip[7] = 0x60, byte(p.proto), hops
	bigEndian.PutUint16(ip[4:], uint16(len(l4)))
	copy(ip[8:], src)
	copy(ip[24:], dst)
	return append(ip, l4...)
}

func checksum(b []byte) uint16 {
	var s uint32
	for i := range b {
		if i%2 == 0 {
			s += uint32(b[i]) << 8
		} else {
			s += uint32(b[i])
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
