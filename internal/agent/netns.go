//go:build linux

package agent

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// netNS is a network namespace; the zero value is the process's own.
type netNS struct{ f *os.File }

// openNetNS opens a network namespace, given as a file such as
// /run/netns/NAME or as the number of an open file descriptor. "" is the
// process's own.
func openNetNS(name string) (*netNS, error) {
	if name == "" {
		return &netNS{}, nil
	}
	var f *os.File
	if fd, err := strconv.Atoi(name); err == nil {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("network namespace: no file descriptor %d: %w", fd, err)
		}
		f = os.NewFile(uintptr(own), "netns")
	} else if f, err = os.Open(name); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("network namespace: %s is none", name)
	}
	return &netNS{f}, nil
}

// fd is the namespace's file descriptor, 0 for the process's own, as nft
// wants it.
func (n *netNS) fd() int {
	if n.f == nil {
		return 0
	}
	return int(n.f.Fd())
}

// Close closes the file. The namespace lives on.
func (n *netNS) Close() error {
	if n.f == nil {
		return nil
	}
	return n.f.Close()
}

// do calls f on a thread that is in the namespace. What f opens in /proc/sys
// and /proc/thread-self/net is the namespace's. The thread ends with f, so that
// none is left in the wrong namespace.
func (n *netNS) do(f func() error) error {
	if n.f == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
