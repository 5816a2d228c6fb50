//go:build linux

package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// TestNothingBeforeTheCluster holds that the kernel is not touched before the
// source has something to tell: neither written nor looked at.
func TestNothingBeforeTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.after(time.Hour)
		if x.kernel.applied() != 0 || x.kernel.looks() != 0 {
			t.Errorf("%d plans applied, looked %d times", x.kernel.applied(), x.kernel.looks())
		}
		st := x.state()
		if ok, why := st.Ready(); ok || why == "" {
			t.Errorf("ready %t, %q", ok, why)
		}
		x.stop()
		if x.logged("the kernel was not touched") != 1 {
			t.Errorf("log: %q", x.log.lines())
		}
	})
}

// TestQuietIsImmediate holds that a single change is in force without delay.
func TestQuietIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
		x.source.put("Pod/shop/far", podOn("n2", "10.1.1.1"))
		x.after(0)
		x.after(time.Minute)
		before := time.Now()
		x.source.put("NetworkPolicy/shop/deny", denyAll)
		synctest.Wait() // no time passes
		want(t, "isolated", isolated(x.kernel.last()), []string{"10.1.0.1"})
		want(t, "time", time.Since(before), 0)
		want(t, "ranges", fmt.Sprint(x.kernel.last().Ranges), "[10.1.0.0/24]")
		st := x.state()
		if ok, why := st.Ready(); !ok {
			t.Error(why)
		}
	})
}

// TestStorm holds that under a storm of changes at most one transaction is in
// flight, the loop rests half of the time, and nothing waits for long.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.kernel.set(func() { x.kernel.takes = 20 * time.Millisecond })
		x.source.put("Node/n1", nodeN1)
		for i := range 1000 { // one a millisecond
			x.source.put(fmt.Sprintf("Pod/shop/p%d", i%200), podOn("n1", fmt.Sprintf("10.1.0.%d", i%200+1)))
			x.after(time.Millisecond)
		}
		// A turn takes 20 ms and the rest as long.
		if n := x.kernel.applied(); n < 20 || n > 26 {
			t.Errorf("%d plans in a second", n)
		}
		if x.kernel.overlapped() {
			t.Error("two calls of the kernel at once")
		}
		x.source.put("NetworkPolicy/shop/deny", denyAll)
		x.after(60 * time.Millisecond) // the turn in flight, the rest, the turn
		want(t, "isolated pods", len(x.kernel.last().Isolated[0]), 200)
		n := x.kernel.applied()
		x.after(50 * time.Second)
		want(t, "plans when nothing happens", x.kernel.applied(), n)
	})
}

// TestSlowKernel holds that the rest is bounded.
func TestSlowKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.kernel.set(func() { x.kernel.takes = 10 * time.Second })
		x.source.put("Node/n1", nodeN1)
		x.after(time.Second)
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
		x.after(9*time.Second + time.Second + 10*time.Second + time.Millisecond)
		want(t, "plans", x.kernel.applied(), 2)
	})
}

// TestKernelRefuses holds that a plan that the kernel does not take is tried
// again with growing waits, that the agent is not ready meanwhile, and that a
// change is tried without waiting for them.
func TestKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.kernel.set(func() { x.kernel.fail = errors.New("no buffer space") })
		x.source.put("Node/n1", nodeN1)
		x.after(10 * time.Minute)
		st := x.state()
		if ok, why := st.Ready(); ok || !strings.Contains(why, "no buffer space") {
			t.Errorf("ready %t, %q", ok, why)
		}
		want(t, "errors logged", x.logged("level=ERROR"), 1)
		x.kernel.set(func() { x.kernel.fail = nil })
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
		x.after(firstRetry)
		want(t, "plans", x.kernel.applied(), 1)
		st = x.state()
		if ok, why := st.Ready(); !ok {
			t.Error(why)
		}
		x.kernel.set(func() { x.kernel.fail = errors.New("again") })
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.2"))
		x.after(time.Second)
		x.kernel.set(func() { x.kernel.fail = nil })
		x.after(lastRetry) // without any change
		want(t, "pods", fmt.Sprint(x.kernel.last().Pods), "[10.1.0.2]")
	})
}

// TestUnusable holds that the last good plan stays when the cluster can't be
// understood.
func TestUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
		x.source.put("NetworkPolicy/shop/deny", denyAll)
		x.after(time.Second)
		n := x.kernel.applied()
		x.source.lose("a policy without a name")
		x.source.put("NetworkPolicy/shop/deny", "")
		x.after(time.Hour)
		want(t, "plans", x.kernel.applied(), n)
		want(t, "isolated", isolated(x.kernel.last()), []string{"10.1.0.1"})
		st := x.state()
		if ok, why := st.Ready(); ok || !strings.Contains(why, "a policy without a name") {
			t.Errorf("ready %t, %q", ok, why)
		}
		x.source.lose("")
		x.source.put("Pod/shop/b", podOn("n1", "10.1.0.2"))
		x.after(time.Second)
		want(t, "isolated", isolated(x.kernel.last()), nil)
	})
}

// TestBrokenPolicyIsolates holds that a policy that can't be understood denies
// its subject, and nobody else.
func TestBrokenPolicyIsolates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
		x.source.put("Pod/free/b", podOn("n1", "10.1.0.2"))
		x.source.put("NetworkPolicy/shop/odd", `"spec":{"podSelector":{},"ingress":[{"fron":[]}]}`)
		x.after(time.Second)
		want(t, "isolated", isolated(x.kernel.last()), []string{"10.1.0.1"})
		for _, set := range x.kernel.last().PortSets {
			if !set.Allowed.Empty() {
				t.Errorf("something is allowed: %s", set.Name)
			}
		}
		if x.logged("NetworkPolicy shop/odd") == 0 {
			t.Errorf("log: %q", x.log.lines())
		}
		n := len(x.log.lines())
		x.source.put("Pod/free/c", podOn("n1", "10.1.0.3"))
		x.after(time.Second)
		want(t, "lines logged for the same mistake again", len(x.log.lines()), n)
	})
}

// TestNodeGone holds that the ranges of a node stay when its object goes, and
// that the agent says so.
func TestNodeGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.after(time.Second)
		x.source.put("Node/n1", "")
		x.after(time.Second)
		want(t, "ranges", fmt.Sprint(x.kernel.last().Ranges), "[10.1.0.0/24]")
		st := x.state()
		if ok, why := st.Ready(); ok || !strings.Contains(why, `no node "n1"`) {
			t.Errorf("ready %t, %q", ok, why)
		}
	})
}

// TestForeignChange holds that a change by somebody else is seen at once and
// put right, that many are looked at once a second, and that a look happens
// every minute anyway.
func TestForeignChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.after(10 * time.Second)
		x.kernel.set(func() { x.kernel.wrong = []string{"the table is gone"} })
		x.foreign()
		synctest.Wait()
		want(t, "repaired", x.kernel.repairs(), 1)
		want(t, "logged", x.logged("somebody else has changed the table"), 1)

		x.after(10 * time.Second)
		looked := x.kernel.looks()
		for range 3000 {
			x.foreign()
			x.after(time.Millisecond)
		}
		if n := x.kernel.looks() - looked; n < 3 || n > 4 {
			t.Errorf("looked %d times in three seconds", n)
		}
		x.after(time.Minute)
		looked = x.kernel.looks()
		x.after(10 * time.Minute)
		want(t, "looks in ten minutes", x.kernel.looks()-looked, 10)
		want(t, "repaired", x.kernel.repairs(), 1)
	})
}

// TestLookFails holds that a kernel that can't be read is written anew.
func TestLookFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.after(time.Second)
		n := x.kernel.applied()
		x.kernel.set(func() { x.kernel.checkErr = errors.New("no such thing") })
		x.foreign()
		x.after(time.Second)
		want(t, "plans", x.kernel.applied(), n+1)
		want(t, "logged", x.logged("cannot look at the table"), 1)
	})
}

// TestStops holds that the agent ends without touching its table, and that it
// says so.
func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.after(time.Second)
		x.stop()
		want(t, "logged", x.logged("the table stays in force"), 1)
		if slices.ContainsFunc(x.log.lines(), func(l string) bool { return strings.Contains(l, "must not") }) {
			t.Error("the table was removed")
		}
	})
}

// TestQuiet holds that an agent with nothing to do logs nothing.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t)
		x.source.put("Node/n1", nodeN1)
		x.after(time.Second)
		n := len(x.log.lines())
		for i := range 100 {
			x.source.put("Pod/shop/a", podOn("n1", fmt.Sprintf("10.1.0.%d", i+1)))
			x.after(time.Minute)
		}
		want(t, "lines", len(x.log.lines()), n)
	})
}
