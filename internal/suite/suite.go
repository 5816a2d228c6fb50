// Package suite holds assertions about a cluster's connectivity: who must, and
// who must not, reach whom. It reads them from YAML, checks them against a
// compiled table and reports each failure with the rules that caused it.
//
// A suite names ends of connections as the command line does, or selects pods
// by labels. Checking costs the groups of pods that policies tell apart, not
// the pods.
package suite

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// Test is one assertion: all connections from From to To at all Ports have the
// decision Expect.
type Test struct {
	Name       string
	From, To   []Choice // one or more; the union is meant
	Ports      []Port   // one or more
	Expect     verdict.Decision
	AllowEmpty bool          // a selector that matches nobody is no failure
	Position   diag.Position // of the test in its file
}

// Choice names ends of connections, by a text or by selectors.
type Choice struct {
	Text string // an endpoint, "external", an address or a CIDR; "" selects pods

	Namespace  string            // exactly this namespace; "" means by Namespaces
	Namespaces selector.Selector // valid iff Text and Namespace are ""
	Pods       selector.Selector // valid iff Text is ""

	Position diag.Position
}

// String says the choice as a sentence does: "dev/dev1", "pods labelled
// app=web in namespace prod".
func (c Choice) String() string {
	if c.Text != "" {
		return c.Text
	}
	return model.Term{Kind: model.PodTerm, Namespace: c.Namespace, Namespaces: c.Namespaces, Pods: c.Pods}.String()
}

// Port is traffic that an assertion is about.
type Port struct {
	Text    string // as written
	traffic netset.Traffic
	echo    bool // an echo request of either family; traffic is empty then
	all     bool // all traffic; towards a Service, all its ports
}

// in returns the traffic in family f.
func (p Port) in(f netset.Family) netset.Traffic {
	if p.echo {
		return netset.Span(netset.Echo(f), netset.Echo(f))
	}
	return p.traffic
}

// ParsePort reads what verdict.ParsePort reads and, for more than one port,
// "tcp" (all ports of a protocol), "tcp/8000-8100" and "all".
func ParsePort(text string) (Port, error) {
	p := Port{Text: text}
	if text == "all" {
		p.all, p.traffic = true, netset.AllTraffic()
		return p, nil
	}
	proto, ports, ok := strings.Cut(text, "/")
	_, notNumber := strconv.Atoi(proto)
	if !ok && notNumber == nil {
		proto, ports = "tcp", text
	}
	n, err := netset.ParseProto(proto)
	if err != nil {
		return p, fmt.Errorf("%q is no port: want tcp/80, udp/53, tcp/8000-8100, tcp, icmp, 80 or all", text)
	}
	from, to, isRange := strings.Cut(ports, "-")
	switch {
	case n == netset.ICMP || n == netset.ICMPv6:
		if ports != "" {
			return p, fmt.Errorf("%q is no port: icmp has no ports", text)
		}
		p.echo = true
		return p, nil
	case ports == "":
		p.traffic = netset.AllPorts(n)
		return p, nil
	case !isRange:
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a > b {
		return p, fmt.Errorf("%q is no port: want a number from 0 to 65535, or two as in 8000-8100", text)
	}
	p.traffic = netset.Ports(n, uint16(a), uint16(b))
	return p, nil
}

// parseDecision reads "allow", "deny" or "undefined".
func parseDecision(s string) (verdict.Decision, bool) {
	for _, d := range []verdict.Decision{verdict.Deny, verdict.Allow, verdict.Undefined} {
		if s == d.String() {
			return d, true
		}
	}
	return verdict.Deny, false
}

// parseCIDR reads an address block. An address alone is none.
func parseCIDR(s string) (netip.Prefix, bool) {
	if !strings.Contains(s, "/") {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}
