//go:build linux

package nft

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// churn is a cluster that changes at random. Its pods on node n1 are real.
type churn struct {
	rnd      *rand.Rand
	nodes    []model.Node
	real     []string
	addrs    map[string][2]netip.Addr
	labels   map[string]string // by pod; "" is a pod that is gone
	remote   map[int]string    // labels of pods elsewhere that nobody sends from
	policies []model.Policy
	serial   int
	ranges   []netip.Prefix
}

var churnApps = []string{"x0", "x1", "x2", "x3"}

func (c *churn) pick(list []string) string { return list[c.rnd.IntN(len(list))] }

// change makes a few changes, of any kind.
func (c *churn) change() {
	for range 1 + c.rnd.IntN(4) {
		switch k := c.rnd.IntN(12); {
		case k < 3:
			c.labels[c.pick(c.real)] = c.pick(churnApps)
		case k == 3: // two pods swap places: both classes are renamed crosswise
			a, b := c.pick(c.real), c.pick(c.real)
			c.labels[a], c.labels[b] = c.labels[b], c.labels[a]
		case k == 4:
			c.labels[c.pick(c.real)] = ""
		case k == 5:
			if i := c.rnd.IntN(200); c.remote[i] == "" {
				c.remote[i] = c.pick(churnApps)
			} else {
				delete(c.remote, i)
			}
		case k < 9 && len(c.policies) < 8:
			c.policies = append(c.policies, c.policy())
		case k == 9 && len(c.policies) > 0: // a policy gets other rules, and keeps its name
			i := c.rnd.IntN(len(c.policies))
			name, subject := c.policies[i].Name, c.policies[i].Subject
			c.policies[i] = c.policy()
			c.policies[i].Name, c.policies[i].Subject = name, subject
		case len(c.policies) > 0:
			i := c.rnd.IntN(len(c.policies))
			c.policies = slices.Delete(c.policies, i, i+1)
		}
	}
}

func (c *churn) policy() model.Policy {
	c.serial++
	in, eg := c.rnd.IntN(3) > 0, c.rnd.IntN(2) > 0
	var rules [2][]model.Rule
	for d, on := range []bool{in || !eg, eg} {
		if on {
			rules[d] = []model.Rule{}
			for range 1 + c.rnd.IntN(3) {
				rules[d] = append(rules[d], c.rule())
			}
		}
	}
	p := isolate(c.pick(churnApps), rules[model.Ingress], rules[model.Egress])
	if c.rnd.IntN(4) == 0 {
		p.Subject[0].Pods = selector.Everything()
	}
	p.Name = fmt.Sprintf("p%03d", c.serial)
	return p
}

func (c *churn) rule() model.Rule {
	traffic := []netset.Traffic{
		netset.AllTraffic(), netset.Ports(netset.UDP, 53, 53), netset.Ports(netset.UDP, 1, 100), netset.Ports(netset.UDP, 80, 443),
	}[c.rnd.IntN(4)]
	switch c.rnd.IntN(4) {
	case 0:
		return allow(traffic)
	case 1:
		r := allow(traffic)
		r.AnyPeer = false
		for _, p := range []string{"10.0.0.0/8", "203.0.113.0/24", "0.0.0.0/0", "10.0.1.0/30", "fd00::/8", "2000::/3", "fd00:1::/127"} {
			if c.rnd.IntN(3) == 0 {
				r.Peers = append(r.Peers, model.Peer{Terms: []model.Term{{Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix(p)), NetText: p, PodsOpen: true}}})
			}
		}
		return r
	}
	return allow(traffic, c.pick(churnApps), c.pick(churnApps))
}

// table compiles the cluster as it is.
func (c *churn) table() *verdict.Table {
	s := &model.Snapshot{Namespaces: []model.Namespace{{Name: "ns"}}, Nodes: c.nodes, DualStack: true,
		Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Ports: true, Policies: slices.Clone(c.policies)}}}
	for _, name := range c.real {
		if c.labels[name] == "" {
			continue
		}
		node := "n1"
		if name == "d" {
			node = "n2"
		}
		a := c.addrs[name]
		s.Endpoints = append(s.Endpoints, model.Endpoint{Namespace: "ns", Name: name, Labels: map[string]string{"app": c.labels[name]}, Node: node, Addrs: a[:]})
	}
	for _, i := range slices.Sorted(maps.Keys(c.remote)) {
		s.Endpoints = append(s.Endpoints, model.Endpoint{
			Namespace: "ns", Name: fmt.Sprintf("remote-%03d", i), Labels: map[string]string{"app": c.remote[i]}, Node: "n2",
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 3, byte(i)})},
		})
	}
	clustergen.Sort(s)
	dialect, _ := model.DialectByName("picket")
	return compile.Compile(s, dialect)
}

func (c *churn) plan(t *verdict.Table) *Plan {
	return NewPlan(t, Node{Name: "n1", Pods: LocalPods(t.Snapshot, "n1"), Ranges: c.ranges}, Options{LogGroup: 7})
}

// allowed says what becomes of a datagram on node n1.
func (c *churn) allowed(t *verdict.Table, src, dst string, family int, port uint16) bool {
	for _, name := range []string{src, dst} {
		if name != "d" && name != "out" && c.labels[name] == "" {
			return false
		}
	}
	from, to := t.AddrParty(c.addrs[src][family]), t.AddrParty(c.addrs[dst][family])
	pair := t.Pair(from, to)
	if pair.Bypass == verdict.Judged {
		// What node n2 says about its own pods is not asked here.
		if src == "d" {
			pair.Sides[model.Egress] = verdict.None
		}
		if dst == "d" {
			pair.Sides[model.Ingress] = verdict.None
		}
	}
	d, _ := t.Decide(pair, netset.KeyOf(netset.UDP, port))
	return d == verdict.Allow
}
