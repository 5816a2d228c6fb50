// Package diff says what a change of policies or pods opens and closes: the
// flows gained and lost between two compiled snapshots, as few sentences about
// many pods, and before them the lifelines (DNS, API server, webhooks, scrape
// targets, ingress routes) that were cut or mended.
//
// Endpoints of the two snapshots are matched by namespace and name, and pods of
// one workload otherwise, since their names change with each rollout. All work
// is done on groups of endpoints that neither table can tell apart.
package diff

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Options narrows what is compared.
type Options struct {
	Ports      []verdict.Port // only these; none means all traffic
	Namespaces []string       // only flows with an end in one of these; none means all
}

// Report is the differences between two tables.
type Report struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Same       bool       `json:"empty"` // nothing that bears on traffic changed
	Lifelines  []Lifeline `json:"lifelines"`
	Lost       []Flow     `json:"lost"`
	Gained     []Flow     `json:"gained"`
	Undefined  []Flow     `json:"undefined"` // became undefined, or stopped to be
	Added      []Newcomer `json:"added"`     // endpoints only in the new snapshot
	Removed    []Newcomer `json:"removed"`   // endpoints only in the old one
	Policies   []Policy   `json:"policies"`
}

// Flow is traffic between two sets of ends that changed in the same way.
type Flow struct {
	From     Set              `json:"from"`
	To       Set              `json:"to"`
	Traffic  string           `json:"traffic"` // "all", "tcp/80,443 udp/53"
	Was      verdict.Decision `json:"was"`
	Is       verdict.Decision `json:"is"`
	Families []string         `json:"families"`          // "IPv4", "IPv6"
	Why      []string         `json:"why"`               // at most maxReasons
	MoreWhy  int              `json:"moreWhy,omitempty"` // reasons left out, at least
	NodeOwn  bool             `json:"nodeOwn,omitempty"` // a source is on the host network, and reaches pods of its own node all the same
	weight   int
}

// maxReasons is how many reasons a flow lists.
const maxReasons = 4

// Lifeline is a lifeline that was cut or mended for some endpoints.
type Lifeline struct {
	Kind   string   `json:"kind"` // as in verdict.Lifeline
	Name   string   `json:"name"`
	Change string   `json:"change"` // "lost", "gained", or "missing": cut for endpoints that are new
	For    Set      `json:"for"`    // the endpoints that need it
	Ports  []string `json:"ports"`  // pod ports without a way, or that found one
	Why    string   `json:"why"`    // for one of the endpoints
}

// Newcomer is pods of one workload, or a bare pod, that only one snapshot has.
type Newcomer struct {
	Name      string `json:"name"` // namespace/name
	Pods      int    `json:"pods"`
	Reaches   int    `json:"reaches"` // pods of its snapshot, on some port
	ReachedBy int    `json:"reachedBy"`
	Others    int    `json:"others"`   // how many pods there are besides
	Outside   string `json:"external"` // "both ways", "out", "in", "no"
}

// Policy is a policy that was added, removed or changed.
type Policy struct {
	Change   string `json:"change"` // "added", "removed", "changed"
	Kind     string `json:"kind"`
	Name     string `json:"name"`               // namespace/name
	Position string `json:"position,omitempty"` // in the new snapshot, or in the old one if removed
}

// Build compares two tables. They must be of one dialect.
func Build(before, after *verdict.Table, o Options) (*Report, error) {
	if before.Dialect.Name != after.Dialect.Name {
		return nil, fmt.Errorf("cannot compare dialect %s with dialect %s", before.Dialect.Name, after.Dialect.Name)
	}
	c := &comparer{tables: [2]*verdict.Table{before, after}, namespaces: o.Namespaces, whys: map[whyKey]string{}}
	for _, p := range o.Ports {
		for _, f := range bothFamilies {
			k := p.In(f)
			c.ports = c.ports.Union(netset.Span(k, k))
		}
	}
	if len(o.Ports) == 0 {
		c.ports = netset.AllTraffic()
	}
	c.matchEndpoints()
	c.joinGroups()
	r := &Report{
		APIVersion: "picket/v1", Kind: "Diff",
		Lifelines: []Lifeline{}, Lost: []Flow{}, Gained: []Flow{}, Undefined: []Flow{},
		Added: c.newcomers(1), Removed: c.newcomers(0), Policies: c.policies(),
	}
	r.Lifelines = append(r.Lifelines, c.lifelines()...)
	for _, f := range c.flows() {
		switch {
		case f.Was == verdict.Undefined || f.Is == verdict.Undefined:
			r.Undefined = append(r.Undefined, f)
		case f.Is == verdict.Allow:
			r.Gained = append(r.Gained, f)
		default:
			r.Lost = append(r.Lost, f)
		}
	}
	r.Same = len(r.Lifelines)+len(r.Lost)+len(r.Gained)+len(r.Undefined)+len(r.Added)+len(r.Removed) == 0
	return r, nil
}

// Empty reports whether nothing that bears on traffic changed: no flow, no
// lifeline, no endpoint. Policies may have changed without effect.
func (r *Report) Empty() bool { return r.Same }

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

var bothFamilies = [2]netset.Family{netset.V4, netset.V6}

// comparer holds both tables and how their parts correspond.
type comparer struct {
	tables     [2]*verdict.Table // old, new
	ports      netset.Traffic
	namespaces []string

	members []member
	only    [2][]int32 // endpoints that only the old, or only the new, snapshot has
	groups  []joint
	outside [2][]int32 // the groups of addresses, by family index
	people  *people
	whys    map[whyKey]string
}

// member is an endpoint that both snapshots have, by its index in each.
type member struct{ at [2]int32 }

// workload identifies what an endpoint belongs to: its owner, or itself.
type workload struct{ namespace, kind, name string }

func workloadOf(e *model.Endpoint) workload {
	if e.Owner.Name == "" {
		return workload{e.Namespace, "", e.Name}
	}
	return workload{e.Namespace, e.Owner.Kind, e.Owner.Name}
}

// matchEndpoints pairs the endpoints: those of equal name, then those of equal
// workload in order. A workload that grew has its further pods paired with its
// first; of one that shrank the further pods are dropped.
func (c *comparer) matchEndpoints() {
	before, after := c.tables[0], c.tables[1]
	taken := make([]bool, len(before.Snapshot.Endpoints))
	var rest []int32
	for i := range after.Snapshot.Endpoints {
		e := &after.Snapshot.Endpoints[i]
		if j, ok := before.Endpoint(e.Namespace, e.Name); ok {
			taken[j] = true
			c.members = append(c.members, member{[2]int32{int32(j), int32(i)}})
		} else {
			rest = append(rest, int32(i))
		}
	}
	pods := map[workload][]int32{}
	free := map[workload][]int32{}
	for j := range before.Snapshot.Endpoints {
		w := workloadOf(&before.Snapshot.Endpoints[j])
		pods[w] = append(pods[w], int32(j))
		if !taken[j] {
			free[w] = append(free[w], int32(j))
		}
	}
	stays := map[workload]bool{}
	for i := range after.Snapshot.Endpoints {
		stays[workloadOf(&after.Snapshot.Endpoints[i])] = true
	}
	for _, i := range rest {
		w := workloadOf(&after.Snapshot.Endpoints[i])
		switch {
		case len(free[w]) > 0:
			c.members = append(c.members, member{[2]int32{free[w][0], i}})
			free[w] = free[w][1:]
		case len(pods[w]) > 0:
			c.members = append(c.members, member{[2]int32{pods[w][0], i}})
		default:
			c.only[1] = append(c.only[1], i)
		}
	}
	for j := range before.Snapshot.Endpoints {
		if !taken[j] && !stays[workloadOf(&before.Snapshot.Endpoints[j])] {
			c.only[0] = append(c.only[0], int32(j))
		}
	}
	slices.SortFunc(c.members, func(a, b member) int { return cmp.Compare(a.at[1], b.at[1]) })
	c.people = newPeople(after, c.members)
}

// watched reports whether flows of the endpoint are wanted.
func (c *comparer) watched(e *model.Endpoint) bool {
	return len(c.namespaces) == 0 || slices.Contains(c.namespaces, e.Namespace)
}
