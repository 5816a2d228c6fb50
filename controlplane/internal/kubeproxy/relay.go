package kubeproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// relay copies between near and a new connection to address, made in the
// network namespace of the descriptor home, until both have closed.
func relay(near *net.TCPConn, address string, home int) {
	defer near.Close()
	far, err := dialIn(home, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube-proxy: reaching the API server:", err)
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].CloseWrite()
		})
	}
	both.Wait()
}

// dialIn opens a TCP connection to an IP address and port. A socket stays in
// the namespace of the thread that made it.
func dialIn(home int, address string) (*net.TCPConn, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer unix.Close(own)
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	conn, dialErr := net.DialTCP("tcp", nil, addr)
	if err := unix.Setns(own, unix.CLONE_NEWNET); err != nil {
		// The thread is unfit for others. It stays locked, so that it ends with
		// this goroutine.
		return nil, errors.Join(err, dialErr)
	}
	runtime.UnlockOSThread()
	return conn, dialErr
}
