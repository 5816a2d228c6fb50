//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// childRole names what a process started by these tests does instead of them.
const childRole = "PICKET_LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	roles := map[string]func() error{"hold": hold, "enter": enterAndProbe, "untouched": untouched}
	if f := roles[os.Getenv(childRole)]; f != nil {
		if err := f(); err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func child(role string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	return cmd
}

func requireRoot(t *testing.T) {
	t.Helper()
	if need, err := NeedsReexec(); err != nil || need {
		t.Skipf("skipped: no right to make network namespaces here (%v)", err)
	}
}

// hold builds a lab, prints the descriptors of the underlay and the nodes, and
// waits to be killed.
func hold() error {
	l, err := New(context.Background(), sized(12))
	if err != nil {
		return err
	}
	for _, s := range l.spaces[:1+l.nodes] {
		fmt.Print(int(s.ns), " ")
	}
	fmt.Println()
	select {}
}

// TestKilled kills a process that holds a lab, and looks into the namespaces
// of the nodes, kept for that: a link is gone iff the namespace of its other
// end is. (The numbers of namespaces prove nothing: the kernel hands them out
// again, to other tests too.)
func TestKilled(t *testing.T) {
	requireRoot(t)
	cmd := child("hold", nil)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.HasPrefix(line, "failed") {
		t.Fatal(line, err)
	}
	var kept []netns.NsHandle
	podNS := 0
	dir := fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid)
	fds, _ := os.ReadDir(dir)
	hubs := map[string]bool{}
	for _, fd := range strings.Fields(line) {
		ns, err := netns.GetFromPath(dir + "/" + fd)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		kept, hubs[fd] = append(kept, ns), true
	}
	for _, fd := range fds {
		to, _ := os.Readlink(dir + "/" + fd.Name())
		if strings.HasPrefix(to, "net:[") && !hubs[fd.Name()] {
			podNS++
		}
	}
	if podNS < 12 {
		t.Fatalf("the process holds %d namespaces of pods, want 12", podNS)
	}
	if n := countVeths(t, kept); n == 0 {
		t.Fatal("no links while the lab is up: the test sees nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The nodes' own links to the underlay stay as long as we keep both ends:
	// let go of the nodes and watch the underlay, after the pods' links are gone.
	pods := kept[1:]
	uplinks := len(pods)
	waitFor(t, "links to pods", func() int { return countVeths(t, pods) - uplinks })
	for _, ns := range pods {
		ns.Close()
	}
	waitFor(t, "links to nodes", func() int { return countVeths(t, kept[:1]) })
	if err := syscall.Kill(cmd.Process.Pid, 0); err != syscall.ESRCH {
		t.Errorf("the process is still there: %v", err)
	}
}

// waitFor waits for the kernel, which removes namespaces when it finds time.
func waitFor(t *testing.T, what string, count func() int) {
	t.Helper()
	for range 600 {
		if count() == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d %s left behind", count(), what)
}

func countVeths(t *testing.T, in []netns.NsHandle) (n int) {
	t.Helper()
	for _, ns := range in {
		h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		links, err := h.LinkList()
		h.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Type() == "veth" {
				n++
			}
		}
	}
	return n
}

// enterAndProbe is an ordinary user's program: it starts itself anew if it
// must, and probes in a lab.
func enterAndProbe() error {
	need, err := NeedsReexec()
	if err != nil {
		return err
	}
	if need {
		fmt.Println("entering")
		code, err := Enter(context.Background())
		if err == nil && code != 0 {
			err = fmt.Errorf("exit status %d", code)
		}
		return err
	}
	spec := small()
	l, err := New(context.Background(), spec)
	if err != nil {
		return err
	}
	defer l.Close()
	for _, f := range families {
		o, err := l.Probe(context.Background(), Probe{From: "dev/a", To: l.Addr("dev/c", f), Proto: netset.TCP, Port: 80})
		if err != nil {
			return err
		}
		fmt.Println(o.Result, o.At)
	}
	return nil
}

// TestOrdinaryUser does so as nobody.
func TestOrdinaryUser(t *testing.T) {
	var attr *syscall.SysProcAttr
	if os.Getuid() == 0 {
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	cmd := child("enter", attr)
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil && strings.Contains(string(out), "run as root, or") {
		t.Skipf("skipped: this kernel gives an ordinary user no network namespace: %s", out)
	}
	if want := "entering\nanswered dev/c\nanswered dev/c\n"; err != nil || string(out) != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
}

// untouched compares the network of its process before, while and after there
// is a lab. It runs in a namespace of its own, where nobody else changes
// anything.
func untouched() error {
	before, err := machine()
	if err != nil {
		return err
	}
	l, err := New(context.Background(), small())
	if err != nil {
		return err
	}
	if _, err := l.Probe(context.Background(), Probe{From: "dev/a", To: l.Addr("dev/c", netset.V4), Proto: netset.TCP, Port: 80}); err != nil {
		return err
	}
	while, err := machine()
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	after, err := machine()
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if before[k] != while[k] || before[k] != after[k] {
			return fmt.Errorf("%s: %q before, %q while the lab is up, %q after", k, before[k], while[k], after[k])
		}
	}
	if !maps.Equal(before, while) || !maps.Equal(before, after) || len(before) < 100 {
		return fmt.Errorf("%d, %d and %d settings", len(before), len(while), len(after))
	}
	fmt.Println("untouched")
	return nil
}

// machine reads all network settings of the process, and its links and routes.
func machine() (map[string]string, error) {
	m := map[string]string{}
	for _, p := range []string{"/proc/self/net/dev", "/proc/self/net/route", "/proc/self/net/ipv6_route", "/proc/self/net/if_inet6", "/proc/self/net/arp"} {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		m[p] = string(b)
	}
	err := filepath.WalkDir("/proc/sys/net", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		// What the kernel counts or draws anew is no setting.
		if b, err := os.ReadFile(p); err == nil && !strings.Contains(p, "_count") && !strings.Contains(p, "seed") && !strings.Contains(p, "fastopen_key") && !strings.Contains(p, "stable_secret") {
			m[p] = string(b)
		}
		return nil
	})
	return m, err
}

func TestMachineUntouched(t *testing.T) {
	requireRoot(t)
	cmd := child("untouched", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	out, err := cmd.Output()
	if err != nil || string(out) != "untouched\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestClosed checks that Close leaves no descriptor open and no thread in a
// namespace of the lab, and that calls fail after it.
func TestClosed(t *testing.T) {
	requireRoot(t)
	// The first use of the network opens descriptors that Go keeps.
	l, err := New(context.Background(), small())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	before := descriptors(t)
	l, err = New(context.Background(), small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Probe(context.Background(), Probe{From: "dev/a", To: l.Addr("dev/c", netset.V4), Proto: netset.UDP, Port: 53}); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Dial(context.Background(), "dev/a", "tcp", "10.2.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	waitFor(t, "descriptors", func() int { return len(descriptors(t)) - len(before) })
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Log(before, descriptors(t))
	}
	waitFor(t, "threads in other namespaces", func() (n int) {
		threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
		for _, p := range threads {
			if at, err := os.Readlink(p); err == nil && at != own {
				n++
			}
		}
		return n
	})
	if err := l.Do("dev/a", func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Probe(context.Background(), Probe{From: "dev/a", To: l.Addr("dev/c", netset.V4), Proto: netset.UDP, Port: 53}); err == nil {
		t.Error("probed in a closed lab")
	}
}

func descriptors(t *testing.T) (open []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		open = append(open, fd.Name()+" "+to)
	}
	return open
}
