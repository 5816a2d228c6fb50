// Package kube turns Kubernetes API objects into a model.Snapshot. Every quirk
// of the API lives here and dies here: what the API server would default is
// defaulted, what it would reject is an error with the server's own message,
// and a missing list and an empty one get the meaning that the API gives them.
//
// A Builder takes objects one by one, as JSON, from any source, and makes the
// snapshot at the end. It never drops a policy: one that it can't understand
// stands in the snapshot as broken, so that nothing is concluded about the pods
// that it may concern.
package kube

import (
	"net/netip"

	"picket/internal/diag"
	"picket/internal/model"
)

// Options say how objects are read. The zero value is what the command line
// does by default.
type Options struct {
	// PodCIDRs are the ranges that pods without an address get one from. Empty
	// means 10.244.0.0/16.
	PodCIDRs []netip.Prefix
	// DualStack adds fd00:10:244::/56 unless PodCIDRs holds an IPv6 range.
	DualStack bool
	// Strict makes an error of a policy of a kind that is not understood,
	// where a warning would do.
	Strict bool
	// Live says that the objects are those of a running cluster: a pod without
	// an address has none yet and is given none, and of pods that claim the
	// same address those that are being deleted have lost it.
	Live bool
	// Namespace is given to objects without metadata.namespace. Empty means
	// "default".
	Namespace string
}

// Source tells where an object was written.
type Source interface {
	// Position returns the place of a JSON path inside the object, such as
	// "spec.ingress[0].from[1]", or of the nearest thing around it that
	// exists. The empty path is the object itself.
	Position(path string) diag.Position
}

// A ListSource is the Source of a List, which knows the Source of each item.
// Without it, items are found by paths.
type ListSource interface {
	Source
	// Item returns the source of items[i].
	Item(i int) Source
}

// Comment is a comment line that is meant for Picket.
type Comment struct {
	Text     string // without the "#", trimmed
	Position diag.Position
}

// A CommentSource is a Source that can hold comments.
type CommentSource interface {
	Source
	// Comments returns the comment lines that begin with "picket:".
	Comments() []Comment
}

// Result is what a Builder made.
type Result struct {
	Snapshot *model.Snapshot
	// Diagnostics are errors and warnings of reading, sorted. Findings about
	// the shape of policies are in Snapshot.Findings.
	Diagnostics diag.List
	// Unusable says in a sentence why no verdict can be given at all; "" if
	// verdicts can be given.
	Unusable string
}

// Builder collects objects. It must be made by NewBuilder.
type Builder struct {
	opts     Options
	diags    diag.List
	findings diag.List
	ignored  map[string]int

	unreadable int
	first      diag.Diagnostic // of the unreadable
	dropped    [2]int          // errors, and others, beyond maxDiags

	validLabel map[label]bool // labels seen to be valid

	generated int // objects named by generateName so far

	namespaces map[string]model.Namespace
	nodes      map[string]model.Node
	pods       map[key]*pod
	workloads  map[kindKey]workload
	services   map[key]service
	backends   map[key][]backend // Endpoints and EndpointSlices, by the Service's key
	policies   map[kindKey]policy
	webhooks   map[string]model.Webhook
	routes     map[key][]model.Route
	monitors   map[kindKey]monitor
	used       map[string]model.Origin // namespaces that something lives in
}

// key names a namespaced object, kindKey one of any kind.
type (
	key     struct{ ns, name string }
	kindKey struct {
		kind string
		key
	}
)

// NewBuilder returns a Builder without objects.
func NewBuilder(o Options) *Builder {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	return &Builder{
		opts:       o,
		ignored:    map[string]int{},
		validLabel: map[label]bool{},
		namespaces: map[string]model.Namespace{},
		nodes:      map[string]model.Node{},
		pods:       map[key]*pod{},
		workloads:  map[kindKey]workload{},
		services:   map[key]service{},
		backends:   map[key][]backend{},
		policies:   map[kindKey]policy{},
		webhooks:   map[string]model.Webhook{},
		routes:     map[key][]model.Route{},
		monitors:   map[kindKey]monitor{},
		used:       map[string]model.Origin{},
	}
}

// maxDiags bounds how many diagnostics are kept, maxUnreadable how many
// documents that can't be read are worth reading on for.
const (
	maxDiags      = 10_000
	maxUnreadable = 1000
)

// Report records a mistake that the source found itself.
func (b *Builder) Report(d diag.Diagnostic) {
	switch {
	case len(b.diags) < maxDiags:
		b.diags = append(b.diags, d)
	case d.Severity == diag.Error:
		b.dropped[0]++
	default:
		b.dropped[1]++
	}
}

// Unreadable records as Report does that something could not be read, which
// may have been a policy of any kind: no verdict can be trusted then.
func (b *Builder) Unreadable(d diag.Diagnostic) {
	if b.unreadable == 0 {
		b.first = d
	}
	b.unreadable++
	b.Report(d)
}

// Hopeless reports whether so much is wrong that a source had better stop. It
// must say by Unreadable that it did.
func (b *Builder) Hopeless() bool { return b.unreadable >= maxUnreadable || b.dropped[0] > 0 }

// Ignore counts something that has no bearing on policy, as Snapshot.Ignored
// does.
func (b *Builder) Ignore(kind string) { b.ignored[kind]++ }

// distrust records that the object, whose errors have been reported, may
// concern anything.
func (b *Builder) distrust(o *object) {
	if b.unreadable == 0 && len(b.diags) > 0 {
		b.first = b.diags[len(b.diags)-1]
	}
	b.unreadable++
}
