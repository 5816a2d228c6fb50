package reference

import (
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// Match is a truth value of Kleene's three-valued logic: and is the minimum, or
// the maximum.
type Match uint8

// The truth values. Maybe is what the dialect or a broken object leaves open.
const (
	No Match = iota
	Maybe
	Yes
)

// String returns "no", "maybe" or "yes".
func (m Match) String() string { return [...]string{"no", "maybe", "yes"}[m] }

func not(m Match) Match { return Yes - m }

func known(b bool) Match {
	if b {
		return Yes
	}
	return No
}

// rule reports whether a rule matches, and what it does then.
//
// An implementation that does not understand a kind of peer fails closed
// (ClusterNetworkPolicyEgressPeer: for Accept "treat the rule as matching no
// traffic", for Deny and Pass "treat the rule as a 'Deny all' rule").
func (w world) rule(r *model.Rule, c conn) (Match, model.Action) {
	if w.d.OwnPodsOnly && foreign(r) {
		if r.Action == model.Allow {
			return No, model.Allow
		}
		return Yes, model.Deny
	}
	return min(w.peers(r, c.peer), w.ports(r, c)), r.Action
}

// foreign reports whether some peer of the rule is described by nodes or by
// names.
func foreign(r *model.Rule) bool {
	for _, p := range r.Peers {
		for _, t := range p.Terms {
			if t.Kind == model.NodeTerm || t.Kind == model.NameTerm {
				return true
			}
		}
	}
	return false
}

// peers: NetworkPolicyIngressRule.from: "Items in this list are combined using a
// logical OR operation. If this field is empty or missing, this rule matches
// all sources".
func (w world) peers(r *model.Rule, e End) Match {
	if r.AnyPeer {
		return Yes
	}
	m := No
	for i := range r.Peers {
		m = max(m, w.peer(&r.Peers[i], e))
	}
	return m
}

// peer: all that a peer says must hold. One that says nothing matches nothing.
func (w world) peer(p *model.Peer, e End) Match { return w.terms(p.Terms, e) }

func (w world) terms(ts []model.Term, e End) Match {
	if len(ts) == 0 {
		return No
	}
	m := Yes
	for _, t := range ts {
		m = min(m, w.term(t, e))
	}
	return m
}

// term reports whether one criterion holds for end e, or does not hold if it
// is negated.
func (w world) term(t model.Term, e End) Match {
	m := No
	switch t.Kind {
	case model.PodTerm:
		m = w.podTerm(t, e)
	case model.NetTerm:
		m = w.netTerm(t, t.Nets, e)
	case model.NodeTerm:
		m = w.nodeTerm(t, e)
	case model.NameTerm:
		m = w.nameTerm(e)
	case model.SetTerm:
		m = w.setTerm(t, e)
	}
	if t.Not {
		return not(m)
	}
	return m
}

// podTerm: NetworkPolicyPeer.podSelector: "the NetworkPolicyPeer as a whole
// selects the pods matching podSelector in the namespaces selected by
// namespaceSelector". ClusterNetworkPolicyIngressPeer.pods: "host-networked pods
// are not included"; NetworkPolicy leaves that open.
func (w world) podTerm(t model.Term, e End) Match {
	p := w.endpoint(e)
	if p == nil {
		return No
	}
	m := min(w.namespace(t, p.Namespace), labels(t.Pods, p.Labels, p.Broken != ""))
	if p.Kind == model.HostPod {
		if !w.d.OpenHostPods {
			return No
		}
		return min(m, Maybe)
	}
	return m
}

// namespace reports whether a term means namespace name: the one it names, or
// those that its selector matches. What is in no namespace at all is meant only
// by a selector of everything.
func (w world) namespace(t model.Term, name string) Match {
	if t.Namespace != "" {
		return known(t.Namespace == name)
	}
	if name == "" {
		return known(t.Namespaces.IsEverything())
	}
	for i := range w.s.Namespaces {
		if ns := &w.s.Namespaces[i]; ns.Name == name {
			return labels(t.Namespaces, ns.Labels, ns.Broken != "")
		}
	}
	return labels(t.Namespaces, nil, false)
}

// labels: LabelSelector: "The result of matchLabels and matchExpressions are
// ANDed. An empty label selector matches all objects. A null label selector
// matches no objects." Labels that could not be read may be any.
func labels(s selector.Selector, ls map[string]string, broken bool) Match {
	switch {
	case s.IsNothing():
		return No
	case len(s.Requirements()) == 0:
		return Yes
	case broken:
		return Maybe
	}
	for _, r := range s.Requirements() {
		if !requirement(r, ls) {
			return No
		}
	}
	return Yes
}

// requirement: LabelSelectorRequirement.operator "represents a key's
// relationship to a set of values". NotIn and DoesNotExist hold where the key is
// absent.
func requirement(r selector.Requirement, ls map[string]string) bool {
	value, present := ls[r.Key]
	switch r.Op {
	case selector.In:
		return present && slices.Contains(r.Values, value)
	case selector.NotIn:
		return !present || !slices.Contains(r.Values, value)
	case selector.Exists:
		return present
	case selector.NotExists:
		return !present
	}
	return false
}

// netTerm: NetworkPolicyPeer.ipBlock, by the address of the end; whether it
// means pods too is left to the implementation.
// ClusterNetworkPolicyEgressPeer.networks: "cluster-internal traffic will be
// checked against the rule as well".
func (w world) netTerm(t model.Term, nets netset.Addrs, e End) Match {
	a := w.address(e)
	if !a.IsValid() || !contains(nets, a) {
		return No
	}
	if w.pod(e) != nil && t.PodsOpen && w.d.OpenNets {
		return Maybe
	}
	return Yes
}

// setTerm: the addresses of all network sets that the term selects.
func (w world) setTerm(t model.Term, e End) Match {
	m := No
	for i := range w.s.NetworkSets {
		n := &w.s.NetworkSets[i]
		selected := min(w.namespace(t, n.Namespace), labels(t.Pods, n.Labels, false))
		m = max(m, min(selected, w.netTerm(t, n.Nets, e)))
	}
	return m
}

// nodeTerm: ClusterNetworkPolicyEgressPeer.nodes "selects the nodeIPs as the
// peer type by matching on the IPs present in the node.Status.Addresses field
// of the node"; a pod on the host network has its node's addresses.
func (w world) nodeTerm(t model.Term, e End) Match {
	n := w.node(e)
	if n == nil {
		return No
	}
	return labels(t.Nodes, n.Labels, false)
}

// nameTerm: ClusterNetworkPolicyEgressPeer.domainNames "provides a way to
// specify domain names as peers". Which addresses a name has is not known here,
// but no pod or node has one.
func (w world) nameTerm(e End) Match {
	if e.Kind == Outside && w.d.OpenNames {
		return Maybe
	}
	return No
}

// ports: the listed ones but not the excluded ones
// (NetworkPolicyIngressRule.ports: "If this field is empty or missing, this rule
// matches all ports (traffic not restricted by port)").
func (w world) ports(r *model.Rule, c conn) Match {
	m := No
	if r.AnyPort {
		m = Yes
	}
	for _, p := range r.Ports {
		m = max(m, w.port(p, c))
	}
	for _, p := range r.NotPorts {
		m = min(m, not(w.port(p, c)))
	}
	return m
}

// port: NetworkPolicyPort.port: "either a numerical or named port on a pod",
// numbers with endPort, "inclusive". A name is one of the pod that answers, on
// the same protocol ("only traffic on the specified protocol AND port will be
// matched"); ClusterNetworkPolicyProtocol.destinationNamedPort takes any.
func (w world) port(p model.PortMatch, c conn) Match {
	if p.Name == "" {
		for _, r := range p.Traffic.Ranges() {
			if r.From <= c.key && c.key <= r.To {
				return Yes
			}
		}
		return No
	}
	responder := c.subject
	if c.dir == model.Egress {
		responder = c.peer
	}
	pod := w.pod(responder)
	if pod == nil {
		return No
	}
	if pod.Broken != "" {
		return min(Maybe, known(mayName(p.Protos, c.key.Proto())))
	}
	for _, q := range pod.Ports {
		if q.Name == p.Name && q.Proto == c.key.Proto() && q.Number == c.key.Port() &&
			(len(p.Protos) == 0 || slices.Contains(p.Protos, q.Proto)) {
			return Yes
		}
	}
	return No
}

// mayName reports whether a port of the protocol can be meant by a name that is
// restricted to protos, if at all. Containers have ports of three protocols.
func mayName(protos []netset.Proto, p netset.Proto) bool {
	if len(protos) == 0 {
		protos = []netset.Proto{netset.TCP, netset.UDP, netset.SCTP}
	}
	return slices.Contains(protos, p)
}

// contains reports whether one of the ranges of nets holds a.
func contains(nets netset.Addrs, a netip.Addr) bool {
	a = a.Unmap()
	for _, r := range nets.Ranges() {
		if r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0 {
			return true
		}
	}
	return false
}
