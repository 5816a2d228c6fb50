package kube

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	npa "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// maxItems bounds the lists of a ClusterNetworkPolicy.
const maxItems = 25

// cnp is a ClusterNetworkPolicy while it is read. Its schema counts which
// fields are present, which the Go type does not tell, so tree holds the JSON.
type cnp struct {
	*object
	tree node
}

// node is a decoded JSON value. The API server drops fields that are null, so
// null is the same as absent.
type node struct{ v any }

func (n node) get(name string) node {
	m, _ := n.v.(map[string]any)
	return node{m[name]}
}

func (n node) at(i int) node {
	if l, ok := n.v.([]any); ok && i < len(l) {
		return node{l[i]}
	}
	return node{}
}

func (n node) present() bool { return n.v != nil }

// fields returns how many fields are present, those that are not known too.
func (n node) fields() int {
	m, _ := n.v.(map[string]any)
	count := 0
	for _, v := range m {
		if v != nil {
			count++
		}
	}
	return count
}

// readClusterNetworkPolicy reads a policy.networking.k8s.io/v1alpha2
// ClusterNetworkPolicy.
func (o *object) readClusterNetworkPolicy(raw []byte) {
	var doc npa.ClusterNetworkPolicy
	o.decodeStrict(raw, &doc, unknownInCNP)
	if !o.policyName(raw) {
		return
	}
	c := cnp{object: o}
	_ = json.Unmarshal(raw, &c.tree.v) // it was decoded before
	spec, tree := &doc.Spec, c.tree.get("spec")
	if !tree.present() {
		c.required("spec")
	}
	p := model.Policy{Kind: o.kind, Name: o.name, Origin: o.origin("")}
	tier := c.tier(spec, tree)
	p.Order = c.priority(spec, tree)
	p.Subject = c.subject(&spec.Subject, tree.get("subject"))
	c.tooMany("spec.ingress", len(spec.Ingress))
	c.tooMany("spec.egress", len(spec.Egress))
	for i := range spec.Ingress {
		r := &spec.Ingress[i]
		at := "spec.ingress[" + strconv.Itoa(i) + "]"
		t := tree.get("ingress").at(i)
		p.Rules[model.Ingress] = append(p.Rules[model.Ingress],
			c.rule(r.Name, r.Action, "from", ingressPeers(r.From), r.Protocols, at, t, tier))
	}
	for i := range spec.Egress {
		r := &spec.Egress[i]
		at := "spec.egress[" + strconv.Itoa(i) + "]"
		t := tree.get("egress").at(i)
		p.Rules[model.Egress] = append(p.Rules[model.Egress],
			c.rule(r.Name, r.Action, "to", r.To, r.Protocols, at, t, tier))
	}
	p.Applies = [2]bool{len(spec.Ingress) > 0, len(spec.Egress) > 0}
	if o.broken != "" {
		p.Broken, p.Applies = o.broken, [2]bool{true, true}
		if len(p.Subject) == 0 || o.badUnder("spec.subject") || o.badAt("spec") {
			p.Subject = []model.Term{everyPod()}
		}
	}
	p.Ignore = o.ignores(doc.Annotations)
	o.addPolicy(tier, p)
}

func everyPod() model.Term {
	return model.Term{Kind: model.PodTerm, Namespaces: selector.Everything(), Pods: selector.Everything()}
}

// ingressPeers gives both directions one type; what an ingress peer lacks stays
// unset.
func ingressPeers(from []npa.ClusterNetworkPolicyIngressPeer) []npa.ClusterNetworkPolicyEgressPeer {
	out := make([]npa.ClusterNetworkPolicyEgressPeer, len(from))
	for i, p := range from {
		out[i].Namespaces, out[i].Pods = p.Namespaces, p.Pods
	}
	return out
}

var protocolElement = regexp.MustCompile(`\.protocols\[\d+\]\.destinationPort$`)

// unknownInCNP says what is behind unknown fields that are typical.
func unknownInCNP(path string) (code, fix string) {
	parent, name, _ := cutLast(path)
	switch {
	case strings.HasSuffix(parent, ".namespaces") && (name == "namespaceSelector" || name == "podSelector"):
		return "CN505", "write the selector right under namespaces, as in namespaces: {matchLabels: …}; the older shape would select all namespaces"
	case protocolElement.MatchString(path):
		return "CN510", "indent destinationPort, so that it lies inside tcp, udp or sctp"
	}
	return "", ""
}

func cutLast(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

func (c *cnp) required(at string) {
	c.fail("", at, "", "%s: Required value", at)
}

func (c *cnp) tooMany(at string, n int) {
	if n > maxItems {
		c.fail("CN514", at, "split it into several", "%s: Too many: %d: must have at most %d items", at, n, maxItems)
	}
}

func (c *cnp) tier(spec *npa.ClusterNetworkPolicySpec, tree node) int {
	switch {
	case spec.Tier == npa.AdminTier:
	case spec.Tier == npa.BaselineTier:
		return tierBaseline
	case !tree.get("tier").present():
		c.required("spec.tier")
	case !c.badUnder("spec.tier"):
		c.fail("", "spec.tier", nearestOf(string(spec.Tier), "Admin", "Baseline"),
			`spec.tier: Unsupported value: %q: supported values: "Admin", "Baseline"`, shorten(string(spec.Tier)))
	}
	return tierAdmin
}

func (c *cnp) priority(spec *npa.ClusterNetworkPolicySpec, tree node) float64 {
	switch p := spec.Priority; {
	case !tree.get("priority").present():
		c.required("spec.priority")
	case p < 0:
		c.fail("CN514", "spec.priority", "", "spec.priority: Invalid value: %d: must be greater than or equal to 0", p)
	case p > 1000:
		c.fail("CN514", "spec.priority", "", "spec.priority: Invalid value: %d: must be less than or equal to 1000", p)
	}
	return float64(spec.Priority)
}

// exactlyOne reports an object that does not have one field.
func (c *cnp) exactlyOne(code, at string, t node, fix string) bool {
	switch n := t.fields(); {
	case n == 1:
		return true
	case n > 1:
		c.fail(code, at, fix, "%s: Too many: %d: must have at most 1 properties", at, n)
	case !c.badUnder(at):
		c.fail(code, at, fix, "%s: Invalid value: must have at least 1 properties", at)
	}
	return false
}

func (c *cnp) subject(s *npa.ClusterNetworkPolicySubject, t node) []model.Term {
	const at = "spec.subject"
	if !t.present() {
		c.required(at)
		return nil
	}
	if !c.exactlyOne("", at, t, "write namespaces: {} to select every pod") {
		return nil
	}
	switch {
	case s.Namespaces != nil:
		return []model.Term{c.namespaces(s.Namespaces, at+".namespaces")}
	case s.Pods != nil:
		return []model.Term{c.pods(s.Pods, at+".pods", t.get("pods"))}
	}
	return nil
}

func (c *cnp) namespaces(s *metav1.LabelSelector, at string) model.Term {
	c.failFields(c.b.selectorErrors(s, at))
	return model.Term{Kind: model.PodTerm, Namespaces: toSelector(s), Pods: selector.Everything()}
}

func (c *cnp) pods(s *npa.NamespacedPod, at string, t node) model.Term {
	c.failFields(c.b.selectorErrors(&s.NamespaceSelector, at+".namespaceSelector"))
	c.failFields(c.b.selectorErrors(&s.PodSelector, at+".podSelector"))
	if !t.get("podSelector").present() {
		c.required(at + ".podSelector")
	}
	if !t.get("namespaceSelector").present() && !c.badUnder(at) {
		c.finding("CN506", diag.Warning, at, "name the namespaces, or write namespaceSelector: {} to say that all are meant",
			"pods without namespaceSelector selects pods in all namespaces")
	}
	return model.Term{Kind: model.PodTerm, Namespaces: toSelector(&s.NamespaceSelector), Pods: toSelector(&s.PodSelector)}
}

// rule converts a rule. One that is in error fails closed, as the API demands:
// an Accept rule matches nothing, any other denies everything.
func (c *cnp) rule(name string, action npa.ClusterNetworkPolicyRuleAction, list string,
	peers []npa.ClusterNetworkPolicyEgressPeer, protocols []npa.ClusterNetworkPolicyProtocol,
	at string, t node, tier int,
) model.Rule {
	r := model.Rule{Name: name, Origin: c.origin(at)}
	if n := len([]rune(name)); n > 100 {
		c.fail("", at+".name", "", "%s.name: Too long: may not be more than 100 characters", at)
	}
	errs := len(c.bad)
	c.action(&r, action, at, t)
	switch {
	case !t.get(list).present() && !c.badUnder(at+"."+list):
		if list == "from" || list == "to" {
			c.fail("", at, "for every pod write "+list+": [{namespaces: {}}]", "%s.%s: Required value", at, list)
		}
	case len(peers) == 0 && !c.badUnder(at+"."+list):
		c.fail("", at+"."+list, "for every pod write namespaces: {} as a peer", "%s.%s: Invalid value: 0: must have at least 1 items", at, list)
	}
	c.tooMany(at+"."+list, len(peers))
	for i := range peers {
		path := at + "." + list + "[" + strconv.Itoa(i) + "]"
		r.Peers = append(r.Peers, c.peer(&peers[i], path, t.get(list).at(i), r.Action, tier)...)
	}
	c.protocols(&r, protocols, at+".protocols", t.get("protocols"))
	if len(c.bad) == errs && !c.badUnder(at) {
		return r
	}
	closed := model.Rule{Name: name, Origin: r.Origin, Action: r.Action, Note: "fails closed: " + c.brokenUnder(at)}
	if r.Action != model.Allow {
		closed.Action, closed.AnyPeer, closed.AnyPort = model.Deny, true, true
	}
	return closed
}

func (c *cnp) action(r *model.Rule, a npa.ClusterNetworkPolicyRuleAction, at string, t node) {
	switch a {
	case npa.ClusterNetworkPolicyRuleActionAccept:
		r.Action = model.Allow
	case npa.ClusterNetworkPolicyRuleActionPass:
		r.Action = model.Pass
	case npa.ClusterNetworkPolicyRuleActionDeny:
		r.Action = model.Deny
	default:
		at += ".action"
		switch {
		case !t.get("action").present():
			c.required(at)
		case !c.badUnder(at):
			fix := nearestOf(string(a), "Accept", "Deny", "Pass")
			if strings.EqualFold(string(a), "Allow") {
				fix = `did you mean "Accept"?`
			}
			c.fail("", at, fix, `%s: Unsupported value: %q: supported values: "Accept", "Deny", "Pass"`, at, shorten(string(a)))
		}
	}
}

func nearestOf(name string, known ...string) string {
	if s := nearest(name, known); strings.HasPrefix(s, "did") {
		return s
	}
	return ""
}

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
