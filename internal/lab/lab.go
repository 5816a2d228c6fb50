//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// Lab is a small cluster of network namespaces. Its methods may be called
// concurrently.
type Lab struct {
	spaces    []*space // the underlay first, then the nodes, then the rest
	nodes     int
	endpoints map[string]*endpoint
	names     []string
	owners    map[netip.Addr]*endpoint
	rounds    atomic.Uint32 // of probes sent: each has a source port of its own
	zone      *zone         // what DNS knows; nil if there is none

	mu      sync.Mutex
	closed  bool
	closers map[io.Closer]bool
	wg      sync.WaitGroup // responders, taps being closed
}

// A space is one network namespace. The underlay and the nodes are hubs, the
// others hang from one of them by a link.
type space struct {
	name    string
	ns      netns.NsHandle
	rtnl    int // netlink socket while the lab is built, -1 after
	addrs   []netip.Addr
	hub     int // index of the hub; -1 for a hub
	near    port
	far     port // the link's end in this namespace; of a hub, its link to the underlay
	via     port // what the hub sends out of for this namespace: near, or its bridge
	listens []Port
	dns     map[Port]bool // those of listens where DNS answers
	sctp    *sync.Map     // port numbers of the SCTP responder; nil if there is none
}

type endpoint struct {
	name  string
	space int
	addrs []netip.Addr
}

// The links of a namespace, by number. Number 1 is lo.
const (
	uplink     = 2 // eth0; in the underlay, its bridge
	nodeBridge = 3
	firstLink  = 10
)

// New builds the lab. Everything it makes lives in network namespaces without
// names, which the kernel takes down with this process however it ends.
func New(ctx context.Context, spec Spec) (*Lab, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	nodes, router := spec.complete()
	l := &Lab{
		nodes:     len(nodes),
		endpoints: map[string]*endpoint{},
		owners:    map[netip.Addr]*endpoint{},
		closers:   map[io.Closer]bool{},
	}
	l.lay(&spec, nodes, router)
	l.serveDNS(&spec, nodes)
	err := l.makeSpaces(ctx, spec.Bridged)
	if err == nil {
		err = l.connect(ctx, spec.Bridged, spec.Discover)
	}
	l.closeRtnl()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

// lay plans the namespaces, their links and names; nothing is made yet.
func (l *Lab) lay(spec *Spec, nodes []NodeSpec, router []netip.Addr) {
	add := func(s *space) int {
		s.ns, s.rtnl = netns.None(), -1
		l.spaces = append(l.spaces, s)
		return len(l.spaces) - 1
	}
	name := func(n string, i int, addrs []netip.Addr, owns bool) {
		e := &endpoint{name: n, space: i, addrs: addrs}
		l.endpoints[n] = e
		l.names = append(l.names, n)
		if owns {
			for _, a := range addrs {
				l.owners[a] = e
			}
		}
	}
	add(&space{name: "underlay", addrs: router, hub: -1, far: port{"br0", uplink, hardware(0, 0)}})
	byName := map[string]int{}
	for n, node := range nodes {
		i := add(&space{name: node.Name, addrs: node.Addrs, hub: -1,
			near: port{fmt.Sprintf("node%d", n), firstLink + n, hardware(1, n)},
			far:  port{"eth0", uplink, hardware(2, n)}})
		byName[node.Name] = i
		name(node.Name, i, node.Addrs, true)
	}
	leaf := func(n, prefix string, hub int, addrs []netip.Addr, ports []Port) {
		k := len(l.spaces)
		s := &space{name: n, addrs: addrs, hub: hub, listens: ports,
			near: port{fmt.Sprintf("%s%d", prefix, k), firstLink + k, hardware(3, k)},
			far:  port{"eth0", uplink, hardware(4, k)}}
		s.via = s.near
		if spec.Bridged && hub != 0 {
			s.via = port{"cni0", nodeBridge, hardware(5, hub)}
		}
		name(n, add(s), addrs, true)
	}
	for _, p := range spec.Pods {
		hub := byName[p.Node]
		if p.HostNetwork {
			node := l.spaces[hub]
			node.listens = union(node.listens, p.Ports)
			name(p.Name, hub, node.addrs, false)
			continue
		}
		leaf(p.Name, "pod", hub, p.Addrs, union(nil, p.Ports))
	}
	for _, e := range spec.Externals {
		leaf(e.Name, "ext", 0, e.Addrs, nil)
	}
}

func union(ports, more []Port) []Port {
	for _, p := range more {
		if !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// hardware returns a locally administered address.
func hardware(kind, n int) net.HardwareAddr {
	return net.HardwareAddr{2, byte(kind), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// each calls f for the numbers from 0 to n-1, a few at once, and stops early
// on an error or when ctx is done.
func each(ctx context.Context, n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(n, 2*runtime.GOMAXPROCS(0)))
	var failed atomic.Bool
	for w := range errs {
		wg.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				err := ctx.Err()
				if err == nil {
					err = f(i)
				}
				if err != nil {
					errs[w] = err
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *Lab) closeRtnl() {
	for _, s := range l.spaces {
		if s.rtnl >= 0 {
			unix.Close(s.rtnl)
			s.rtnl = -1
		}
	}
}

// Close ends the responders and lets go of the namespaces, which the kernel
// takes down with all their links, addresses and rules, soon after. Descriptors
// from NodeNS are invalid then.
func (l *Lab) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	if closed {
		return nil
	}
	for c := range closers {
		c.Close()
	}
	l.wg.Wait()
	l.closeRtnl()
	var errs []error
	for _, s := range l.spaces {
		if s.ns.IsOpen() {
			errs = append(errs, s.ns.Close())
		}
	}
	return errors.Join(errs...)
}

// ErrClosed is the error of calls on a lab that was closed.
var ErrClosed = errors.New("the lab is closed")

// track notes what Close must close; it fails after Close. done forgets it.
func (l *Lab) track(c io.Closer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.closers[c] = true
	l.wg.Add(1)
	return nil
}

func (l *Lab) done(c io.Closer) {
	l.mu.Lock()
	delete(l.closers, c)
	l.mu.Unlock()
	l.wg.Done()
}

// Endpoints returns the names of all endpoints: nodes, pods, external hosts, in
// the order of the spec.
func (l *Lab) Endpoints() []string { return slices.Clone(l.names) }

// Addrs returns the addresses of an endpoint; nil if there is no such endpoint.
func (l *Lab) Addrs(name string) []netip.Addr {
	if e := l.endpoints[name]; e != nil {
		return slices.Clone(e.addrs)
	}
	return nil
}

// Addr returns the first address of the family of an endpoint, or the zero Addr.
func (l *Lab) Addr(name string, f netset.Family) netip.Addr { return first(l.Addrs(name), f) }

// Owner returns the name of the endpoint with the address, or "". Pods on the
// host network share the address of their node, which owns it.
func (l *Lab) Owner(a netip.Addr) string {
	if e := l.owners[a]; e != nil {
		return e.name
	}
	return ""
}

func (l *Lab) space(name string) (*space, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	e := l.endpoints[name]
	if e == nil {
		return nil, fmt.Errorf("there is no endpoint %q in the lab", name)
	}
	return l.spaces[e.space], nil
}

// NS returns a descriptor of the network namespace of an endpoint, to program
// rules there, for instance. It belongs to the lab and is valid until Close.
func (l *Lab) NS(name string) (int, error) {
	s, err := l.space(name)
	if err != nil {
		return -1, err
	}
	return int(s.ns), nil
}

// Do calls f in the network namespace of an endpoint, on a thread of its own.
// Sockets that f opens stay in the namespace. Goroutines that f starts do not
// run in it.
func (l *Lab) Do(name string, f func() error) error {
	s, err := l.space(name)
	if err != nil {
		return err
	}
	return l.inside(s, f)
}

// inside calls f in a namespace. Its descriptor is copied first, so that Close
// need not wait for f.
func (l *Lab) inside(s *space, f func() error) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	fd, err := unix.FcntlInt(uintptr(s.ns), unix.F_DUPFD_CLOEXEC, 3)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("copy descriptor of a network namespace: %w", err)
	}
	ns := netns.NsHandle(fd)
	defer ns.Close()
	return inNamespace(ns, f)
}

// Dial connects from an endpoint as net.Dialer does: network is "tcp" or "udp",
// address a literal address with port. The caller closes the connection; until
// then its namespace stays, even after Close.
func (l *Lab) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := l.Do(from, func() error {
		// A literal address needs no resolver and one family only, so that
		// DialContext opens its socket on this thread.
		if _, err := netip.ParseAddrPort(address); err != nil {
			return err
		}
		var err error
		conn, err = (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
