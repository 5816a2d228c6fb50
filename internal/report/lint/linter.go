package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// linter is one run: the table with the indexes that checks share. Whatever is
// costly is computed when first asked for.
type linter struct {
	t *verdict.Table
	s *model.Snapshot

	policies    []policy
	namespaces  map[string]*namespace
	names       []string // of the namespaces, sorted
	clusterWide []int    // policies without a namespace
	podCount    int      // endpoints that policies can guard

	code string // of the running check
	out  []Finding

	terms     map[string][2]int // by termKey: pods and host pods that the term matches
	portNames map[string][]int32
	services  *services
	labels    map[string]labels
	pairs     map[orKey]*orPair
	paths     map[[2]string]bool // findings of the source, by object and code+path

	allLines  []verdict.Lifeline
	haveLines bool
	cutOf     map[string][]cut // by lifeline
	inNets    map[string]int   // pods in address sets
	outside   []verdict.PeerID // classes of hosts outside the cluster
}

// policy is a policy with its place and what it selects.
type policy struct {
	*model.Policy
	ref     verdict.PolicyRef
	tier    *model.Tier
	targets [2][]verdict.TargetID // by direction; of classes that it selects for certain
	pods    [2]int                // by direction
}

// v1 reports whether p is a NetworkPolicy: allow rules only, isolating.
func (p *policy) v1() bool { return p.tier.Union && p.Namespace != "" }

// live reports whether p was understood and is enforced.
func (p *policy) live() bool { return p.Broken == "" && !p.Staged }

// rule returns the place of rule i.
func (p *policy) rule(d model.Direction, i int) verdict.RuleRef {
	return verdict.RuleRef{PolicyRef: p.ref, Direction: d, Rule: int32(i)}
}

// selects returns how many pods the policy's subject selects.
func (p *policy) selects() int { return max(p.pods[0], p.pods[1]) }

// namespace is a namespace and which endpoints live in it.
type namespace struct {
	*model.Namespace
	from, to  int // its endpoints, in Snapshot.Endpoints
	pods      int // without those of the host network
	policies  []int
	workloads int
}

func newLinter(t *verdict.Table) *linter {
	l := &linter{t: t, s: t.Snapshot, namespaces: map[string]*namespace{}, terms: map[string][2]int{}, labels: map[string]labels{}, cutOf: map[string][]cut{}, inNets: map[string]int{}}
	for i := range l.s.Namespaces {
		n := &l.s.Namespaces[i]
		l.namespaces[n.Name] = &namespace{Namespace: n}
		l.names = append(l.names, n.Name)
	}
	for i := 0; i < len(l.s.Endpoints); {
		j := i
		owners := map[model.Owner]bool{}
		n := l.namespaces[l.s.Endpoints[i].Namespace]
		if n == nil {
			n = &namespace{Namespace: &model.Namespace{Name: l.s.Endpoints[i].Namespace, Implied: true}}
			l.namespaces[n.Name] = n
			l.names = append(l.names, n.Name)
		}
		for ; j < len(l.s.Endpoints) && l.s.Endpoints[j].Namespace == n.Name; j++ {
			e := &l.s.Endpoints[j]
			if e.Kind == model.Pod {
				n.pods++
				o := e.Owner
				if o.Name == "" {
					o.Name = e.Name
				}
				owners[o] = true
			}
		}
		n.from, n.to, n.workloads = i, j, len(owners)
		l.podCount += n.pods
		i = j
	}
	slices.Sort(l.names)
	l.indexPolicies()
	return l
}

func (l *linter) indexPolicies() {
	at := map[verdict.PolicyRef]int{}
	for ti := range l.s.Tiers {
		tier := &l.s.Tiers[ti]
		for pi := range tier.Policies {
			p := policy{Policy: &tier.Policies[pi], ref: verdict.PolicyRef{Tier: int32(ti), Policy: int32(pi)}, tier: tier}
			at[p.ref] = len(l.policies)
			if n := l.namespaces[p.Namespace]; n != nil {
				n.policies = append(n.policies, len(l.policies))
			} else {
				l.clusterWide = append(l.clusterWide, len(l.policies))
			}
			l.policies = append(l.policies, p)
		}
	}
	for _, d := range model.Directions {
		for id := range l.t.Targets[d] {
			target := &l.t.Targets[d][id]
			for _, sel := range target.Policies {
				if i, ok := at[sel.PolicyRef]; ok && !sel.Maybe {
					p := &l.policies[i]
					p.targets[d] = append(p.targets[d], verdict.TargetID(id))
					p.pods[d] += len(target.Endpoints)
				}
			}
		}
	}
	l.paths = map[[2]string]bool{}
	for _, f := range l.s.Findings {
		l.paths[[2]string{f.Object, f.Code + " " + f.Path}] = true
	}
}

func (l *linter) checked() Checked {
	c := Checked{Policies: len(l.policies), Namespaces: len(l.namespaces), Pods: len(l.s.Endpoints), Services: len(l.s.Services)}
	for i := range l.policies {
		for _, d := range model.Directions {
			c.Rules += len(l.policies[i].Rules[d])
		}
	}
	return c
}

// find reports a finding of policy p at o.
func (l *linter) find(p *policy, o model.Origin, sev diag.Severity, msg, fix string) {
	pos := o.Position
	if pos == (diag.Position{}) {
		pos = p.Origin.Position
	}
	l.out = append(l.out, Finding{
		Diagnostic: diag.Diagnostic{Code: l.code, Severity: sev, Position: pos, Object: p.Ref(), Path: o.Path, Message: msg, Fix: fix},
		namespace:  p.Namespace, policies: []string{p.Ref()},
	})
}

// warn reports a warning of policy p at o.
func (l *linter) warn(p *policy, o model.Origin, fix, format string, args ...any) {
	l.find(p, o, diag.Warning, fmt.Sprintf(format, args...), fix)
}

// info reports a note of policy p at o.
func (l *linter) info(p *policy, o model.Origin, fix, format string, args ...any) {
	l.find(p, o, diag.Info, fmt.Sprintf(format, args...), fix)
}

// findIn reports a finding about an object that is no policy. Its position is
// that of the first of the policies that cause it, else pos.
func (l *linter) findIn(object, ns string, sev diag.Severity, pos diag.Position, by []*policy, msg, fix string) {
	f := Finding{
		Diagnostic: diag.Diagnostic{Code: l.code, Severity: sev, Position: pos, Object: object, Message: msg, Fix: fix},
		namespace:  ns,
	}
	for _, p := range by {
		f.policies = append(f.policies, p.Ref())
	}
	if len(by) > 0 {
		f.Position = by[0].Origin.Position
	}
	slices.Sort(f.policies)
	l.out = append(l.out, f)
}

// eachRule calls f for every rule of live policies, of a direction that the
// policy applies to.
func (l *linter) eachRule(f func(p *policy, d model.Direction, i int, r *model.Rule)) {
	for pi := range l.policies {
		p := &l.policies[pi]
		if !p.live() {
			continue
		}
		for _, d := range model.Directions {
			if !p.Applies[d] {
				continue
			}
			for i := range p.Rules[d] {
				f(p, d, i, &p.Rules[d][i])
			}
		}
	}
}

// eachPeer calls f for every peer of eachRule's rules.
func (l *linter) eachPeer(f func(p *policy, d model.Direction, ri int, r *model.Rule, i int)) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		for i := range r.Peers {
			f(p, d, ri, r, i)
		}
	})
}

// atom returns the compiled description of a peer.
func (l *linter) atom(r verdict.RuleRef, i int) *verdict.Atom {
	return &l.t.Atoms[l.t.RuleAtoms[r.Tier][r.Policy][r.Direction][r.Rule][i]]
}

// members returns how many pods a peer matches for certain.
func (l *linter) members(r verdict.RuleRef, i int) int {
	n := 0
	for _, p := range l.atom(r, i).Yes {
		for k, m := range l.t.Peers[p].Members {
			// A dual-stack pod is a member by each address; both may be in the
			// class, one after the other.
			if k > 0 && l.t.Peers[p].Members[k-1].Endpoint == m.Endpoint {
				continue
			}
			if m.Family == netset.V6 && l.t.PeerOf[0][m.Endpoint] != verdict.None {
				continue
			}
			n++
		}
	}
	return n
}

// labelsOf returns the labels of a namespace, nil if it does not exist.
func (l *linter) labelsOf(ns string) map[string]string {
	if n := l.namespaces[ns]; n != nil {
		return n.Labels
	}
	return nil
}

// namespacesOf returns the namespaces that a term's pods may be in.
func (l *linter) namespacesOf(t model.Term) []*namespace {
	if t.Namespace != "" {
		if n := l.namespaces[t.Namespace]; n != nil {
			return []*namespace{n}
		}
		return nil
	}
	var out []*namespace
	for _, name := range l.names {
		if n := l.namespaces[name]; t.Namespaces.Matches(n.Labels) {
			out = append(out, n)
		}
	}
	return out
}

func termKey(t model.Term) string {
	return fmt.Sprintf("%d %v %q %s %s", t.Kind, t.Not, t.Namespace, t.Namespaces.Key(), t.Pods.Key())
}

// count returns how many pods, and how many pods on the host network, a pod
// term matches today.
func (l *linter) count(t model.Term) (pods, host int) {
	k := termKey(t)
	if c, ok := l.terms[k]; ok {
		return c[0], c[1]
	}
	for _, n := range l.namespacesOf(t) {
		for i := n.from; i < n.to; i++ {
			e := &l.s.Endpoints[i]
			if !t.Pods.Matches(e.Labels) {
				continue
			}
			if e.Kind == model.HostPod {
				host++
			} else {
				pods++
			}
		}
	}
	l.terms[k] = [2]int{pods, host}
	return pods, host
}

// podsIn returns how many endpoints the namespaces hold.
func podsIn(ns []*namespace) int {
	n := 0
	for _, x := range ns {
		n += x.to - x.from
	}
	return n
}

// isolating returns the policies of NetworkPolicy's kind (their tier ends in
// deny) that select a target, those with the fewest rules first: what a
// default-deny does should be said of it, whatever else is there.
func (l *linter) isolating(d model.Direction, id verdict.TargetID) []*policy {
	var out []*policy
	for _, s := range l.t.Targets[d][id].Policies {
		if tier := &l.s.Tiers[s.Tier]; !tier.Continue {
			out = append(out, l.policyAt(s.PolicyRef))
		}
	}
	slices.SortStableFunc(out, func(a, b *policy) int { return len(a.Rules[d]) - len(b.Rules[d]) })
	return out
}

func (l *linter) policyAt(r verdict.PolicyRef) *policy {
	i, _ := slices.BinarySearchFunc(l.policies, r, func(p policy, r verdict.PolicyRef) int {
		if p.ref.Tier != r.Tier {
			return int(p.ref.Tier - r.Tier)
		}
		return int(p.ref.Policy - r.Policy)
	})
	return &l.policies[i]
}

// plural returns "1 pod", "2 pods", "2 policies".
func plural(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "y"):
		what = what[:len(what)-1] + "ies"
	case strings.HasSuffix(what, "s"), strings.HasSuffix(what, "ss"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// list joins up to limit words with commas and says how many were left out.
func list(words []string, limit int) string {
	if len(words) <= limit {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:limit], ", "), len(words)-limit)
}
