package clustergen_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/model"
	"picket/internal/netset"
)

// TestRandomReaches: the random clusters hold everything that the model can
// say, so that what is tested on them is tested on all of it.
func TestRandomReaches(t *testing.T) {
	seen := map[string]int{}
	rnd := rand.New(rand.NewPCG(1, 2))
	coin := func(string) bool { return rnd.IntN(2) == 0 }
	for range 300 {
		features(clustergen.Random(coin), func(name string, is bool) {
			if is {
				seen[name]++
			} else {
				seen[name] += 0
			}
		})
	}
	for name, n := range seen {
		if n < 3 {
			t.Errorf("%s: in %d of 300 clusters", name, n)
		}
	}
}

// features calls see for each feature of the model.
func features(s *model.Snapshot, see func(string, bool)) {
	count := map[string]int{}
	note := func(name string, is bool) {
		if _, ok := count[name]; !ok {
			count[name] = 0
		}
		if is {
			count[name]++
		}
	}
	note("IPv6 only", len(s.Endpoints) > 0 && !s.DualStack && len(s.Endpoints[0].Addrs) > 0 && netset.FamilyOf(s.Endpoints[0].Addrs[0]) == netset.V6)
	note("dual stack", s.DualStack)
	note("global network set", slices.ContainsFunc(s.NetworkSets, func(n model.NetworkSet) bool { return n.Namespace == "" }))
	note("namespaced network set", slices.ContainsFunc(s.NetworkSets, func(n model.NetworkSet) bool { return n.Namespace != "" }))
	for _, n := range s.Namespaces {
		note("broken namespace", n.Broken != "")
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		note("host pod with a node", e.Kind == model.HostPod && len(e.Addrs) > 0)
		note("host pod without", e.Kind == model.HostPod && len(e.Addrs) == 0)
		note("broken pod", e.Broken != "")
		note("pod on a node", slices.ContainsFunc(s.Nodes, func(n model.Node) bool { return e.Kind == model.Pod && n.Name == e.Node }))
		note("pod of one family in two", s.DualStack && e.Kind == model.Pod && len(e.Addrs) == 1)
		for j, p := range e.Ports {
			for _, q := range e.Ports[:j] {
				note("one name, two ports", p.Name != "" && p.Name == q.Name && p != q)
			}
		}
	}
	note("more tiers", len(s.Tiers) > 3)
	for i := range s.Tiers {
		tier := &s.Tiers[i]
		note("ordered tier that denies", !tier.Union && !tier.Continue && len(tier.Policies) > 0)
		note("ordered tier of ports only", !tier.Union && tier.Ports && len(tier.Policies) > 0)
		for j := range tier.Policies {
			p := &tier.Policies[j]
			note("tie", j > 0 && !tier.Union && p.Order == tier.Policies[j-1].Order)
			note("staged", p.Staged)
			note("broken policy", p.Broken != "" && !tier.Union)
			note("broken policy of a union", p.Broken != "" && tier.Union)
			note("several subject terms", len(p.Subject) > 1)
			for d, rules := range p.Rules {
				note("rules of a direction that does not apply", !p.Applies[d] && len(rules) > 0)
				for k := range rules {
					ruleFeatures(&rules[k], note)
				}
			}
		}
	}
	for name, n := range count {
		see(name, n > 0)
	}
}

func ruleFeatures(r *model.Rule, note func(string, bool)) {
	for _, a := range []model.Action{model.Deny, model.Allow, model.Pass, model.Log} {
		note("action "+a.String(), r.Action == a)
	}
	note("any peer", r.AnyPeer)
	note("no peer", !r.AnyPeer && len(r.Peers) == 0)
	note("any port", r.AnyPort)
	note("no port", !r.AnyPort && len(r.Ports) == 0)
	note("not ports", len(r.NotPorts) > 0)
	for _, m := range slices.Concat(r.Ports, r.NotPorts) {
		note("named port", m.Name != "" && len(m.Protos) > 0)
		note("named port of any protocol", m.Name != "" && len(m.Protos) == 0)
		note("ICMP", m.Traffic.Contains(netset.Echo(netset.V4)) && !m.Traffic.Contains(netset.KeyOf(netset.TCP, 80)))
		note("SCTP", m.Traffic.Contains(netset.KeyOf(netset.SCTP, 80)))
		note("no traffic", m.Name == "" && m.Traffic.Empty())
	}
	for _, p := range r.Peers {
		note("several terms", len(p.Terms) > 1)
		note("no terms", len(p.Terms) == 0)
		for _, t := range p.Terms {
			note("negated", t.Not)
			for k, name := range []string{"no term", "pods", "nets", "nodes", "names", "sets"} {
				note(name, int(t.Kind) == k)
			}
			note("pods of one namespace", t.Kind == model.PodTerm && t.Namespace != "")
			note("nets that may mean pods", t.Kind == model.NetTerm && t.PodsOpen && !t.Nets.Empty())
			note("empty nets", t.Kind == model.NetTerm && t.Nets.Empty())
			note("selector of nothing", t.Kind == model.PodTerm && t.Pods.IsNothing())
		}
	}
}

// TestSized: a sized cluster is as large as asked, the same each time, and if
// asked so all its pods are labelled apart.
func TestSized(t *testing.T) {
	c := clustergen.Config{Pods: 1000, Namespaces: 40, Policies: 300}
	s := clustergen.Sized(c)
	policies := 0
	for _, tier := range s.Tiers {
		names := map[string]bool{}
		for i := range tier.Policies {
			if names[tier.Policies[i].Ref()] {
				t.Errorf("two policies are called %s", tier.Policies[i].Ref())
			}
			names[tier.Policies[i].Ref()] = true
		}
		policies += len(tier.Policies)
	}
	if len(s.Endpoints) != c.Pods || len(s.Namespaces) != c.Namespaces || policies != c.Policies {
		t.Errorf("%d pods, %d namespaces, %d policies; want %+v", len(s.Endpoints), len(s.Namespaces), policies, c)
	}
	if !reflect.DeepEqual(s, clustergen.Sized(c)) {
		t.Error("the same configuration gives two clusters")
	}
	c.Distinct = true
	labels := map[string]bool{}
	for _, e := range clustergen.Sized(c).Endpoints {
		labels[e.Labels["pod"]] = true
	}
	if len(labels) != c.Pods {
		t.Errorf("%d pods have %d names of their own", c.Pods, len(labels))
	}
}
