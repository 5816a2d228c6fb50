//go:build linux

package nft

import (
	"fmt"

	"picket/internal/netset"
)

// hasPorts tells the protocols whose connections carry a port that the rules
// can look at.
func hasPorts(p netset.Proto) bool {
	return p == netset.TCP || p == netset.UDP || p == netset.SCTP
}

// isICMP tells the protocols whose queries carry a type and code that the rules
// can look at.
func isICMP(p netset.Proto) bool { return p == netset.ICMP || p == netset.ICMPv6 }

// enforceable leaves out what the rules cannot tell apart: a protocol without
// ports is allowed as a whole or not at all. What is allowed in part is denied,
// and said.
func (p *planner) enforceable(t netset.Traffic) netset.Traffic {
	for _, r := range t.PortRanges() {
		if !hasPorts(r.Proto) && !isICMP(r.Proto) && !r.Whole() {
			p.plan.Limits = append(p.plan.Limits, fmt.Sprintf("protocol %s is allowed in part (%s), which the kernel form cannot tell apart: all of it is denied", r.Proto, r))
			t = t.Subtract(netset.AllPorts(r.Proto))
		}
	}
	return t
}

// Span is a range of ports of a range of protocols. If it covers more than one
// protocol it covers all ports.
type Span struct {
	Protos [2]netset.Proto
	Ports  [2]uint16
}

// spansOf cuts traffic into the spans of the ports maps.
func spansOf(t netset.Traffic) []Span {
	var spans []Span
	for _, r := range t.PortRanges() {
		if n := len(spans); n > 0 && r.Whole() && spans[n-1].Ports == [2]uint16{0, 65535} && spans[n-1].Protos[1]+1 == r.Proto {
			spans[n-1].Protos[1] = r.Proto
			continue
		}
		spans = append(spans, Span{Protos: [2]netset.Proto{r.Proto, r.Proto}, Ports: [2]uint16{r.From, r.To}})
	}
	return spans
}
