//go:build linux

package lab

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// drain reads all taps until all are empty, after waiting for the first packet
// as long as that.
func (r *run) drain(wait time.Duration) error {
	var events [128]unix.EpollEvent
	for {
		n, err := unix.EpollWait(r.epoll, events[:], int(wait.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		if n == 0 {
			return nil
		}
		wait = 0
		for _, e := range events[:n] {
			t := &r.taps[e.Fd]
			for range 256 {
				size := t.receive(r.buf)
				if size < 0 {
					break
				}
				r.packet(t, r.buf[:size])
			}
		}
	}
}

// packet notes what a packet seen by a tap shows.
func (r *run) packet(t *tap, p []byte) {
	var s sight
	switch t.kind {
	case frameTap:
		if len(p) < 14 {
			return
		}
		switch uint16(p[12])<<8 | uint16(p[13]) {
		case etherFence:
			r.passed(p)
			return
		case unix.ETH_P_IP, unix.ETH_P_IPV6:
			s = readIP(p[14:])
		}
	case ip4Tap:
		s = readIP(p)
	case ip6Tap:
		s = read(t.proto, p, false)
	}
	// The number alone decides: ports and addresses may be translated on the
	// way. A stranger's packet would have to hit one of our numbers out of 2³².
	n := s.id - r.base
	if s.kind == nothing || n >= uint32(len(r.sent)) {
		return
	}
	probe := &r.state[r.sent[n]]
	before := probe.waiting()
	switch {
	case s.kind == arrival && (probe.to < 0 || int(probe.to) == t.space):
		if probe.at < 0 {
			probe.at = int32(t.space)
			// The kernel gives protocols that it does not know to raw sockets,
			// if there are any, and says nothing then; the tap is one.
			probe.mute = t.kind != frameTap && !spoken(probe.t.proto)
		}
	case s.kind != arrival && int(probe.from) == t.space && probe.reply == nothing:
		probe.reply = s.kind
		probe.rtt = time.Since(probe.sentAt)
	}
	switch after := probe.waiting(); {
	case after && !before:
		r.pending++
	case before && !after:
		r.pending--
	}
}

// spoken reports whether every kernel answers the protocol by itself.
func spoken(p netset.Proto) bool {
	return p == netset.TCP || p == netset.UDP || p == netset.ICMP || p == netset.ICMPv6
}

// waiting reports whether the probe arrived and an answer may come yet.
func (s *probeState) waiting() bool { return s.at >= 0 && s.reply == nothing && !s.mute }

// settled reports whether nothing can be learnt from sending the probe again.
func (s *probeState) settled() bool { return s.at >= 0 && (s.reply != nothing || s.mute) }

// outcomes says what was seen.
func (r *run) outcomes() []Outcome {
	out := make([]Outcome, len(r.state))
	for i := range r.state {
		s, o := &r.state[i], &out[i]
		if s.err != nil {
			o.Err = s.err
			continue
		}
		o.RTT = s.rtt
		arrived := s.at >= 0
		if arrived {
			o.At = r.l.spaces[s.at].name
		}
		switch {
		case !arrived && s.reply == nothing:
			o.Result = NoAnswer
		case !arrived:
			o.Result = Rejected
		case s.reply == nothing || s.reply == rejected:
			o.Result = Arrived
		case s.reply == refusal:
			o.Result = Refused
		default:
			o.Result = Answered
		}
	}
	return out
}
