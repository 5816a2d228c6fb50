// Package reference decides single connections the slow way: a literal reading
// of the policy APIs, one function for each clause, with no preparation and no
// cleverness. It is the oracle that the compiler is tested against and shares
// nothing with it but the model. Only tests import it.
//
// What a dialect leaves open is not guessed. Evaluation keeps the set of all
// decisions that some permitted implementation could take; where that set holds
// both, the verdict is Undefined.
package reference

import (
	"net/netip"

	"picket/internal/model"
	"picket/internal/netset"
)

// Verdict is what becomes of a connection. The zero value denies.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
	Undefined
)

// String returns "deny", "allow" or "undefined".
func (v Verdict) String() string { return [...]string{"deny", "allow", "undefined"}[v] }

// EndKind tells what an End is.
type EndKind uint8

// The kinds of end.
const (
	Outside  EndKind = iota // an address that nothing in the cluster has
	Endpoint                // Index is into Snapshot.Endpoints
	Node                    // Index is into Snapshot.Nodes
)

// End is one end of a connection.
type End struct {
	Kind   EndKind
	Index  int           // valid iff Kind is Endpoint or Node
	Addr   netip.Addr    // valid iff Kind is Outside
	Family netset.Family // of the connection
}

// world is what evaluation looks at: the snapshot and the reading of the APIs.
type world struct {
	s *model.Snapshot
	d model.Dialect
}

// endpoint returns the endpoint at end e, nil if there is none.
func (w world) endpoint(e End) *model.Endpoint {
	if e.Kind != Endpoint {
		return nil
	}
	return &w.s.Endpoints[e.Index]
}

// pod returns the pod at end e, nil if it is anything else, such as a pod on
// the host network.
func (w world) pod(e End) *model.Endpoint {
	if p := w.endpoint(e); p != nil && p.Kind == model.Pod {
		return p
	}
	return nil
}

// node returns the node whose network end e uses: the node itself, or that of
// a pod on the host network. It is nil for all others, and if the node is not
// in the snapshot.
func (w world) node(e End) *model.Node {
	if e.Kind == Node {
		return &w.s.Nodes[e.Index]
	}
	if p := w.endpoint(e); p != nil && p.Kind == model.HostPod {
		for i := range w.s.Nodes {
			if w.s.Nodes[i].Name == p.Node {
				return &w.s.Nodes[i]
			}
		}
	}
	return nil
}

// address returns the address of end e, the zero Addr if it has none of the
// connection's family.
func (w world) address(e End) netip.Addr {
	switch e.Kind {
	case Endpoint:
		return w.s.Endpoints[e.Index].Addr(e.Family)
	case Node:
		for _, a := range w.s.Nodes[e.Index].Addrs {
			if netset.FamilyOf(a) == e.Family {
				return a
			}
		}
		return netip.Addr{}
	}
	return e.Addr
}

// Evaluate decides the connection from src to dst with traffic k: what
// bypasses policy is allowed, and otherwise both sides must let it. It is
// denied if one side denies, else undefined if one is undefined.
func Evaluate(s *model.Snapshot, d model.Dialect, src, dst End, k netset.Key) Verdict {
	if Bypassed(s, src, dst) {
		return Allow
	}
	ingress := Side(s, d, model.Ingress, dst, src, k)
	egress := Side(s, d, model.Egress, src, dst, k)
	switch {
	case ingress == Deny || egress == Deny:
		return Deny
	case ingress == Undefined || egress == Undefined:
		return Undefined
	}
	return Allow
}

// Bypassed reports whether the connection is not subject to policy.
//
// NetworkPolicySpec.ingress: traffic is allowed "if the traffic source is the
// pod's local node". The direction towards the node is not promised. That "a Pod
// cannot block access to itself" stands in the documentation of NetworkPolicy;
// ClusterNetworkPolicy keeps both.
func Bypassed(s *model.Snapshot, src, dst End) bool {
	w := world{s: s}
	if src.Kind == Endpoint && dst.Kind == Endpoint && src.Index == dst.Index {
		return true
	}
	node, pod := w.node(src), w.pod(dst)
	return node != nil && pod != nil && pod.Node == node.Name
}

// Side decides one side of a connection: direction dir at end subject, with
// peer at the other end. What is no pod is not judged, which allows.
func Side(s *model.Snapshot, d model.Dialect, dir model.Direction, subject, peer End, k netset.Key) Verdict {
	w := world{s, d}
	if w.pod(subject) == nil {
		return Allow
	}
	out := w.side(conn{dir: dir, subject: subject, peer: peer, key: k})
	switch {
	case out[allow] && out[deny]:
		return Undefined
	case out[allow]:
		return Allow
	}
	return Deny
}

// Applies reports whether policy p judges direction dir at end subject.
func Applies(s *model.Snapshot, d model.Dialect, p *model.Policy, dir model.Direction, subject End) Match {
	return world{s, d}.applies(p, dir, subject)
}

// PeerMatches reports whether end e is what peer describes.
func PeerMatches(s *model.Snapshot, d model.Dialect, peer *model.Peer, e End) Match {
	return world{s, d}.peer(peer, e)
}

// RuleMatches reports whether rule r of direction dir matches a connection as
// its side with the given subject and peer sees it, and what it does then.
func RuleMatches(s *model.Snapshot, d model.Dialect, r *model.Rule, dir model.Direction, subject, peer End, k netset.Key) (Match, model.Action) {
	return world{s, d}.rule(r, conn{dir: dir, subject: subject, peer: peer, key: k})
}
