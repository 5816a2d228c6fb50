//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"picket/internal/model"
	"picket/internal/netset"
)

// cell is a kind of datagram: everything but the source port.
type cell struct {
	src, dst string
	family   int
	port     uint16
	good     bool
}

// traffic sends datagrams of new flows at full rate.
type traffic struct {
	w     *world
	cells atomic.Pointer[[]cell]
	fds   map[string][2]int
	stop  chan struct{}
	wg    sync.WaitGroup

	sent     [2]atomic.Int64 // bad, good
	rounds   [2]atomic.Int64 // of each sender
	got      [2]atomic.Int64
	badCells sync.Map
}

func newTraffic(w *world, names []string) *traffic {
	x := &traffic{w: w, fds: map[string][2]int{}, stop: make(chan struct{})}
	x.cells.Store(&[]cell{})
	for _, name := range names {
		var fds [2]int
		w.spaces[name].do(w.t, func() (err error) {
			if fds[0], err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW); err == nil {
				fds[1], err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)
			}
			return err
		})
		x.fds[name] = fds
		w.t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	}
	for i := range x.rounds {
		x.wg.Add(1)
		go x.send(i)
	}
	for _, name := range names {
		x.wg.Add(1)
		go x.receive(w.spaces[name])
	}
	return x
}

// send sends the cells over and over, each time from another port. It waits
// when the receivers are far behind.
func (x *traffic) send(sender int) {
	defer x.wg.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	port := uint16(1024 + sender*32000)
	for {
		cells := *x.cells.Load()
		for i := range cells {
			c := &cells[(i*7+sender*3)%len(cells)]
			port++
			number, good := uint32(i)&0xffff|uint32(x.rounds[sender].Load())<<16&0x7fffffff, 0
			if c.good {
				number |= 1 << 31
				good = 1
			}
			p := packet{src: x.w.spaces[c.src].addrs[c.family], dst: x.w.spaces[c.dst].addrs[c.family], proto: netset.UDP, sport: port, dport: c.port}
			var to unix.Sockaddr = &unix.SockaddrInet6{Addr: p.dst.As16()}
			if p.dst.Is4() {
				to = &unix.SockaddrInet4{Addr: p.dst.As4()}
			}
			if unix.Sendto(x.fds[c.src][c.family], p.build(number), 0, to) == nil {
				x.sent[good].Add(1)
			}
		}
		x.rounds[sender].Add(1)
		for x.sent[1].Load()-x.got[1].Load() > 20_000 {
			select {
			case <-x.stop:
				return
			default:
				runtime.Gosched()
			}
		}
		select {
		case <-x.stop:
			return
		default:
		}
	}
}

func (x *traffic) receive(s *space) {
	defer x.wg.Done()
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(s.tap, buf, 0)
		if err != nil {
			select {
			case <-x.stop:
				return
			default:
			}
			time.Sleep(time.Millisecond)
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if i := strings.Index(string(buf[:n]), "PiCk"); i >= 20 && i+8 <= n && (buf[0]>>4 == 4 && buf[9] == 17 || buf[0]>>4 == 6 && buf[6] == 17) {
			if number := binary.BigEndian.Uint32(buf[i+4:]); number>>31 == 1 {
				x.got[1].Add(1)
			} else {
				x.got[0].Add(1)
				src, dst := netip.AddrFrom4([4]byte(buf[12:16])), netip.AddrFrom4([4]byte(buf[16:20]))
				if buf[0]>>4 == 6 {
					src, dst = netip.AddrFrom16([16]byte(buf[8:24])), netip.AddrFrom16([16]byte(buf[24:40]))
				}
				x.badCells.Store(fmt.Sprintf("%s > %s udp/%d", src, dst, binary.BigEndian.Uint16(buf[i-6:])), true)
			}
		}
	}
}

// turn waits until each sender has begun anew at least n times.
func (x *traffic) turn(n int64) {
	for i := range x.rounds {
		for from := x.rounds[i].Load(); x.rounds[i].Load() < from+n+1; {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// settled waits until all good datagrams are there, and returns how many are
// not after all.
func (x *traffic) settled() int64 {
	for end := time.Now().Add(patience / 5); time.Now().Before(end) && x.got[1].Load() < x.sent[1].Load(); {
		time.Sleep(time.Millisecond)
	}
	return x.sent[1].Load() - x.got[1].Load()
}

func soak(t testing.TB, normal, long int) int {
	if v := os.Getenv("PICKET_SOAK"); v != "" {
		if n, err := strconv.Atoi(v); err == nil && n > 1 {
			return n
		}
		return long
	}
	if testing.Short() {
		return normal / 10
	}
	t.Logf("%d rounds; PICKET_SOAK=1 runs %d", normal, long)
	return normal
}

func newChurn(w *world, seed uint64) *churn {
	c := &churn{
		rnd: rand.New(rand.NewPCG(seed, 1)), real: []string{"a", "b", "c", "d", "e"},
		addrs: map[string][2]netip.Addr{}, labels: map[string]string{}, remote: map[int]string{}, ranges: w.ranges["n1"],
	}
	for name, s := range w.spaces {
		c.addrs[name] = s.addrs
	}
	for _, n := range []string{"n1", "n2"} {
		c.nodes = append(c.nodes, model.Node{Name: n, Addrs: w.spaces[n].addrs[:]})
	}
	for _, name := range c.real {
		c.labels[name] = c.pick(churnApps)
	}
	return c
}

// Policies are swapped under traffic. No datagram is lost that both the old and
// the new policy allow, none arrives that both deny.
func TestSwapsUnderTraffic(t *testing.T) {
	w := newWorld(t, false)
	w.pod("e", "n1", mustAddr("10.0.1.5"), mustAddr("fd00:1::5"))
	w.spaces["n1"].do(t, func() error { return sysctl("netfilter/nf_conntrack_udp_timeout", "5") })
	c := newChurn(w, 1)
	names := append(slices.Clone(c.real), "out")
	x := newTraffic(w, names)
	stopped := false
	finish := func() {
		if !stopped {
			stopped = true
			close(x.stop)
			x.wg.Wait()
		}
	}
	defer finish()
	k := w.kernel["n1"]
	table := c.table()
	verdicts := func() vector { return c.vector(table, names) }
	w.must(k.Apply(c.plan(table)))
	allowed := verdicts()
	swaps := soak(t, 60, 2000)
	lost, bad := int64(0), int64(0)
	ways := map[string]int{}
	entries := int64(0)
	for swap := range swaps {
		c.change()
		before := allowed
		table = c.table()
		allowed = verdicts()
		var cells []cell
		for i, was := range before {
			if allowed[i] == was {
				i.good = was
				cells = append(cells, i)
			}
		}
		slices.SortFunc(cells, func(a, b cell) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		c.rnd.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		x.cells.Store(&cells)
		x.turn(1)
		p := c.plan(table)
		switch restart := swap%50 == 49; {
		case restart: // another process takes over
			n, err := Open(int(w.spaces["n1"].ns), Options{LogGroup: 7})
			w.must(err)
			w.must(n.Apply(p))
			k.Close()
			k = n
			ways["loaded by another process"]++
		default:
			d := newDelta(&numbers{of: maps.Clone(k.numbers.of), last: k.numbers.last}, k.loaded, p)
			ways[fmt.Sprintf("bridged=%t versioned=%t", d.bridged, d.versioned)]++
			w.must(k.Apply(p))
		}
		x.turn(1)
		if now := x.got[0].Load(); now > bad {
			x.badCells.Range(func(what, _ any) bool {
				t.Errorf("swap %d: arrived: %v", swap, what)
				x.badCells.Delete(what)
				return true
			})
			bad = now
		}
		if x.sent[1].Load()-entries > 30_000 {
			// Not too many connections, lest the kernel refuse new ones.
			x.cells.Store(&[]cell{})
			x.turn(1)
			if n := x.settled(); n != lost {
				t.Errorf("swap %d or one of those before: %d datagrams lost", swap, n-lost)
				lost = n
			}
			entries = x.sent[1].Load()
			for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
				for _, s := range []string{"n1", "n2"} {
					w.must(w.spaces[s].h.ConntrackTableFlush(netlink.ConntrackTable))
				}
				_ = f
			}
		}
		if t.Failed() && bad+lost > 0 && swap > 50 {
			break
		}
	}
	x.cells.Store(&[]cell{})
	x.turn(1)
	lost = x.settled()
	holds(t, k)
	finish()
	if w.kernel["n1"] != k {
		k.Close()
	}
	t.Logf("%d swaps %v: %d good datagrams, %d lost; %d bad ones, %d arrived", swaps, ways, x.sent[1].Load(), lost, x.sent[0].Load(), x.got[0].Load())
	if lost != 0 || x.got[0].Load() != 0 {
		t.Errorf("%d lost, %d arrived", lost, x.got[0].Load())
	}
	if x.sent[0].Load() < 1000 || x.sent[1].Load() < 1000 {
		t.Error("too little traffic to say anything")
	}
}
