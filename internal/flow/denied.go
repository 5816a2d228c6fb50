//go:build linux

package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/florianl/go-nflog/v2"
	"golang.org/x/sys/unix"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Denied is a packet that the dataplane threw away, by its connection: the
// addresses are the pods' own, as they are after translation.
type Denied struct {
	At        time.Time
	Unknown   bool            // a local pod that is not known; nobody judged it
	Direction model.Direction // whose policies denied it: Egress the initiator's; valid iff !Unknown
	Initiator netip.Addr
	Responder netip.Addr
	Key       netset.Key // protocol and port of the responder; of ICMP type and code; port 0 without ports
}

// ReadDenied reads what the dataplane logs to a netlink log group of the
// network namespace with the file descriptor netns (0: the caller's), until ctx
// ends. Packets that the kernel could not hand over are counted in lost: the
// log is a sample under load, the counters of the table are exact. It needs
// CAP_NET_ADMIN in the namespace; one reader a group.
func ReadDenied(ctx context.Context, netns int, group uint16, each func(Denied), lost func()) error {
	err := readGroup(ctx, netns, group, nflog.FlagConntrack, each, lost)
	if errors.Is(err, unix.EOPNOTSUPP) {
		// This kernel does not log connections. The packet has to do.
		err = readGroup(ctx, netns, group, 0, each, lost)
	}
	return err
}

func readGroup(ctx context.Context, netns int, group, flags uint16, each func(Denied), lost func()) error {
	l, err := nflog.Open(&nflog.Config{NetNS: netns, Group: group, Copymode: nflog.CopyPacket, Bufsize: 256, Flags: flags, QThresh: 16, Timeout: 1})
	if err != nil {
		return fmt.Errorf("open log group %d: %w", group, err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = l.RegisterWithErrorFunc(ctx, func(a nflog.Attribute) int {
		if d, ok := readDenied(a); ok {
			each(d)
		}
		return 0
	}, func(err error) int {
		if errors.Is(err, unix.ENOBUFS) {
			lost()
			return 0
		}
		if ctx.Err() == nil {
			cancel(fmt.Errorf("read log group %d: %w", group, err))
		}
		return 1
	})
	if err != nil {
		return fmt.Errorf("join log group %d: %w", group, err)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// readDenied understands one message of the log; others' messages in the group
// are not ours.
func readDenied(a nflog.Attribute) (Denied, bool) {
	d := Denied{At: time.Now()}
	if a.Prefix == nil || a.Payload == nil {
		return d, false
	}
	switch strings.TrimRight(*a.Prefix, "\x00") {
	case "picket:in:deny":
		d.Direction = model.Ingress
	case "picket:eg:deny":
		d.Direction = model.Egress
	case "picket:unknown":
		d.Unknown = true
	default:
		return d, false
	}
	if a.Timestamp != nil && !a.Timestamp.IsZero() && a.Timestamp.Unix() > 0 {
		d.At = *a.Timestamp
	}
	if a.Ct != nil && d.connection(*a.Ct) {
		return d, true
	}
	return d, d.packet(*a.Payload)
}

// connection reads initiator, responder and port from a connection-tracking
// entry: its two tuples.
func (d *Denied) connection(data []byte) bool {
	var proto netset.Proto
	var port, query uint16
	attributes(data, func(typ uint16, tuple []byte) {
		if typ != 1 && typ != 2 { // original, reply
			return
		}
		attributes(tuple, func(part uint16, data []byte) {
			attributes(data, func(field uint16, v []byte) {
				switch {
				case part == 1 && (field == 1 || field == 3): // source address
					if a, ok := netip.AddrFromSlice(v); ok && typ == 1 {
						d.Initiator = a
					} else if ok {
						d.Responder = a
					}
				case part == 2 && field == 1 && len(v) == 1:
					proto = netset.Proto(v[0])
				case part == 2 && typ == 2 && field == 2 && len(v) == 2: // source port
					port = binary.BigEndian.Uint16(v)
				case part == 2 && typ == 1 && (field == 5 || field == 8) && len(v) == 1: // type
					query |= uint16(v[0]) << 8
				case part == 2 && typ == 1 && (field == 6 || field == 9) && len(v) == 1: // code
					query |= uint16(v[0])
				}
			})
		})
	})
	if proto == netset.ICMP || proto == netset.ICMPv6 {
		port = query
	}
	d.Key = netset.KeyOf(proto, port)
	return d.Initiator.IsValid() && d.Responder.IsValid()
}

// attributes visits netlink attributes, as far as they are well formed.
func attributes(b []byte, visit func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return
		}
		visit(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}

// packet reads the addresses and the port from the packet itself, where the
// connection is not known. An answer that is thrown away then looks like a
// connection of its own.
func (d *Denied) packet(ip []byte) bool {
	var l4 []byte
	var proto netset.Proto
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4 && int(ip[0]&15)*4 >= 20:
		d.Initiator, d.Responder = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		proto = netset.Proto(ip[9])
		if binary.BigEndian.Uint16(ip[6:])&0x1fff == 0 { // the first fragment
			l4 = ip[min(int(ip[0]&15)*4, len(ip)):]
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		d.Initiator, d.Responder = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		proto, l4 = netset.Proto(ip[6]), ip[40:]
	default:
		return false
	}
	port := uint16(0)
	switch {
	case len(l4) < 4:
	case proto == netset.ICMP || proto == netset.ICMPv6:
		port = binary.BigEndian.Uint16(l4)
	case proto == netset.TCP || proto == netset.UDP || proto == netset.SCTP:
		port = binary.BigEndian.Uint16(l4[2:])
	}
	d.Key = netset.KeyOf(proto, port)
	return true
}

// Sentence says what was denied and why, with the names of policies from the
// table: "dev/a → dev/b tcp/80: denied: NetworkPolicy dev/b isolates it for
// ingress and none of its rules matches". The table may be newer than the
// packet; if it allows the connection the sentence says so.
func (d Denied) Sentence(t *verdict.Table) string {
	from, to := t.AddrParty(d.Initiator), t.AddrParty(d.Responder)
	j := judge{table: t}
	head := fmt.Sprintf("%s → %s %s: ", j.name(from), j.name(to), d.Key)
	if d.Unknown {
		return head + "dropped: an address of the node's pod range that no known pod has"
	}
	target := to
	if d.Direction == model.Egress {
		target = from
	}
	if netset.FamilyOf(d.Initiator) != netset.FamilyOf(d.Responder) || target.Endpoint == verdict.None {
		return head + "denied by policies that are not there any more"
	}
	decision, pieces := t.Decide(t.Pair(from, to), d.Key)
	if pieces[d.Direction].Decision == verdict.Allow || decision == verdict.Allow {
		return head + "denied by policies that have changed since: it is allowed now"
	}
	return head + t.SideSentence(d.Direction, t.TargetOf[d.Direction][target.Endpoint], pieces[d.Direction])
}
