package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/reference"
	"picket/internal/verdict"
)

// end is one end of a connection as both sides of the comparison know it.
type end struct {
	name  string
	ref   reference.End
	party verdict.Party
}

// ends lists everything that can take part in a connection of family f: each
// endpoint and node with an address of it, and for each address block a host
// outside the cluster at either end of the block.
func ends(t *verdict.Table, f netset.Family) []end {
	var out []end
	s := t.Snapshot
	for i := range s.Endpoints {
		if p, ok := t.EndpointParty(i, f); ok {
			out = append(out, end{s.Endpoints[i].String(), reference.End{Kind: reference.Endpoint, Index: i, Family: f}, p})
		}
	}
	for i := range s.Nodes {
		if p, ok := t.NodeParty(i, f); ok {
			out = append(out, end{"node/" + s.Nodes[i].Name, reference.End{Kind: reference.Node, Index: i, Family: f}, p})
		}
	}
	for _, a := range outside(s, f) {
		out = append(out, end{a.String(), reference.End{Kind: reference.Outside, Addr: a, Family: f}, t.AddrParty(a)})
	}
	return out
}

// outside returns addresses that nothing in the cluster has, on both sides of
// every border that a policy can draw.
func outside(s *model.Snapshot, f netset.Family) []netip.Addr {
	taken := map[netip.Addr]bool{}
	for i := range s.Endpoints {
		for _, a := range s.Endpoints[i].Addrs {
			taken[a] = true
		}
	}
	for i := range s.Nodes {
		for _, a := range s.Nodes[i].Addrs {
			taken[a] = true
		}
	}
	var sets []netset.Addrs
	for i := range s.NetworkSets {
		sets = append(sets, s.NetworkSets[i].Nets)
	}
	eachRule(s, func(_ *model.Policy, r *model.Rule) {
		for _, p := range r.Peers {
			for _, t := range p.Terms {
				sets = append(sets, t.Nets)
			}
		}
	})
	var out []netip.Addr
	for _, b := range netset.NewPartition(sets).Blocks {
		for _, r := range b.Addrs.Only(f).Ranges() {
			for a, n := r.From, 0; n < 20 && a.IsValid() && a.Compare(r.To) <= 0; a, n = a.Next(), n+1 {
				if !taken[a] {
					out = append(out, a)
					break
				}
			}
			if !taken[r.To] {
				out = append(out, r.To)
				break
			}
		}
	}
	return out
}

func eachRule(s *model.Snapshot, visit func(*model.Policy, *model.Rule)) {
	for i := range s.Tiers {
		for j := range s.Tiers[i].Policies {
			p := &s.Tiers[i].Policies[j]
			for _, rules := range p.Rules {
				for k := range rules {
					visit(p, &rules[k])
				}
			}
		}
	}
}

// traffic returns points on both sides of every border in the traffic space
// that a rule or a named port can draw, and some at random.
func traffic(s *model.Snapshot, rnd *rand.Rand, limit int) []netset.Key {
	sets := []netset.Traffic{netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP), netset.Ports(netset.ICMP, 8<<8, 8<<8)}
	eachRule(s, func(_ *model.Policy, r *model.Rule) {
		for _, ms := range [][]model.PortMatch{r.Ports, r.NotPorts} {
			for _, m := range ms {
				sets = append(sets, m.Traffic)
			}
		}
	})
	for i := range s.Endpoints {
		for _, p := range s.Endpoints[i].Ports {
			sets = append(sets, netset.Ports(p.Proto, p.Number, p.Number))
		}
	}
	var out []netset.Key
	for _, c := range netset.Cells(sets) {
		out = append(out, c.From)
		if c.To != c.From {
			out = append(out, c.To)
		}
	}
	for range 4 {
		out = append(out, netset.Key(rnd.Uint32N(1<<24)))
	}
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(limit, len(out))]
}

// compare holds every pair of ends against the reference, each with up to limit
// kinds of traffic. It returns the number of verdicts compared, and what
// differs.
func compare(t *verdict.Table, rnd *rand.Rand, limit int) (int, error) {
	n := 0
	keys := traffic(t.Snapshot, rnd, limit)
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		all := ends(t, f)
		for i := range len(all) * len(all) {
			src, dst := all[i/len(all)], all[i%len(all)]
			pair := t.Pair(src.party, dst.party)
			for _, k := range keys {
				n++
				got, _ := t.Decide(pair, k)
				want := reference.Evaluate(t.Snapshot, t.Dialect, src.ref, dst.ref, k)
				if got.String() != want.String() {
					return n, mismatch(t, src, dst, k, got, want)
				}
				if err := checkReasons(t, pair, src, dst, k); err != nil {
					return n, fmt.Errorf("%w\n%w", err, mismatch(t, src, dst, k, got, want))
				}
			}
		}
	}
	return n, nil
}

// checkReasons holds the reason that the table gives for each side against the
// reference: a rule that is named can match and does what was decided; a pod is
// isolated by a tier only if some policy of it applies, and so on.
func checkReasons(t *verdict.Table, pair verdict.Pair, src, dst end, k netset.Key) error {
	for _, d := range model.Directions {
		if pair.Sides[d] == verdict.None {
			continue
		}
		subject, peer := dst, src
		if d == model.Egress {
			subject, peer = src, dst
		}
		piece := t.Verdicts[pair.Sides[d]].At(k)
		r := t.Reasons[piece.Reason]
		applies := func(tier int) bool {
			for i := range t.Snapshot.Tiers[tier].Policies {
				if reference.Applies(t.Snapshot, t.Dialect, &t.Snapshot.Tiers[tier].Policies[i], d, subject.ref) != reference.No {
					return true
				}
			}
			return false
		}
		some := false
		for i := range t.Snapshot.Tiers {
			some = some || applies(i)
		}
		ok := false
		switch r.Kind {
		case verdict.NotSelected:
			ok = piece.Decision == verdict.Allow && !some
		case verdict.Unmatched:
			ok = piece.Decision == verdict.Allow && some
		case verdict.ByRule:
			m, action := reference.RuleMatches(t.Snapshot, t.Dialect, t.Rule(r.Rule), d, subject.ref, peer.ref, k)
			applied := reference.Applies(t.Snapshot, t.Dialect, t.Policy(r.Rule.PolicyRef), d, subject.ref)
			ok = min(m, applied) != reference.No && action.String() == piece.Decision.String()
		case verdict.Isolated:
			ok = piece.Decision == verdict.Deny && !t.Snapshot.Tiers[r.Rule.Tier].Continue && applies(int(r.Rule.Tier))
		case verdict.Open:
			ok = piece.Decision == verdict.Undefined && r.Why != verdict.WhyNothing
		}
		if !ok || r.Kind != verdict.NotSelected && r.Rule.Direction != d {
			return fmt.Errorf("the reason for %s is wrong", d)
		}
	}
	return nil
}

// mismatch describes a difference so that a person can follow it: the verdicts,
// those of each side, and the cluster.
func mismatch(t *verdict.Table, src, dst end, k netset.Key, got verdict.Decision, want reference.Verdict) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s %s under %+v: compile says %s, the reference %s\n", src.name, dst.name, k, t.Dialect, got, want)
	pair := t.Pair(src.party, dst.party)
	for _, d := range model.Directions {
		subject, peer := dst, src
		if d == model.Egress {
			subject, peer = src, dst
		}
		if id := pair.Sides[d]; id != verdict.None {
			p := t.Verdicts[id].At(k)
			fmt.Fprintf(&b, "%s: %s because %+v; reference: ", d, p.Decision, t.Reasons[p.Reason])
		} else {
			fmt.Fprintf(&b, "%s: not judged (%s); reference: ", d, pair.Bypass)
		}
		fmt.Fprintln(&b, reference.Side(t.Snapshot, t.Dialect, d, subject.ref, peer.ref, k))
	}
	describe(&b, t.Snapshot)
	return fmt.Errorf("%s", b.String())
}

// describe writes the cluster in short.
func describe(b *strings.Builder, s *model.Snapshot) {
	for _, n := range s.Namespaces {
		fmt.Fprintf(b, "namespace %s %v %s\n", n.Name, n.Labels, n.Broken)
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(b, "node %s %v %v\n", n.Name, n.Labels, n.Addrs)
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		fmt.Fprintf(b, "endpoint %s kind %d %v %v on %q ports %v %s\n", e, e.Kind, e.Labels, e.Addrs, e.Node, e.Ports, e.Broken)
	}
	for _, n := range s.NetworkSets {
		fmt.Fprintf(b, "network set %s/%s %v %s\n", n.Namespace, n.Name, n.Labels, n.Nets)
	}
	for _, t := range s.Tiers {
		if len(t.Policies) == 0 {
			continue
		}
		fmt.Fprintf(b, "tier %s continue=%v union=%v ports=%v\n", t.Name, t.Continue, t.Union, t.Ports)
		for i := range t.Policies {
			p := &t.Policies[i]
			fmt.Fprintf(b, "  %s order %g staged=%v %s subject %v\n", p.Ref(), p.Order, p.Staged, p.Broken, p.Subject)
			for _, d := range model.Directions {
				if !p.Applies[d] {
					continue
				}
				fmt.Fprintf(b, "    %s\n", d)
				for _, r := range p.Rules[d] {
					fmt.Fprintf(b, "      %s", r.Action)
					for _, peer := range r.Peers {
						fmt.Fprintf(b, " [%v]", peer.Terms)
					}
					fmt.Fprintf(b, " anyPeer=%v anyPort=%v", r.AnyPeer, r.AnyPort)
					for _, m := range r.Ports {
						fmt.Fprintf(b, " %s%s%v", m.Name, m.Traffic, m.Protos)
					}
					for _, m := range r.NotPorts {
						fmt.Fprintf(b, " not %s%s%v", m.Name, m.Traffic, m.Protos)
					}
					fmt.Fprintln(b)
				}
			}
		}
	}
}

// coin draws the choices of a cluster bit by bit. rapid's own ranges prefer small
// numbers so much that most clusters would be bare.
func coin(t *rapid.T) clustergen.Coin {
	return func(what string) bool { return rapid.Bool().Draw(t, what) }
}

// againstReference is the property: on any cluster, under any dialect, the
// table says what the literal reading says.
func againstReference(t *rapid.T) {
	s, d := clustergen.Random(coin(t)), clustergen.Dialect(coin(t))
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "traffic"), 0))
	table := compile.Compile(s, d)
	if err := table.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := compare(table, rnd, 40); err != nil {
		t.Fatal(err)
	}
	// Large clusters share backgrounds between rows; make this small one do it.
	shared := compile.CompileSharing(s, d, rapid.IntRange(0, 2).Draw(t, "above"), rapid.IntRange(1, 8).Draw(t, "patterns"))
	if err := shared.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := compare(shared, rnd, 20); err != nil {
		t.Fatalf("with shared backgrounds: %v", err)
	}
	if err := compareMatches(table); err != nil {
		t.Fatal(err)
	}
}

func TestAgainstReference(t *testing.T) { rapid.Check(t, againstReference) }

func FuzzAgainstReference(f *testing.F) {
	// A cluster takes some thousand choices of eight bytes each.
	rnd := rand.NewChaCha8([32]byte{1})
	for range 8 {
		seed := make([]byte, 1<<16)
		_, _ = rnd.Read(seed)
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(againstReference))
}

// compareMatches holds what the table says about the parts of a verdict, from
// which it is explained, against the reference: which policies select an
// endpoint, and which peers of a rule match an end.
func compareMatches(t *verdict.Table) error {
	for ti := range t.Snapshot.Tiers {
		for pi := range t.Snapshot.Tiers[ti].Policies {
			ref := verdict.PolicyRef{Tier: int32(ti), Policy: int32(pi)}
			for _, d := range model.Directions {
				if err := compareSubjects(t, ref, d); err != nil {
					return err
				}
				for ri := range t.Policy(ref).Rules[d] {
					if err := comparePeers(t, verdict.RuleRef{PolicyRef: ref, Direction: d, Rule: int32(ri)}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func compareSubjects(t *verdict.Table, ref verdict.PolicyRef, d model.Direction) error {
	for i := range t.Snapshot.Endpoints {
		got := verdict.No
		if id := t.TargetOf[d][i]; id != verdict.None {
			for _, s := range t.Targets[d][id].Policies {
				if s.PolicyRef == ref && s.Maybe {
					got = verdict.Maybe
				} else if s.PolicyRef == ref {
					got = verdict.Yes
				}
			}
		}
		e := reference.End{Kind: reference.Endpoint, Index: i}
		if want := reference.Applies(t.Snapshot, t.Dialect, t.Policy(ref), d, e); int(got) != int(want) {
			var b strings.Builder
			describe(&b, t.Snapshot)
			return fmt.Errorf("%s selects %s for %s: got %d, want %s\n%s", t.Policy(ref).Ref(), &t.Snapshot.Endpoints[i], d, got, want, b.String())
		}
	}
	return nil
}

func comparePeers(t *verdict.Table, ref verdict.RuleRef) error {
	for i := range t.Rule(ref).Peers {
		for _, f := range []netset.Family{netset.V4, netset.V6} {
			for _, e := range ends(t, f) {
				got := t.PeerMatch(ref, i, e.party.Peer)
				want := reference.PeerMatches(t.Snapshot, t.Dialect, &t.Rule(ref).Peers[i], e.ref)
				if int(got) != int(want) {
					var b strings.Builder
					describe(&b, t.Snapshot)
					return fmt.Errorf("peer %d of rule %+v and %s: got %d, want %s\n%s", i, ref, e.name, got, want, b.String())
				}
			}
		}
	}
	return nil
}

// TestSoak compares at least PICKET_SOAK verdicts (20,000 if it is not set)
// and says how many.
func TestSoak(t *testing.T) {
	goal := 20_000
	if v := os.Getenv("PICKET_SOAK"); v != "" {
		var err error
		if goal, err = strconv.Atoi(v); err != nil {
			t.Fatalf("PICKET_SOAK: %v", err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	toss := func(string) bool { return rnd.IntN(2) == 0 }
	n, clusters := 0, 0
	for ; n < goal; clusters++ {
		table := compile.Compile(clustergen.Random(toss), clustergen.Dialect(toss))
		compared, err := compare(table, rnd, 30)
		n += compared
		if err != nil {
			t.Fatalf("cluster %d: %v", clusters, err)
		}
	}
	t.Logf("soak: compared %s verdicts in %d clusters, 0 mismatches", thousands(n), clusters)
	if os.Getenv("PICKET_SOAK") != "" {
		fmt.Printf("soak: compared %s verdicts, 0 mismatches\n", thousands(n))
	}
}

// thousands writes n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
