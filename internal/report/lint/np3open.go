package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/verdict"
)

// system are the namespaces that the cluster itself owns.
var system = []string{"kube-system", "kube-public", "kube-node-lease"}

// cover tells which directions policies judge an endpoint in.
func (l *linter) cover(e int) (out [2]bool) {
	for d := range l.t.TargetOf {
		id := l.t.TargetOf[d][e]
		out[d] = id != verdict.None && len(l.t.Targets[d][id].Policies) > 0
	}
	return out
}

// openPods returns the pods of a namespace that are open somewhere: judged by no
// policy in either direction, or isolated in one and not judged in the other.
// A ClusterNetworkPolicy isolates nothing, so what it leaves open was left open
// on purpose.
func (l *linter) openPods(n *namespace) (neither, ingress, egress []int32) {
	for i := n.from; i < n.to; i++ {
		if l.s.Endpoints[i].Kind != model.Pod {
			continue
		}
		switch l.cover(i) {
		case [2]bool{}:
			neither = append(neither, int32(i))
		case [2]bool{true, false}:
			if l.isolated(model.Ingress, i) {
				ingress = append(ingress, int32(i))
			}
		case [2]bool{false, true}:
			if l.isolated(model.Egress, i) {
				egress = append(egress, int32(i))
			}
		}
	}
	return neither, ingress, egress
}

func (l *linter) isolated(d model.Direction, e int) bool {
	return slices.ContainsFunc(l.t.Targets[d][l.t.TargetOf[d][e]].Policies, func(s verdict.Selection) bool { return !l.s.Tiers[s.Tier].Continue })
}

// eachCovered calls f for the namespaces some pods of which policies select.
func (l *linter) eachCovered(f func(n *namespace, by []*policy, neither, ingress, egress []int32)) {
	for _, name := range l.names {
		n := l.namespaces[name]
		neither, ingress, egress := l.openPods(n)
		if n.pods == 0 || len(neither) == n.pods {
			continue
		}
		var by []*policy
		for _, i := range n.policies {
			by = append(by, &l.policies[i])
		}
		f(n, by, neither, ingress, egress)
	}
}

func np310(l *linter) {
	l.eachCovered(func(n *namespace, by []*policy, neither, _, _ []int32) {
		if len(neither) > 0 {
			l.findIn("Namespace "+n.Name, n.Name, diag.Info, n.Origin.Position, by,
				fmt.Sprintf("%s of %d are selected by no policy: open in both directions, while others of the namespace are guarded", l.who(neither), n.pods),
				"add a default-deny (podSelector: {}) to namespace "+n.Name+", and allow what is needed")
		}
	})
}

func np312(l *linter) {
	l.eachCovered(func(n *namespace, by []*policy, _, ingress, egress []int32) {
		var parts []string
		if len(ingress) > 0 {
			parts = append(parts, "policies isolate only ingress of "+l.who(ingress)+", whose egress is open")
		}
		if len(egress) > 0 {
			parts = append(parts, "policies isolate only egress of "+l.who(egress)+", whose ingress is open")
		}
		if len(parts) > 0 {
			l.findIn("Namespace "+n.Name, n.Name, diag.Info, n.Origin.Position, by, strings.Join(parts, "; "), "isolate both directions: policyTypes: [Ingress, Egress]")
		}
	})
}

func np313(l *linter) {
	for _, name := range l.names {
		n := l.namespaces[name]
		if n.pods == 0 || slices.Contains(system, name) || l.defaultDeny(n, model.Ingress) {
			continue
		}
		open := 0
		for i := n.from; i < n.to; i++ {
			if l.s.Endpoints[i].Kind == model.Pod && !l.cover(i)[model.Ingress] {
				open++
			}
		}
		var by []*policy
		for _, i := range n.policies {
			by = append(by, &l.policies[i])
		}
		l.findIn("Namespace "+name, name, diag.Warning, n.Origin.Position, by,
			fmt.Sprintf("no default-deny for ingress: %d of %d pods can be reached by everyone, and so can a new pod that no policy selects", open, n.pods),
			"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: default-deny\n  namespace: "+name+"\nspec:\n  podSelector: {}\n  policyTypes: [Ingress, Egress]")
	}
}

// defaultDeny reports whether a policy isolates whatever pod the namespace gets.
func (l *linter) defaultDeny(n *namespace, d model.Direction) bool {
	for _, i := range slices.Concat(n.policies, l.clusterWide) {
		p := &l.policies[i]
		t, ok := subject(p)
		if !ok || !p.Applies[d] || !t.Pods.IsEverything() || !p.live() {
			continue
		}
		if t.Namespace != n.Name && (t.Namespace != "" || !t.Namespaces.Matches(n.Labels)) {
			continue
		}
		if !p.tier.Continue {
			return true
		}
		for _, r := range p.Rules[d] {
			if r.Action == model.Deny && r.AnyPort && (r.AnyPeer || slices.ContainsFunc(r.Peers, func(x model.Peer) bool { return len(x.Terms) == 1 && everything(x.Terms[0]) })) {
				return true
			}
		}
	}
	return false
}

// np314 finds policies that select a whole namespace and name only other
// namespaces: as a side effect they cut the traffic inside it. With a
// default-deny beside them the cut was meant.
func np314(l *linter) {
	for i := range l.policies {
		p := &l.policies[i]
		t, ok := subject(p)
		n := l.namespaces[p.Namespace]
		if !ok || !p.v1() || n == nil || n.workloads < 2 || !t.Pods.IsEverything() || !p.live() {
			continue
		}
		for _, d := range model.Directions {
			if !p.Applies[d] || len(p.Rules[d]) == 0 || !l.onlyOthers(p, d) {
				continue
			}
			alone := 0
			for _, id := range p.targets[d] {
				if len(l.isolating(d, id)) == 1 {
					alone += len(l.t.Targets[d][id].Endpoints)
				}
			}
			if alone > 0 && alone == n.pods {
				l.warn(p, p.Rules[d][0].Origin, "add the namespace's own pods as a peer:\n"+field(d)+":\n- podSelector: {}",
					"the rules name other namespaces only, so this policy alone also cuts %s between the %s of namespace %s", d, plural(n.pods, "pod"), n.Name)
			}
		}
	}
}

// onlyOthers reports whether no rule's peer can be in the policy's namespace.
func (l *linter) onlyOthers(p *policy, d model.Direction) bool {
	for _, r := range p.Rules[d] {
		if r.AnyPeer {
			return false
		}
		for _, x := range r.Peers {
			for _, t := range x.Terms {
				if t.Kind != model.PodTerm || t.Not || t.Namespace == p.Namespace || t.Namespace == "" && t.Namespaces.Matches(l.labelsOf(p.Namespace)) {
					return false
				}
			}
		}
	}
	return true
}
