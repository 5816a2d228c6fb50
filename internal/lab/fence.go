//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	fenceResend = time.Second
	fenceLimit  = 10 * time.Second // without a single frame coming through
)

var errFence = errors.New("a link of the lab does not carry frames, so that no drop can be established")

// A hop is one link on the way of probes, in one direction. stage orders the
// hops of a way: up to the node, across to the other node, down to the pod.
type hop struct {
	stage    int
	fd       int // socket to send from
	index    int // link to send over
	src, dst []byte
	passed   bool // in the current fence
}

// planHops lists the hops that probes of this run, or their answers, can take.
func (r *run) planHops() {
	hubs := r.l.spaces[:1+r.l.nodes]
	for i, s := range r.l.spaces {
		if s.hub >= 0 && r.need[i].see {
			r.hops = append(r.hops, hop{stage: 0, fd: r.links[i], index: uplink, src: s.far.mac, dst: s.via.mac})
		}
	}
	for i, s := range hubs {
		for j, other := range hubs {
			if i != j {
				r.hops = append(r.hops, hop{stage: 1, fd: r.links[i], index: uplink, src: s.far.mac, dst: other.far.mac})
			}
		}
	}
	for i, s := range r.l.spaces {
		if s.hub >= 0 && r.need[i].see {
			r.hops = append(r.hops, hop{stage: 2, fd: r.links[s.hub], index: s.via.index, src: s.via.mac, dst: s.far.mac})
		}
	}
}

// fence returns when every packet that was sent before has arrived where it
// was going, or never will.
func (r *run) fence(ctx context.Context) error {
	r.fences++
	for i := range r.hops {
		r.hops[i].passed = false
	}
	for at := 0; at < len(r.hops); {
		end := at
		for end < len(r.hops) && r.hops[end].stage == r.hops[at].stage {
			end++
		}
		if err := r.stage(ctx, at, end); err != nil {
			return err
		}
		at = end
	}
	return r.drain(0)
}

// stage sends a frame over each of the hops and waits until all came through.
func (r *run) stage(ctx context.Context, at, end int) error {
	open := func() (n int) {
		for i := at; i < end; i++ {
			if !r.hops[i].passed {
				n++
			}
		}
		return n
	}
	limit := time.Now().Add(fenceLimit)
	for before := end - at + 1; ; {
		for i := at; i < end; i++ {
			h := &r.hops[i]
			if h.passed {
				continue
			}
			frame := mark{r.id, r.fences, uint32(i)}.frame(h.dst, h.src)
			if err := sendFrame(h.fd, h.index, frame); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return fmt.Errorf("%w: send frame: %w", errFence, err)
			}
			if (i-at)%window == window-1 {
				if err := r.drain(0); err != nil {
					return err
				}
			}
		}
		if err := r.drain(0); err != nil {
			return err
		}
		for resend := time.Now().Add(fenceResend); open() > 0 && time.Now().Before(resend); {
			if err := r.drain(5 * time.Millisecond); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		n := open()
		if n == 0 {
			return nil
		}
		if n < before {
			before, limit = n, time.Now().Add(fenceLimit)
		}
		if time.Now().After(limit) {
			return errFence
		}
	}
}

// passed notes a fence frame that came through.
func (r *run) passed(frame []byte) {
	m, ok := readMark(frame)
	if ok && m.run == r.id && m.fence == r.fences && int(m.hop) < len(r.hops) {
		r.hops[m.hop].passed = true
	}
}

// getcpu asks for the processor of the calling thread.
func getcpu(cpu *uint32) error {
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(cpu)), 0, 0); e != 0 {
		return e
	}
	return nil
}
