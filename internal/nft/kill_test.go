//go:build linux

package nft

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"picket/internal/netset"
	"picket/internal/verdict"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("PICKET_TEST_UNPRIVILEGED") != "" {
		unprivileged()
		return
	}
	if seed := os.Getenv("PICKET_TEST_APPLIES"); seed != "" {
		applies(seed)
		return
	}
	os.Exit(m.Run())
}

// applies applies random plans until it is killed, and says so before each.
func applies(seed string) {
	n, _ := strconv.ParseUint(seed, 10, 64)
	c := standInChurn(n)
	k, err := Open(0, Options{LogGroup: 7})
	for i := 0; err == nil; i++ {
		c.change()
		p := c.plan(c.table())
		fmt.Println("begin", i)
		err = k.Apply(p)
	}
	fmt.Println(err)
	os.Exit(1)
}

// standInChurn is newChurn without a world.
func standInChurn(seed uint64) *churn {
	w := &world{spaces: map[string]*space{}}
	for name, a := range map[string][2]string{
		"n1": {"192.168.0.1", "fd00:ffff::1"}, "n2": {"192.168.0.2", "fd00:ffff::2"}, "out": {"203.0.113.1", "2001:db8::1"},
		"a": {"10.0.1.1", "fd00:1::1"}, "b": {"10.0.1.2", "fd00:1::2"}, "c": {"10.0.1.3", "fd00:1::3"}, "e": {"10.0.1.5", "fd00:1::5"},
		"d": {"10.0.2.1", "fd00:2::1"},
	} {
		s := &space{}
		s.addrs[0], s.addrs[1] = mustAddr(a[0]), mustAddr(a[1])
		w.spaces[name] = s
	}
	w.ranges = rangesOfNodes()
	return newChurn(w, seed)
}

// vector is what becomes of one datagram of each cell.
type vector map[cell]bool

func (c *churn) vector(t *verdict.Table, names []string) vector {
	out := vector{}
	for _, src := range names {
		for _, dst := range names {
			for f := range families {
				for _, port := range []uint16{53, 80, 200} {
					if src != dst && (src != "d" && src != "out" || dst != "d" && dst != "out") {
						out[cell{src: src, dst: dst, family: f, port: port}] = c.allowed(t, src, dst, f, port)
					}
				}
			}
		}
	}
	return out
}

// measure sends one datagram of each cell over node n1, and sees what arrives.
// Every one is accounted for, as arrived or as dropped. The source port must be
// none of the others, lest one datagram be the answer to another.
func (w *world) measure(cells vector, sport uint16) vector {
	w.t.Helper()
	w.must(w.spaces["n1"].h.ConntrackTableFlush(netlink.ConntrackTable))
	before := total(w.drops())
	numbers := map[uint32]cell{}
	for _, src := range slices.Sorted(maps.Keys(w.spaces)) {
		w.spaces[src].do(w.t, func() error {
			for c := range cells {
				if c.src != src {
					continue
				}
				p := packet{src: w.spaces[c.src].addrs[c.family], dst: w.spaces[c.dst].addrs[c.family], proto: netset.UDP, sport: sport, dport: c.port}
				n := lastNumber.Add(1)
				numbers[n] = c
				if err := sendRaw(p.dst, p.build(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	out := vector{}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		clear(out)
		arrived := uint64(0)
		for n, c := range numbers {
			if out[c] = w.arrived(c.dst, n); out[c] {
				arrived++
			}
		}
		if arrived+total(w.drops())-before == uint64(len(numbers)) {
			return out
		}
		if time.Now().After(end) {
			w.t.Fatalf("of %d datagrams %d arrived and %d were dropped", len(numbers), arrived, total(w.drops())-before)
		}
	}
}

func total(counts map[string]uint64) uint64 {
	n := uint64(0)
	for _, c := range counts {
		n += c
	}
	return n
}

// A process that applies one plan after the other is killed at any moment. What
// the kernel then does with packets is the last plan or the one before it,
// whole; and the next process takes over from there.
func TestKilledDuringUpdates(t *testing.T) {
	w := newWorld(t, false)
	w.pod("e", "n1", mustAddr("10.0.1.5"), mustAddr("fd00:1::5"))
	names := []string{"a", "b", "c", "d", "e", "out"}
	w.kernel["n2"].Close()
	k := w.kernel["n1"]
	w.kernel = map[string]*Kernel{"n1": k}
	first := standInChurn(0)
	w.must(k.Apply(first.plan(first.table())))
	is := w.measure(first.vector(first.table(), names), 10_000)
	rnd := rand.New(rand.NewPCG(7, 7))
	olds, news := 0, 0
	rounds := soak(t, 20, 300)
	for round := range rounds {
		seed := uint64(round + 1)
		step := w.killed(seed, time.Duration(rnd.IntN(120_000))*time.Microsecond)
		c := standInChurn(seed)
		was := is
		var want vector
		for i := 0; i <= step; i++ {
			c.change()
			if i >= step-1 {
				if want != nil {
					was = want
				}
				want = c.vector(c.table(), names)
			}
		}
		is = w.measure(was, uint16(10_001+round))
		switch {
		case maps.Equal(is, want):
			news++
		case maps.Equal(is, was):
			olds++
		default:
			for c := range is {
				if is[c] != was[c] || is[c] != want[c] {
					t.Logf("%+v: before %t, after %t, now %t", c, was[c], want[c], is[c])
				}
			}
			t.Fatalf("round %d, killed in step %d: the kernel holds neither the old plan nor the new one", round, step)
		}
	}
	t.Logf("killed %d times: %d times the old plan held, %d times the new one", rounds, olds, news)
	last, err := Open(int(w.spaces["n1"].ns), Options{LogGroup: 7})
	w.must(err)
	defer last.Close()
	c := standInChurn(99)
	w.must(last.Apply(c.plan(c.table())))
	holds(t, last)
	if found, err := last.inventory(); err != nil || len(found.sets) != len(specs()) {
		t.Errorf("%d sets are left of %d: %v %v", len(found.sets), len(specs()), found.sets, err)
	}
}

// killed runs a process that applies plans on node n1, kills it, and returns
// the step that it was in.
func (w *world) killed(seed uint64, after time.Duration) int {
	w.t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), fmt.Sprintf("PICKET_TEST_APPLIES=%d", seed))
	out, err := c.StdoutPipe()
	w.must(err)
	w.spaces["n1"].do(w.t, c.Start)
	lines := make(chan string, 1<<16)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	step := -1
	read := func(line string) {
		n, err := strconv.Atoi(strings.TrimPrefix(line, "begin "))
		if err != nil {
			w.t.Fatalf("the process says %q", line)
		}
		step = n
	}
	read(<-lines)
	time.Sleep(after)
	w.must(c.Process.Kill())
	for line := range lines {
		read(line)
	}
	c.Wait()
	return step
}

// unprivileged loads a large plan, and a difference that is as large.
func unprivileged() {
	k, err := Open(0, Options{})
	if err == nil {
		err = k.conn.SetWriteBuffer(200_000) // as systems have it
		k.room = 400_000
	}
	if err == nil {
		err = k.Apply(peersPlan(60_000))
	}
	if err == nil {
		p := peersPlan(60_000)
		for i := range p.Peers {
			p.Peers[i].Class = int32(1 + (i+1)%100)
		}
		err = k.Apply(p)
	}
	if err == nil {
		var got []Elem
		if got, err = k.Elements(setPeer(netset.V4)); err == nil && len(got) != 60_000 {
			err = fmt.Errorf("%d elements", len(got))
		}
		fmt.Println("buffer:", k.room)
	}
	fmt.Println(err)
}

// Without privilege on the machine the socket's buffer is small. Loads go in
// slices then.
func TestSmallBuffer(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "PICKET_TEST_UNPRIVILEGED=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("SKIPPED: needs the right to make user namespaces: %v", err)
	}
	if err != nil || !strings.HasSuffix(string(out), "\n<nil>\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// After each transaction of a change the kernel holds the old plan or the new
// one, whole, for packets that come then.
func TestEveryStageIsWhole(t *testing.T) {
	w := newWorld(t, false)
	w.pod("e", "n1", mustAddr("10.0.1.5"), mustAddr("fd00:1::5"))
	names := []string{"a", "b", "c", "d", "e", "out"}
	w.kernel["n2"].Close()
	k := w.kernel["n1"]
	w.kernel = map[string]*Kernel{"n1": k}
	c := standInChurn(uint64(soakSeed()))
	sport, stages := uint16(10_000), 0
	was := vector{}
	for step := range soak(t, 40, 1000) {
		before := fmt.Sprintf("%+v", c.labels)
		c.change()
		table := c.table()
		p, want := c.plan(table), c.vector(table, names)
		turned, d := false, (*delta)(nil)
		if k.loaded != nil {
			d = newDelta(&numbers{of: maps.Clone(k.numbers.of), last: k.numbers.last}, k.loaded, p)
		}
		k.staged = func(*batch, bool) {
			stages++
			sport++
			is := w.measure(want, sport)
			switch {
			case maps.Equal(is, want):
				turned = true
			case !turned && maps.Equal(is, was):
			default:
				for c := range is {
					if is[c] != want[c] {
						t.Logf("%+v: before %t, after %t, now %t", c, was[c], want[c], is[c])
					}
				}
				t.Fatalf("step %d, after %d transactions in all: neither the old plan nor the new one (bridged %t, versioned %t, %d targets change, ways %v)\nbefore %s\nafter %+v",
					step, stages, d.bridged, d.versioned, len(d.targets[0])+len(d.targets[1]), d.ways, before, c.labels)
			}
		}
		w.must(k.Apply(p))
		sport++
		if is := w.measure(want, sport); !maps.Equal(is, want) {
			for c := range is {
				if is[c] != want[c] {
					t.Logf("%+v: before %t, after %t, now %t", c, was[c], want[c], is[c])
				}
			}
			holds(t, k)
			t.Fatalf("step %d: the kernel does not hold the plan", step)
		}
		was = want
	}
	t.Logf("%d transactions", stages)
}

func soakSeed() int {
	n, _ := strconv.Atoi(os.Getenv("PICKET_SEED"))
	return n
}
