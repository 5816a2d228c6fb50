//go:build linux

package prove

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// A slot is a range of traffic that a pair of verdicts decides in one way, and
// the packets that can show it.
type slot struct {
	traffic  netset.Traffic // contiguous within one protocol, or all that is left of a range of protocols
	decision verdict.Decision
	reasons  [2]verdict.ReasonID
	keys     []netset.Key // to be tried; the first stands for the slot
	why      string       // why there are none
}

// slotsKey is what slots depend on.
type slotsKey struct {
	sides  [2]verdict.VerdictID
	family netset.Family
}

// slotsOf returns the slots of a pair of verdicts.
func (p *plan) slotsOf(sides [2]verdict.VerdictID, f netset.Family) []slot {
	k := slotsKey{sides, f}
	if s, ok := p.slots[k]; ok {
		return s
	}
	var out []slot
	from := netset.Key(0)
	pair := verdict.Pair{Sides: sides}
	for _, j := range p.t.Join(pair) {
		for _, part := range byProtocol(netset.Span(from, j.To), f) {
			s := slot{traffic: part, decision: j.Decision, reasons: j.Reasons}
			s.keys, s.why = p.keysOf(part, f)
			if s.why == "" {
				s.why = p.unprovable(pair, s)
			}
			if s.why != "" {
				s.keys = nil
			}
			out = append(out, s)
		}
		from = j.To + 1
	}
	p.slots[k] = out
	return out
}

// byProtocol cuts contiguous traffic into the protocols that have something of
// their own, ports or the family's echo, and the rest.
func byProtocol(t netset.Traffic, f netset.Family) []netset.Traffic {
	var out []netset.Traffic
	rest := t
	for _, proto := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP, netset.Echo(f).Proto()} {
		whole := netset.AllPorts(proto)
		if in := t.Intersect(whole); !in.Empty() {
			out = append(out, in)
		}
		rest = rest.Subtract(whole)
	}
	if !rest.Empty() {
		out = append(out, rest)
	}
	slices.SortFunc(out, func(a, b netset.Traffic) int { return a.Ranges()[0].From.Compare(b.Ranges()[0].From) })
	return out
}

// unprovable says why packets can show nothing of a slot, or "".
func (p *plan) unprovable(pair verdict.Pair, s slot) string {
	if s.decision == verdict.Undefined {
		return "dialect " + p.t.Dialect.Name + " leaves the verdict open"
	}
	if len(s.keys) == 0 || hasPorts(s.keys[0].Proto()) || isICMP(s.keys[0].Proto()) {
		return ""
	}
	// The dataplane lets protocols without ports through as a whole or not at
	// all, and says so.
	proto := s.keys[0].Proto()
	whole := netset.AllPorts(proto)
	for _, id := range pair.Sides {
		if id == verdict.None {
			continue
		}
		in := p.t.Verdicts[id].Traffic(verdict.Allow).Intersect(whole)
		if !in.Empty() && !in.Equal(whole) {
			return "the kernel form cannot tell parts of " + proto.String() + " apart and denies all of it"
		}
	}
	return ""
}

func isICMP(p netset.Proto) bool { return p == netset.ICMP || p == netset.ICMPv6 }

func hasPorts(p netset.Proto) bool {
	return p == netset.TCP || p == netset.UDP || p == netset.SCTP
}

// keysOf chooses the packets that stand for contiguous traffic t: with ports,
// both ends and the named ones in between.
func (p *plan) keysOf(t netset.Traffic, f netset.Family) (keys []netset.Key, why string) {
	r := t.Ranges()[0]
	proto := r.From.Proto()
	switch {
	case !hasPorts(proto) && proto != netset.Echo(f).Proto():
		return otherProtocol(t, f)
	case !hasPorts(proto):
		for _, q := range queries[f] {
			if in := t.Intersect(netset.Ports(proto, q<<8, q<<8|0xff)); !in.Empty() {
				return []netset.Key{in.Ranges()[0].From}, ""
			}
		}
		return nil, "the lab sends no packet of these types of " + proto.String() + " that opens a connection"
	}
	first, last := r.From, r.To
	if first.Port() == 0 {
		first = first.Next() // nobody can send to port 0
	}
	if first > last || last.Port() == 0 {
		return nil, "no packet can be sent to port 0"
	}
	for _, k := range p.named {
		if k >= first && k <= last {
			keys = append(keys, k)
		}
	}
	if len(keys) > 0 {
		// A port that somebody listens on makes the best example.
		for i, k := range keys {
			if p.listened[k] {
				keys[0], keys[i] = keys[i], keys[0]
				break
			}
		}
	}
	for _, k := range []netset.Key{first, last} {
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, ""
}

// otherProtocol chooses one protocol of those without ports in t. Connection
// tracking looks into some, and the lab's kernel into others.
func otherProtocol(t netset.Traffic, f netset.Family) ([]netset.Key, string) {
	inside := func(p netset.Proto) bool {
		return netset.AllPorts(p).Subtract(t).Empty() && !meddled[p] && !(f == netset.V6 && headers[p])
	}
	for _, p := range []netset.Proto{253, 254} { // kept for experiments
		if inside(p) {
			return []netset.Key{netset.KeyOf(p, 0)}, ""
		}
	}
	for p := netset.Proto(0); p < 255; p++ {
		if inside(p) {
			return []netset.Key{netset.KeyOf(p, 0)}, ""
		}
	}
	return nil, "the lab cannot send " + trafficName(t)
}

// meddled are protocols whose packets need more than a few bytes to be taken
// for what they are.
var meddled = map[netset.Proto]bool{0: true, 1: true, 2: true, 4: true, 33: true, 41: true, 46: true, 47: true, 50: true, 51: true, 58: true, 108: true, 136: true, 255: true}

// headers are the numbers that are extension headers in IPv6.
var headers = map[netset.Proto]bool{0: true, 43: true, 44: true, 50: true, 51: true, 59: true, 60: true, 135: true, 139: true, 140: true}

// queries are the types of ICMP message that open a connection and that the
// lab can send: echo first, which everybody answers, and for IPv4 timestamp.
var queries = map[netset.Family][]uint16{netset.V4: {8, 13}, netset.V6: {128}}

// trafficName names the traffic of a slot: "tcp/81-65535", "icmp", or, of
// protocols without a name, "protocols 0,2-5".
func trafficName(t netset.Traffic) string {
	var numbers []string
	from, last := -1, -1
	flush := func() {
		if from == last && from >= 0 {
			numbers = append(numbers, fmt.Sprint(from))
		} else if from >= 0 {
			numbers = append(numbers, fmt.Sprintf("%d-%d", from, last))
		}
	}
	for _, r := range t.PortRanges() {
		if hasPorts(r.Proto) || !r.Whole() || r.Proto == netset.ICMP && t.Equal(netset.AllPorts(r.Proto)) {
			return t.String()
		}
		if int(r.Proto) != last+1 || from < 0 {
			flush()
			from = int(r.Proto)
		}
		last = int(r.Proto)
	}
	flush()
	if t.Equal(netset.AllPorts(netset.ICMPv6)) {
		return "icmpv6"
	}
	if strings.ContainsAny(strings.Join(numbers, ","), ",-") {
		return "protocols " + strings.Join(numbers, ",")
	}
	return "protocol " + strings.Join(numbers, ",")
}

// names collects the ports that the snapshots name: each in TCP and UDP, and in
// SCTP if that is what it was named for, with the ports beside each range.
func names(tables []*verdict.Table, more []verdict.Port) (named []netset.Key, listened map[netset.Key]bool) {
	set := map[netset.Key]bool{}
	listened = map[netset.Key]bool{}
	one := func(k netset.Key) {
		if !hasPorts(k.Proto()) || k.Port() == 0 {
			return
		}
		set[k] = true
		if k.Proto() != netset.SCTP {
			set[netset.KeyOf(netset.TCP, k.Port())] = true
			set[netset.KeyOf(netset.UDP, k.Port())] = true
		}
	}
	for _, t := range tables {
		for i := range t.Snapshot.Endpoints {
			for _, c := range t.Snapshot.Endpoints[i].Ports {
				one(netset.KeyOf(c.Proto, c.Number))
				listened[netset.KeyOf(c.Proto, c.Number)] = true
			}
		}
		for i := range t.Snapshot.Services {
			for _, c := range t.Snapshot.Services[i].Ports {
				one(netset.KeyOf(c.Proto, c.Port))
				if c.TargetName == "" {
					one(netset.KeyOf(c.Proto, c.TargetPort))
				}
			}
		}
		for i := range t.Snapshot.Tiers {
			for j := range t.Snapshot.Tiers[i].Policies {
				for _, m := range matches(&t.Snapshot.Tiers[i].Policies[j]) {
					borders(m.Traffic, one)
				}
			}
		}
	}
	for _, p := range more {
		one(p.In(netset.V4))
	}
	for k := range set {
		named = append(named, k)
	}
	slices.Sort(named)
	return named, listened
}

func matches(p *model.Policy) (out []model.PortMatch) {
	for _, rules := range p.Rules {
		for i := range rules {
			out = append(append(out, rules[i].Ports...), rules[i].NotPorts...)
		}
	}
	return out
}

// borders calls f with the ports at both ends of each range and beside them.
func borders(t netset.Traffic, f func(netset.Key)) {
	for _, proto := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP} {
		for _, r := range t.Intersect(netset.AllPorts(proto)).Ranges() {
			f(r.From)
			f(r.To)
			if r.From.Port() > 0 {
				f(r.From.Prev())
			}
			if r.To.Port() < 65535 {
				f(r.To.Next())
			}
		}
	}
}
