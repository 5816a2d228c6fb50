//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNewNamespace makes a network namespace without a name and calls set inside
// it, on a thread that is there; it returns the only descriptor of the
// namespace. What set opens (sockets, files under /proc/sys/net) belongs to the
// namespace for good. set must not start goroutines that expect to be in it.
func inNewNamespace(set func() error) (netns.NsHandle, error) {
	ns := netns.None()
	err := onThread(func() error {
		var err error
		// New unshares; nothing but the returned descriptor, this thread and
		// the sockets that set opens keeps the namespace alive.
		if ns, err = netns.New(); err != nil {
			return namespaceError(err)
		}
		return set()
	})
	if err != nil {
		if ns.IsOpen() {
			ns.Close()
		}
		return netns.None(), err
	}
	return ns, nil
}

// inNamespace calls f on a thread inside ns.
func inNamespace(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread of its own, which ends with f: whatever f does
// to the thread (its namespace, the processor it is bound to) no other
// goroutine can come to see.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread of a process never ends: it would stay in the
			// namespace, and be what /proc/self shows. While we hold it, f gets
			// another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic inside a network namespace: %v", r)
			}
		}()
		done <- f()
	}()
	return <-done
}

// namespaceError says what to do about a kernel that refuses a namespace.
func namespaceError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("make a network namespace: %w (root or user namespaces are needed)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("make a network namespace: %w (the limit is the sysctl user.max_net_namespaces)", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("make a network namespace: %w (raise the limit of open files: ulimit -n)", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("make a network namespace: %w (the kernel was built without CONFIG_NET_NS)", err)
	}
	return fmt.Errorf("make a network namespace: %w", err)
}

// A sysctl is a file under /proc/sys/net and what to write there.
type sysctl struct {
	path, value string
	optional    bool // a kernel without it is fine
}

// quiet keeps an interface free of traffic that nobody asked for, and of
// addresses that nobody gave: no duplicate detection, no router discovery, no
// address made from the hardware address.
var quiet = []sysctl{
	{"ipv6/conf/all/disable_ipv6", "0", true},
	{"ipv6/conf/default/disable_ipv6", "0", true},
	{"ipv6/conf/default/accept_dad", "0", true},
	{"ipv6/conf/default/accept_ra", "0", true},
	{"ipv6/conf/default/router_solicitations", "0", true},
	{"ipv6/conf/default/addr_gen_mode", "1", true},
	// ICMP errors are answers to probes: none may be held back.
	{"ipv4/icmp_ratemask", "0", true},
	{"ipv4/icmp_ratelimit", "0", true},
	{"ipv6/icmp/ratemask", "0", true},
	{"ipv6/icmp/ratelimit", "0", true},
	{"ipv4/conf/all/rp_filter", "0", false},
	{"ipv4/conf/default/rp_filter", "0", false},
}

// forwarding makes a router of a namespace. Entries of finished probes are
// forgotten soon, so that mass probing does not fill the connection table,
// whose size is the machine's and not changed here.
var forwarding = []sysctl{
	{"ipv4/ip_forward", "1", false},
	{"ipv6/conf/all/forwarding", "1", true},
	{"ipv6/conf/default/forwarding", "1", true},
	{"ipv4/conf/all/send_redirects", "0", false},
	{"ipv4/conf/default/send_redirects", "0", false},
	{"netfilter/nf_conntrack_tcp_timeout_close", "2", true},
	{"netfilter/nf_conntrack_udp_timeout", "5", true},
	{"netfilter/nf_conntrack_icmp_timeout", "5", true},
	{"netfilter/nf_conntrack_icmpv6_timeout", "5", true},
}

// setSysctls writes the calling thread's namespace.
func setSysctls(list ...sysctl) error {
	for _, s := range list {
		// Not os.WriteFile: /proc/sys/net is that of the thread which opens it,
		// and O_CREATE has no meaning there.
		f, err := os.OpenFile("/proc/sys/net/"+s.path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(s.value)
			f.Close()
		}
		if err != nil && !s.optional {
			return fmt.Errorf("set sysctl net/%s: %w", s.path, err)
		}
	}
	return nil
}
