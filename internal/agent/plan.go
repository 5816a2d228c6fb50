//go:build linux

package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/nft"
	"picket/internal/verdict"
)

// plan is a plan with what there is to say about it.
type plan struct {
	*nft.Plan
	table     *verdict.Table
	nodeKnown bool
	ranges    []netip.Prefix // of the cluster's own; without those of the configuration
	took      map[string]time.Duration
}

// dialect is how policies are read: as Picket's kernel form does.
var dialect = model.Dialects[0]

// makePlan computes what the node's kernel should hold. known are the ranges
// that the node had when it was last seen: they stay if it is not there. An
// error means that the result would be wrong; what is in force had better stay.
func makePlan(res kube.Result, c Config, known []netip.Prefix) (p *plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("a defect of this program: %v\n%s", r, debug.Stack())
		}
	}()
	if res.Unusable != "" {
		return nil, errors.New(res.Unusable)
	}
	s := res.Snapshot
	out := &plan{ranges: known, took: map[string]time.Duration{}}
	if i, ok := slices.BinarySearchFunc(s.Nodes, c.Node, func(n model.Node, name string) int { return strings.Compare(n.Name, name) }); ok {
		out.nodeKnown = true
		if own := s.Nodes[i].PodCIDRs; len(own) > 0 {
			out.ranges = own
		}
	}
	node := nft.Node{Name: c.Node, Pods: nft.LocalPods(s, c.Node), Ranges: slices.Concat(out.ranges, c.PodCIDRs)}
	began := time.Now()
	t := compile.Compile(localise(s, node.Pods), dialect)
	out.table = t
	out.took["compile"] = time.Since(began)
	began = time.Now()
	out.Plan = nft.NewPlan(t, node, c.tableOptions())
	out.took["plan"] = time.Since(began)
	return out, nil
}

// localise leaves out the policies that cannot concern any of the pods. What
// the pods may do does not depend on them, and most of a cluster's policies
// are not about this node's pods.
func localise(s *model.Snapshot, pods []int32) *model.Snapshot {
	out := *s
	l := locals{s: s, byNamespace: map[string][]int32{}}
	for _, i := range pods {
		ns := s.Endpoints[i].Namespace
		l.byNamespace[ns] = append(l.byNamespace[ns], i)
	}
	out.Tiers = slices.Clone(s.Tiers)
	for i := range out.Tiers {
		var keep []model.Policy
		for _, p := range s.Tiers[i].Policies {
			if l.mayConcern(&p) {
				keep = append(keep, p)
			}
		}
		out.Tiers[i].Policies = keep
	}
	return &out
}

type locals struct {
	s           *model.Snapshot
	byNamespace map[string][]int32
}

// mayConcern reports whether some of the pods may be under the policy. It errs
// towards yes.
func (l *locals) mayConcern(p *model.Policy) bool {
	if p.Broken != "" || len(p.Subject) == 0 {
		return true
	}
	for ns, pods := range l.byNamespace {
		for _, i := range pods {
			if l.maySelect(p.Subject, ns, &l.s.Endpoints[i]) {
				return true
			}
		}
	}
	return false
}

func (l *locals) maySelect(subject []model.Term, ns string, e *model.Endpoint) bool {
	for i := range subject {
		t := &subject[i]
		if t.Kind != model.PodTerm || t.Not {
			continue
		}
		if t.Namespace != "" && t.Namespace != ns {
			return false
		}
		if t.Namespace == "" {
			n, ok := l.namespace(ns)
			if ok && n.Broken == "" && !t.Namespaces.Matches(n.Labels) {
				return false
			}
		}
		if e.Broken == "" && !t.Pods.Matches(e.Labels) {
			return false
		}
	}
	return true
}

func (l *locals) namespace(name string) (*model.Namespace, bool) {
	i, ok := slices.BinarySearchFunc(l.s.Namespaces, name, func(n model.Namespace, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil, false
	}
	return &l.s.Namespaces[i], true
}
