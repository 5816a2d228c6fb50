package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// policy is a policy and the index of its tier.
type policy struct {
	tier int
	model.Policy
}

// The tiers, by index.
const (
	tierAdmin = iota
	tierNetworkPolicy
	tierBaseline
)

// newTiers returns the tiers of Kubernetes, without policies.
func newTiers() []model.Tier {
	return []model.Tier{
		tierAdmin:         {Name: "Admin", Continue: true},
		tierNetworkPolicy: {Name: "NetworkPolicy", Union: true, Ports: true},
		tierBaseline:      {Name: "Baseline", Continue: true},
	}
}

// readNetworkPolicy reads a networking.k8s.io/v1 NetworkPolicy.
func (o *object) readNetworkPolicy(raw []byte) {
	var doc networking.NetworkPolicy
	o.decodeStrict(raw, &doc, func(path string) (code, fix string) {
		if strings.HasSuffix(path, "].namespace") {
			fix = "select the namespace by namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}"
		}
		return "", fix
	})
	if !o.policyName(raw) {
		return
	}
	spec := &doc.Spec
	o.failFields(o.b.selectorErrors(&spec.PodSelector, "spec.podSelector"))
	p := model.Policy{
		Kind: o.kind, Namespace: o.ns, Name: o.name, Origin: o.origin(""),
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: o.ns, Pods: toSelector(&spec.PodSelector)}},
	}
	for i, r := range spec.Ingress {
		p.Rules[model.Ingress] = append(p.Rules[model.Ingress], o.npRule("ingress", "from", i, r.From, r.Ports))
	}
	for i, r := range spec.Egress {
		p.Rules[model.Egress] = append(p.Rules[model.Egress], o.npRule("egress", "to", i, r.To, r.Ports))
	}
	p.Applies = o.policyTypes(spec)
	o.shape(spec)
	for d := range p.Applies {
		if !p.Applies[d] && o.broken == "" {
			p.Rules[d] = nil // the API ignores rules of a direction that is not listed
		}
	}
	if o.broken != "" {
		p.Broken, p.Applies = o.broken, [2]bool{true, true}
		if o.badUnder("spec.podSelector") || o.badAt("spec") || o.badAt("") {
			p.Subject[0].Pods = selector.Everything()
		}
	}
	p.Ignore = o.ignores(doc.Annotations)
	o.addPolicy(tierNetworkPolicy, p)
}

// policyName takes name and namespace from a policy's metadata and validates
// them. A policy without a usable name is reported, and nothing is certain any
// more; it returns false then.
func (o *object) policyName(raw []byte) bool {
	var doc struct {
		Metadata meta `json:"metadata"`
	}
	o.peekInto(raw, &doc)
	namespaced := o.kind == "NetworkPolicy"
	known := o.identify(&doc.Metadata, namespaced)
	if !known || o.unsure || o.badAt("metadata") || o.badUnder("metadata.name") || o.badUnder("metadata.namespace") {
		if !known && o.broken == "" {
			o.named(&doc.Metadata, namespaced)
		}
		o.b.distrust(o)
		return false
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Subdomain)
	return true
}

// badAt reports whether some error lies exactly at path.
func (o *object) badAt(path string) bool { return slices.Contains(o.bad, path) }

// policyTypes returns the directions that a NetworkPolicy isolates: those that
// it lists, or if it lists none Ingress, and Egress if it has egress rules.
func (o *object) policyTypes(spec *networking.NetworkPolicySpec) [2]bool {
	if len(spec.PolicyTypes) == 0 {
		return [2]bool{model.Ingress: true, model.Egress: len(spec.Egress) > 0}
	}
	var applies [2]bool
	if len(spec.PolicyTypes) > 2 {
		o.fail("", "spec.policyTypes", "", "spec.policyTypes: Invalid value: may not specify more than two policyTypes")
	}
	for i, t := range spec.PolicyTypes {
		switch t {
		case networking.PolicyTypeIngress:
			applies[model.Ingress] = true
		case networking.PolicyTypeEgress:
			applies[model.Egress] = true
		default:
			at := fmt.Sprintf("spec.policyTypes[%d]", i)
			o.fail("", at, "", `%s: Unsupported value: %q: supported values: "Egress", "Ingress"`, at, shorten(string(t)))
		}
	}
	return applies
}

// npRule converts a rule. One that is in error matches nothing.
func (o *object) npRule(dir, peers string, i int, from []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) model.Rule {
	at := "spec." + dir + "[" + strconv.Itoa(i) + "]"
	r := model.Rule{Action: model.Allow, Origin: o.origin(at)}
	errs := len(o.bad)
	r.AnyPeer, r.AnyPort = len(from) == 0, len(ports) == 0
	for j := range from {
		r.Peers = append(r.Peers, o.npPeer(&from[j], at+"."+peers+"["+strconv.Itoa(j)+"]"))
	}
	for j := range ports {
		r.Ports = append(r.Ports, o.npPort(&ports[j], at+".ports["+strconv.Itoa(j)+"]"))
	}
	if len(o.bad) > errs || o.badUnder(at) {
		return model.Rule{Origin: r.Origin, Action: model.Allow, Note: "fails closed: " + o.brokenUnder(at)}
	}
	return r
}

// brokenUnder says what is wrong at or below path.
func (o *object) brokenUnder(path string) string {
	for i := len(o.b.diags) - 1; i >= 0; i-- {
		if d := o.b.diags[i]; d.Object == o.ref() && strings.HasPrefix(d.Path, path) {
			return d.Message
		}
	}
	return o.broken
}

func (o *object) npPeer(peer *networking.NetworkPolicyPeer, at string) model.Peer {
	out := model.Peer{Origin: o.origin(at), Terms: []model.Term{{}}}
	t := &out.Terms[0]
	if peer.PodSelector != nil {
		o.failFields(o.b.selectorErrors(peer.PodSelector, at+".podSelector"))
	}
	if peer.NamespaceSelector != nil {
		o.failFields(o.b.selectorErrors(peer.NamespaceSelector, at+".namespaceSelector"))
	}
	selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
	switch {
	case peer.IPBlock == nil && !selects:
		if !o.badUnder(at) { // an unknown field there has been reported, and says more
			o.fail("NP106", at, "to allow every peer leave the list out; to allow every pod of the cluster write namespaceSelector: {}",
				"%s: Required value: must specify a peer", at)
		}
	case peer.IPBlock != nil && selects:
		o.ipBlock(peer.IPBlock, at+".ipBlock")
		o.fail("", at, "make two peers of it: the list allows what any of them matches",
			"%s: Forbidden: may not specify both ipBlock and another peer", at)
	case peer.IPBlock != nil:
		*t = o.ipBlock(peer.IPBlock, at+".ipBlock")
	default:
		t.Kind, t.Pods = model.PodTerm, selector.Everything()
		if peer.PodSelector != nil {
			t.Pods = toSelector(peer.PodSelector)
		}
		if peer.NamespaceSelector != nil {
			t.Namespaces = toSelector(peer.NamespaceSelector)
		} else {
			t.Namespace = o.ns
		}
	}
	return out
}

// ipBlock converts a block of addresses less its exceptions.
func (o *object) ipBlock(b *networking.IPBlock, at string) model.Term {
	t := model.Term{Kind: model.NetTerm, PodsOpen: true, NetText: b.CIDR}
	if b.CIDR == "" {
		o.fail("NP111", at+".cidr", "", "%s.cidr: Required value", at)
		return model.Term{}
	}
	cidr, ok := o.cidr(b.CIDR, at+".cidr")
	if ok {
		t.Nets = netset.FromPrefix(cidr)
	}
	for i, e := range b.Except {
		path := fmt.Sprintf("%s.except[%d]", at, i)
		except, valid := o.cidr(e, path)
		if !ok || !valid {
			continue
		}
		if !cidr.Contains(except.Addr()) || except.Bits() <= cidr.Bits() {
			o.fail("NP111", path, "an exception must lie within "+cidr.String()+" and be smaller",
				"%s: Invalid value: %q: must be a strict subset of `cidr`", path, e)
			continue
		}
		t.Nets = t.Nets.Subtract(netset.FromPrefix(except))
	}
	if len(b.Except) > 0 {
		t.NetText += " except " + strings.Join(b.Except, ", ")
	}
	return t
}

func (o *object) npPort(p *networking.NetworkPolicyPort, at string) model.PortMatch {
	proto, m := netset.TCP, model.PortMatch{Origin: o.origin(at)}
	if p.Protocol != nil {
		var ok bool
		if proto, ok = protoOf(string(*p.Protocol)); !ok || *p.Protocol == "" {
			o.badProtocol(string(*p.Protocol), at+".protocol")
		}
	}
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			o.fail("NP110", at+".endPort", "write port, the first port of the range, beside it",
				"%s.endPort: Invalid value: %d: may not be specified when `port` is not specified", at, *p.EndPort)
		}
		m.Traffic, m.Text = netset.AllPorts(proto), proto.String()
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			o.fail("NP110", at+".endPort", "write port as a number",
				"%s.endPort: Invalid value: %d: may not be specified when `port` is non-numeric", at, *p.EndPort)
		}
		name := p.Port.StrVal
		for _, msg := range validation.IsValidPortName(name) {
			o.fail("", at+".port", portFix(name), "%s.port: Invalid value: %q: %s", at, shorten(name), msg)
		}
		m.Name, m.Protos, m.Text = name, []netset.Proto{proto}, proto.String()+"/"+name
	default:
		from := p.Port.IntVal
		to := from
		if from < 1 || from > 65535 {
			o.fail("", at+".port", "", "%s.port: Invalid value: %d: %s", at, from, validation.InclusiveRangeError(1, 65535))
		}
		if p.EndPort != nil {
			to = *p.EndPort
			if to < from {
				o.fail("NP110", at+".endPort", "", "%s.endPort: Invalid value: %d: must be greater than or equal to `port`", at, to)
			}
			if to < 1 || to > 65535 {
				o.fail("NP110", at+".endPort", "", "%s.endPort: Invalid value: %d: %s", at, to, validation.InclusiveRangeError(1, 65535))
			}
		}
		m.Traffic, m.Text = portRange(proto, from, to)
	}
	return m
}

// portRange returns the ports from..to, and none if they are no ports.
func portRange(p netset.Proto, from, to int32) (netset.Traffic, string) {
	text := fmt.Sprintf("%s/%d", p, from)
	if to != from {
		text += fmt.Sprintf("-%d", to)
	}
	if from < 1 || to > 65535 || from > to {
		return netset.Traffic{}, text
	}
	return netset.Ports(p, uint16(from), uint16(to)), text
}

// badProtocol reports a protocol that NetworkPolicy does not have.
func (o *object) badProtocol(got, at string) {
	code, fix := "NP112", "NetworkPolicy knows only TCP, UDP and SCTP; a rule without ports is the nearest there is"
	if up := strings.ToUpper(got); up != got && slices.Contains(protoNames, up) {
		code, fix = "NP113", "write it in capitals: "+up
	}
	o.fail(code, at, fix, `%s: Unsupported value: %q: supported values: "SCTP", "TCP", "UDP"`, at, shorten(got))
}

// portFix helps with a port number in quotes.
func portFix(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "write the number without quotes: " + name
	}
	if a, b, ok := strings.Cut(name, "-"); ok {
		if _, err := strconv.Atoi(a); err == nil {
			return "a range is written port: " + a + " with endPort: " + b
		}
	}
	return ""
}

// cidr parses a block of addresses. Bits after its length are a finding.
func (o *object) cidr(s, at string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		fix := ""
		if a, err := netip.ParseAddr(s); err == nil {
			fix = fmt.Sprintf("for one address write %s/%d", s, a.BitLen())
		}
		o.fail("NP111", at, fix, "%s: Invalid value: %q: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", at, shorten(s))
		return netip.Prefix{}, false
	case p.Addr().Is4In6():
		o.fail("NP111", at, "write the IPv4 form", "%s: Invalid value: %q: must not have an IPv4-mapped IPv6 address", at, s)
		return netip.Prefix{}, false
	case p != p.Masked():
		o.hostBits(s, p, at)
	}
	return p.Masked(), true
}
