//go:build linux

package nft

import (
	"net/netip"
	"slices"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// clone copies what the tests below change.
func clone(s *model.Snapshot) *model.Snapshot {
	c := *s
	c.Endpoints = slices.Clone(s.Endpoints)
	c.Tiers = slices.Clone(s.Tiers)
	for i := range c.Tiers {
		c.Tiers[i].Policies = slices.Clone(s.Tiers[i].Policies)
	}
	return &c
}

// tierNamed returns the tier of NetworkPolicy v1.
func networkPolicies(s *model.Snapshot) *model.Tier {
	for i := range s.Tiers {
		if s.Tiers[i].Union {
			return &s.Tiers[i]
		}
	}
	return nil
}

// What one change costs in netlink transactions and elements, in a cluster of
// 2,000 pods under 200 policies. The bounds are what it costs today: raise one
// only with the reason why.
func TestChangesCostAHandful(t *testing.T) {
	k := open(t, Options{})
	base := clustergen.Sized(clustergen.Config{Pods: 2000, Namespaces: 20, Policies: 200})
	node := base.Endpoints[0].Node
	plan := func(s *model.Snapshot) *Plan {
		return NewPlan(compile.Compile(s, model.Dialects[0]), Node{Name: node, Pods: LocalPods(s, node)}, Options{})
	}
	local := LocalPods(base, node)
	pod := base.Endpoints[local[len(local)/2]]

	added := clone(base)
	twin := pod
	twin.Name += "-twin"
	twin.Addrs = []netip.Addr{netip.MustParseAddr("10.250.0.1")}
	added.Endpoints = append(added.Endpoints, twin)
	clustergen.Sort(added)

	relabelled := clone(base)
	relabelled.Endpoints[local[len(local)/2]].Labels = other(base, local, pod).Labels

	policy := clone(base)
	tier := networkPolicies(policy)
	tier.Policies = append(tier.Policies, model.Policy{
		Kind: "NetworkPolicy", Namespace: pod.Namespace, Name: "zz-new", Applies: [2]bool{model.Ingress: true},
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: pod.Namespace, Pods: selector.FromLabels(pod.Labels)}},
		Rules: [2][]model.Rule{model.Ingress: {{
			Action: model.Allow, AnyPeer: true, Ports: []model.PortMatch{{Traffic: netset.Ports(netset.TCP, 9999, 9999)}},
		}}},
	})
	clustergen.Sort(policy)

	changed := clone(policy)
	tier = networkPolicies(changed)
	for i := range tier.Policies {
		if p := &tier.Policies[i]; p.Name == "zz-new" {
			p.Rules[model.Ingress] = slices.Clone(p.Rules[model.Ingress])
			p.Rules[model.Ingress][0].Ports = []model.PortMatch{{Traffic: netset.Ports(netset.TCP, 9998, 9998)}}
		}
	}
	steps := []struct {
		what                   string
		to                     *model.Snapshot
		transactions, elements int
	}{
		{"nothing", base, 0, 0},
		{"add a pod of a known class", added, 1, 8},
		{"remove it again", base, 2, 8},
		// The pod moves as a target and as a peer: each of its targets is paired
		// with every class, and a bridge with every target of the node.
		{"relabel a pod", relabelled, 6, 700},
		{"label it back", base, 6, 700},
		{"add a policy", policy, 3, 80},
		{"change its port", changed, 3, 80},
		{"remove it", base, 2, 80},
	}
	if err := k.Apply(plan(base)); err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		before := k.Stats
		if err := k.Apply(plan(s.to)); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		holds(t, k)
		transactions, elements := k.Stats.Transactions-before.Transactions, k.Stats.Elements-before.Elements
		t.Logf("%-28s %d transactions, %d elements", s.what, transactions, elements)
		if transactions > s.transactions || elements > s.elements {
			t.Errorf("%s: %d transactions with %d elements, want at most %d with %d", s.what, transactions, elements, s.transactions, s.elements)
		}
	}
}

// other returns a pod with other labels than pod's, as near to it as there is.
func other(s *model.Snapshot, local []int32, pod model.Endpoint) *model.Endpoint {
	for _, near := range []bool{true, false} {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Labels["app"] != pod.Labels["app"] && (!near || e.Namespace == pod.Namespace && slices.Contains(local, int32(i))) {
				return e
			}
		}
	}
	panic("all pods are alike")
}
