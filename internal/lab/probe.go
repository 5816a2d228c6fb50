//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"picket/internal/netset"
)

// Probe is one packet to be sent: a TCP SYN, a UDP datagram, an SCTP INIT, an
// ICMP message, or a packet of any other protocol with a few bytes in it.
type Probe struct {
	From  string     // an endpoint
	Src   netip.Addr // its address to send from; the zero Addr stands for its first of the family
	To    netip.Addr // of an endpoint, or one that is translated to such
	Proto netset.Proto
	Port  uint16 // of ICMP type*256+code, 0 for an echo request; ignored for protocols without ports
}

// String says the probe as "dev/a > 10.0.0.2 tcp/80".
func (p Probe) String() string {
	return fmt.Sprintf("%s > %s %s", p.From, p.To, netset.KeyOf(p.Proto, p.Port))
}

// Result is what became of a probe.
type Result uint8

// The results. The zero value says that nothing was learnt.
const (
	Error    Result = iota // it could not be sent or watched: see Outcome.Err
	NoAnswer               // it did not arrive, and nobody said anything
	Rejected               // it did not arrive, and somebody on the way answered in the target's place
	Arrived                // it arrived, but no answer came back
	Refused                // it arrived, and the target said that nobody listens there
	Answered               // it arrived, and somebody answered
)

// String returns "error", "no answer", "rejected", "arrived", "refused" or
// "answered".
func (r Result) String() string {
	return [...]string{"error", "no answer", "rejected", "arrived", "refused", "answered"}[r]
}

// Reached reports whether the probe arrived at its target.
func (r Result) Reached() bool { return r >= Arrived }

// Outcome is what the packets showed about a probe.
type Outcome struct {
	Result Result
	At     string        // the endpoint where it arrived, the node for its pods on the host network; "" if it did not
	RTT    time.Duration // until the answer was seen, coarse if many probes were sent; 0 without answer
	Err    error         // set iff Result is Error
}

// Probe sends one probe and says what became of it.
func (l *Lab) Probe(ctx context.Context, p Probe) (Outcome, error) {
	out, err := l.ProbeAll(ctx, []Probe{p}, nil)
	if err != nil {
		return Outcome{}, err
	}
	return out[0], out[0].Err
}

// ProbeAll sends all probes and returns what became of each, in their order.
// The package comment tells how a drop is established. progress, if not nil,
// is told now and then how many probes are settled. An error means that there
// are no results; a probe that could not be sent has an Outcome with an error
// of its own.
func (l *Lab) ProbeAll(ctx context.Context, probes []Probe, progress func(done, total int)) ([]Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := closeFunc(cancel)
	if err := l.track(&stop); err != nil {
		return nil, err
	}
	defer l.done(&stop)
	if progress == nil {
		progress = func(int, int) {}
	}
	r := newRun(l, probes, progress)
	defer r.close()
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := onThread(func() error { return r.do(ctx) }); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return r.outcomes(), nil
}

type closeFunc func()

func (f *closeFunc) Close() error { (*f)(); return nil }
