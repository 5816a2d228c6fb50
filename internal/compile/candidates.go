package compile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// kind tells what a candidate is.
type kind uint8

const (
	pod kind = iota
	hostPod
	node
	outside
)

// candidateKey is everything that an atom can look at.
type candidateKey struct {
	kind  kind
	ns    int32 // none for nodes and outside addresses
	shape int32 // none likewise
	ports int32 // the named ports; 0 is no port
	node  int32 // of a node or host-network pod; else none
	block int32 // of the address; none without one
}

// candidate is a set of addresses that no atom can tell apart.
type candidate struct {
	candidateKey
	matches []match // by atom, ascending
	peer    verdict.PeerID
	targets [2]verdict.TargetID
}

// match is an atom that matches a candidate.
type match struct {
	atom  verdict.AtomID
	maybe bool
}

// shape is a distinct set of labels, as far as selectors look at them.
type shape struct {
	labels map[string]string
	broken bool
	sels   []selMatch // the selectors that match, ascending
}

type selMatch struct {
	sel   int32
	maybe bool
}

// collectCandidates groups all addresses into candidates and matches these.
func (c *compiler) collectCandidates() {
	c.indexNamespaces()
	c.nodeIndex = map[string]int32{}
	for i := range c.snap.Nodes {
		c.nodeIndex[c.snap.Nodes[i].Name] = int32(i)
	}
	c.labelKeys = map[string]bool{}
	for _, s := range c.sels {
		for _, r := range s.Requirements() {
			c.labelKeys[r.Key] = true
		}
	}
	c.table.Blocks = netset.NewPartition(c.nets)
	c.shapeByKey, c.portsByKey, c.byKey = map[string]int32{}, map[string]int32{"": 0}, map[candidateKey]int32{}
	c.portLists = [][]model.Port{nil}

	c.ofEndpoint = make([][2]int32, len(c.snap.Endpoints))
	c.anyOf = make([]int32, len(c.snap.Endpoints))
	for i := range c.snap.Endpoints {
		c.addEndpoint(i)
	}
	for i := range c.snap.Nodes {
		for _, a := range c.snap.Nodes[i].Addrs {
			c.add(candidateKey{kind: node, ns: none, shape: none, node: int32(i), block: c.blockOf(a)})
		}
	}
	for b := range c.table.Blocks.Blocks {
		c.add(outsideKey(b))
	}
	c.matchShapes()
	for i := range c.candidates {
		c.matchCandidate(&c.candidates[i])
		c.table.Counters.Matches += len(c.candidates[i].matches)
	}
}

func outsideKey(block int) candidateKey {
	return candidateKey{kind: outside, ns: none, shape: none, node: none, block: int32(block)}
}

func (c *compiler) add(k candidateKey) int32 {
	i, ok := c.byKey[k]
	if !ok {
		i = int32(len(c.candidates))
		c.byKey[k] = i
		c.candidates = append(c.candidates, candidate{candidateKey: k, peer: none, targets: [2]verdict.TargetID{none, none}})
	}
	return i
}

func (c *compiler) blockOf(a netip.Addr) int32 {
	if !a.IsValid() {
		return none
	}
	return int32(c.table.Blocks.Of(a))
}

func (c *compiler) addEndpoint(i int) {
	e := &c.snap.Endpoints[i]
	k := candidateKey{ns: none, node: none, shape: c.shapeOf(e)}
	if n, ok := c.nsIndex[e.Namespace]; ok {
		k.ns = n
	}
	if e.Kind == model.HostPod {
		k.kind = hostPod
		if n, ok := c.nodeIndex[e.Node]; ok {
			k.node = n
		}
	} else {
		k.ports = c.portsOf(e)
	}
	c.anyOf[i] = none
	for fi, f := range [2]netset.Family{netset.V4, netset.V6} {
		c.ofEndpoint[i][fi] = none
		if a := e.Addr(f); a.IsValid() {
			k.block = c.blockOf(a)
			c.ofEndpoint[i][fi] = c.add(k)
			if c.anyOf[i] == none {
				c.anyOf[i] = c.ofEndpoint[i][fi]
			}
		}
	}
	if c.anyOf[i] == none {
		k.block = none
		c.anyOf[i] = c.add(k)
	}
}

// shapeOf projects the endpoint's labels to the keys that selectors name.
func (c *compiler) shapeOf(e *model.Endpoint) int32 {
	key := "!"
	var labels map[string]string
	if e.Broken == "" {
		keys := make([]string, 0, len(e.Labels))
		for k := range e.Labels {
			if c.labelKeys[k] {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		var b strings.Builder
		for _, k := range keys {
			b.WriteString(k)
			b.WriteByte('=')
			b.WriteString(strconv.Itoa(len(e.Labels[k])))
			b.WriteByte(':')
			b.WriteString(e.Labels[k])
		}
		key, labels = b.String(), e.Labels
	}
	i, ok := c.shapeByKey[key]
	if !ok {
		i = int32(len(c.shapes))
		c.shapeByKey[key] = i
		c.shapes = append(c.shapes, shape{labels: labels, broken: e.Broken != ""})
	}
	return i
}

// brokenPorts is the port list of an endpoint whose ports are not known.
var brokenPorts = []model.Port{{Name: "?"}}

// portsOf interns the endpoint's named ports, if any rule asks for names.
func (c *compiler) portsOf(e *model.Endpoint) int32 {
	if !c.named {
		return 0
	}
	key, list := "?", brokenPorts
	if e.Broken == "" {
		list = nil
		for _, p := range e.Ports {
			if p.Name != "" {
				list = append(list, p)
			}
		}
		slices.SortFunc(list, func(a, b model.Port) int { return strings.Compare(portKey(a), portKey(b)) })
		list = slices.Compact(list)
		var b strings.Builder
		for _, p := range list {
			b.WriteString(portKey(p))
			b.WriteByte(',')
		}
		key = b.String()
	}
	i, ok := c.portsByKey[key]
	if !ok {
		i = int32(len(c.portLists))
		c.portsByKey[key] = i
		c.portLists = append(c.portLists, list)
	}
	return i
}

func portKey(p model.Port) string {
	return strconv.Quote(p.Name) + p.Proto.String() + strconv.Itoa(int(p.Number))
}

// indexNamespaces finds the scopes of each namespace.
func (c *compiler) indexNamespaces() {
	c.nsIndex = map[string]int32{}
	c.nsScopes = make([][]scopeMatch, len(c.snap.Namespaces))
	for i := range c.snap.Namespaces {
		c.nsIndex[c.snap.Namespaces[i].Name] = int32(i)
	}
	for s := range c.scopes {
		t := &c.scopes[s].term
		if t.Namespace != "" {
			if i, ok := c.nsIndex[t.Namespace]; ok {
				c.nsScopes[i] = append(c.nsScopes[i], scopeMatch{scope: int32(s)})
			}
			continue
		}
		for i := range c.snap.Namespaces {
			if m := matchNamespace(t, &c.snap.Namespaces[i]); m != verdict.No {
				c.nsScopes[i] = append(c.nsScopes[i], scopeMatch{int32(s), m == verdict.Maybe})
			}
		}
	}
}

// matchNamespace reports whether the namespace is one that t describes.
func matchNamespace(t *model.Term, ns *model.Namespace) verdict.Match {
	if t.Namespace != "" {
		return certain(t.Namespace == ns.Name)
	}
	return matchSelector(t.Namespaces, ns.Labels, ns.Broken != "")
}

// matchSelector matches labels that may not be known.
func matchSelector(s selector.Selector, labels map[string]string, broken bool) verdict.Match {
	if broken && !s.IsEverything() && !s.IsNothing() {
		return verdict.Maybe
	}
	return certain(s.Matches(labels))
}

func certain(ok bool) verdict.Match {
	if ok {
		return verdict.Yes
	}
	return verdict.No
}

// matchShapes finds the selectors that match each shape, through an index of
// the label values that selectors ask for.
func (c *compiler) matchShapes() {
	byLabel := map[[2]string][]int32{}
	var rest []int32
	for i, s := range c.sels {
		if r, ok := rarest(s); ok {
			for _, v := range r.Values {
				byLabel[[2]string{r.Key, v}] = append(byLabel[[2]string{r.Key, v}], int32(i))
			}
		} else {
			rest = append(rest, int32(i))
		}
	}
	for i := range c.shapes {
		sh := &c.shapes[i]
		found := slices.Clone(rest)
		if sh.broken {
			found = found[:0]
			for s := range c.sels {
				found = append(found, int32(s))
			}
		}
		for k, v := range sh.labels {
			if c.labelKeys[k] {
				found = append(found, byLabel[[2]string{k, v}]...)
			}
		}
		slices.Sort(found)
		for _, s := range slices.Compact(found) {
			if m := matchSelector(c.sels[s], sh.labels, sh.broken); m != verdict.No {
				sh.sels = append(sh.sels, selMatch{s, m == verdict.Maybe})
			}
		}
	}
}

// rarest returns the In requirement with the fewest values, false if s has
// none.
func rarest(s selector.Selector) (selector.Requirement, bool) {
	var best selector.Requirement
	ok := false
	if s.IsNothing() {
		return best, false
	}
	for _, r := range s.Requirements() {
		if r.Op == selector.In && (!ok || len(r.Values) < len(best.Values)) {
			best, ok = r, true
		}
	}
	return best, ok
}

// matchCandidate finds the atoms that match k.
func (c *compiler) matchCandidate(k *candidate) {
	if k.ns != none && (k.kind == pod || k.kind == hostPod && c.dialect.OpenHostPods) {
		sh := &c.shapes[k.shape]
		for _, s := range c.nsScopes[k.ns] {
			atoms := c.scopes[s.scope].atoms
			if len(atoms) == 0 {
				continue
			}
			for _, sel := range sh.sels {
				for _, a := range atoms[sel.sel] {
					k.matches = append(k.matches, match{a, s.maybe || sel.maybe || k.kind == hostPod})
				}
			}
		}
	}
	if k.block != none {
		for _, set := range c.table.Blocks.Blocks[k.block].Members {
			for _, a := range c.netAtoms[set] {
				k.matches = append(k.matches, match{a, c.openNets(k, &c.atoms[a].terms[0])})
			}
		}
	}
	for _, a := range c.general {
		if m := c.matchTerms(&c.atoms[a], k); m != verdict.No {
			k.matches = append(k.matches, match{a, m == verdict.Maybe})
		}
	}
	slices.SortFunc(k.matches, func(a, b match) int { return int(a.atom - b.atom) })
}

func (c *compiler) openNets(k *candidate, t *model.Term) bool {
	return k.kind == pod && t.PodsOpen && c.dialect.OpenNets
}

// matchTerms reports whether all terms match k. No terms match nothing.
func (c *compiler) matchTerms(a *atom, k *candidate) verdict.Match {
	if len(a.terms) == 0 {
		return verdict.No
	}
	m := verdict.Yes
	for i := range a.terms {
		tm := c.matchTerm(&a.terms[i], k)
		if a.open != nil && c.inNets(a.open[i], k) {
			tm = max(tm, verdict.Maybe)
		}
		if a.terms[i].Not {
			tm = verdict.Yes - tm
		}
		m = min(m, tm)
	}
	return m
}

func (c *compiler) matchTerm(t *model.Term, k *candidate) verdict.Match {
	switch t.Kind {
	case model.PodTerm:
		if k.ns == none || k.kind == hostPod && !c.dialect.OpenHostPods {
			return verdict.No
		}
		sh := &c.shapes[k.shape]
		m := min(matchNamespace(t, &c.snap.Namespaces[k.ns]), matchSelector(t.Pods, sh.labels, sh.broken))
		if k.kind == hostPod {
			m = min(m, verdict.Maybe)
		}
		return m
	case model.NetTerm:
		if !c.inNets(t.Nets, k) {
			return verdict.No
		}
		if c.openNets(k, t) {
			return verdict.Maybe
		}
		return verdict.Yes
	case model.NodeTerm:
		return certain(k.node != none && t.Nodes.Matches(c.snap.Nodes[k.node].Labels))
	case model.NameTerm:
		if k.kind == outside && c.dialect.OpenNames {
			return verdict.Maybe
		}
	}
	return verdict.No
}

// inNets reports whether the address of k is in nets, which must be one of the
// partitioned sets or empty.
func (c *compiler) inNets(nets netset.Addrs, k *candidate) bool {
	if k.block == none || nets.Empty() {
		return false
	}
	_, ok := slices.BinarySearch(c.table.Blocks.Blocks[k.block].Members, c.internNets(nets))
	return ok
}
