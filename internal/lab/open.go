//go:build linux

package lab

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// open opens all sockets, each in its namespace.
func (r *run) open(ctx context.Context) error {
	used := map[[2]int]bool{} // family index, protocol
	for i := range r.state {
		if s := &r.state[i]; s.err == nil {
			used[[2]int{familyIndex(s.t.src), int(s.t.proto)}] = true
		}
	}
	used[[2]int{0, int(netset.ICMP)}], used[[2]int{1, int(netset.ICMPv6)}] = true, true
	var mu sync.Mutex
	keep := func(t tap) {
		mu.Lock()
		r.taps = append(r.taps, t)
		mu.Unlock()
	}
	keepTable := func(t *table) {
		mu.Lock()
		r.tables = append(r.tables, t)
		mu.Unlock()
	}
	err := each(ctx, len(r.need), func(i int) error {
		hub := r.l.spaces[i].hub < 0
		if !hub && !r.need[i].see {
			return nil
		}
		err := inNamespace(r.l.spaces[i].ns, func() error {
			if hub {
				return r.openHub(i, used, keep, keepTable)
			}
			return r.openLeaf(i, keep)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.l.spaces[i].name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for i, t := range r.taps {
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, t.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	r.planHops()
	return nil
}

func (r *run) openSenders(i int) (err error) {
	for f, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if r.need[i].send[f] {
			if r.senders[i][f], err = openRaw(family, rawSender); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) openLeaf(i int, keep func(tap)) error {
	if err := r.openSenders(i); err != nil {
		return err
	}
	fd, err := openFrames(unix.ETH_P_ALL, uplink)
	if err != nil {
		return err
	}
	r.links[i] = fd
	keep(tap{fd: fd, space: i})
	if r.need[i].self {
		if fd, err = openFrames(unix.ETH_P_ALL, 1); err != nil {
			return err
		}
		keep(tap{fd: fd, space: i})
	}
	return nil
}

func (r *run) openHub(i int, used map[[2]int]bool, keep func(tap), keepTable func(*table)) error {
	if err := r.openSenders(i); err != nil {
		return err
	}
	fd, err := openFrames(etherFence, 0)
	if err != nil {
		return err
	}
	r.links[i] = fd
	keep(tap{fd: fd, space: i})
	if t := connections(); t != nil {
		keepTable(t)
	}
	if i == 0 {
		if t := backlog(); t != nil {
			keepTable(t)
		}
	}
	if !r.need[i].see {
		return nil
	}
	for u := range used {
		t := tap{space: i, proto: netset.Proto(u[1]), kind: ip4Tap}
		family := unix.AF_INET
		if u[0] == 1 {
			t.kind, family = ip6Tap, unix.AF_INET6
		}
		if t.fd, err = openRaw(family, t.proto); err != nil {
			return err
		}
		keep(t)
	}
	return nil
}

// close closes all sockets. The kernel takes its time over packet sockets, a
// few milliseconds each: many are closed at once, and nobody waits but Close.
func (r *run) close() {
	if r.epoll >= 0 {
		unix.Close(r.epoll)
	}
	for _, s := range r.senders {
		for _, fd := range s {
			if fd > 0 {
				unix.Close(fd)
			}
		}
	}
	for _, t := range r.tables {
		t.file.Close()
	}
	next := make(chan int)
	for range min(len(r.taps), 64) {
		r.l.wg.Go(func() {
			for fd := range next {
				unix.Close(fd)
			}
		})
	}
	r.l.wg.Go(func() {
		for _, t := range r.taps {
			next <- t.fd
		}
		close(next)
	})
}
