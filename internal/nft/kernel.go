//go:build linux

package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Kernel is the table of one network namespace. It is not safe for concurrent
// use.
//
// Sets carry a version behind their names ("peer4", "peer4.2", …), so that new
// ones can be filled beside those that the rules use.
type Kernel struct {
	options    Options
	netns      int
	conn       *netlink.Conn
	room       int // of the socket, in bytes
	numbers    numbers
	generation uint32             // counts on; the mark holds it modulo the number of generations
	version    uint32             // of the newest set
	names      map[string]string  // of sets in the kernel, by ours
	loaded     *state             // nil if it is not known what is there
	leftovers  bool               // connections may carry marks of generations that will come again
	rulesSeen  []byte             // how the kernel shows the rules we wrote
	checked    uint32             // the revision at which all was as it should be
	staged     func(*batch, bool) // of tests: a transaction of a change is done, after packets in flight or not
	Stats      Stats
}

// Stats count what was done since Open.
type Stats struct {
	Transactions int
	Messages     int
	Elements     int // added or removed
	Generations  int // times that connections had to be judged again
}

// Open connects to the network namespace of the file descriptor netns; 0 means
// the caller's. Nothing is changed until Apply. It needs CAP_NET_ADMIN in that
// namespace.
func Open(netns int, o Options) (*Kernel, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	k := &Kernel{options: o.WithDefaults(), netns: netns}
	if err := k.connect(); err != nil {
		return nil, err
	}
	return k, nil
}

// buffer is what we would like the socket to hold, in bytes: a transaction is
// one message to it.
const buffer = 256 << 20

func (k *Kernel) connect() error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return fmt.Errorf("connect to nf_tables: %w", err)
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			for _, opt := range [][2]int{{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}} {
				if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt[0], buffer) != nil {
					// Without privilege on the machine the limit of the system holds.
					_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt[1], buffer)
				}
			}
		})
	}
	k.conn = conn
	k.room = buffer
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil {
				k.room = n
			}
		})
	}
	return nil
}

// Close ends the connection. The table stays and goes on enforcing.
func (k *Kernel) Close() error { return k.conn.Close() }

// Remove deletes the table, if it is there, and nothing else.
func (k *Kernel) Remove() error {
	b := k.batch()
	b.destroyTable()
	k.loaded = nil
	return k.commit(b)
}

func (k *Kernel) batch() *batch { return newBatch(k.options.Table, k.names) }

// ErrBuffer says that a transaction does not fit into the socket's buffer,
// which only privilege on the machine (CAP_NET_ADMIN in the first user
// namespace) or the system's limit can enlarge.
var ErrBuffer = errors.New("the transaction is larger than the socket's send buffer: raise net.core.wmem_max")

// commit sends a transaction and waits for its end.
func (k *Kernel) commit(b *batch) error {
	if len(b.msgs) == 1 {
		return nil
	}
	last := len(b.msgs) - 1
	b.msgs[last].Header.Flags |= netlink.Acknowledge
	b.control(msgBatchEnd)
	sent, err := k.conn.SendMessages(b.msgs)
	if err != nil {
		if errors.Is(err, unix.EMSGSIZE) {
			err = errors.Join(ErrBuffer, err)
		}
		return errors.Join(fmt.Errorf("send to nf_tables: %w", err), k.reconnect())
	}
	want := sent[last].Header.Sequence
	for {
		replies, err := k.conn.Receive()
		if err != nil {
			// What else was answered is not wanted any more.
			return errors.Join(fmt.Errorf("nf_tables refused the transaction: %w", err), k.reconnect())
		}
		for _, r := range replies {
			if r.Header.Sequence == want {
				k.Stats.Transactions++
				k.Stats.Messages += len(b.msgs) - 2
				k.Stats.Elements += b.Elements
				k.checked++ // each transaction in the namespace counts, ours too
				return nil
			}
		}
	}
}

func (k *Kernel) reconnect() error {
	k.conn.Close()
	return k.connect()
}
