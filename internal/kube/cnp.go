package kube

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	npa "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"picket/internal/diag"
	"picket/internal/model"
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
		if len(p.Subject) == 0 || o.badUnder("spec.subject") || o.badAt("spec") || o.badAt("") {
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
