//go:build linux

package lab

import (
	"net"

	"github.com/miekg/dns"

	"picket/internal/netset"
)

// serveDNS makes the spec's DNS servers answer from the zone, in place of the
// responders of their ports. It is part of planning: nothing is opened yet.
func (l *Lab) serveDNS(spec *Spec, nodes []NodeSpec) {
	if len(spec.DNS.Servers) == 0 {
		return
	}
	l.zone = newZone(spec, nodes)
	for _, d := range spec.DNS.Servers {
		s := l.spaces[l.endpoints[d.Pod].space]
		for _, p := range []Port{{netset.UDP, d.Port}, {netset.TCP, d.Port}} {
			s.listens = union(s.listens, []Port{p})
			if s.dns == nil {
				s.dns = map[Port]bool{}
			}
			s.dns[p] = true
		}
	}
}

// answerDNS answers a datagram: a query from the zone, and a probe as other
// responders do, by itself with the name. A probe is too short for a message of
// DNS, and starts otherwise than a query could.
func (l *Lab) answerDNS(p []byte, name string) []byte {
	if len(p) >= len(magic) && string(p[:len(magic)]) == magic {
		return append(p, name...)
	}
	return l.zone.reply(p, true)
}

// talkDNS answers the queries of a connection until the client ends it.
func (l *Lab) talkDNS(conn net.Conn) {
	c := &dns.Conn{Conn: conn}
	query := make([]byte, dns.MaxMsgSize)
	for {
		n, err := c.Read(query)
		if err != nil {
			return
		}
		answer := l.zone.reply(query[:n], false)
		if answer == nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
