//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"picket/internal/netset"
)

// A tap is a socket that sees what reaches a namespace.
//
// In pods and external hosts it is a packet socket on the link: it sees every
// frame that came in, and nothing may be in its way, since such a namespace has
// no rules. A node has rules between its links and its own sockets, so there
// taps are raw IP sockets, which see what the rules let through; and one packet
// socket for fence frames alone.
type tap struct {
	fd    int
	space int
	proto netset.Proto // of a raw socket for IPv6, which is given no IP header
	kind  tapKind
	drops uint32 // packets that found no room in the socket, as last read
}

type tapKind uint8

const (
	frameTap tapKind = iota
	ip4Tap
	ip6Tap
)

// tapBuffer is how much a tap may hold until it is read. The pages are only
// used while packets wait.
const tapBuffer = 16 << 20

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// openFrames opens a packet socket in the calling thread's namespace, for one
// protocol, on one link or (index 0) on all.
func openFrames(proto uint16, index int) (int, error) {
	// With protocol 0 the socket sees nothing until it is bound, and never
	// anything of another link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, socketError("packet", err)
	}
	grow(fd)
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(proto), Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, socketError("packet", err)
	}
	return fd, nil
}

// openRaw opens a raw IP socket in the calling thread's namespace.
func openRaw(family int, proto netset.Proto) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return -1, socketError("raw", err)
	}
	grow(fd)
	return fd, nil
}

// rawSender is the protocol of a raw socket that only sends whole IP packets.
const rawSender netset.Proto = unix.IPPROTO_RAW

func grow(fd int) {
	// Only root of the machine may exceed its limit; others get what it allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, tapBuffer)
	}
}

func socketError(kind string, err error) error {
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("open %s socket: %w (raise the limit of open files: ulimit -n)", kind, err)
	}
	return fmt.Errorf("open %s socket: %w", kind, err)
}

// lost reports whether packets found no room in the tap since the last call.
func (t *tap) lost() bool {
	var info [16]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(t.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	const drops = 8 // SK_MEMINFO_DROPS
	if e != 0 || size <= drops*4 || info[drops] == t.drops {
		return false
	}
	t.drops = info[drops]
	return true
}

// A table watches something in the kernel that drops packets when it is full.
type table struct {
	file  *os.File
	read  func(text string) (drops uint64)
	drops uint64
}

// connections opens the counters of the connection table of the calling
// thread's namespace; nil if there are none.
func connections() *table { return openTable("/proc/thread-self/net/stat/nf_conntrack", readDrops) }

// backlog opens the counters of the machine's queues of received packets.
func backlog() *table { return openTable("/proc/thread-self/net/softnet_stat", readBacklog) }

func openTable(path string, read func(string) uint64) *table {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	t := &table{file: f, read: read}
	t.lost()
	return t
}

// lost reports whether packets were dropped since the last call.
func (t *table) lost() bool {
	buf := make([]byte, 256<<10)
	n, _ := t.file.ReadAt(buf, 0)
	drops := t.read(string(buf[:n]))
	lost := drops != t.drops
	t.drops = drops
	return lost
}

// readDrops adds up the column "drop", a hexadecimal number for each processor.
func readDrops(text string) (sum uint64) {
	head, rows, _ := strings.Cut(text, "\n")
	at := slices.Index(strings.Fields(head), "drop")
	for row := range strings.Lines(rows) {
		if f := strings.Fields(row); at >= 0 && at < len(f) {
			n, _ := strconv.ParseUint(f[at], 16, 64)
			sum += n
		}
	}
	return sum
}

// readBacklog adds up the second column, likewise; there is no headline.
func readBacklog(text string) (sum uint64) {
	for row := range strings.Lines(text) {
		if f := strings.Fields(row); len(f) > 1 {
			n, _ := strconv.ParseUint(f[1], 16, 64)
			sum += n
		}
	}
	return sum
}

// receive reads one packet without waiting; n is negative if there is none.
func (t *tap) receive(buf []byte) (n int) {
	for {
		r, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(t.fd), uintptr(unsafe.Pointer(&buf[0])),
			uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			return int(r)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return -1
		}
		// A pending error of the socket, such as an ICMP error: it is cleared
		// by being read.
		return 0
	}
}

// sendFrame sends a frame over a link of the socket's namespace.
func sendFrame(fd, index int, frame []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: htons(etherFence), Ifindex: index, Halen: 6}
	copy(to.Addr[:], net.HardwareAddr(frame[:6]))
	return unix.Sendto(fd, frame, 0, to)
}
