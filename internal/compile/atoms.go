package compile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// none marks an absent index.
const none = verdict.None

// atom is a distinct conjunction of terms.
type atom struct {
	terms []model.Term
	open  []netset.Addrs // by term: addresses that it may mean besides; nil if none has any
	peer  bool           // some rule names it
	named bool           // some egress rule with a named port names it

	yes, maybe []verdict.PeerID
	wide       bool // matches so many peers that rows share it as background
}

// scope is a distinct description of namespaces.
type scope struct {
	term  model.Term                 // Namespace or Namespaces
	atoms map[int32][]verdict.AtomID // by pod selector: the atoms that are just this scope and selector
}

// scopeMatch is a scope that a namespace is in.
type scopeMatch struct {
	scope int32
	maybe bool
}

// podSelector is a distinct selector of pods.
type podSelector = selector.Selector

// rule is a model rule as the dialect reads it.
type rule struct {
	ref     verdict.RuleRef
	src     *model.Rule
	action  model.Action
	anyPeer bool
	atoms   []verdict.AtomID
	named   bool           // traffic depends on the responder's ports
	traffic netset.Traffic // valid iff !named
	id      int32          // over all rules
}

// policy is an enforced policy.
type policy struct {
	ref     verdict.PolicyRef
	src     *model.Policy
	subject verdict.AtomID
	named   bool // some ingress rule has a named port
	tie     int  // policies of a tier with equal order have equal ties
}

// collectAtoms interns the atoms of all subjects and rules, and brings the
// policies into the order of evaluation.
func (c *compiler) collectAtoms() {
	c.atomByKey, c.scopeByKey, c.selByKey = map[string]verdict.AtomID{}, map[string]int32{}, map[string]int32{}
	c.netByKey = map[string]int{}
	t := c.table
	t.RuleAtoms = make([][][2][][]verdict.AtomID, len(c.snap.Tiers))
	t.SubjectAtoms = make([][]verdict.AtomID, len(c.snap.Tiers))
	for d := range c.rules {
		c.rules[d] = make([][][]rule, len(c.snap.Tiers))
	}
	ruleID := int32(0)
	for ti := range c.snap.Tiers {
		tier := &c.snap.Tiers[ti]
		t.RuleAtoms[ti] = make([][2][][]verdict.AtomID, len(tier.Policies))
		t.SubjectAtoms[ti] = make([]verdict.AtomID, len(tier.Policies))
		for d := range c.rules {
			c.rules[d][ti] = make([][]rule, len(tier.Policies))
		}
		for pi := range tier.Policies {
			p := &tier.Policies[pi]
			ref := verdict.PolicyRef{Tier: int32(ti), Policy: int32(pi)}
			t.SubjectAtoms[ti][pi] = c.intern(p.Subject)
			pol := policy{ref: ref, src: p, subject: t.SubjectAtoms[ti][pi]}
			for _, d := range model.Directions {
				c.rules[d][ti][pi], t.RuleAtoms[ti][pi][d] = c.collectRules(p, ref, d, &ruleID)
				for _, r := range c.rules[d][ti][pi] {
					c.named = c.named || r.named
					pol.named = pol.named || r.named && d == model.Ingress
				}
			}
			if !p.Staged {
				c.policies = append(c.policies, pol)
			}
		}
	}
	c.orderPolicies()
}

// collectRules interns the peers of one direction's rules. It returns the rules
// as the dialect reads them, and the atoms as they were written.
func (c *compiler) collectRules(p *model.Policy, ref verdict.PolicyRef, d model.Direction, id *int32) ([]rule, [][]verdict.AtomID) {
	rules := make([]rule, len(p.Rules[d]))
	written := make([][]verdict.AtomID, len(p.Rules[d]))
	for i := range p.Rules[d] {
		src := &p.Rules[d][i]
		r := rule{ref: verdict.RuleRef{PolicyRef: ref, Direction: d, Rule: int32(i)}, src: src, action: src.Action, anyPeer: src.AnyPeer, id: *id}
		*id++
		for _, m := range slices.Concat(src.Ports, src.NotPorts) {
			r.named = r.named || m.Name != ""
		}
		if !r.named {
			r.traffic = verdict.TrafficOf(src, nil)
		}
		foreign := false
		for _, peer := range src.Peers {
			a := c.intern(peer.Terms)
			c.atoms[a].peer = true
			r.atoms = append(r.atoms, a)
			for _, t := range peer.Terms {
				foreign = foreign || t.Kind == model.NodeTerm || t.Kind == model.NameTerm
			}
		}
		written[i] = r.atoms
		if foreign && c.dialect.OwnPodsOnly {
			r.atoms = nil
			if r.action == model.Deny || r.action == model.Pass {
				r.action, r.anyPeer, r.named, r.traffic = model.Deny, true, false, netset.AllTraffic()
			}
		}
		if r.named && d == model.Egress {
			c.anyNamed = c.anyNamed || r.anyPeer
			for _, a := range r.atoms {
				c.atoms[a].named = true
			}
		}
		rules[i] = r
	}
	return rules, written
}

// orderPolicies sorts the policies by tier and order. Ties keep the order of
// the snapshot, which is by name, unless the dialect breaks them otherwise.
func (c *compiler) orderPolicies() {
	slices.SortStableFunc(c.policies, func(a, b policy) int {
		if a.ref.Tier != b.ref.Tier || c.snap.Tiers[a.ref.Tier].Union {
			return cmp.Compare(a.ref.Tier, b.ref.Tier)
		}
		n := cmp.Compare(a.src.Order, b.src.Order)
		if n == 0 && c.dialect.SlashTies {
			n = strings.Compare(slashName(a.src), slashName(b.src))
		}
		return n
	})
	c.tieOf = map[verdict.PolicyRef]int{}
	for i := range c.policies {
		if i == 0 {
			c.tieOf[c.policies[0].ref] = 0
			continue
		}
		a, b := &c.policies[i-1], &c.policies[i]
		b.tie = a.tie
		if a.ref.Tier != b.ref.Tier || a.src.Order != b.src.Order {
			b.tie++
		}
		c.tieOf[b.ref] = b.tie
	}
}

func slashName(p *model.Policy) string { return p.Name + "/" + p.Namespace + "/" + p.Kind }

// intern returns the atom of terms.
func (c *compiler) intern(terms []model.Term) verdict.AtomID {
	terms = slices.Clone(terms)
	var open []netset.Addrs
	var key strings.Builder
	for i := range terms {
		var more netset.Addrs
		if terms[i].Kind == model.SetTerm {
			terms[i], more = c.resolveSets(terms[i])
		}
		writeTermKey(&key, &terms[i])
		if !more.Empty() {
			if open == nil {
				open = make([]netset.Addrs, len(terms))
			}
			open[i] = more
			key.WriteByte('~')
			writeNets(&key, more)
			c.internNets(more)
		}
	}
	if id, ok := c.atomByKey[key.String()]; ok {
		return id
	}
	id := verdict.AtomID(len(c.atoms))
	c.atomByKey[key.String()] = id
	c.atoms = append(c.atoms, atom{terms: terms, open: open})
	for i := range terms {
		if terms[i].Kind == model.NetTerm {
			c.internNets(terms[i].Nets)
		}
	}
	if len(terms) == 1 && !terms[0].Not && open == nil {
		switch t := &terms[0]; t.Kind {
		case model.PodTerm:
			s := c.internScope(t)
			sel := c.internSelector(t.Pods)
			c.scopes[s].atoms[sel] = append(c.scopes[s].atoms[sel], id)
			return id
		case model.NetTerm:
			n := c.internNets(t.Nets)
			c.netAtoms[n] = append(c.netAtoms[n], id)
			return id
		}
	}
	for i := range terms {
		if terms[i].Kind == model.PodTerm {
			c.internScope(&terms[i])
			c.internSelector(terms[i].Pods)
		}
	}
	c.general = append(c.general, id)
	return id
}

// resolveSets turns a term over network sets into the addresses of the sets
// that it selects, and of those that it may select besides.
func (c *compiler) resolveSets(t model.Term) (model.Term, netset.Addrs) {
	var nets, open netset.Addrs
	for i := range c.snap.NetworkSets {
		s := &c.snap.NetworkSets[i]
		if !t.Pods.Matches(s.Labels) {
			continue
		}
		switch c.matchSetNamespace(&t, s.Namespace) {
		case verdict.Yes:
			nets = nets.Union(s.Nets)
		case verdict.Maybe:
			open = open.Union(s.Nets)
		}
	}
	resolved := model.Term{Kind: model.NetTerm, Not: t.Not, Nets: nets, NetText: t.String(), PodsOpen: t.PodsOpen}
	return resolved, open.Subtract(nets)
}

// matchSetNamespace reports whether t means network sets of a namespace. Global
// sets, whose namespace is "", are meant only by terms for any namespace.
func (c *compiler) matchSetNamespace(t *model.Term, namespace string) verdict.Match {
	if namespace == "" {
		return certain(t.Namespace == "" && t.Namespaces.IsEverything())
	}
	i, ok := slices.BinarySearchFunc(c.snap.Namespaces, namespace, func(n model.Namespace, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return certain(t.Namespace == namespace)
	}
	return matchNamespace(t, &c.snap.Namespaces[i])
}

func (c *compiler) internNets(nets netset.Addrs) int {
	var key strings.Builder
	writeNets(&key, nets)
	if i, ok := c.netByKey[key.String()]; ok {
		return i
	}
	i := len(c.nets)
	c.netByKey[key.String()] = i
	c.nets = append(c.nets, nets)
	c.netAtoms = append(c.netAtoms, nil)
	return i
}

func (c *compiler) internScope(t *model.Term) int32 {
	key := "=" + t.Namespace
	if t.Namespace == "" {
		key = "~" + t.Namespaces.Key()
	}
	s, ok := c.scopeByKey[key]
	if !ok {
		s = int32(len(c.scopes))
		c.scopeByKey[key] = s
		c.scopes = append(c.scopes, scope{term: *t, atoms: map[int32][]verdict.AtomID{}})
	}
	return s
}

func (c *compiler) internSelector(s selector.Selector) int32 {
	key := s.Key()
	i, ok := c.selByKey[key]
	if !ok {
		i = int32(len(c.sels))
		c.selByKey[key] = i
		c.sels = append(c.sels, s)
	}
	return i
}

func writeTermKey(b *strings.Builder, t *model.Term) {
	b.WriteByte(byte('a' + t.Kind))
	if t.Not { // a byte either way: the key of a selector of nothing begins with "!"
		b.WriteByte('-')
	} else {
		b.WriteByte('+')
	}
	switch t.Kind {
	case model.PodTerm:
		b.WriteString(strconv.Quote(t.Namespace))
		if t.Namespace == "" {
			b.WriteString(t.Namespaces.Key())
		}
		b.WriteByte('/')
		b.WriteString(t.Pods.Key())
	case model.NetTerm:
		if t.PodsOpen {
			b.WriteByte('?')
		}
		writeNets(b, t.Nets)
	case model.NodeTerm:
		b.WriteString(t.Nodes.Key())
	case model.NameTerm:
		for _, n := range t.Names {
			b.WriteString(strconv.Quote(n))
		}
	}
	b.WriteByte(';')
}

func writeNets(b *strings.Builder, nets netset.Addrs) {
	for _, r := range nets.Ranges() {
		b.WriteString(r.From.String() + "-" + r.To.String() + ",")
	}
}
