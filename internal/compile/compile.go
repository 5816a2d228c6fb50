// Package compile turns a snapshot into a verdict table, in five stages:
//
//  1. atoms: every distinct description of a peer or a subject becomes one
//     atom, every rule a list of atoms (atoms.go);
//  2. candidates: endpoints that agree in everything atoms can look at
//     (namespace, the labels that some selector names, address block) are
//     matched against the atoms once (candidates.go);
//  3. classes: candidates with the same matches become one peer class, and one
//     target class a direction (classes.go);
//  4. rows: for each target class, the rules that match each peer class
//     (rows.go);
//  5. fold: the matching rules, tier by tier, become one port verdict
//     (fold.go), interned.
//
// The cost grows with the number of distinct things, not with their product:
// a pod like others costs one look-up, a policy costs the classes its peers
// match.
package compile

import (
	"net/netip"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Compile compiles s under dialect d. It is pure: equal snapshots give equal
// tables. It never fails; what a source could not understand is marked Broken
// in the snapshot, and its verdicts are Undefined.
func Compile(s *model.Snapshot, d model.Dialect) *verdict.Table {
	return compileWith(s, d, usualSharing)
}

func compileWith(s *model.Snapshot, d model.Dialect, sh sharing) *verdict.Table {
	c := &compiler{
		snap:    s,
		dialect: d,
		sharing: sh,
		table: &verdict.Table{
			Snapshot: s,
			Dialect:  d,
			Owner:    map[netip.Addr]verdict.Owner{},
		},
		folder: folder{verdicts: map[string]verdict.VerdictID{}, reasons: map[verdict.Reason]verdict.ReasonID{}, memo: map[string]verdict.VerdictID{}},
	}
	c.folder.c = c
	c.collectAtoms()
	c.collectCandidates()
	c.classify()
	for _, dir := range model.Directions {
		c.fillRows(dir)
	}
	c.finish()
	return c.table
}

// compiler is the state of one Compile.
type compiler struct {
	snap    *model.Snapshot
	dialect model.Dialect
	sharing sharing
	table   *verdict.Table

	atoms      []atom
	atomByKey  map[string]verdict.AtomID
	scopes     []scope
	scopeByKey map[string]int32
	sels       []podSelector
	selByKey   map[string]int32
	general    []verdict.AtomID   // atoms that no index finds
	netAtoms   [][]verdict.AtomID // by set of the partition
	nets       []netset.Addrs     // the partition's sets
	netByKey   map[string]int
	rules      [2][][][]rule // by direction, tier, policy
	policies   []policy      // all that are enforced, in order of evaluation
	tieOf      map[verdict.PolicyRef]int
	named      bool // some rule has a named port
	anyNamed   bool // some egress rule with a named port matches every peer

	nsIndex    map[string]int32
	nsScopes   [][]scopeMatch // by namespace
	nodeIndex  map[string]int32
	labelKeys  map[string]bool
	shapes     []shape
	shapeByKey map[string]int32
	portLists  [][]model.Port
	portsByKey map[string]int32
	candidates []candidate
	byKey      map[candidateKey]int32
	ofEndpoint [][2]int32 // candidate by endpoint and family; None without such an address
	anyOf      []int32    // by endpoint: a candidate, also without an address

	peerPorts   []int32    // by peer class: its port list
	targetPorts [2][]int32 // by direction and target class

	folder folder
}

// finish fills what the table shows of the atoms and the work done.
func (c *compiler) finish() {
	t := c.table
	t.Atoms = make([]verdict.Atom, len(c.atoms))
	for i, a := range c.atoms {
		t.Atoms[i] = verdict.Atom{Terms: a.terms, Yes: a.yes, Maybe: a.maybe}
	}
	n := &t.Counters
	n.Endpoints = len(c.snap.Endpoints)
	for i := range c.snap.Tiers {
		n.Policies += len(c.snap.Tiers[i].Policies)
		for j := range c.snap.Tiers[i].Policies {
			p := &c.snap.Tiers[i].Policies[j]
			n.Rules += len(p.Rules[0]) + len(p.Rules[1])
		}
	}
	n.Atoms, n.Shapes, n.Blocks = len(c.atoms), len(c.shapes), len(t.Blocks.Blocks)
	n.Candidates = len(c.candidates)
	n.Peers, n.Targets = len(t.Peers), len(t.Targets[0])+len(t.Targets[1])
	n.Verdicts, n.Reasons = len(t.Verdicts), len(t.Reasons)
}
