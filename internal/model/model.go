// Package model is the cluster as data: one immutable snapshot of namespaces,
// nodes, endpoints, services, network sets and tiers of policies, each with the
// place it came from. It knows no Kubernetes type; every quirk of an API (what
// is defaulted, how nil differs from empty, what a missing field means) has
// been settled by whoever built the snapshot.
//
// One shape of policy serves every API: ordered tiers hold ordered policies,
// which hold ordered rules for each direction. NetworkPolicy v1,
// ClusterNetworkPolicy, AdminNetworkPolicy and Calico's tiers, orders, negated
// matches, network sets and ICMP fields all are such tiers; see
// docs/decisions/0001-one-model.md.
//
// Zero values close: a zero Action denies, a zero Term or Rule matches nothing.
package model

import (
	"fmt"
	"net/netip"

	"picket/internal/diag"
	"picket/internal/netset"
	"picket/internal/selector"
)

// Direction is the side of a connection that a policy guards.
type Direction uint8

// The directions. Ingress is judged at the connection's responder, Egress at
// its initiator.
const (
	Ingress Direction = iota
	Egress
)

// Directions lists both, for loops.
var Directions = [2]Direction{Ingress, Egress}

// String returns "ingress" or "egress".
func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Origin is where an object, or a part of it, was written.
type Origin struct {
	diag.Position
	Path string // JSON path inside the object, such as "spec.ingress[0].from[1]"; "" for the object
}

// Snapshot is a cluster at one moment. The lists are sorted as said at each
// field, so that equal clusters are equal values whatever order they were read
// in. Nothing may be changed after it was built.
type Snapshot struct {
	Namespaces  []Namespace  // by name; every namespace that something lives in
	Nodes       []Node       // by name
	Endpoints   []Endpoint   // by namespace, then name
	Services    []Service    // by namespace, then name
	NetworkSets []NetworkSet // by namespace, then name
	Webhooks    []Webhook    // by name
	Routes      []Route      // by namespace, then name
	Tiers       []Tier       // in order of evaluation
	APIServer   []netip.AddrPort
	DualStack   bool // the cluster uses both families

	// PodCIDRs are the ranges that addresses were assigned from. Empty if the
	// snapshot needed none.
	PodCIDRs []netip.Prefix

	// Findings are lint findings that only the source could see, because they
	// concern how an object was written (an empty list where a missing one was
	// meant). Sorted.
	Findings diag.List

	// Ignored counts the objects of kinds that have no bearing on policy.
	Ignored map[string]int
}

// Namespace is a namespace and its labels, including the automatic
// kubernetes.io/metadata.name.
type Namespace struct {
	Name    string
	Labels  map[string]string
	Implied bool   // used by some object but not declared itself
	Broken  string // why its labels are not known; "" if they are
	Origin  Origin
}

// Node is a machine with its own addresses.
type Node struct {
	Name         string
	Labels       map[string]string
	Addrs        []netip.Addr
	PodCIDRs     []netip.Prefix // the ranges that its pods' addresses come from, as far as the cluster assigns them
	ControlPlane bool
	Origin       Origin
}

// EndpointKind tells what an endpoint is.
type EndpointKind uint8

// The kinds of endpoint. Only a Pod is subject to policy.
const (
	Pod     EndpointKind = iota
	HostPod              // a pod on the host network: its traffic is its node's
)

// Endpoint is a pod, real or one that a workload of the input would create.
type Endpoint struct {
	Kind      EndpointKind
	Namespace string
	Name      string
	Labels    map[string]string
	Addrs     []netip.Addr // at most one a family, IPv4 first; empty if it has none
	Assigned  bool         // the addresses were made up from Snapshot.PodCIDRs
	Node      string       // name of its node; "" if not scheduled
	Owner     Owner        // the workload it belongs to; zero for a bare pod
	Ports     []Port       // declared container ports
	Broken    string       // why its labels and ports are not known; "" if they are
	Origin    Origin

	ServiceAccount string
	MountsToken    bool   // an API token is mounted
	Scrape         []Port // ports that monitoring is asked to scrape, by annotation or monitor
}

// String returns "namespace/name".
func (e *Endpoint) String() string { return e.Namespace + "/" + e.Name }

// Addr returns the endpoint's address of the family, or the zero Addr.
func (e *Endpoint) Addr(f netset.Family) netip.Addr {
	for _, a := range e.Addrs {
		if netset.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// Owner is the workload that made a pod: Deployment, not its ReplicaSet.
type Owner struct{ Kind, Name string }

// Port is a port that a container declares.
type Port struct {
	Name   string // "" if it has none
	Proto  netset.Proto
	Number uint16
}

// Service is a Kubernetes Service.
type Service struct {
	Namespace, Name string
	Selector        selector.Selector // zero if the Service has none
	Ports           []ServicePort
	ClusterIPs      []netip.Addr
	Backends        []netip.Addr // addresses of endpoints that no selector gives
	Type            string       // ClusterIP, NodePort, LoadBalancer, ExternalName
	ExternalCluster bool         // externalTrafficPolicy Cluster: sources may be replaced by a node's address
	Origin          Origin
}

// String returns "namespace/name".
func (s *Service) String() string { return s.Namespace + "/" + s.Name }

// ServicePort maps a port of a Service to a port of its pods.
type ServicePort struct {
	Name       string
	Proto      netset.Proto
	Port       uint16
	TargetPort uint16 // valid iff TargetName is ""
	TargetName string // a named container port
}

// Webhook is an admission webhook that the control plane must reach.
type Webhook struct {
	Name               string // configuration/webhook
	Namespace, Service string
	Port               uint16 // the Service's port
	Origin             Origin
}

// Route says that traffic from outside is led to a Service by a controller: an
// Ingress back end.
type Route struct {
	Namespace, Name string
	Service         string
	Port            uint16 // the Service's port; valid iff PortName is ""
	PortName        string
	Class           string
	Origin          Origin
}

// NetworkSet is a named set of addresses with labels, matched by selectors as
// endpoints are. Namespace is "" for a global one.
type NetworkSet struct {
	Namespace, Name string
	Labels          map[string]string
	Nets            netset.Addrs
	Origin          Origin
}

// Action is what a rule does with the connection that it matches. The zero
// value denies.
type Action uint8

// The actions. Pass leaves the tier for the next one; Log has no effect on the
// verdict.
const (
	Deny Action = iota
	Allow
	Pass
	Log
)

// String returns "deny", "allow", "pass" or "log".
func (a Action) String() string { return [...]string{"deny", "allow", "pass", "log"}[a] }

// Tier is a group of policies that is evaluated before the next tier.
type Tier struct {
	Name     string // "Admin", "NetworkPolicy", "Baseline", or a user's
	Continue bool   // what is unmatched goes on to the next tier; otherwise it is denied if some policy of the tier applies
	Policies []Policy

	// Union says that the policies have no order among each other: they only
	// allow, and what any of them allows is allowed. Sorted by namespace and
	// name then, and otherwise by Order, and by name where that is equal.
	Union bool
	// Ports says that the API defines only TCP, UDP and SCTP, and what becomes
	// of other protocols at an isolated pod is up to the implementation.
	Ports bool
}

// Policy applies rules to the endpoints that its subject selects.
type Policy struct {
	Kind      string // "NetworkPolicy", "ClusterNetworkPolicy"
	Namespace string // "" for a cluster-wide policy
	Name      string
	Order     float64 // lower first; valid iff the tier is no Union
	Subject   []Term  // all must match
	Applies   [2]bool // by Direction: whether the policy isolates, or judges, its subject
	Rules     [2][]Rule
	Staged    bool   // evaluated for what-if only, never enforced
	Broken    string // why it could not be understood; its subject's verdicts are undefined then
	Origin    Origin
	Ignore    []Ignore
}

// String returns "namespace/name", or the name of a cluster-wide policy.
func (p *Policy) String() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// Ref returns "Kind namespace/name".
func (p *Policy) Ref() string { return p.Kind + " " + p.String() }

// Ignore says that a lint finding is accepted.
type Ignore struct {
	Code   string
	Reason string
	Origin Origin
}

// Rule matches connections by peer and by traffic.
type Rule struct {
	Name     string
	Action   Action
	AnyPeer  bool   // matches every peer, inside and outside the cluster; Peers is empty then
	Peers    []Peer // one must match
	AnyPort  bool   // matches all traffic of all protocols; Ports is empty then
	Ports    []PortMatch
	NotPorts []PortMatch // none may match
	Note     string      // why the rule is not what was written: "fails closed: …"; "" normally
	Origin   Origin
}

// Peer describes the other end of a connection: all its terms must match.
type Peer struct {
	Terms  []Term
	Origin Origin
}

// TermKind tells what a Term looks at.
type TermKind uint8

// The kinds of term. The zero value matches nothing.
const (
	NoTerm   TermKind = iota
	PodTerm           // pods by namespace and labels: Namespace or Namespaces, and Pods
	NetTerm           // addresses: Nets
	NodeTerm          // node addresses by node labels: Nodes
	NameTerm          // external hosts by DNS name: Names
	SetTerm           // network sets by namespace and labels, like PodTerm
)

// Term is one criterion. Pods on the host network never match a PodTerm, and
// match a NetTerm or NodeTerm by their node's address.
type Term struct {
	Kind TermKind
	Not  bool // matches what the rest does not match

	Namespace  string            // exactly this namespace; "" means by Namespaces
	Namespaces selector.Selector // valid iff Namespace is ""
	Pods       selector.Selector // for SetTerm, the labels of the sets

	Nets     netset.Addrs
	NetText  string // as written: "10.0.0.0/8 except 10.1.0.0/16"
	PodsOpen bool   // the API leaves open whether Nets match addresses of pods

	Nodes selector.Selector
	Names []string
}

// PortMatch matches traffic, either by numbers or by the name of a port at the
// connection's responder.
type PortMatch struct {
	Traffic netset.Traffic // valid iff Name is ""
	Name    string
	Protos  []netset.Proto // with Name: the port's protocol must be one of these; empty means any
	Text    string         // as a person would write it: "tcp/80", "tcp/web"
	Origin  Origin
}

// Resolve returns the traffic that the match stands for at a responder with
// the given ports. A name that the responder does not have is no traffic.
func (m PortMatch) Resolve(ports []Port) netset.Traffic {
	if m.Name == "" {
		return m.Traffic
	}
	var t netset.Traffic
	for _, p := range ports {
		if p.Name != m.Name {
			continue
		}
		ok := len(m.Protos) == 0
		for _, proto := range m.Protos {
			ok = ok || proto == p.Proto
		}
		if ok {
			t = t.Union(netset.Ports(p.Proto, p.Number, p.Number))
		}
	}
	return t
}

// String says the term as part of a sentence: "pods labelled ns=dev in
// namespace prod".
func (t Term) String() string {
	s := t.describe()
	if t.Not {
		return "anything but " + s
	}
	return s
}

func (t Term) describe() string {
	what := "pods"
	switch t.Kind {
	case NetTerm:
		return "addresses in " + t.NetText
	case NodeTerm:
		if t.Nodes.IsEverything() {
			return "all nodes"
		}
		return "nodes labelled " + t.Nodes.String()
	case NameTerm:
		return fmt.Sprintf("hosts named %v", t.Names)
	case PodTerm:
	case SetTerm:
		what = "network sets"
	default:
		return "nothing"
	}
	if t.Pods.IsEverything() {
		what = "all " + what
	} else {
		what += " labelled " + t.Pods.String()
	}
	switch {
	case t.Namespace != "":
		return what + " in namespace " + t.Namespace
	case t.Namespaces.IsEverything():
		return what + " in any namespace"
	}
	return what + " in namespaces labelled " + t.Namespaces.String()
}
