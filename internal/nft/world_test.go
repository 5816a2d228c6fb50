//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// world is a few network namespaces: two nodes with pods, and a host outside.
// All of them go with the test.
type world struct {
	t      testing.TB
	spaces map[string]*space
	kernel map[string]*Kernel // by node
	pods   []model.Endpoint
	ranges map[string][]netip.Prefix
	bridge bool
}

// space is a network namespace.
type space struct {
	name  string
	ns    netns.NsHandle
	h     *netlink.Handle
	node  string // of a pod
	addrs [2]netip.Addr
	seen  map[uint32]int // packets of ours that came in, by number
	tap   int
}

// do runs f in the namespace, on a thread that ends with it.
func (s *space) do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for others
		if err := netns.Set(s.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}

func newWorld(t testing.TB, bridged bool) *world {
	t.Helper()
	w := &world{t: t, spaces: map[string]*space{}, kernel: map[string]*Kernel{}, ranges: map[string][]netip.Prefix{}, bridge: bridged}
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	w.node("n1", a("192.168.0.1"), a("fd00:ffff::1"))
	w.node("n2", a("192.168.0.2"), a("fd00:ffff::2"))
	w.link("n1", "n2")
	w.space("out", a("203.0.113.1"), a("2001:db8::1"))
	w.link("n1", "out")
	for i, name := range []string{"a", "b", "c", "stranger"} {
		w.pod(name, "n1", a(fmt.Sprintf("10.0.1.%d", i+1)), a(fmt.Sprintf("fd00:1::%d", i+1)))
	}
	w.pod("d", "n2", a("10.0.2.1"), a("fd00:2::1"))
	w.route("n1", "10.0.2.0/24", "n2", "fd00:2::/64")
	w.route("n2", "10.0.1.0/24", "n1", "fd00:1::/64")
	w.route("n2", "203.0.113.0/24", "n1", "2001:db8::/64")
	w.route("out", "0.0.0.0/0", "n1", "::/0")
	w.ranges = rangesOfNodes()
	return w
}

// rangesOfNodes are where the nodes' pods have their addresses from.
func rangesOfNodes() map[string][]netip.Prefix {
	return map[string][]netip.Prefix{
		"n1": {netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		"n2": {netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00:2::/64")},
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func sysctl(name, v string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(v), 0)
}

func (w *world) space(name string, v4, v6 netip.Addr) *space {
	w.t.Helper()
	s := &space{name: name, addrs: [2]netip.Addr{v4, v6}, seen: map[uint32]int{}}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.New()
		s.ns = ns
		if err == nil {
			for _, v := range [][2]string{
				{"ipv6/conf/all/accept_dad", "0"}, {"ipv6/conf/default/accept_dad", "0"},
				{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"}, {"ipv4/icmp_ratelimit", "0"}, {"ipv6/icmp/ratelimit", "0"},
			} {
				err = errors.Join(err, sysctl(v[0], v[1]))
			}
		}
		if err == nil {
			s.tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})))
		}
		done <- err
	}()
	err := <-done
	if errors.Is(err, unix.EPERM) {
		w.t.Skipf("SKIPPED: needs the right to make network namespaces (root, or unshare -rn): %v", err)
	}
	w.must(err)
	unix.SetsockoptInt(s.tap, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	s.h, err = netlink.NewHandleAt(s.ns)
	w.must(err)
	w.t.Cleanup(func() { unix.Close(s.tap); s.h.Close(); s.ns.Close() })
	lo, err := s.h.LinkByName("lo")
	w.must(err)
	w.must(s.h.LinkSetUp(lo))
	w.spaces[name] = s
	return s
}

func (w *world) node(name string, v4, v6 netip.Addr) {
	w.t.Helper()
	s := w.space(name, v4, v6)
	s.do(w.t, func() error {
		return errors.Join(sysctl("ipv4/ip_forward", "1"), sysctl("ipv6/conf/all/forwarding", "1"))
	})
	lo, _ := s.h.LinkByName("lo")
	w.addrs(s, lo)
	if w.bridge {
		w.must(s.h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 9, 9}}}))
		br, err := s.h.LinkByName("cni0")
		w.must(err)
		w.must(s.h.LinkSetUp(br))
		w.addrs(s, br)
		s.do(w.t, func() error {
			return errors.Join(sysctl("bridge/bridge-nf-call-iptables", "1"), sysctl("bridge/bridge-nf-call-ip6tables", "1"))
		})
	}
	k, err := Open(int(s.ns), Options{LogGroup: 7})
	w.must(err)
	w.t.Cleanup(func() { k.Close() })
	w.kernel[name] = k
}

func (w *world) addrs(s *space, l netlink.Link) {
	w.t.Helper()
	for _, a := range s.addrs {
		w.must(s.h.AddrAdd(l, &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(a, a.BitLen())), Flags: unix.IFA_F_NODAD}))
	}
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// veth joins two spaces; the ends are named by the other side.
func (w *world) veth(a, b *space, nameA, nameB string) (netlink.Link, netlink.Link) {
	w.t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns)}
	w.must(a.h.LinkAdd(v))
	la, err := a.h.LinkByName(nameA)
	w.must(err)
	lb, err := b.h.LinkByName(nameB)
	w.must(err)
	w.must(a.h.LinkSetUp(la))
	w.must(b.h.LinkSetUp(lb))
	return la, lb
}

// link joins nodes and outside hosts.
func (w *world) link(a, b string) {
	w.t.Helper()
	sa, sb := w.spaces[a], w.spaces[b]
	la, lb := w.veth(sa, sb, "to-"+b, "to-"+a)
	w.addrs(sa, la) // neighbour discovery wants them here
	w.addrs(sb, lb)
	for i := range sa.addrs {
		w.must(sa.h.RouteAdd(&netlink.Route{LinkIndex: la.Attrs().Index, Dst: ipnet(netip.PrefixFrom(sb.addrs[i], sb.addrs[i].BitLen())), Src: sa.addrs[i].AsSlice(), Scope: unix.RT_SCOPE_LINK}))
		w.must(sb.h.RouteAdd(&netlink.Route{LinkIndex: lb.Attrs().Index, Dst: ipnet(netip.PrefixFrom(sa.addrs[i], sa.addrs[i].BitLen())), Src: sb.addrs[i].AsSlice(), Scope: unix.RT_SCOPE_LINK}))
	}
}

// route sends prefixes from one space over another.
func (w *world) route(from, v4, via, v6 string) {
	w.t.Helper()
	s := w.spaces[from]
	l, err := s.h.LinkByName("to-" + via)
	w.must(err)
	for i, p := range []string{v4, v6} {
		w.must(s.h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipnet(netip.MustParsePrefix(p)), Gw: w.spaces[via].addrs[i].AsSlice(), Src: s.addrs[i].AsSlice()}))
	}
}

// pod attaches a pod to its node, by a routed veth or by the node's bridge.
func (w *world) pod(name, node string, v4, v6 netip.Addr) {
	w.t.Helper()
	s, n := w.space(name, v4, v6), w.spaces[node]
	s.node = node
	ln, lp := w.veth(n, s, name, "eth0")
	gateway := ln
	if w.bridge {
		br, err := n.h.LinkByName("cni0")
		w.must(err)
		w.must(n.h.LinkSetMaster(ln, br))
		w.must(n.h.LinkSetHairpin(ln, true))
		gateway = br
	}
	w.addrs(s, lp)
	for i, a := range s.addrs {
		gw := n.addrs[i].AsSlice()
		if !w.bridge {
			w.must(s.h.NeighAdd(&netlink.Neigh{LinkIndex: lp.Attrs().Index, IP: gw, HardwareAddr: ln.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT}))
		}
		w.must(s.h.RouteAdd(&netlink.Route{LinkIndex: lp.Attrs().Index, Dst: ipnet(netip.PrefixFrom(n.addrs[i], n.addrs[i].BitLen())), Scope: unix.RT_SCOPE_LINK}))
		all := "0.0.0.0/0"
		if i == 1 {
			all = "::/0"
		}
		w.must(s.h.RouteAdd(&netlink.Route{LinkIndex: lp.Attrs().Index, Dst: ipnet(netip.MustParsePrefix(all)), Gw: gw}))
		w.must(n.h.RouteAdd(&netlink.Route{LinkIndex: gateway.Attrs().Index, Dst: ipnet(netip.PrefixFrom(a, a.BitLen())), Src: n.addrs[i].AsSlice(), Scope: unix.RT_SCOPE_LINK}))
		if w.bridge {
			for _, o := range w.spaces {
				if o.node == node && o != s {
					w.must(s.h.RouteAdd(&netlink.Route{LinkIndex: lp.Attrs().Index, Dst: ipnet(netip.PrefixFrom(o.addrs[i], a.BitLen())), Scope: unix.RT_SCOPE_LINK}))
					lo, err := o.h.LinkByName("eth0")
					w.must(err)
					w.must(o.h.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipnet(netip.PrefixFrom(a, a.BitLen())), Scope: unix.RT_SCOPE_LINK}))
				}
			}
		}
	}
	if name != "stranger" {
		w.pods = append(w.pods, model.Endpoint{Namespace: "ns", Name: name, Labels: map[string]string{"app": name}, Node: node, Addrs: s.addrs[:]})
	}
}

// rules of tests.
func peers(apps ...string) []model.Peer {
	var out []model.Peer
	for _, app := range apps {
		out = append(out, model.Peer{Terms: []model.Term{{Kind: model.PodTerm, Namespace: "ns", Pods: selector.FromLabels(map[string]string{"app": app})}}})
	}
	return out
}

func allow(traffic netset.Traffic, from ...string) model.Rule {
	r := model.Rule{Action: model.Allow, Ports: []model.PortMatch{{Traffic: traffic}}, Peers: peers(from...), AnyPeer: len(from) == 0}
	if traffic.All() {
		r.Ports, r.AnyPort = nil, true
	}
	return r
}

func isolate(app string, ingress, egress []model.Rule) model.Policy {
	p := model.Policy{
		Kind: "NetworkPolicy", Namespace: "ns", Name: "isolate-" + app,
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: "ns", Pods: selector.FromLabels(map[string]string{"app": app})}},
		Applies: [2]bool{model.Ingress: ingress != nil, model.Egress: egress != nil},
	}
	p.Rules[model.Ingress], p.Rules[model.Egress] = ingress, egress
	return p
}

// apply compiles the policies and brings all nodes to them.
func (w *world) apply(policies ...model.Policy) {
	w.t.Helper()
	for name := range w.kernel {
		w.must(w.kernel[name].Apply(w.plan(name, policies...)))
	}
}

func (w *world) snapshot(policies ...model.Policy) *model.Snapshot {
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "ns"}}, Endpoints: w.pods, DualStack: true,
		Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Ports: true, Policies: policies}},
	}
	for _, n := range []string{"n1", "n2"} {
		s.Nodes = append(s.Nodes, model.Node{Name: n, Addrs: w.spaces[n].addrs[:]})
	}
	return s
}

func (w *world) plan(node string, policies ...model.Policy) *Plan {
	s := w.snapshot(policies...)
	dialect, err := model.DialectByName("picket")
	w.must(err)
	t := compile.Compile(s, dialect)
	return NewPlan(t, Node{Name: node, Pods: LocalPods(s, node), Ranges: w.ranges[node]}, Options{LogGroup: 7})
}

// nft runs the nft program in a space.
func (w *world) nft(space, text string) {
	w.t.Helper()
	w.spaces[space].do(w.t, func() error {
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w\n%s", err, out)
		}
		return nil
	})
}

// send sends a packet from a space, as it is.
func (w *world) send(from string, p packet) uint32 {
	w.t.Helper()
	number := lastNumber.Add(1)
	raw := p.build(number)
	w.spaces[from].do(w.t, func() error { return sendRaw(p.dst, raw) })
	return number
}

func sendRaw(dst netip.Addr, raw []byte) error {
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(dst.AsSlice()[:4])}
	if dst.Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: dst.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, raw, 0, to)
}

// look reads what has come in at a space.
func (s *space) look() {
	buf := make([]byte, 70_000)
	for {
		n, from, err := unix.Recvfrom(s.tap, buf, 0)
		if err != nil {
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if i := strings.LastIndex(string(buf[:n]), "PiCk"); i >= 0 && i+8 <= n {
			s.seen[binary.BigEndian.Uint32(buf[i+4:])]++
		} else if n >= 52 && (buf[0]>>4 == 4 && buf[9] == 132) {
			s.seen[uint32(binary.BigEndian.Uint16(buf[4:]))]++ // SCTP, by the IP identifier
		} else if n >= 72 && buf[0]>>4 == 6 && buf[6] == 132 {
			s.seen[0]++
		}
	}
}

// arrived reports whether packet n came in at a space. At a node a tap sees
// what is dropped later, too: "nobody" stands for that.
func (w *world) arrived(at string, n uint32) bool {
	if at == "nobody" {
		return false
	}
	s := w.spaces[at]
	s.look()
	return s.seen[n] > 0
}

// drops are the counters of what was thrown away on all nodes.
func (w *world) drops() map[string]uint64 {
	w.t.Helper()
	out := map[string]uint64{}
	for _, k := range w.kernel {
		counts, err := k.Counts()
		w.must(err)
		for name, n := range counts {
			if name != "allowed" {
				out[name] += n
			}
		}
	}
	return out
}

// patience is how long a test waits for what must happen. It never waits that
// long for what must not.
const patience = 10 * time.Second

// arrives fails unless a packet reaches a space.
func (w *world) arrives(what, from, to string, p packet) {
	w.t.Helper()
	n := w.send(from, p)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if w.arrived(to, n) {
			return
		}
		if time.Now().After(end) {
			w.t.Errorf("%s: the packet does not arrive; dropped: %v", what, w.drops())
			return
		}
	}
}

// dropped fails unless a packet is dropped, counted by the named counter.
func (w *world) dropped(what, counter, from, to string, p packet) {
	w.t.Helper()
	before := w.drops()[counter]
	n := w.send(from, p)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if w.drops()[counter] > before {
			break
		}
		if time.Now().After(end) {
			w.t.Errorf("%s: the packet is not dropped as %s; arrived: %v; counters %v", what, counter, w.arrived(to, n), w.drops())
			return
		}
	}
	if w.arrived(to, n) {
		w.t.Errorf("%s: the packet arrives", what)
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
