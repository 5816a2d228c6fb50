//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

const (
	window     = 64                     // probes sent before the taps are read
	patience   = 500 * time.Millisecond // for answers that no fence covers, since the last one came
	sendings   = 2                      // of a probe before it counts as dropped
	maxRounds  = 8                      // if the kernel runs out of room, which makes a round void
	firstPort  = 20000                  // of the probes' source ports
	portsCycle = 40000
)

// A run is one call of ProbeAll. One thread, bound to one processor, sends,
// receives and decides.
type run struct {
	l        *Lab
	probes   []Probe
	progress func(done, total int)
	state    []probeState
	need     []need   // by space
	senders  [][2]int // sockets to send from, by space: IPv4, IPv6; 0 for none
	taps     []tap
	links    []int // by space: the socket that sends and receives fence frames; 0 for none
	epoll    int
	tables   []*table

	base    uint32  // number of the first packet
	sent    []int32 // the probe of each packet
	pending int     // probes that arrived and are not answered
	buf     []byte
	frame   []byte

	id     uint32 // of the run, in its fence frames
	fences uint32
	hops   []hop
}

type probeState struct {
	t        tuple
	from, to int32 // spaces; to is -1 if any will do
	copies   uint16
	at       int32 // where it arrived; -1 if it did not
	mute     bool  // it arrived, and no answer can come
	reply    sightKind
	sentAt   time.Time
	rtt      time.Duration
	err      error
}

// need is what a run must open in a space.
type need struct {
	send [2]bool // by family
	see  bool
	self bool // probes go from it to itself
}

func newRun(l *Lab, probes []Probe, progress func(done, total int)) *run {
	r := &run{
		l: l, probes: probes, progress: progress,
		state:   make([]probeState, len(probes)),
		need:    make([]need, len(l.spaces)),
		senders: make([][2]int, len(l.spaces)),
		links:   make([]int, len(l.spaces)),
		epoll:   -1,
		base:    rand.Uint32(), id: rand.Uint32(),
		buf: make([]byte, 2048),
	}
	seen := map[tuple]uint16{}
	for i, p := range probes {
		s := &r.state[i]
		s.at = -1
		if s.err = r.plan(p, s); s.err != nil {
			continue
		}
		// Equal packets would be one connection to the kernel.
		s.copies = seen[s.t]
		seen[s.t]++
	}
	return r
}

// plan works out what a probe looks like and who takes part.
func (r *run) plan(p Probe, s *probeState) error {
	from := r.l.endpoints[p.From]
	if from == nil {
		return fmt.Errorf("there is no endpoint %q in the lab", p.From)
	}
	if !p.To.IsValid() {
		return errors.New("the probe has no target")
	}
	src := p.Src
	if !src.IsValid() {
		src = first(from.addrs, netset.FamilyOf(p.To))
	}
	if !src.IsValid() || src.Is4() != p.To.Is4() {
		return fmt.Errorf("%s has no address to reach %s from", p.From, p.To)
	}
	s.t = tuple{src: src, dst: p.To, proto: p.Proto, dport: p.Port}
	switch p.Proto {
	case netset.ICMP, netset.ICMPv6:
		f := netset.FamilyOf(p.To)
		echo := netset.Echo(f)
		s.t.proto = echo.Proto()
		if p.Port == 0 {
			s.t.dport = uint16(echo)
		}
	case netset.TCP, netset.UDP, netset.SCTP:
		if p.Port == 0 {
			return errors.New("the probe has no port")
		}
	default:
		s.t.dport = 0
	}
	s.from, s.to = int32(from.space), -1
	r.need[from.space].see = true
	r.need[from.space].send[familyIndex(src)] = true
	if owner := r.l.owners[p.To]; owner != nil {
		s.to = int32(owner.space)
		r.need[owner.space].see = true
		r.need[owner.space].self = r.need[owner.space].self || s.to == s.from
		return nil
	}
	for i := range r.need[1:] {
		r.need[1+i].see = true
	}
	return nil
}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// do sends the probes, in rounds.
func (r *run) do(ctx context.Context) error {
	if err := bind(); err != nil {
		return err
	}
	left := make([]int32, 0, len(r.state))
	for i := range r.state {
		if r.state[i].err == nil {
			left = append(left, int32(i))
		}
	}
	total := len(r.state)
	for round, good := 0, 0; len(left) > 0 && good < sendings; round++ {
		if round == maxRounds {
			r.fail(left, errors.New("the kernel has no room for so many packets or connections at once"))
			break
		}
		if err := r.sendAll(ctx, left, total-len(left)); err != nil {
			return err
		}
		// The first fence ends when all probes have arrived or were dropped, the
		// second when the answers that kernels give have.
		for range 2 {
			if err := r.fence(ctx); err != nil {
				return err
			}
		}
		if err := r.await(ctx); err != nil {
			return err
		}
		if !r.lost() {
			good++
		}
		rest := left[:0]
		for _, i := range left {
			if s := &r.state[i]; s.err == nil && !s.settled() {
				rest = append(rest, i)
			}
		}
		left = rest
		r.progress(total-len(left), total)
	}
	r.progress(total, total)
	return nil
}

// lost reports whether the kernel had no room for a packet somewhere, so that
// what did not arrive says nothing.
func (r *run) lost() bool {
	lost := false
	for i := range r.taps {
		lost = r.taps[i].lost() || lost
	}
	for _, t := range r.tables {
		lost = t.lost() || lost
	}
	return lost
}

func (r *run) fail(left []int32, err error) {
	for _, i := range left {
		r.state[i].err = err
	}
}

// bind keeps the thread on the processor where it is.
func bind() error {
	var cpu uint32
	if err := getcpu(&cpu); err != nil {
		return fmt.Errorf("getcpu: %w", err)
	}
	var set unix.CPUSet
	set.Set(int(cpu))
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind the probing thread to a processor: %w", err)
	}
	return nil
}

// sendAll sends one packet for each of the probes. All packets of a round
// share a source port that no round used for long, so that no connection of
// an earlier round answers for them.
func (r *run) sendAll(ctx context.Context, left []int32, done int) error {
	var copies uint16
	for _, i := range left {
		copies = max(copies, r.state[i].copies)
	}
	first := r.l.rounds.Add(uint32(copies)+1) - uint32(copies) - 1
	to4, to6 := &unix.SockaddrInet4{}, &unix.SockaddrInet6{}
	for n, i := range left {
		s := &r.state[i]
		s.t.sport = uint16(firstPort + (first+uint32(s.copies))%portsCycle)
		id := r.base + uint32(len(r.sent))
		r.sent = append(r.sent, i)
		r.frame = build(r.frame[:0], s.t, id)
		s.sentAt = time.Now()
		var err error
		for range 10 {
			if s.t.dst.Is4() {
				to4.Addr = s.t.dst.As4()
				err = unix.Sendto(r.senders[s.from][0], r.frame, unix.MSG_DONTWAIT, to4)
			} else {
				to6.Addr = s.t.dst.As16()
				err = unix.Sendto(r.senders[s.from][1], r.frame, unix.MSG_DONTWAIT, to6)
			}
			if err != unix.EAGAIN && err != unix.ENOBUFS && err != unix.EINTR {
				break
			}
			if err := r.drain(time.Millisecond); err != nil {
				return err
			}
		}
		switch err {
		case nil, unix.EPERM, unix.EACCES: // refused by the sender's own rules: a drop
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			// Either there is no route, or an ICMP error that came for an earlier
			// packet is reported now; the packet is sent again in the next round.
		default:
			s.err = fmt.Errorf("send: %w", err)
		}
		if n%window == window-1 {
			if err := r.drain(0); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if n%(64*window) == 64*window-1 {
				r.progress(done, len(r.state)) // no more than is known: fences come later
			}
		}
	}
	return r.drain(0)
}

// await waits for answers that programs give: they wait their turn on a
// processor, and no packet can tell when that is.
func (r *run) await(ctx context.Context) error {
	end := time.Now().Add(patience)
	for before := r.pending; r.pending > 0 && time.Now().Before(end); {
		if err := r.drain(5 * time.Millisecond); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.pending != before {
			before, end = r.pending, time.Now().Add(patience)
		}
	}
	return nil
}
