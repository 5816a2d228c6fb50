//go:build linux

package nft

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"testing"
	"time"

	"picket/internal/model"
	"picket/internal/netset"
)

// attachments runs a test with routed pods and, where this kernel can judge
// bridged packets, with pods on a bridge.
func attachments(t *testing.T, run func(t *testing.T, w *world)) {
	t.Run("routed", func(t *testing.T) { run(t, newWorld(t, false)) })
	t.Run("bridged", func(t *testing.T) {
		if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); errors.Is(err, fs.ErrNotExist) {
			t.Skip("SKIPPED: needs the kernel module br_netfilter")
		}
		run(t, newWorld(t, true))
	})
}

var icmpOf = map[netset.Family]netset.Proto{netset.V4: netset.ICMP, netset.V6: netset.ICMPv6}

func echo(f netset.Family) uint16 { return netset.Echo(f).Port() }

// Pods a and b of node n1 and d of n2 are isolated both ways; c is not. a is
// open on tcp/80 and udp/53 for b, d and the outside; b and d may send
// everything, a only udp/53 to b.
func TestPackets(t *testing.T) {
	attachments(t, func(t *testing.T, w *world) {
		everything := []model.Rule{allow(netset.AllTraffic())}
		w.apply(
			isolate("a", []model.Rule{allow(netset.Ports(netset.TCP, 80, 80).Union(netset.Ports(netset.UDP, 53, 53)).Union(netset.Ports(netset.SCTP, 7000, 7000)), "b", "d")},
				[]model.Rule{allow(netset.Ports(netset.UDP, 53, 53), "b")}),
			isolate("b", []model.Rule{allow(netset.Ports(netset.UDP, 53, 53), "a")}, everything),
			isolate("d", []model.Rule{}, everything),
		)
		for i, f := range families {
			at := func(name string) packet { return packet{dst: w.spaces[name].addrs[i]} }
			p := func(from, to string, proto netset.Proto, port uint16) packet {
				q := at(to)
				q.src, q.proto, q.sport, q.dport = w.spaces[from].addrs[i], proto, 40000, port
				return q
			}
			v := fmt.Sprintf("IPv%d ", f)
			for _, from := range []string{"b", "d"} { // same node, other node
				w.arrives(v+from+" tcp/80", from, "a", p(from, "a", netset.TCP, 80))
				w.dropped(v+from+" tcp/81", "denied_in", from, "a", p(from, "a", netset.TCP, 81))
				w.arrives(v+from+" udp/53", from, "a", p(from, "a", netset.UDP, 53))
				w.dropped(v+from+" udp/54", "denied_in", from, "a", p(from, "a", netset.UDP, 54))
				w.dropped(v+from+" echo", "denied_in", from, "a", p(from, "a", icmpOf[f], echo(f)))
				w.dropped(v+from+" protocol 47", "denied_in", from, "a", p(from, "a", 253, 0))
			}
			w.dropped(v+"c is no peer", "denied_in", "c", "a", p("c", "a", netset.TCP, 80))
			w.dropped(v+"outside is no peer", "denied_in", "out", "a", p("out", "a", netset.TCP, 80))
			w.arrives(v+"c is not isolated", "out", "c", p("out", "c", netset.TCP, 4711))
			w.arrives(v+"c may leave", "c", "out", p("c", "out", netset.UDP, 4711))
			w.dropped(v+"a may not leave", "denied_eg", "a", "out", p("a", "out", netset.UDP, 53))
			w.arrives(v+"a to b", "a", "b", p("a", "b", netset.UDP, 53))
			w.dropped(v+"a to c", "denied_eg", "a", "c", p("a", "c", netset.UDP, 53))

			// The node and its pods.
			w.arrives(v+"node to own isolated pod", "n1", "a", p("n1", "a", netset.TCP, 81))
			w.arrives(v+"node to own isolated pod, echo", "n1", "a", p("n1", "a", icmpOf[f], echo(f)))
			w.dropped(v+"another node", "denied_in", "n2", "a", p("n2", "a", netset.TCP, 81))
			w.dropped(v+"pod to its node is egress", "denied_eg", "a", "nobody", p("a", "n1", netset.UDP, 53))
			w.arrives(v+"pod to its node, allowed", "b", "n1", p("b", "n1", netset.UDP, 4711))

			// Pods that are not known.
			w.dropped(v+"from a stranger", "unknown", "stranger", "c", p("stranger", "c", netset.UDP, 53))
			w.dropped(v+"from a stranger outwards", "unknown", "stranger", "out", p("stranger", "out", netset.UDP, 53))
			w.dropped(v+"from a stranger to the node", "unknown", "stranger", "nobody", p("stranger", "n1", netset.UDP, 53))
			w.dropped(v+"to a stranger", "unknown", "c", "stranger", p("c", "stranger", netset.UDP, 53))
			w.dropped(v+"to a stranger from outside", "unknown", "out", "stranger", p("out", "stranger", netset.TCP, 80))
			w.arrives(v+"to a stranger from its node", "n1", "stranger", p("n1", "stranger", netset.UDP, 53))

			// Packets that do not belong to a connection.
			middle := p("b", "a", netset.TCP, 80)
			middle.sport, middle.flags, middle.seq, middle.ack = 40001, 0x18, 1000, 2000
			w.dropped(v+"a connection does not begin in the middle", "midstream", "b", "a", middle)
			answer := p("b", "a", netset.TCP, 80)
			answer.sport, answer.flags, answer.seq, answer.ack = 40002, 0x12, 1000, 2000
			w.dropped(v+"nor with an answer", "invalid", "b", "a", answer)
			middle = p("c", "out", netset.TCP, 80)
			middle.sport, middle.flags, middle.seq, middle.ack = 40003, 0x18, 1000, 2000
			w.arrives(v+"it may between others", "c", "out", middle)
			bad := p("b", "a", netset.TCP, 80)
			bad.sport, bad.flags = 40004, 0x07 // SYN, FIN and RST
			w.dropped(v+"invalid", "invalid", "b", "a", bad)
			bad = p("c", "out", netset.TCP, 80)
			bad.sport, bad.flags = 40005, 0x07
			w.arrives(v+"invalid between others", "c", "out", bad)
			bad = p("n1", "a", netset.TCP, 80)
			bad.sport, bad.flags = 40006, 0x07
			w.arrives(v+"invalid from the node", "n1", "a", bad)

			if f == netset.V4 {
				w.arrives("sctp/7000", "b", "a", p("b", "a", netset.SCTP, 7000))
				w.dropped("sctp/7001", "denied_in", "b", "a", p("b", "a", netset.SCTP, 7001))
			}
		}
		w.neighbours()
		w.spoof()
		w.errors()
		w.fragments()
		w.services()
	})
}

// Neighbour discovery passes to isolated pods, but not if it was routed.
func (w *world) neighbours() {
	w.t.Helper()
	a, b := w.spaces["a"].addrs[1], w.spaces["b"].addrs[1]
	nd := packet{src: b, dst: a, proto: netset.ICMPv6, dport: 135 << 8, hops: 255}
	if w.bridge {
		w.arrives("neighbour solicitation", "b", "a", nd)
	} else {
		w.dropped("routed neighbour solicitation", "invalid", "b", "a", nd)
	}
	nd.hops = 64
	w.dropped("neighbour solicitation from far", "invalid", "b", "a", nd)
}

// A pod that borrows its node's address is judged all the same.
func (w *world) spoof() {
	w.t.Helper()
	n := 0
	if !w.bridge {
		n = 1 // routed IPv4 does not accept such a packet at all
	}
	for i := n; i < 2; i++ {
		p := packet{src: w.spaces["n1"].addrs[i], dst: w.spaces["a"].addrs[i], proto: netset.UDP, sport: 1, dport: 81}
		w.dropped(fmt.Sprintf("spoofed %s", p.src), "denied_in", "b", "a", p)
	}
}

// ICMP errors about connections that are allowed pass to isolated pods.
func (w *world) errors() {
	w.t.Helper()
	for i, f := range families {
		about := packet{src: w.spaces["b"].addrs[i], dst: w.spaces["a"].addrs[i], proto: netset.UDP, sport: 41000, dport: 53}
		raw := about.build(0)
		w.arrives("the datagram that the error is about", "b", "a", about)
		unreachable := uint16(3<<8 | 3)
		if f == netset.V6 {
			unreachable = 1<<8 | 4
		}
		e := packet{src: about.dst, dst: about.src, proto: icmpOf[f], dport: unreachable, inner: raw}
		w.arrives("ICMP error", "a", "b", e)
		other := about
		other.sport = 41001 // nobody sent that
		e.inner = other.build(0)
		w.dropped("ICMP error about nothing", "invalid", "a", "b", e)
	}
}

// Datagrams in fragments are judged by the ports of the first one.
func (w *world) fragments() {
	w.t.Helper()
	for i := range families {
		a := w.spaces["a"]
		var got net.PacketConn
		a.do(w.t, func() (err error) {
			got, err = net.ListenPacket("udp", net.JoinHostPort(a.addrs[i].String(), "53"))
			return err
		})
		send := func(port string) {
			w.spaces["d"].do(w.t, func() error {
				c, err := net.Dial("udp", net.JoinHostPort(a.addrs[i].String(), port))
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write(make([]byte, 5000))
				return err
			})
		}
		send("53")
		got.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 9000)
		if n, _, err := got.ReadFrom(buf); err != nil || n != 5000 {
			w.t.Errorf("fragments: %d bytes, %v", n, err)
		}
		before := w.drops()["denied_in"]
		send("54")
		for end := time.Now().Add(patience); w.drops()["denied_in"] == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				w.t.Error("fragments to a closed port are not dropped")
				break
			}
		}
		got.Close()
	}
}

// What is translated is judged on the pod's own address and port, also if it
// comes back to the pod that sent it.
func (w *world) services() {
	w.t.Helper()
	for i, f := range families {
		ip, vip := "ip", "10.96.0.1"
		if f == netset.V6 {
			ip, vip = "ip6", "fd00:96::1"
		}
		backend := func(name string, port int) string {
			return net.JoinHostPort(w.spaces[name].addrs[i].String(), fmt.Sprint(port))
		}
		text := fmt.Sprintf(`table %[1]s services {
	chain pre {
		type nat hook prerouting priority dstnat;
		%[1]s daddr %[2]s tcp dport 1000 dnat to %[3]s
		%[1]s daddr %[2]s tcp dport 1001 dnat to %[4]s
		%[1]s daddr %[2]s udp dport 1002 dnat to %[5]s
	}
	chain post {
		type nat hook postrouting priority srcnat;
		ct status dnat %[1]s saddr %[6]s %[1]s daddr %[6]s masquerade
	}
}`, ip, vip, backend("a", 80), backend("a", 81), backend("a", 99), w.spaces["a"].addrs[i])
		w.nft("n1", text)
		p := packet{src: w.spaces["b"].addrs[i], proto: netset.TCP, sport: 42000}
		p.dst = mustAddr(vip)
		p.dport = 1000
		w.arrives("through a Service", "b", "a", p)
		p.dport = 1001
		w.dropped("through a Service to a closed port", "denied_in", "b", "a", p)
		p.src, p.proto, p.dport = w.spaces["a"].addrs[i], netset.UDP, 1002
		w.arrives("through a Service to itself", "a", "a", p)
	}
}
