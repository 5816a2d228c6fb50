//go:build linux

package nft

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// inNetNS gives the test a network namespace of its own, and moves its thread
// there. Without the right to do so the test is skipped, and says so.
func inNetNS(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if os.IsPermission(err) {
		t.Skipf("SKIPPED: needs the right to make network namespaces (root, or unshare -rn): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(before); err != nil {
			t.Error(err)
		}
		ns.Close()
		before.Close()
		runtime.UnlockOSThread()
	})
	return ns
}
