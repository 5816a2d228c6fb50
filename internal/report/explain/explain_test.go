package explain

import (
	"math/rand/v2"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/clustergen/small"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

func TestAllowedNamesRulePeersAndPlace(t *testing.T) {
	r, text := ask(t, small.Tutorial(5).Table(t, "picket"), "dev/dev1", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Allow || len(r.Cases) != 1 {
		t.Fatalf("decision %v, %d cases", r.Decision(), len(r.Cases))
	}
	has(t, text,
		"ALLOWED  dev/dev1 → prod/prod1  tcp/80",
		"Egress at dev/dev1: allowed by NetworkPolicy dev/allow-prod spec.egress[0] (world.yaml:",
		"Ingress at prod/prod1: allowed by NetworkPolicy prod/allow-dev spec.ingress[0] (world.yaml:",
		"either  all pods in namespaces labelled nsp=dev: 2 pods today, dev/dev1 among them",
		"or      pods labelled ns=dev in namespace prod: none today",
		"NetworkPolicy prod/deny-all (world.yaml:", "has no ingress rules: isolates, and allows NOTHING",
		"To deny it (one of the two sides is enough):",
		"remove or narrow NetworkPolicy prod/allow-dev spec.ingress[0]",
		"then it is denied: tier NetworkPolicy isolates it for ingress",
	)
	in := r.Cases[0].Sides[1]
	if in.Direction != "ingress" || in.Verdict != verdict.Allow {
		t.Errorf("second side is %s %v", in.Direction, in.Verdict)
	}
	for _, p := range in.Tiers[0].Policies {
		if p.Name == "allow-dev" && (p.Rules[0].Role != RoleDecides || !p.Rules[0].Peers[1].Dead || p.Rules[0].Peers[1].Match != "no") {
			t.Errorf("rule of allow-dev: %+v", p.Rules[0])
		}
	}
}

func TestDeniedOnBothSides(t *testing.T) {
	r, text := ask(t, small.Tutorial(3).Table(t, "picket"), "dev/dev1", "dev/dev2", "tcp/80")
	if r.Decision() != verdict.Deny || r.Cases[0].HalfOpen {
		t.Fatalf("decision %v, half open %v", r.Decision(), r.Cases[0].HalfOpen)
	}
	has(t, text,
		"DENIED  dev/dev1 → dev/dev2  tcp/80",
		"denied: NetworkPolicy dev/deny-all (world.yaml:", "isolates it for ingress and has no rules",
		"To allow it (both sides must change):",
		"podSelector:\n          matchLabels:\n            run: dev1",
		"kubernetes.io/metadata.name: dev",
		"policyTypes: [Egress]", "policyTypes: [Ingress]",
		"- protocol: TCP\n            port: 80",
	)
}

func TestHalfOpenAndNearMiss(t *testing.T) {
	w := small.Tutorial(3)
	w.Policy("dev/out", "", "e", nil, []model.Rule{small.Allow("")})
	w.Policy("prod/in", "", "i", []model.Rule{small.Allow("tcp/443", small.Pods("dev", "", ""))}, nil)
	r, text := ask(t, w.Table(t, "picket"), "dev/dev1", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Deny || !r.Cases[0].HalfOpen {
		t.Fatalf("decision %v, half open %v", r.Decision(), r.Cases[0].HalfOpen)
	}
	has(t, text, "half open: egress at dev/dev1 lets it out, but ingress at prod/prod1 does not let it in",
		"add tcp/80 to NetworkPolicy prod/in spec.ingress[0]", "ALL destinations",
		"no rule of its 2 policies matches")
	for _, s := range r.Cases[0].Change.Steps {
		if s.Direction != "ingress" {
			t.Errorf("a step for the side that is open: %+v", s)
		}
	}
}

func TestOpenSidesAndOutside(t *testing.T) {
	table := small.Tutorial(3).Table(t, "picket")
	r, text := ask(t, table, "kube-system/coredns", "8.8.8.8", "udp/53")
	if r.Decision() != verdict.Allow {
		t.Fatal(r.Headline)
	}
	has(t, text, "open: no policy selects it for egress", "not judged: it is outside the cluster",
		"policyTypes: [Egress]")
	r, text = ask(t, table, "external", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Deny {
		t.Fatal(r.Headline)
	}
	has(t, text, `cidr: "0.0.0.0/0"`)
}

func TestBypass(t *testing.T) {
	w := small.Tutorial(3)
	w.Snap.Nodes = []model.Node{{Name: "n1", Addrs: addrs("192.168.0.1")}, {Name: "n2", Addrs: addrs("192.168.0.2")}}
	for i := range w.Snap.Endpoints {
		w.Snap.Endpoints[i].Node = "n1"
	}
	host := w.Pod("prod/exporter", "", "192.168.0.2")
	host.Kind, host.Node = model.HostPod, "n2"
	table := w.Table(t, "picket")
	for _, c := range []struct{ src, dst, want string }{
		{"dev/dev1", "dev/dev1", "ALLOWED  dev/dev1 → dev/dev1  tcp/80\n  allowed: a pod always reaches itself\n"},
		{"node/n1", "dev/dev1", "allowed: a node always reaches the pods that run on it"},
		{"node/n2", "dev/dev1", "DENIED  node/n2 → dev/dev1"},
		{"prod/exporter", "8.8.8.8", "allowed: neither end is a pod that policies can guard"},
		{"dev/dev1", "prod/exporter", "prod/exporter is on the host network of node n2"},
		{"192.168.0.2", "dev/dev1", "192.168.0.2 is an address of node/n2"},
		{"10.2.0.1", "dev/dev1", "10.2.0.1 is the address of pod prod/prod1"},
	} {
		_, text := ask(t, table, c.src, c.dst, "tcp/80")
		has(t, text, c.want)
	}
}

func TestAdminDenyIsNamedAndWhatIsBehindIt(t *testing.T) {
	w := small.Tutorial(5)
	w.Cluster("Admin", "no-dev", 10, "prod", []model.Rule{small.Deny(small.Pods("", "nsp=dev", ""))}, nil)
	r, text := ask(t, w.Table(t, "picket"), "dev/dev1", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Deny {
		t.Fatal(r.Headline)
	}
	has(t, text, "denied by ClusterNetworkPolicy no-dev spec.ingress[0]", "priority 10",
		"tier NetworkPolicy: not reached", "not reached (allow)",
		"change ClusterNetworkPolicy no-dev spec.ingress[0]")
	if n := len(r.Cases[0].Change.Steps); n != 1 {
		t.Errorf("%d steps, want 1: the NetworkPolicy behind it allows: %+v", n, r.Cases[0].Change.Steps)
	}
}

func TestAllowedListsEveryRuleThatAllows(t *testing.T) {
	w := small.Tutorial(5)
	w.Policy("prod/more", "", "i", []model.Rule{small.Allow("tcp/80"), small.Allow("udp/53")}, nil)
	_, text := ask(t, w.Table(t, "picket"), "dev/dev1", "prod/prod1", "tcp/80")
	has(t, text, "remove or narrow all 2 rules that allow it: NetworkPolicy prod/allow-dev spec.ingress[0]",
		"NetworkPolicy prod/more spec.ingress[0]", "matches too")
}

func TestPassGoesOn(t *testing.T) {
	w := small.Tutorial(5)
	pass := small.Deny(small.Pods("", "nsp=dev", ""))
	pass.Action = model.Pass
	w.Cluster("Admin", "pass", 5, "prod", []model.Rule{pass, small.Deny()}, nil)
	r, text := ask(t, w.Table(t, "picket"), "dev/dev1", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Allow {
		t.Fatal(r.Headline)
	}
	has(t, text, "tier Admin: a rule passes it on", "passes (pass)", "not reached (deny)")
}

func TestUndefinedShowsBothReadings(t *testing.T) {
	w := small.Tutorial(4)
	r, text := ask(t, w.Table(t, "kubernetes"), "prod/prod1", "prod/prod2", "icmp")
	if r.Decision() != verdict.Undefined {
		t.Fatal(r.Headline)
	}
	has(t, text, "UNDEFINED", "if policies restrict only TCP, UDP and SCTP:", "allowed by NetworkPolicy prod/allow-within-prod", "read as dialect kubernetes")

	w = small.Tutorial(3)
	w.Policy("prod/net", "", "i", []model.Rule{small.Allow("", small.Nets("10.0.0.0/8", true))}, nil)
	w.Policy("dev/out", "", "e", nil, []model.Rule{small.Allow("")})
	r, text = ask(t, w.Table(t, "kubernetes"), "dev/dev1", "prod/prod1", "tcp/80")
	if r.Decision() != verdict.Undefined {
		t.Fatal(r.Headline)
	}
	readings := r.Cases[0].Sides[1].Readings
	if len(readings) != 2 || readings[0].Verdict != verdict.Allow || readings[1].Verdict != verdict.Deny {
		t.Errorf("readings %+v", readings)
	}
	has(t, text, "whether an ipBlock matches addresses of pods", "name the pods by labels")
}

// TestWalkRepeatsTheTable holds the walk behind "what would change" against
// the table, for each pair of parties of random clusters and some ports; and
// nothing that a report is made of may fail on them. Verdicts that hang on
// something open are left to their readings.
func TestWalkRepeatsTheTable(t *testing.T) {
	seen := map[verdict.ReasonKind]int{}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		coin := func(string) bool { return rnd.IntN(2) == 1 }
		table := compile.Compile(clustergen.Random(coin), clustergen.Dialect(coin))
		b := &builder{t: table}
		for _, f := range table.Families() {
			parties := []verdict.Party{table.External(f)}
			for i := range table.Snapshot.Endpoints {
				if p, ok := table.EndpointParty(i, f); ok {
					parties = append(parties, p)
				}
			}
			for _, src := range parties {
				for _, dst := range parties {
					for _, k := range []netset.Key{netset.KeyOf(netset.TCP, 80), netset.KeyOf(netset.UDP, 53), netset.Echo(f)} {
						c := cell{src: []verdict.Party{src}, dst: []verdict.Party{dst}, key: k, pair: table.Pair(src, dst), families: []netset.Family{f}}
						b.explain(c)
						for _, dir := range model.Directions {
							b.holdWalk(t, seed, b.side(c, dir), seen)
						}
					}
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	for _, k := range []verdict.ReasonKind{verdict.NotSelected, verdict.Unmatched, verdict.ByRule, verdict.Isolated} {
		if seen[k] == 0 {
			t.Errorf("no pair has reason kind %d", k)
		}
	}
}

func (b *builder) holdWalk(t *testing.T, seed uint64, s side, seen map[verdict.ReasonKind]int) {
	t.Helper()
	if s.id == verdict.None || s.piece.Decision == verdict.Undefined {
		return
	}
	want, got := b.t.Reasons[s.piece.Reason], b.walk(s, reading{})
	if got.decision != s.piece.Decision {
		t.Errorf("seed %d: %s %s, peer %s, %s: walk says %+v, table %v %+v", seed, s.dir, b.name(s.target), b.name(s.peer), s.key, got, s.piece.Decision, want)
	}
	if want.Kind == got.kind {
		seen[want.Kind]++
	}
}
