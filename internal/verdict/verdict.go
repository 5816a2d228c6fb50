// Package verdict holds the compiled form of a cluster's policies: classes of
// endpoints and addresses that no policy can tell apart, and for each pair of
// a target class and a peer class a port verdict with the rule that gave it.
// Everything that reports, enforces or proves reads this table; nobody
// evaluates a policy again.
//
// A connection is judged twice: as egress at its initiator and as ingress at
// its responder. At each the pod under judgement is the target, the other end
// the peer. It passes if both sides let it.
//
// The zero Decision denies.
package verdict

import (
	"picket/internal/model"
	"picket/internal/netset"
)

// Decision is what becomes of a connection.
type Decision uint8

// The decisions. Undefined means that the dialect leaves it open; whoever
// enforces treats it as Deny.
const (
	Deny Decision = iota
	Allow
	Undefined
)

// String returns "deny", "allow" or "undefined".
func (d Decision) String() string { return [...]string{"deny", "allow", "undefined"}[d] }

// MarshalText writes the decision as String does.
func (d Decision) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// And combines the decisions of the two sides of a connection: Deny if one
// denies, else Undefined if one is undefined, else Allow.
func (d Decision) And(o Decision) Decision {
	switch {
	case d == Deny || o == Deny:
		return Deny
	case d == Undefined || o == Undefined:
		return Undefined
	}
	return Allow
}

// The kinds of identifier. Each indexes the Table's list of the same name and
// is stable for equal snapshots only.
type (
	TargetID  int32 // into Table.Targets[direction]
	PeerID    int32 // into Table.Peers
	VerdictID int32 // into Table.Verdicts
	ReasonID  int32 // into Table.Reasons
	AtomID    int32 // into Table.Atoms
)

// None is the identifier of nothing: an endpoint that no policy can guard has
// TargetID None.
const None = -1

// ReasonKind tells why a decision was taken.
type ReasonKind uint8

// The kinds of reason.
const (
	NotSelected ReasonKind = iota // no policy of the direction selects the target: allowed
	Unmatched                     // policies judge the target, none matched, and their tiers go on: allowed
	ByRule                        // Rule of Policy decided
	Isolated                      // the tier's policies select the target and none of their rules matched: denied
	Open                          // the dialect leaves it open; Why says what
)

// Why names what a dialect leaves open.
type Why uint8

// What can be open.
const (
	WhyNothing  Why = iota
	WhyProtocol     // NetworkPolicy defines only TCP, UDP and SCTP
	WhyNets         // whether ipBlock matches pod addresses
	WhyHostPod      // whether selectors match pods on the host network
	WhyTie          // equal priorities
	WhyName         // what addresses a DNS name has
	WhyBroken       // an object could not be understood
)

// String says it in a clause: "equal priorities: which policy comes first is undefined".
func (w Why) String() string {
	return [...]string{
		"",
		"NetworkPolicy says nothing about protocols other than TCP, UDP and SCTP",
		"whether an ipBlock matches addresses of pods is left to the implementation",
		"whether selectors match pods on the host network is left to the implementation",
		"policies of equal priority disagree, and their order is undefined",
		"the addresses of a DNS name are not known here",
		"an object that could not be understood bears on it",
	}[w]
}

// PolicyRef names a policy by its place: tier and index within the tier.
type PolicyRef struct{ Tier, Policy int32 }

// RuleRef names a rule by its place.
type RuleRef struct {
	PolicyRef
	Direction model.Direction
	Rule      int32
}

// Reason is why a decision was taken.
type Reason struct {
	Kind ReasonKind
	Why  Why     // valid iff Kind is Open
	Rule RuleRef // ByRule: the rule. Isolated: the tier and direction. Open: the first policy and rule that is open, Rule None if it is a policy as a whole, Policy None if it is the tier. Else only the direction
}

// Piece is a range of the traffic space with its decision. It begins where the
// piece before it ends.
type Piece struct {
	To       netset.Key // inclusive
	Decision Decision
	Reason   ReasonID
}

// PortVerdict says for each protocol and port what is decided: pieces that
// together cover the traffic space.
type PortVerdict []Piece

// At returns the piece that holds k.
func (v PortVerdict) At(k netset.Key) Piece {
	lo, hi := 0, len(v)-1
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if v[mid].To < k {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo >= len(v) {
		return Piece{}
	}
	return v[lo]
}

// Traffic returns the traffic with decision d.
func (v PortVerdict) Traffic(d Decision) netset.Traffic {
	var t netset.Traffic
	from := netset.Key(0)
	for _, p := range v {
		if p.Decision == d {
			t = t.Union(netset.Span(from, p.To))
		}
		from = p.To + 1
	}
	return t
}

// Joint is a range of traffic of a connection, judged by both sides.
type Joint struct {
	To       netset.Key // inclusive; it begins where the one before it ends
	Decision Decision
	Reasons  [2]ReasonID // by direction; None where that side is not judged
}

// Join lays the verdicts of both sides over each other. A nil verdict is a
// side that is not judged. Neighbours with equal decisions and reasons are one.
func Join(ingress, egress PortVerdict) []Joint {
	var out []Joint
	for i, e := 0, 0; ; {
		j := Joint{To: netset.KeyOf(255, 65535), Decision: Allow, Reasons: [2]ReasonID{None, None}}
		if i < len(ingress) {
			p := ingress[i]
			j.To, j.Decision, j.Reasons[model.Ingress] = p.To, p.Decision, p.Reason
		}
		if e < len(egress) {
			p := egress[e]
			j.To, j.Decision, j.Reasons[model.Egress] = min(j.To, p.To), j.Decision.And(p.Decision), p.Reason
		}
		if n := len(out); n > 0 && out[n-1].Decision == j.Decision && out[n-1].Reasons == j.Reasons {
			out[n-1].To = j.To
		} else {
			out = append(out, j)
		}
		if i < len(ingress) && ingress[i].To == j.To {
			i++
		}
		if e < len(egress) && egress[e].To == j.To {
			e++
		}
		if j.To == netset.KeyOf(255, 65535) {
			return out
		}
	}
}

// JointTraffic returns the traffic of js with decision d.
func JointTraffic(js []Joint, d Decision) netset.Traffic {
	var t netset.Traffic
	from := netset.Key(0)
	for _, j := range js {
		if j.Decision == d {
			t = t.Union(netset.Span(from, j.To))
		}
		from = j.To + 1
	}
	return t
}
