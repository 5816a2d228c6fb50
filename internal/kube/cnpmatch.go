package kube

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	npa "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"picket/internal/model"
	"picket/internal/netset"
)

// peer converts a peer; one with several networks becomes as many.
func (c *cnp) peer(p *npa.ClusterNetworkPolicyEgressPeer, at string, t node, a model.Action, tier int) []model.Peer {
	if !c.exactlyOne("", at, t, "a peer has one of namespaces, pods, nodes, networks, domainNames") {
		return nil
	}
	one := func(t model.Term) []model.Peer {
		return []model.Peer{{Terms: []model.Term{t}, Origin: c.origin(at)}}
	}
	switch {
	case p.Namespaces != nil:
		return one(c.namespaces(p.Namespaces, at+".namespaces"))
	case p.Pods != nil:
		return one(c.pods(p.Pods, at+".pods", t.get("pods")))
	case p.Nodes != nil:
		c.failFields(c.b.selectorErrors(p.Nodes, at+".nodes"))
		return one(model.Term{Kind: model.NodeTerm, Nodes: toSelector(p.Nodes)})
	case t.get("networks").present():
		return c.networks(p.Networks, at+".networks")
	case t.get("domainNames").present():
		return one(c.domainNames(p.DomainNames, at+".domainNames", a, tier))
	}
	return nil
}

func (c *cnp) networks(list []npa.CIDR, at string) []model.Peer {
	c.tooMany(at, len(list))
	if len(list) == 0 && !c.badUnder(at) {
		c.fail("", at, "", "%s: Invalid value: 0: must have at least 1 items", at)
	}
	var out []model.Peer
	for i, s := range list {
		path := at + "[" + strconv.Itoa(i) + "]"
		if slices.Contains(list[:i], s) {
			c.fail("", path, "remove it", "%s: Duplicate value: %q", path, shorten(string(s)))
		}
		if p, ok := c.cidr(string(s), path); ok {
			out = append(out, model.Peer{Origin: c.origin(path), Terms: []model.Term{{
				Kind: model.NetTerm, Nets: netset.FromPrefix(p), NetText: string(s),
			}}})
		}
	}
	return out
}

var domainName = regexp.MustCompile(`^(\*\.)?([a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$`)

func (c *cnp) domainNames(list []npa.DomainName, at string, a model.Action, tier int) model.Term {
	c.tooMany(at, len(list))
	if len(list) == 0 && !c.badUnder(at) {
		c.fail("", at, "", "%s: Invalid value: 0: must have at least 1 items", at)
	}
	if a != model.Allow {
		c.fail("CN509", at, "accept the names that may be reached, and deny the rest after them",
			"%s: Forbidden: domainNames is only supported for Accept rules", at)
	} else if tier == tierBaseline {
		c.fail("CN509", at, "move the rule to a policy of the Admin tier",
			"%s: Forbidden: domainNames is only supported in the Admin tier", at)
	}
	t := model.Term{Kind: model.NameTerm}
	for i, n := range list {
		path := at + "[" + strconv.Itoa(i) + "]"
		switch {
		case slices.Contains(list[:i], n):
			c.fail("", path, "remove it", "%s: Duplicate value: %q", path, shorten(string(n)))
		case !domainName.MatchString(string(n)):
			c.fail("", path, "names are written like example.com or *.example.com",
				"%s: Invalid value: %q: should match '%s'", path, shorten(string(n)), domainName)
		}
		t.Names = append(t.Names, string(n))
	}
	return t
}

func (c *cnp) protocols(r *model.Rule, list []npa.ClusterNetworkPolicyProtocol, at string, t node) {
	r.AnyPort = !t.present()
	if t.present() && len(list) == 0 && !c.badUnder(at) {
		c.fail("", at, "leave protocols out if all are meant", "%s: Invalid value: 0: must have at least 1 items", at)
	}
	c.tooMany(at, len(list))
	for i := range list {
		path := at + "[" + strconv.Itoa(i) + "]"
		r.Ports = append(r.Ports, c.protocol(&list[i], path, t.at(i))...)
	}
}

func (c *cnp) protocol(p *npa.ClusterNetworkPolicyProtocol, at string, t node) []model.PortMatch {
	const fix = "write one of tcp, udp, sctp or destinationNamedPort; destinationPort lies inside the first three"
	if !c.exactlyOne("CN510", at, t, fix) {
		return nil
	}
	if t.get("destinationNamedPort").present() {
		name := p.DestinationNamedPort
		for _, msg := range validation.IsValidPortName(name) {
			c.fail("", at+".destinationNamedPort", "", "%s.destinationNamedPort: Invalid value: %q: %s", at, shorten(name), msg)
		}
		return []model.PortMatch{{Name: name, Text: name, Origin: c.origin(at)}}
	}
	for _, k := range []struct {
		name  string
		proto netset.Proto
		port  func() *npa.Port
		set   bool
	}{
		{"tcp", netset.TCP, func() *npa.Port { return p.TCP.DestinationPort }, p.TCP != nil},
		{"udp", netset.UDP, func() *npa.Port { return p.UDP.DestinationPort }, p.UDP != nil},
		{"sctp", netset.SCTP, func() *npa.Port { return p.SCTP.DestinationPort }, p.SCTP != nil},
	} {
		if !k.set {
			continue
		}
		path := at + "." + k.name
		dp := t.get(k.name).get("destinationPort")
		if !dp.present() {
			if !c.badUnder(path) {
				c.fail("CN510", path, "write the port, as in "+k.name+": {destinationPort: {number: 80}}",
					"%s: Invalid value: must have at least 1 properties", path)
			}
			return nil
		}
		return c.port(k.proto, k.port(), path+".destinationPort", dp, c.origin(at))
	}
	return nil
}

func (c *cnp) port(proto netset.Proto, p *npa.Port, at string, t node, origin model.Origin) []model.PortMatch {
	if p == nil || !c.exactlyOne("", at, t, "write number, or range with start and end") {
		return nil
	}
	m := model.PortMatch{Origin: origin}
	inRange := func(n int32, path string) {
		if n < 1 || n > 65535 {
			c.fail("", path, "", "%s: Invalid value: %d: %s", path, n, validation.InclusiveRangeError(1, 65535))
		}
	}
	if r := p.Range; r != nil {
		at += ".range"
		for _, name := range []string{"start", "end"} {
			if !t.get("range").get(name).present() {
				c.required(at + "." + name)
			}
		}
		inRange(r.Start, at+".start")
		inRange(r.End, at+".end")
		if r.Start >= r.End {
			c.fail("CN514", at, fmt.Sprintf("for one port write number: %d", r.Start),
				"%s: Invalid value: Start port must be less than End port", at)
		}
		m.Traffic, m.Text = portRange(proto, r.Start, r.End)
	} else {
		inRange(p.Number, at+".number")
		m.Traffic, m.Text = portRange(proto, p.Number, p.Number)
	}
	return []model.PortMatch{m}
}
