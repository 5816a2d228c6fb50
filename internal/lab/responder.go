//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// Listen lets an endpoint answer on further ports, until the lab is closed.
// Ports on which it answers already stay as they are.
func (l *Lab) Listen(name string, ports ...Port) error {
	s, err := l.space(name)
	if err != nil {
		return err
	}
	for _, p := range ports {
		l.mu.Lock()
		known := slices.Contains(s.listens, p)
		if !known {
			s.listens = append(s.listens, p)
		}
		l.mu.Unlock()
		if known {
			continue
		}
		var start func()
		err := l.inside(s, func() (err error) {
			start, err = l.listen(s, p)
			return err
		})
		if err != nil {
			return fmt.Errorf("lab: %s: %w", name, err)
		}
		start()
	}
	return nil
}

// listen opens a responder in the calling thread's namespace; start runs it.
// A socket stays in the namespace where it was made, so that the responder
// needs no thread of its own.
func (l *Lab) listen(s *space, p Port) (start func(), err error) {
	at := fmt.Sprintf(":%d", p.Number)
	switch p.Proto {
	case netset.TCP:
		ln, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", at)
		if err != nil {
			return nil, listenError(p, err)
		}
		talk := greet(fmt.Sprintf("%s tcp/%d\n", s.name, p.Number))
		if s.dns[p] {
			talk = l.talkDNS
		}
		return l.serve(ln, func() { l.accept(ln, talk) })
	case netset.UDP:
		conn, err := net.ListenPacket("udp", at)
		if err != nil {
			return nil, listenError(p, err)
		}
		name := fmt.Sprintf(" %s udp/%d\n", s.name, p.Number)
		answer := func(p []byte) []byte { return append(p, name...) }
		if s.dns[p] {
			answer = func(p []byte) []byte { return l.answerDNS(p, name) }
		}
		return l.serve(conn, func() { answerPackets(conn, answer) })
	case netset.SCTP:
		return l.listenSCTP(s, p)
	}
	return nil, fmt.Errorf("cannot listen on %s", p.Proto)
}

func listenError(p Port, err error) error {
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("listen on %s/%d: %w (raise the limit of open files: ulimit -n)", p.Proto, p.Number, err)
	}
	return fmt.Errorf("listen on %s/%d: %w", p.Proto, p.Number, err)
}

// serve hands c to the lab, to be closed with it.
func (l *Lab) serve(c io.Closer, run func()) (start func(), err error) {
	if err := l.track(c); err != nil {
		c.Close()
		return nil, err
	}
	return func() {
		go func() {
			defer l.done(c)
			defer c.Close()
			run()
		}()
	}, nil
}

// accept takes connections, and lets talk have each.
func (l *Lab) accept(ln net.Listener, talk func(net.Conn)) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client went away before we came: often so, with probes
		}
		start, err := l.serve(conn, func() { talk(conn) })
		if err != nil {
			return
		}
		start()
	}
}

// greet starts a connection with the banner and then sends back what comes, so
// that it can be watched over time.
func greet(banner string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := io.WriteString(conn, banner); err == nil {
			// Not by splice, whose pipes Go would keep open for later.
			_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
		}
	}
}

// answerPackets answers each packet with what answer makes of it; nil is no
// answer. The packet is answer's only until it returns.
func answerPackets(conn net.PacketConn, answer func(p []byte) []byte) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		if a := answer(buf[:n:n]); a != nil {
			_, _ = conn.WriteTo(a, from)
		}
	}
}

// listenSCTP adds a port to the namespace's SCTP responder: one raw socket a
// family, which sees the packets of all ports.
func (l *Lab) listenSCTP(s *space, p Port) (start func(), err error) {
	l.mu.Lock()
	ports := s.sctp
	if ports == nil {
		s.sctp = &sync.Map{}
	}
	s.sctp.Store(p.Number, true)
	l.mu.Unlock()
	if ports != nil {
		return func() {}, nil
	}
	var starts []func()
	for _, network := range []string{"ip4:132", "ip6:132"} {
		conn, err := net.ListenPacket(network, "")
		if err != nil {
			return nil, listenError(p, err)
		}
		start, err := l.serve(conn, func() { answerInits(conn, s.sctp) })
		if err != nil {
			return nil, err
		}
		starts = append(starts, start)
	}
	return func() {
		for _, start := range starts {
			start()
		}
	}, nil
}

// answerInits stands for an SCTP endpoint: it answers an INIT to one of the
// ports with an INIT ACK, to others with an ABORT. No association comes of it;
// the kernel may have no SCTP.
func answerInits(conn net.PacketConn, ports *sync.Map) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		listens := func(port uint16) bool { _, ok := ports.Load(port); return ok }
		if ack, ok := sctpAnswer(buf[:n], listens); ok {
			_, _ = conn.WriteTo(ack, from)
		}
	}
}
