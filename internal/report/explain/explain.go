// Package explain says why a connection is allowed or denied: both sides,
// every tier, every policy that selects the endpoint, the rule that decides
// with its place in the input, and what would have to change to turn the
// verdict round. The verdict is looked up in the table; nothing is evaluated
// again but the question "what if this rule were gone".
package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Options says what to explain.
type Options struct {
	All bool // list also the rules that have nothing to do with the connection
}

// Report is the explanation of one question. It has one case for each group of
// ends that share verdict and reasons.
type Report struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Dialect    string           `json:"dialect"`
	From       string           `json:"from"` // as asked
	To         string           `json:"to"`
	Port       string           `json:"port"`
	Verdict    verdict.Decision `json:"verdict"` // allow only if every case is allowed; deny if one is denied
	Headline   string           `json:"headline"`
	Notes      []string         `json:"notes,omitempty"` // how the question was understood
	Cases      []Case           `json:"cases"`           // empty if nothing can be connected to
}

// Case explains the connections between ends that share verdict and reasons.
// The sides show the first pair of them.
type Case struct {
	From     []string         `json:"from"`     // namespace/name, node/name, an address or "external"
	To       []string         `json:"to"`       // likewise
	Families []string         `json:"families"` // "IPv4", "IPv6"
	Port     string           `json:"port"`     // as the pod sees it, after Service translation
	Verdict  verdict.Decision `json:"verdict"`
	Summary  string           `json:"summary"`
	Bypass   string           `json:"bypass,omitempty"` // why policies are not asked at all
	HalfOpen bool             `json:"halfOpen,omitempty"`
	Notes    []string         `json:"notes,omitempty"`
	Sides    []Side           `json:"sides"` // egress at the source, then ingress at the destination; empty with Bypass
	Change   *Change          `json:"change,omitempty"`

	split bool // other cases are of the other family
}

// Side is the judgement at one end.
type Side struct {
	Direction string           `json:"direction"`
	Endpoint  string           `json:"endpoint"` // whose policies judge
	Judged    bool             `json:"judged"`   // false if policies cannot guard the end
	Verdict   verdict.Decision `json:"verdict"`
	Reason    string           `json:"reason"`
	Readings  []Reading        `json:"readings,omitempty"` // of an undefined verdict
	Tiers     []Tier           `json:"tiers,omitempty"`
}

// Reading is what an undefined verdict becomes if the API is read one way.
type Reading struct {
	If      string           `json:"if"`
	Verdict verdict.Decision `json:"verdict"`
	Reason  string           `json:"reason"`
}

// Tier is the policies of one tier that select the endpoint.
type Tier struct {
	Name     string   `json:"name"`
	Reached  bool     `json:"reached"`
	Policies []Policy `json:"policies"` // in order of evaluation
	Outcome  string   `json:"outcome"`
}

// Policy is a policy that selects the endpoint.
type Policy struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Position  string `json:"position,omitempty"` // file:line
	Order     string `json:"order,omitempty"`    // "priority 10"; "" where policies have no order
	Note      string `json:"note,omitempty"`
	Rules     []Rule `json:"rules,omitempty"`
	Hidden    int    `json:"hidden,omitempty"` // rules that have nothing to do with the connection
	Total     int    `json:"total"`            // rules of this direction
}

// The roles of a rule in a verdict.
const (
	RoleDecides    = "decides"
	RoleToo        = "matches too" // the verdict would be the same without the one that decides
	RolePasses     = "passes"      // hands the connection to the next tier
	RoleOpen       = "leaves it open"
	RoleNone       = "does not match"
	RoleLogs       = "logs"
	RoleNotReached = "not reached"
)

// Rule is one rule, held against the connection.
type Rule struct {
	Path      string   `json:"path"`
	Name      string   `json:"name,omitempty"`
	Position  string   `json:"position,omitempty"` // file:line
	Action    string   `json:"action"`
	Role      string   `json:"role"`
	PeerMatch string   `json:"peerMatch"` // "yes", "no" or "maybe"
	Peers     []Peer   `json:"peers"`     // one must match
	PortMatch bool     `json:"portMatch"`
	Ports     string   `json:"ports"`
	Notes     []string `json:"notes,omitempty"`
}

// Peer is one description of the other end.
type Peer struct {
	Text  string `json:"text"`            // "pods labelled ns=dev in namespace prod"
	Today string `json:"today,omitempty"` // "2 pods today, dev/dev1 among them"
	Match string `json:"match"`           // "yes", "no" or "maybe"
	Dead  bool   `json:"dead,omitempty"`  // it matches nothing in the snapshot
}

// Change says what would turn the verdict round.
type Change struct {
	To    verdict.Decision `json:"to"`
	Intro string           `json:"intro"`
	Steps []Step           `json:"steps"`
}

// Step is one thing to change.
type Step struct {
	Direction string `json:"direction"`
	Text      string `json:"text"`
	YAML      string `json:"yaml,omitempty"`
}

// Build explains the connections from src to dst on port. If dst is a Service,
// the port is the Service's; a workload without its kind is taken for the
// Service of its name if the port is only the Service's. The error says that the question has no answer,
// such as for two ends without a common address family.
func Build(t *verdict.Table, src, dst verdict.Ref, port verdict.Port, o Options) (*Report, error) {
	b := &builder{t: t, all: o.All}
	r := &Report{
		APIVersion: "picket/v1", Kind: "Explanation", Dialect: t.Dialect.Name,
		From: src.Text, To: dst.Text, Port: port.String(), Cases: []Case{},
	}
	dst, which := b.meant(dst, port)
	r.Notes = slices.Concat(b.refNotes(src, "from"), which, b.refNotes(dst, "to"))
	froms := b.sources(src)
	tos, notes, end := b.destinations(dst, port)
	r.Notes = append(r.Notes, notes...)
	if end != nil {
		r.Verdict, r.Headline = end.verdict, end.text
		return r, nil
	}
	if len(froms) == 0 || len(tos) == 0 {
		return nil, noAddress(src, dst, len(froms) == 0)
	}
	cells := b.cells(froms, tos)
	if len(cells) == 0 {
		return nil, fmt.Errorf("%s and %s have no addresses of the same family", src.Text, dst.Text)
	}
	for _, c := range b.merge(cells) {
		r.Cases = append(r.Cases, b.explain(c))
	}
	r.Verdict = verdict.Allow
	for i := range r.Cases {
		r.Verdict = r.Verdict.And(r.Cases[i].Verdict)
		r.Cases[i].split = len(r.Cases[i].Families) < len(families(cells))
	}
	r.Headline = headline(r)
	return r, nil
}

// families returns the families of the cells.
func families(cells []cell) []netset.Family {
	var out []netset.Family
	for _, c := range cells {
		out = append(out, c.families...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func noAddress(src, dst verdict.Ref, isSrc bool) error {
	if isSrc {
		return fmt.Errorf("%s has no address, so it opens no connection", src.Text)
	}
	return fmt.Errorf("%s has no address, so nothing can connect to it", dst.Text)
}

func headline(r *Report) string {
	if len(r.Cases) == 1 {
		return r.Cases[0].Summary
	}
	var n [3]int
	for i := range r.Cases {
		n[r.Cases[i].Verdict]++
	}
	if n[r.Verdict] == len(r.Cases) {
		return fmt.Sprintf("%s for %d different reasons", past(r.Verdict), len(r.Cases))
	}
	s := "it depends on the ends:"
	for _, d := range []verdict.Decision{verdict.Allow, verdict.Deny, verdict.Undefined} {
		if n[d] > 0 {
			s += fmt.Sprintf(" %d %s,", n[d], past(d))
		}
	}
	return s[:len(s)-1]
}

// Decision returns the verdict of all cases together: Deny if one is denied,
// else Undefined if one is undefined.
func (r *Report) Decision() verdict.Decision { return r.Verdict }

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// Sentence says in one line why the table decides as it does about the
// connection, naming the side that denies it, or both sides that allow it.
func Sentence(t *verdict.Table, src, dst verdict.Party, k netset.Key) string {
	b := &builder{t: t}
	return b.summary(cell{src: []verdict.Party{src}, dst: []verdict.Party{dst}, key: k, pair: t.Pair(src, dst)})
}

// builder holds what all parts of a report look at.
type builder struct {
	t   *verdict.Table
	all bool

	service *model.Service     // the destination, if it is one
	svcKey  netset.Key         // what was asked of the Service
	svcPort *model.ServicePort // nil if the port is none of the Service's
}

func past(d verdict.Decision) string {
	return [...]string{"denied", "allowed", "undefined"}[d]
}
