package lint

import (
	"slices"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/verdict"
)

// coin is a small generator of choices, equal for equal seeds.
func coin(seed int) clustergen.Coin {
	rnd := uint64(seed)*0x9e3779b97f4a7c15 + 1
	return func(string) bool {
		rnd ^= rnd << 13
		rnd ^= rnd >> 7
		rnd ^= rnd << 17
		return rnd>>33&1 == 1
	}
}

// readable reports whether everything in s could be read: what could not makes
// verdicts uncertain, in ways that lint does not follow.
func readable(s *model.Snapshot) bool {
	for _, n := range s.Namespaces {
		if n.Broken != "" {
			return false
		}
	}
	for i := range s.Endpoints {
		if s.Endpoints[i].Broken != "" {
			return false
		}
	}
	for _, t := range s.Tiers {
		for i := range t.Policies {
			if t.Policies[i].Broken != "" {
				return false
			}
		}
	}
	return true
}

// without returns s with one policy changed by edit.
func without(s *model.Snapshot, ref verdict.PolicyRef, edit func(*model.Tier)) *model.Snapshot {
	out := *s
	out.Tiers = slices.Clone(s.Tiers)
	tier := &out.Tiers[ref.Tier]
	tier.Policies = slices.Clone(tier.Policies)
	edit(tier)
	return &out
}

// sameVerdicts reports whether two tables of the same endpoints allow the same
// between each two of them, and to and from outside.
func sameVerdicts(a, b *verdict.Table) bool {
	for _, f := range a.Families() {
		var pa, pb []verdict.Party
		for i := range a.Snapshot.Endpoints {
			if p, ok := a.EndpointParty(i, f); ok {
				q, _ := b.EndpointParty(i, f)
				pa, pb = append(pa, p), append(pb, q)
			}
		}
		for blk := range a.Blocks.Blocks {
			if addr := a.Blocks.Blocks[blk].Addrs.Only(f).First(); addr.IsValid() {
				pa, pb = append(pa, a.AddrParty(addr)), append(pb, b.AddrParty(addr))
			}
		}
		for i := range pa {
			for j := range pa {
				x := verdict.JointTraffic(a.Join(a.Pair(pa[i], pa[j])), verdict.Allow)
				y := verdict.JointTraffic(b.Join(b.Pair(pb[i], pb[j])), verdict.Allow)
				if !x.Equal(y) {
					return false
				}
			}
		}
	}
	return true
}

// TestRedundantIsRedundant removes what NP116 would remove: no verdict changes.
func TestRedundantIsRedundant(t *testing.T) {
	policies, rules := 0, 0
	for seed := range 1000 {
		s := clustergen.Random(coin(seed))
		if !readable(s) {
			continue
		}
		tab := compile.Compile(s, model.Dialects[0])
		l := newLinter(tab)
		for i := range l.policies {
			p := &l.policies[i]
			if !p.v1() || !p.live() {
				continue
			}
			for j := range l.policies {
				q := &l.policies[j]
				if i == j || !q.v1() || !q.live() || q.Namespace != p.Namespace || !l.redundant(p, q) {
					continue
				}
				policies++
				less := without(s, p.ref, func(tier *model.Tier) {
					tier.Policies = slices.Delete(tier.Policies, int(p.ref.Policy), int(p.ref.Policy)+1)
				})
				if !sameVerdicts(tab, compile.Compile(less, model.Dialects[0])) {
					t.Fatalf("seed %d: %s is not redundant beside %s", seed, p, q)
				}
			}
			for _, d := range model.Directions {
				for a := range p.Rules[d] {
					for b := range p.Rules[d] {
						if a == b || !l.allowedBy(&p.Rules[d][a], &p.Rules[d][b]) {
							continue
						}
						rules++
						less := without(s, p.ref, func(tier *model.Tier) {
							x := &tier.Policies[p.ref.Policy]
							x.Rules[d] = slices.Delete(slices.Clone(x.Rules[d]), a, a+1)
						})
						if !sameVerdicts(tab, compile.Compile(less, model.Dialects[0])) {
							t.Fatalf("seed %d: %s: %s rule %d is not within rule %d", seed, p, d, a, b)
						}
					}
				}
			}
		}
	}
	t.Logf("%d policies and %d rules", policies, rules)
	if policies == 0 || rules == 0 {
		t.Errorf("nothing was tested: %d policies, %d rules", policies, rules)
	}
}

// TestShadowedNeverDecides looks for rules that CN502 calls shadowed among the
// reasons of all verdicts.
func TestShadowedNeverDecides(t *testing.T) {
	shadowed := 0
	for seed := range 3000 {
		s := clustergen.Random(coin(seed))
		if !readable(s) {
			continue
		}
		tab := compile.Compile(s, model.Dialects[0])
		l := newLinter(tab)
		used := map[verdict.RuleRef]bool{}
		for _, v := range tab.Verdicts {
			for _, p := range v {
				if r := tab.Reasons[p.Reason]; r.Kind == verdict.ByRule {
					used[r.Rule] = true
				}
			}
		}
		ps := l.ordered()
		for i, p := range ps {
			for _, d := range model.Directions {
				for j := range p.Rules[d] {
					if p.Rules[d][j].Note != "" || p.Rules[d][j].Action == model.Log || !p.Applies[d] || !p.live() {
						continue
					}
					if by, _ := l.shadow(ps[:i+1], p, d, j); by != nil {
						if shadowed++; used[p.rule(d, j)] {
							t.Fatalf("seed %d: %s %s rule %d decides", seed, p, d, j)
						}
					}
				}
			}
		}
	}
	if t.Logf("%d rules", shadowed); shadowed == 0 {
		t.Error("nothing was tested")
	}
}

// TestHalfOpenIsShut looks for traffic of peers that NP303 calls half open.
func TestHalfOpenIsShut(t *testing.T) {
	dead := 0
	for seed := range 1000 {
		s := clustergen.Random(coin(seed))
		if !readable(s) {
			continue
		}
		tab := compile.Compile(s, model.Dialects[0])
		l := newLinter(tab)
		l.eachPeer(func(p *policy, d model.Direction, ri int, r *model.Rule, i int) {
			if x := r.Peers[i].Terms; !p.v1() || len(x) != 1 || x[0].Kind != model.PodTerm || l.dead(p.rule(d, ri), i) || !l.halfOpen(p, d, ri, i) {
				return
			}
			dead++
			for _, id := range p.targets[d] {
				for _, me := range tab.Targets[d][id].Endpoints {
					for _, e := range tab.AtomEndpoints(tab.RuleAtoms[p.ref.Tier][p.ref.Policy][d][ri][i]) {
						if e == me {
							continue
						}
						for _, f := range tab.Families() {
							a, ok1 := tab.EndpointParty(int(me), f)
							b, ok2 := tab.EndpointParty(int(e), f)
							if d == model.Ingress {
								a, b = b, a
							}
							if !ok1 || !ok2 || tab.Pair(a, b).Bypass != verdict.Judged {
								continue
							}
							open := verdict.JointTraffic(tab.Join(tab.Pair(a, b)), verdict.Allow)
							if in := open.Intersect(verdict.TrafficOf(r, tab.Snapshot.Endpoints[b.Endpoint].Ports)); !in.Empty() {
								t.Fatalf("seed %d: %s %s rule %d peer %d lets %s through", seed, p, d, ri, i, in)
							}
						}
					}
				}
			}
		})
	}
	if t.Logf("%d peers", dead); dead == 0 {
		t.Error("nothing was tested")
	}
}
