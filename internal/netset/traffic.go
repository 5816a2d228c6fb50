package netset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Proto is an IP protocol number as IANA assigns it.
type Proto uint8

// The protocols that policies name.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
	SCTP   Proto = 132
)

// String returns the protocol's lower-case name, or its number.
func (p Proto) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// ParseProto reads a protocol name, in any case, or a number from 0 to 255.
func ParseProto(s string) (Proto, error) {
	for _, p := range []Proto{ICMP, TCP, UDP, ICMPv6, SCTP} {
		if strings.EqualFold(s, p.String()) {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("unknown protocol %q: want tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255", s)
	}
	return Proto(n), nil
}

// Key is one point of the traffic space: a protocol with a port, or for ICMP
// and ICMPv6 with type and code.
type Key uint32

// maxKey is the last point of the space: protocol 255, port 65535.
const maxKey Key = 1<<24 - 1

// KeyOf returns the point of a protocol and port. Protocols without ports use
// port 0.
func KeyOf(p Proto, port uint16) Key { return Key(p)<<16 | Key(port) }

// Echo returns the point of an ICMP echo request of the family.
func Echo(f Family) Key {
	if f == V6 {
		return KeyOf(ICMPv6, 128<<8)
	}
	return KeyOf(ICMP, 8<<8)
}

// Proto returns the protocol.
func (k Key) Proto() Proto { return Proto(k >> 16) }

// Port returns the port, or for ICMP type times 256 plus code.
func (k Key) Port() uint16 { return uint16(k) }

// Compare orders by protocol, then port.
func (k Key) Compare(o Key) int { return int(k) - int(o) }

// Next returns the following point; after the last one, a value outside the
// space.
func (k Key) Next() Key { return k + 1 }

// Prev returns the point before; before the first one, a value outside the
// space.
func (k Key) Prev() Key { return k - 1 }

// String returns "tcp/80"; for ICMP "icmp", with "/type.code" unless it is an
// echo request.
func (k Key) String() string {
	switch p := k.Proto(); {
	case k == Echo(V4) || k == Echo(V6):
		return p.String()
	case p == ICMP || p == ICMPv6:
		return fmt.Sprintf("%s/%d.%d", p, k.Port()>>8, k.Port()&0xff)
	default:
		return fmt.Sprintf("%s/%d", p, k.Port())
	}
}

// Traffic is a set of points of the traffic space. The zero value is empty.
// Values are immutable and safe to share.
type Traffic struct{ r run[Key] }

// AllTraffic is every protocol with every port.
func AllTraffic() Traffic { return Traffic{run[Key]{{0, maxKey}}} }

// AllPorts is every port of the protocols.
func AllPorts(ps ...Proto) Traffic {
	var t Traffic
	for _, p := range ps {
		t = t.Union(Ports(p, 0, 65535))
	}
	return t
}

// Ports is the ports from..to of the protocol, both included. If from exceeds
// to the set is empty.
func Ports(p Proto, from, to uint16) Traffic {
	return Span(KeyOf(p, from), KeyOf(p, to))
}

// Span is the points from..to, both included. If from exceeds to the set is
// empty.
func Span(from, to Key) Traffic {
	if from > to {
		return Traffic{}
	}
	return Traffic{run[Key]{{from, to}}}
}

// Contains reports whether k is in the set.
func (t Traffic) Contains(k Key) bool { return t.r.contains(k) }

// Empty reports whether the set holds no point.
func (t Traffic) Empty() bool { return len(t.r) == 0 }

// All reports whether the set is AllTraffic.
func (t Traffic) All() bool { return len(t.r) == 1 && t.r[0] == Range[Key]{0, maxKey} }

// Union returns the points in t or o.
func (t Traffic) Union(o Traffic) Traffic { return Traffic{t.r.union(o.r)} }

// Intersect returns the points in t and o.
func (t Traffic) Intersect(o Traffic) Traffic { return Traffic{t.r.intersect(o.r)} }

// Subtract returns the points in t but not in o.
func (t Traffic) Subtract(o Traffic) Traffic { return Traffic{t.r.subtract(o.r)} }

// Equal reports whether both sets hold the same points.
func (t Traffic) Equal(o Traffic) bool { return t.r.equal(o.r) }

// Ranges returns the set's ranges in order. A range may span protocols. The
// caller must not change them.
func (t Traffic) Ranges() []Range[Key] { return t.r }

// PortRange is a range of ports of one protocol, both ends included.
type PortRange struct {
	Proto    Proto
	From, To uint16
}

// Whole reports whether the range is every port of its protocol.
func (p PortRange) Whole() bool { return p.From == 0 && p.To == 65535 }

// String returns "tcp/80", "tcp/80-90" or, for all ports, "tcp". For ICMP it is
// "icmp/8.0" for one type and code, "icmp/8" for one type, "icmp/3.1-4.0" for
// what lies between.
func (p PortRange) String() string {
	if p.Whole() {
		return p.Proto.String()
	}
	from, to := strconv.Itoa(int(p.From)), strconv.Itoa(int(p.To))
	if p.Proto == ICMP || p.Proto == ICMPv6 {
		if p.From&0xff == 0 && p.To == p.From|0xff {
			return fmt.Sprintf("%s/%d", p.Proto, p.From>>8)
		}
		from = fmt.Sprintf("%d.%d", p.From>>8, p.From&0xff)
		to = fmt.Sprintf("%d.%d", p.To>>8, p.To&0xff)
	}
	if from == to {
		return p.Proto.String() + "/" + from
	}
	return p.Proto.String() + "/" + from + "-" + to
}

// PortRanges returns the set cut at protocol borders, in order: at most one
// entry a protocol and range, 256 for AllTraffic.
func (t Traffic) PortRanges() []PortRange {
	var out []PortRange
	for _, r := range t.r {
		for p := r.From.Proto(); ; p++ {
			pr := PortRange{Proto: p, To: 65535}
			if p == r.From.Proto() {
				pr.From = r.From.Port()
			}
			if p == r.To.Proto() {
				pr.To = r.To.Port()
			}
			out = append(out, pr)
			if p == r.To.Proto() {
				break
			}
		}
	}
	return out
}

// named are the protocols that String names one by one.
var named = []Proto{TCP, UDP, SCTP, ICMP, ICMPv6}

// String returns a short form for people: "all", "none", "tcp/80,443,8000-8100
// udp/53", with the words "other" for all protocols without a name here, and
// "except" where that is shorter than a list of protocols.
func (t Traffic) String() string {
	switch {
	case t.Empty():
		return "none"
	case t.All():
		return "all"
	}
	other := AllTraffic().Subtract(AllPorts(named...))
	parts := make([]string, 0, 6)
	for _, p := range named {
		if s := t.protoString(p); s != "" {
			parts = append(parts, s)
		}
	}
	switch in := t.Intersect(other); {
	case in.Empty():
	case in.Equal(other):
		parts = append(parts, "other")
		except := "all except " + AllTraffic().Subtract(t).String()
		if len(except) < len(strings.Join(parts, " ")) {
			return except
		}
	default:
		for _, pr := range in.PortRanges() {
			parts = append(parts, pr.String())
		}
	}
	return strings.Join(parts, " ")
}

// protoString returns the part of the set in one protocol, "" if it has none.
func (t Traffic) protoString(p Proto) string {
	in := t.Intersect(AllPorts(p))
	if in.Empty() {
		return ""
	}
	var b strings.Builder
	for i, pr := range in.PortRanges() {
		s := pr.String()
		if i > 0 {
			_, s, _ = strings.Cut(s, "/")
			b.WriteByte(',')
		}
		b.WriteString(s)
	}
	return b.String()
}

// Cells cuts the traffic space into the coarsest ranges that no given set can
// tell apart inside. The ranges are in order and together are AllTraffic.
func Cells(sets []Traffic) []Range[Key] {
	starts := []Key{0}
	for _, s := range sets {
		for _, r := range s.r {
			starts = append(starts, r.From)
			if r.To < maxKey {
				starts = append(starts, r.To+1)
			}
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	out := make([]Range[Key], len(starts))
	for i, s := range starts {
		out[i] = Range[Key]{s, maxKey}
		if i > 0 {
			out[i-1].To = s - 1
		}
	}
	return out
}
