//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// makeSpaces makes all namespaces and what must be set or opened inside them.
func (l *Lab) makeSpaces(ctx context.Context, bridged bool) error {
	return each(ctx, len(l.spaces), func(i int) error {
		s := l.spaces[i]
		var started []func()
		ns, err := inNewNamespace(func() (err error) {
			if err = setSysctls(quiet...); err != nil {
				return err
			}
			if s.hub < 0 {
				if err = setSysctls(forwarding...); err != nil {
					return err
				}
			}
			if err = bridgeFilter(i, s, bridged); err != nil {
				return err
			}
			if s.rtnl, err = openRtnl(); err != nil {
				return err
			}
			for _, p := range s.listens {
				start, err := l.listen(s, p)
				if err != nil {
					return err
				}
				started = append(started, start)
			}
			return nil
		})
		for _, start := range started {
			start()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.ns = ns
		return nil
	})
}

// ErrBridgeFilter says that this kernel cannot enforce policy between pods of
// one bridge.
var ErrBridgeFilter = errors.New("bridged pods need the kernel module br_netfilter (modprobe br_netfilter), with a switch in each network namespace: Linux 5.3 or later")

// bridgeFilter makes bridged packets pass the rules of a node, and not those
// of the underlay, where there are none.
func bridgeFilter(i int, s *space, bridged bool) error {
	switch {
	case i == 0:
		return setSysctls(sysctl{"bridge/bridge-nf-call-iptables", "0", true}, sysctl{"bridge/bridge-nf-call-ip6tables", "0", true})
	case s.hub >= 0 || !bridged:
		return nil
	}
	for _, name := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		err := setSysctls(sysctl{name, "1", false})
		if errors.Is(err, fs.ErrNotExist) {
			return ErrBridgeFilter
		}
		if err != nil {
			return err
		}
		if now, err := os.ReadFile("/proc/sys/net/" + name); err != nil || strings.TrimSpace(string(now)) != "1" {
			return ErrBridgeFilter
		}
	}
	return nil
}

// connect makes the links, addresses and routes. Links come first, since a
// namespace's own addresses need its link, which its hub makes.
func (l *Lab) connect(ctx context.Context, bridged, discover bool) error {
	hubs := 1 + l.nodes
	leaves := make([][]*space, hubs)
	for _, s := range l.spaces[hubs:] {
		leaves[s.hub] = append(leaves[s.hub], s)
	}
	t := &topology{hubs: l.spaces[:hubs], leaves: leaves, bridged: bridged, discover: discover}
	if err := t.underlay(); err != nil {
		return err
	}
	if err := each(ctx, hubs, t.hub); err != nil {
		return err
	}
	if err := each(ctx, len(l.spaces)-hubs, func(i int) error { return t.leaf(l.spaces[hubs+i]) }); err != nil {
		return err
	}
	return each(ctx, hubs, func(i int) error { return t.ready(ctx, i) })
}

// ready waits until all links of a hub carry packets. The kernel raises the
// near end of a link, and opens a bridge's port, some time after the far end
// has been raised, and drops what is sent before.
func (t *topology) ready(ctx context.Context, i int) error {
	h := t.hubs[i]
	handle, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	defer handle.Close()
	for deadline := time.Now().Add(readyLimit); ; time.Sleep(time.Millisecond) {
		links, err := handle.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("%s: list links: %w", h.name, err)
		}
		down := ""
		for _, l := range links {
			if a := l.Attrs(); a.Index != 1 && a.OperState != netlink.OperUp {
				down = a.Name
			}
		}
		switch {
		case down == "" && err == nil:
			// Whoever raises links holds the kernel's lock; with an answer to
			// this request, it is done.
			var b batch
			b.linkUp(1)
			return h.send(&b)
		case time.Now().After(deadline):
			return fmt.Errorf("%s: link %s does not come up", h.name, down)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

const readyLimit = 30 * time.Second

type topology struct {
	hubs              []*space
	leaves            [][]*space // by hub
	bridged, discover bool
}

func (s *space) send(b *batch) error {
	if err := b.send(s.rtnl); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// underlay joins the nodes by one bridge.
func (t *topology) underlay() error {
	var b batch
	u := t.hubs[0]
	b.linkUp(1)
	b.bridge(u.far)
	for _, a := range u.addrs {
		b.addr(uplink, a)
	}
	for _, n := range t.hubs[1:] {
		b.veth(n.near, n.far, int(n.ns), uplink)
		b.station(n.near.index, n.far.mac)
	}
	return u.send(&b)
}

// hub gives a node, or the underlay, its way to everybody.
func (t *topology) hub(i int) error {
	var b batch
	h := t.hubs[i]
	if i > 0 {
		b.linkUp(1)
		b.linkUp(uplink)
		for _, a := range h.addrs {
			b.addr(uplink, a)
		}
	}
	bridge := 0
	if t.bridged && i > 0 {
		bridge = nodeBridge
		b.bridge(port{"cni0", nodeBridge, hardware(5, i)})
		t.gateway(&b, nodeBridge)
	}
	for j, other := range t.hubs {
		if j == i {
			continue
		}
		for _, a := range other.addrs {
			b.route(route{to: host(a), index: uplink, src: h.source(a)})
			t.neighbour(&b, uplink, a, other.far)
		}
	}
	if i > 0 {
		for _, gw := range t.hubs[0].addrs {
			any := netip.PrefixFrom(unspecified(gw), 0)
			b.route(route{to: any, index: uplink, via: gw, src: h.source(gw)})
		}
	}
	for _, leaf := range t.leaves[i] {
		b.veth(leaf.near, leaf.far, int(leaf.ns), bridge)
		if bridge != 0 {
			b.hairpin(leaf.near)
			b.station(leaf.near.index, leaf.far.mac)
		} else {
			t.gateway(&b, leaf.near.index)
		}
		for _, a := range leaf.addrs {
			b.route(route{to: host(a), index: leaf.via.index, src: h.source(a)})
			t.neighbour(&b, leaf.via.index, a, leaf.far)
		}
	}
	// Packets for pods of other nodes go to their nodes, for external hosts to
	// the underlay: there the default route leads.
	for j := 1; j < len(t.hubs); j++ {
		for _, leaf := range t.leaves[j] {
			for _, a := range leaf.addrs {
				if j != i {
					b.route(route{to: host(a), index: uplink, via: t.hubs[j].source(a), src: h.source(a)})
				}
			}
		}
	}
	return h.send(&b)
}

// leaf gives a pod or an external host its address and the way out.
func (t *topology) leaf(s *space) error {
	var b batch
	b.linkUp(1)
	b.linkUp(uplink)
	for _, a := range s.addrs {
		b.addr(uplink, a)
	}
	for _, f := range families {
		if !first(s.addrs, f).IsValid() {
			continue
		}
		gw := gateways[f]
		b.route(route{to: netip.PrefixFrom(unspecified(gw), 0), index: uplink, via: gw})
		t.neighbour(&b, uplink, gw, s.via)
		if !t.bridged || s.hub == 0 {
			continue
		}
		for _, peer := range t.leaves[s.hub] {
			if a := first(peer.addrs, f); peer != s && a.IsValid() {
				b.route(route{to: host(a), index: uplink})
				t.neighbour(&b, uplink, a, peer.far)
			}
		}
	}
	return s.send(&b)
}

// gateway puts the pods' gateway on a link, for those who look for it there.
func (t *topology) gateway(b *batch, index int) {
	if t.discover {
		b.addr(index, gateways[netset.V4])
		b.addr(index, gateways[netset.V6])
	}
}

func (t *topology) neighbour(b *batch, index int, a netip.Addr, p port) {
	if !t.discover {
		b.neighbour(index, a, p.mac)
	}
}

// source returns the namespace's own address of the family of a.
func (s *space) source(a netip.Addr) netip.Addr { return first(s.addrs, netset.FamilyOf(a)) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
