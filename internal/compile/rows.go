package compile

import (
	"encoding/binary"
	"slices"

	"picket/internal/model"
	"picket/internal/verdict"
)

// hit is a rule that matches a peer: the rule's place among the target's rules
// in order of evaluation, and whether the match is not certain.
type hit uint32

func hitOf(rule int, maybe bool) hit { return hit(matchCode(uint64(rule), maybe)) }
func (h hit) rule() int              { return int(h >> 1) }
func (h hit) maybe() bool            { return h&1 == 1 }

// sharing says when rows share a background.
type sharing struct {
	above    int // atoms with more peers than this are wide, if these are an eighth of all
	patterns int // a background has at most so many
}

// usualSharing pays from some hundred peers on. Row.Of has 16 bits a peer.
var usualSharing = sharing{above: 256, patterns: 1 << 16}

// background is how a set of wide atoms divides the peers.
type background struct {
	atoms    []verdict.AtomID // ascending
	of       []uint16
	patterns [][]verdict.Match // by pattern, then wide atom
}

// rowFiller computes the rows of one direction.
type rowFiller struct {
	*compiler
	dir         model.Direction
	place       map[verdict.PolicyRef]int // index into c.policies
	backgrounds map[string]*background

	// of the current target
	rules   []*rule
	unsure  []bool // by rule: its policy may not select the target
	wide    []verdict.AtomID
	cells   []uint64 // peer and hit of narrow atoms, sorted
	scratch []hit
}

func (c *compiler) fillRows(d model.Direction) {
	f := &rowFiller{compiler: c, dir: d, place: map[verdict.PolicyRef]int{}, backgrounds: map[string]*background{}}
	for i := range c.policies {
		f.place[c.policies[i].ref] = i
	}
	c.table.Rows[d] = make([]verdict.Row, len(c.table.Targets[d]))
	for id := range c.table.Targets[d] {
		c.table.Rows[d][id] = f.row(id)
		c.table.Counters.Cells += len(c.table.Rows[d][id].Peers)
	}
}

// row computes the verdicts of a target for every peer.
func (f *rowFiller) row(id int) verdict.Row {
	target := &f.table.Targets[f.dir][id]
	f.folder.begin(f.dir, f.targetPorts[f.dir][id], target, f.place)
	f.collectRules(target)
	bg := &background{patterns: [][]verdict.Match{nil}}
	if len(f.wide) > 0 {
		bg = f.background()
	}
	f.wide = bg.atoms
	f.collectCells()
	row := verdict.Row{Of: bg.of, Patterns: make([]verdict.VerdictID, len(bg.patterns))}
	base := make([][]hit, len(bg.patterns))
	for i, p := range bg.patterns {
		base[i] = f.baseHits(p)
		if !f.folder.needsPeerPorts(f.rules, base[i]) {
			row.Patterns[i] = f.folder.fold(f.rules, base[i], 0)
		}
	}
	if f.dir == model.Egress {
		f.spellOutNamed(bg, base)
	}
	for i := 0; i < len(f.cells); {
		peer := verdict.PeerID(f.cells[i] >> 32)
		pattern := 0
		if bg.of != nil {
			pattern = int(bg.of[peer])
		}
		f.scratch = append(f.scratch[:0], base[pattern]...)
		for ; i < len(f.cells) && verdict.PeerID(f.cells[i]>>32) == peer; i++ {
			if h := hit(f.cells[i]); h != noHit {
				f.scratch = append(f.scratch, h)
			}
		}
		// The certain match of a rule sorts before its uncertain one, and is
		// the one that counts.
		slices.Sort(f.scratch)
		f.scratch = slices.CompactFunc(f.scratch, func(a, b hit) bool { return a.rule() == b.rule() })
		v := f.folder.fold(f.rules, f.scratch, f.peerPorts[peer])
		if v != row.Patterns[pattern] || f.folder.needsPeerPorts(f.rules, base[pattern]) {
			row.Peers = append(row.Peers, peer)
			row.Verdicts = append(row.Verdicts, v)
		}
	}
	return row
}

// noHit marks a cell that is only there to make its peer an exception.
const noHit = ^hit(0)

// spellOutNamed makes an exception of every peer whose background depends on
// its own named ports.
func (f *rowFiller) spellOutNamed(bg *background, base [][]hit) {
	named := make([]bool, len(base))
	any := false
	for i := range base {
		named[i] = f.folder.needsPeerPorts(f.rules, base[i])
		any = any || named[i]
	}
	if !any {
		return
	}
	for p := range f.table.Peers {
		if bg.of == nil && named[0] || bg.of != nil && named[bg.of[p]] {
			f.cells = append(f.cells, uint64(p)<<32|uint64(noHit))
		}
	}
	slices.Sort(f.cells)
}

// collectRules lists the target's rules in order of evaluation, and their wide
// atoms.
func (f *rowFiller) collectRules(target *verdict.Target) {
	f.rules, f.unsure = f.rules[:0], f.unsure[:0]
	var wide []verdict.AtomID
	for _, sel := range target.Policies {
		if f.policies[f.place[sel.PolicyRef]].src.Broken != "" {
			continue
		}
		rules := f.compiler.rules[f.dir][sel.Tier][sel.Policy]
		for i := range rules {
			if rules[i].action == model.Log {
				continue
			}
			f.rules = append(f.rules, &rules[i])
			f.unsure = append(f.unsure, sel.Maybe)
		}
	}
	for _, r := range f.rules {
		for _, id := range r.atoms {
			if f.atoms[id].wide {
				wide = append(wide, id)
			}
		}
	}
	slices.Sort(wide)
	f.wide = slices.Compact(wide)
}

// collectCells lists where the atoms that are not in the background match.
func (f *rowFiller) collectCells() {
	f.cells = f.cells[:0]
	for i, r := range f.rules {
		for _, id := range r.atoms {
			a := &f.atoms[id]
			if _, ok := slices.BinarySearch(f.wide, id); ok {
				continue
			}
			for _, p := range a.yes {
				f.cells = append(f.cells, uint64(p)<<32|uint64(hitOf(i, f.unsure[i])))
			}
			for _, p := range a.maybe {
				f.cells = append(f.cells, uint64(p)<<32|uint64(hitOf(i, true)))
			}
		}
	}
	slices.Sort(f.cells)
}

// background divides all peers by which of the target's wide atoms match. An
// atom that would make too many patterns is left out of it.
func (f *rowFiller) background() *background {
	key := make([]byte, 0, 4*len(f.wide))
	for _, a := range f.wide {
		key = binary.AppendUvarint(key, uint64(a))
	}
	if bg := f.backgrounds[string(key)]; bg != nil {
		return bg
	}
	// Patterns are refined atom by atom: a pattern and the next atom's match
	// make a new pattern.
	bg := &background{of: make([]uint16, len(f.table.Peers)), patterns: [][]verdict.Match{{}}}
	for _, id := range f.wide {
		match := make([]verdict.Match, len(f.table.Peers))
		for _, p := range f.atoms[id].yes {
			match[p] = verdict.Yes
		}
		for _, p := range f.atoms[id].maybe {
			match[p] = verdict.Maybe
		}
		type refinement struct {
			pattern uint16
			match   verdict.Match
		}
		next := map[refinement]int{}
		of := make([]uint16, len(bg.of))
		var patterns [][]verdict.Match
		for p := range bg.of {
			r := refinement{bg.of[p], match[p]}
			n, ok := next[r]
			if !ok {
				n = len(patterns)
				next[r] = n
				patterns = append(patterns, append(slices.Clone(bg.patterns[r.pattern]), r.match))
			}
			of[p] = uint16(n)
		}
		if len(patterns) <= f.sharing.patterns {
			bg.atoms, bg.of, bg.patterns = append(bg.atoms, id), of, patterns
		}
	}
	f.backgrounds[string(key)] = bg
	return bg
}

// baseHits lists the rules that match every peer of a background pattern.
func (f *rowFiller) baseHits(pattern []verdict.Match) []hit {
	var out []hit
	for i, r := range f.rules {
		m := verdict.No
		if r.anyPeer {
			m = verdict.Yes
		}
		for _, id := range r.atoms {
			if at, ok := slices.BinarySearch(f.wide, id); ok {
				m = max(m, pattern[at])
			}
		}
		if m != verdict.No {
			out = append(out, hitOf(i, f.unsure[i] || m == verdict.Maybe))
		}
	}
	return out
}
