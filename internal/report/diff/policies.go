package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
)

// policies lists the policies that were added, removed or changed. Where they
// were written does not count.
func (c *comparer) policies() []Policy {
	type entry struct {
		policy *model.Policy
		text   string
	}
	var seen [2]map[string]entry
	for n, t := range c.tables {
		seen[n] = map[string]entry{}
		for i := range t.Snapshot.Tiers {
			tier := &t.Snapshot.Tiers[i]
			for j := range tier.Policies {
				p := &tier.Policies[j]
				seen[n][tier.Name+" "+p.Ref()] = entry{p, policyText(p)}
			}
		}
	}
	out := []Policy{}
	add := func(change string, p *model.Policy) {
		at := p.Origin.Position
		at.Col = 0
		out = append(out, Policy{Change: change, Kind: p.Kind, Name: p.String(), Position: at.String()})
	}
	for k, e := range seen[1] {
		switch was, ok := seen[0][k]; {
		case !ok:
			add("added", e.policy)
		case was.text != e.text:
			add("changed", e.policy)
		}
	}
	for k, e := range seen[0] {
		if _, ok := seen[1][k]; !ok {
			add("removed", e.policy)
		}
	}
	slices.SortFunc(out, func(a, b Policy) int {
		return cmp.Or(strings.Compare(a.Change, b.Change), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Position, b.Position))
	})
	return out
}

// policyText writes all of a policy that has a meaning. Rules of a direction
// that it does not apply to have none.
func policyText(p *model.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v %v %q\n", p.Order, p.Applies, p.Staged, p.Broken)
	termsText(&b, p.Subject)
	for d, rules := range p.Rules {
		if !p.Applies[d] {
			continue
		}
		for i := range rules {
			r := &rules[i]
			fmt.Fprintf(&b, "rule %d %q %s %v %v\n", d, r.Name, r.Action, r.AnyPeer, r.AnyPort)
			for _, peer := range r.Peers {
				b.WriteString(" peer")
				termsText(&b, peer.Terms)
			}
			portsText(&b, " port", r.Ports)
			portsText(&b, " not", r.NotPorts)
		}
	}
	return b.String()
}

func termsText(b *strings.Builder, terms []model.Term) {
	for _, t := range terms {
		fmt.Fprintf(b, " term %d %v %q %s %s %s %v %s %q", t.Kind, t.Not, t.Namespace,
			t.Namespaces.Key(), t.Pods.Key(), t.Nets, t.PodsOpen, t.Nodes.Key(), t.Names)
	}
	b.WriteByte('\n')
}

func portsText(b *strings.Builder, word string, ports []model.PortMatch) {
	for _, m := range ports {
		fmt.Fprintf(b, "%s %q %v %s\n", word, m.Name, m.Protos, m.Traffic)
	}
}
