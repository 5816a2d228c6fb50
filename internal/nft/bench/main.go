//go:build linux

// Command bench measures what policies cost: the time of a new TCP connection
// to a pod under a number of policies that all select it, the one that allows
// the connection last.
//
// It compares three shapes, each in network namespaces of its own: connection
// tracking and nothing else; Picket; and the classic shape, in which a chain for
// the pod jumps to a chain for each policy, and each peer selector is a set. All
// stand at once and are measured in turn, in random order, so that what else
// the machine does hits them alike. Printed are medians over the rounds, and of
// the ratio to connection tracking alone in the same round, with quartiles.
//
// It needs root, and the nft program for the classic shape. It touches nothing
// but its own namespaces, which go with it.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/selector"
)

func main() {
	policies := flag.String("policies", "1,10,100,1000,10000", "numbers of policies to measure")
	rounds := flag.Int("rounds", 15, "rounds")
	conns := flag.Int("conns", 400, "connections, and round trips, in a round")
	most := flag.Int("classic", 10000, "largest number of policies for the classic shape, whose load takes minutes")
	flag.Parse()
	if err := run(*policies, *rounds, *conns, *most); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

func run(policies string, rounds, conns, most int) error {
	runtime.LockOSThread() // and stay: namespaces are the thread's
	fmt.Println("| policies | shape | new connection, µs | × tracking alone | connections/s | round trip of an old one, µs | × | load |")
	fmt.Println("|---:|---|---:|---:|---:|---:|---:|---:|")
	for _, text := range strings.Split(policies, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if err := measure(n, rounds, conns, most); err != nil {
			return err
		}
	}
	return nil
}

// shape is one way of enforcing, with its results by round.
type shape struct {
	name    string
	load    func(s *stand, policies int) error
	stand   *stand
	took    time.Duration
	connect []float64 // median of a round, µs
	cycle   []float64 // connect, accept and reset, µs
	trip    []float64
}

func measure(policies, rounds, conns, most int) error {
	shapes := []*shape{{name: "tracking alone", load: loadTracking}, {name: "Picket", load: loadPicket}}
	if policies <= most {
		shapes = append(shapes, &shape{name: "classic", load: loadClassic})
	}
	for _, s := range shapes {
		var err error
		if s.stand, err = newStand(); err != nil {
			return err
		}
		defer s.stand.close()
		begin := time.Now()
		if err := s.load(s.stand, policies); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.took = time.Since(begin)
		if err := s.stand.open(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for round := -1; round < rounds; round++ { // the first warms up
		for _, i := range rand.Perm(len(shapes)) {
			s := shapes[i]
			connect, cycle, err := s.stand.connects(conns)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			trip, err := s.stand.trips(conns)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round >= 0 {
				s.connect, s.cycle, s.trip = append(s.connect, connect), append(s.cycle, cycle), append(s.trip, trip)
			}
		}
	}
	for _, s := range shapes {
		fmt.Printf("| %d | %s | %.1f | %s | %.0f | %.1f | %s | %s |\n", policies, s.name,
			median(s.connect), ratio(s.connect, shapes[0].connect), 1e6/median(s.cycle), median(s.trip), ratio(s.trip, shapes[0].trip), s.took.Round(time.Millisecond))
	}
	return nil
}

func quantile(v []float64, q float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[int(q*float64(len(v)-1)+0.5)]
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func ratio(v, base []float64) string {
	r := make([]float64, len(v))
	for i := range v {
		r[i] = v[i] / base[i]
	}
	return fmt.Sprintf("%.2f [%.2f–%.2f]", median(r), quantile(r, 0.25), quantile(r, 0.75))
}

var (
	client = netip.MustParseAddr("10.9.0.2")
	server = netip.MustParseAddr("10.9.1.2")
)

// stand is a client, a node and a server.
type stand struct {
	client, node, server netns.NsHandle
	listener             int
	old                  [2]int // an established connection
}

func newStand() (*stand, error) {
	s := &stand{listener: -1}
	for _, ns := range []*netns.NsHandle{&s.client, &s.server, &s.node} {
		var err error
		if *ns, err = netns.New(); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return nil, err
	}
	for i, end := range []struct {
		ns   netns.NsHandle
		addr netip.Addr
	}{{s.client, client}, {s.server, server}} {
		if err := s.link(fmt.Sprintf("v%d", i), end.ns, end.addr); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *stand) link(name string, far netns.NsHandle, addr netip.Addr) error {
	n, err := netlink.NewHandleAt(s.node)
	if err != nil {
		return err
	}
	defer n.Close()
	f, err := netlink.NewHandleAt(far)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := n.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(far)}); err != nil {
		return err
	}
	for _, end := range []struct {
		h    *netlink.Handle
		link string
		addr netip.Addr
	}{{n, name, addr.Prev()}, {f, "eth0", addr}} {
		l, err := end.h.LinkByName(end.link)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(end.addr.String() + "/24")
		if err != nil {
			return err
		}
		if err := end.h.AddrAdd(l, a); err != nil {
			return err
		}
		if err := end.h.LinkSetUp(l); err != nil {
			return err
		}
	}
	return f.RouteAdd(&netlink.Route{Gw: addr.Prev().AsSlice()})
}

func (s *stand) close() {
	for _, fd := range []int{s.listener, s.old[0], s.old[1]} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
	s.client.Close()
	s.node.Close()
	s.server.Close()
}

// open starts the server and makes one lasting connection.
func (s *stand) open() error {
	if err := netns.Set(s.server); err != nil {
		return err
	}
	var err error
	if s.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return err
	}
	if err := unix.Bind(s.listener, &unix.SockaddrInet4{Port: 80, Addr: server.As4()}); err != nil {
		return err
	}
	if err := unix.Listen(s.listener, 128); err != nil {
		return err
	}
	if err := netns.Set(s.client); err != nil {
		return err
	}
	if s.old[0], err = dial(); err != nil {
		return err
	}
	s.old[1], _, err = unix.Accept(s.listener)
	for _, fd := range s.old {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return err
}

func dial() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: server.As4()})
}

// connects makes connections one after the other, and returns the medians of
// the time of connect, and of connect, accept and reset.
func (s *stand) connects(n int) (connect, cycle float64, err error) {
	if err := netns.Set(s.client); err != nil {
		return 0, 0, err
	}
	var connects, cycles []float64
	for range n {
		begin := time.Now()
		fd, err := dial()
		if err != nil {
			return 0, 0, err
		}
		connected := time.Since(begin)
		got, _, err := unix.Accept(s.listener)
		if err != nil {
			return 0, 0, err
		}
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
		unix.Close(got)
		connects = append(connects, float64(connected.Nanoseconds())/1e3)
		cycles = append(cycles, float64(time.Since(begin).Nanoseconds())/1e3)
	}
	return median(connects), median(cycles), nil
}

// trips returns the median of round trips on the lasting connection.
func (s *stand) trips(n int) (float64, error) {
	var out []float64
	buf := make([]byte, 1)
	for range n {
		begin := time.Now()
		for _, way := range [][2]int{{0, 1}, {1, 0}} {
			if _, err := unix.Write(s.old[way[0]], buf); err != nil {
				return 0, err
			}
			if _, err := unix.Read(s.old[way[1]], buf); err != nil {
				return 0, err
			}
		}
		out = append(out, float64(time.Since(begin).Nanoseconds())/1e3)
	}
	return median(out), nil
}

func (s *stand) nft(text []byte) error {
	if err := netns.Set(s.node); err != nil {
		return err
	}
	c := exec.Command("nft", "-f", "-")
	c.Stdin = bytes.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %.300s", err, out)
	}
	return nil
}

func loadTracking(s *stand, _ int) error {
	return s.nft([]byte("table inet t { chain f { type filter hook forward priority 0; ct state established,related accept; }; }"))
}

// peerAddr is the pod that policy i lets in; the last one is the client.
func peerAddr(i, policies int) netip.Addr {
	if i == policies-1 {
		return client
	}
	return netip.AddrFrom4([4]byte{10, 10 + byte(i>>16), byte(i >> 8), byte(i)})
}

func loadPicket(s *stand, policies int) error {
	app := func(i int) map[string]string { return map[string]string{"app": fmt.Sprintf("p%05d", i)} }
	snapshot := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "ns"}},
		Nodes:      []model.Node{{Name: "node"}},
		Tiers:      []model.Tier{{Name: "NetworkPolicy", Union: true, Ports: true}},
		Endpoints:  []model.Endpoint{{Namespace: "ns", Name: "a-server", Labels: map[string]string{"app": "server"}, Node: "node", Addrs: []netip.Addr{server}}},
	}
	for i := range policies {
		snapshot.Endpoints = append(snapshot.Endpoints, model.Endpoint{
			Namespace: "ns", Name: fmt.Sprintf("p%05d", i), Labels: app(i), Addrs: []netip.Addr{peerAddr(i, policies)},
		})
		snapshot.Tiers[0].Policies = append(snapshot.Tiers[0].Policies, model.Policy{
			Kind: "NetworkPolicy", Namespace: "ns", Name: fmt.Sprintf("p%05d", i), Applies: [2]bool{model.Ingress: true},
			Subject: []model.Term{{Kind: model.PodTerm, Namespace: "ns", Pods: selector.FromLabels(map[string]string{"app": "server"})}},
			Rules: [2][]model.Rule{model.Ingress: {{
				Action: model.Allow, Ports: []model.PortMatch{{Traffic: netset.Ports(netset.TCP, 80, 80)}},
				Peers: []model.Peer{{Terms: []model.Term{{Kind: model.PodTerm, Namespace: "ns", Pods: selector.FromLabels(app(i))}}}},
			}}},
		})
	}
	plan := nft.NewPlan(compile.Compile(snapshot, model.Dialects[0]), nft.Node{
		Name: "node", Pods: nft.LocalPods(snapshot, "node"), Ranges: []netip.Prefix{netip.MustParsePrefix("10.9.1.0/24")},
	}, nft.Options{LogGroup: 7})
	k, err := nft.Open(int(s.node), nft.Options{LogGroup: 7})
	if err != nil {
		return err
	}
	defer k.Close()
	return k.Apply(plan)
}

func loadClassic(s *stand, policies int) error {
	var b bytes.Buffer
	fmt.Fprintln(&b, "table inet classic {")
	for i := range policies {
		fmt.Fprintf(&b, "set s%d { type ipv4_addr; elements = { %s }; }\n", i, peerAddr(i, policies))
		fmt.Fprintf(&b, "chain p%d { ip saddr @s%d tcp dport 80 accept; }\n", i, i)
	}
	fmt.Fprintln(&b, "chain pod {")
	for i := range policies {
		fmt.Fprintf(&b, "jump p%d\n", i)
	}
	fmt.Fprintln(&b, "drop\n}")
	fmt.Fprintf(&b, "chain f { type filter hook forward priority 0; ct state established,related accept; ip daddr %s jump pod; }\n}\n", server)
	return s.nft(b.Bytes())
}
