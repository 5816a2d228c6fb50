//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A batch is a list of requests to one namespace's routing netlink that go to
// the kernel many to a system call, and are answered only where they fail. The
// calls of package netlink wait for an answer each, and ask for the link again
// before many of them; with a thousand pods that is most of the time.
type batch struct {
	bufs  [][]byte
	words []string // what each request does, for its error
}

// maxSend bounds a system call: the whole of it must fit the socket's buffer.
const maxSend = 32 << 10

func (b *batch) add(what string, typ, flags int, data ...nl.NetlinkRequestData) {
	req := nl.NewNetlinkRequest(typ, flags)
	req.Flags &^= unix.NLM_F_ACK
	req.Seq = uint32(len(b.words))
	for _, d := range data {
		req.AddData(d)
	}
	b.bufs = append(b.bufs, req.Serialize())
	b.words = append(b.words, what)
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// A port is one end of a link.
type port struct {
	name  string
	index int
	mac   net.HardwareAddr
}

func up(index int) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	return m
}

// linkUp raises an existing link.
func (b *batch) linkUp(index int) { b.add("raise link", unix.RTM_SETLINK, 0, up(index)) }

func (p port) attrs() []*nl.RtAttr {
	return []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.name)),
		nl.NewRtAttr(unix.IFLA_ADDRESS, p.mac),
		nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1)),
		nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1)),
	}
}

// bridge makes a bridge that learns nothing about multicast: it floods it.
func (b *batch) bridge(p port) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, []byte{0})
	req := []nl.NetlinkRequestData{up(p.index), info}
	for _, a := range p.attrs() {
		req = append(req, a)
	}
	b.add("make bridge "+p.name, unix.RTM_NEWLINK, create, req...)
}

// veth makes a link from here to a namespace, the near end up: the kernel
// cannot raise the far one yet. One queue on each side, so that packets keep
// their order. If bridge is not 0, the near end is a port of that bridge.
func (b *batch) veth(near, far port, ns, bridge int) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	m := nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	m.Index = int32(far.index)
	for _, a := range far.attrs() {
		peer.AddChild(a)
	}
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns)))
	req := []nl.NetlinkRequestData{up(near.index), info}
	for _, a := range near.attrs() {
		req = append(req, a)
	}
	if bridge != 0 {
		req = append(req, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	}
	b.add("make link "+near.name, unix.RTM_NEWLINK, create, req...)
}

// hairpin lets a bridge port send a frame back to where it came from: a pod
// that is led to itself by a Service.
func (b *batch) hairpin(p port) {
	m := nl.NewIfInfomsg(unix.AF_BRIDGE)
	m.Index = int32(p.index)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(nl.IFLA_BRPORT_MODE, []byte{1})
	b.add("set hairpin of "+p.name, unix.RTM_SETLINK, 0, m, info)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addr gives a link an address, alone in its prefix.
func (b *batch) addr(index int, a netip.Addr) {
	m := nl.NewIfAddrmsg(family(a))
	m.Index = uint32(index)
	m.Prefixlen = uint8(a.BitLen())
	m.IfAddrmsg.Flags = unix.IFA_F_NODAD
	b.add("add address "+a.String(), unix.RTM_NEWADDR, create, m,
		nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()), nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
}

// A route leads to a prefix over a link, through a gateway if there is one,
// with src as the sender's address if it is valid.
type route struct {
	to       netip.Prefix
	index    int
	via, src netip.Addr
}

func (b *batch) route(r route) {
	m := nl.NewRtMsg()
	m.Family = uint8(family(r.to.Addr()))
	m.Dst_len = uint8(r.to.Bits())
	m.Protocol = unix.RTPROT_STATIC
	m.Scope = unix.RT_SCOPE_UNIVERSE
	req := []nl.NetlinkRequestData{m, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(r.index)))}
	if r.to.Bits() > 0 {
		req = append(req, nl.NewRtAttr(unix.RTA_DST, r.to.Addr().AsSlice()))
	}
	if r.via.IsValid() {
		m.Flags = unix.RTNH_F_ONLINK
		req = append(req, nl.NewRtAttr(unix.RTA_GATEWAY, r.via.AsSlice()))
	} else if m.Family == unix.AF_INET {
		m.Scope = unix.RT_SCOPE_LINK
	}
	if r.src.IsValid() {
		req = append(req, nl.NewRtAttr(unix.RTA_PREFSRC, r.src.AsSlice()))
	}
	b.add("add route to "+r.to.String(), unix.RTM_NEWROUTE, create, req...)
}

// neighbour tells a link the hardware address of a, for good.
func (b *batch) neighbour(index int, a netip.Addr, mac net.HardwareAddr) {
	b.add("add neighbour "+a.String(), unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		&ndmsg{family: uint8(family(a)), index: uint32(index), state: unix.NUD_PERMANENT},
		nl.NewRtAttr(unix.NDA_DST, a.AsSlice()), nl.NewRtAttr(unix.NDA_LLADDR, mac))
}

// station tells a bridge which port leads to mac, for good.
func (b *batch) station(port int, mac net.HardwareAddr) {
	b.add("add bridge station "+mac.String(), unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		&ndmsg{family: unix.AF_BRIDGE, index: uint32(port), state: unix.NUD_NOARP, flags: unix.NTF_MASTER},
		nl.NewRtAttr(unix.NDA_LLADDR, mac))
}

// ndmsg is struct ndmsg of linux/neighbour.h.
type ndmsg struct {
	family uint8
	index  uint32
	state  uint16
	flags  uint8
}

func (m *ndmsg) Len() int { return unix.SizeofNdMsg }

func (m *ndmsg) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = m.family
	binary.NativeEndian.PutUint32(b[4:], m.index)
	binary.NativeEndian.PutUint16(b[8:], m.state)
	b[10] = m.flags
	return b
}

// openRtnl opens a routing netlink socket in the calling thread's namespace.
func openRtnl() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink socket: %w", err)
	}
	// Without the request in each error, a whole batch of errors fits the buffer.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return fd, nil
}

// send executes the batch on a socket of openRtnl and empties it. The kernel
// goes on after a request that fails; the errors of all are returned.
func (b *batch) send(fd int) error {
	defer func() { *b = batch{} }()
	var errs []error
	for len(b.bufs) > 0 {
		n, size := 0, 0
		for n < len(b.bufs) && (n == 0 || size+len(b.bufs[n]) <= maxSend) {
			size += len(b.bufs[n])
			n++
		}
		out := make([]byte, 0, size)
		for _, m := range b.bufs[:n] {
			out = append(out, m...)
		}
		last := b.bufs[n-1]
		at := len(out) - len(last) + 6 // nlmsg_flags
		binary.NativeEndian.PutUint16(out[at:], binary.NativeEndian.Uint16(out[at:])|unix.NLM_F_ACK)
		if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		end := binary.NativeEndian.Uint32(last[8:])
		failed, err := b.answers(fd, end)
		errs = append(errs, failed...)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		b.bufs = b.bufs[n:]
	}
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("and %d errors more", len(errs)-3))
	}
	return errors.Join(errs...)
}

// answers reads until the request with number end is answered.
func (b *batch) answers(fd int, end uint32) (failed []error, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return failed, fmt.Errorf("netlink: %w", err)
		}
		for m := buf[:n]; len(m) >= unix.SizeofNlMsghdr+4; {
			size := int(binary.NativeEndian.Uint32(m))
			if size < unix.SizeofNlMsghdr || size > len(m) {
				return failed, errors.New("netlink: malformed answer")
			}
			seq := binary.NativeEndian.Uint32(m[8:])
			if binary.NativeEndian.Uint16(m[4:]) == unix.NLMSG_ERROR {
				code := int32(binary.NativeEndian.Uint32(m[unix.SizeofNlMsghdr:]))
				if code != 0 && int(seq) < len(b.words) {
					failed = append(failed, fmt.Errorf("%s: %w", b.words[seq], unix.Errno(-code)))
				}
				if seq == end {
					return failed, nil
				}
			}
			m = m[min(len(m), (size+3)&^3):]
		}
	}
}
