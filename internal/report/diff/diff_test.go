package diff

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/clustergen/small"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// sentence is what a test expects of a flow.
type sentence struct{ From, To, Traffic string }

func sentences(flows []Flow) []sentence {
	var out []sentence
	for _, f := range flows {
		out = append(out, sentence{f.From.Text, f.To.Text, f.Traffic})
	}
	return out
}

// TestTutorialSteps follows the tutorial: what each step opens and closes.
func TestTutorialSteps(t *testing.T) {
	for _, c := range []struct {
		from, to     int
		lost, gained []sentence
	}{
		{2, 3, []sentence{
			{"dev (2 pods), prod (2 pods), qa (2 pods)", "all 7 pods, external", "all"},
			{"kube-system/coredns, external", "dev (2 pods), prod (2 pods), qa (2 pods)", "all"},
		}, nil},
		{3, 4, nil, []sentence{{"prod (2 pods)", "prod (2 pods)", "all"}}},
		{4, 5, nil, []sentence{{"dev (2 pods)", "prod (2 pods)", "all"}}},
		{5, 6, nil, []sentence{{"prod (2 pods)", "qa (2 pods)", "tcp/8888"}}},
		{6, 7, nil, []sentence{{"prod (2 pods)", "kube-system/coredns", "tcp/53,9153 udp/53"}}},
		{7, 6, []sentence{{"prod (2 pods)", "kube-system/coredns", "tcp/53,9153 udp/53"}}, nil},
		{6, 6, nil, nil},
	} {
		r, text := compare(t, small.Tutorial(c.from), small.Tutorial(c.to), Options{})
		if d := cmp.Diff(c.lost, sentences(r.Lost)); d != "" {
			t.Errorf("steps %d to %d: lost (-want +got):\n%s", c.from, c.to, d)
		}
		if d := cmp.Diff(c.gained, sentences(r.Gained)); d != "" {
			t.Errorf("steps %d to %d: gained (-want +got):\n%s", c.from, c.to, d)
		}
		if r.Empty() != (c.lost == nil && c.gained == nil) {
			t.Errorf("steps %d to %d: Empty is %v\n%s", c.from, c.to, r.Empty(), text)
		}
	}
}

func TestLifelinesComeFirst(t *testing.T) {
	r, text := compare(t, small.Tutorial(2), small.Tutorial(3), Options{})
	has(t, text, "Lifelines lost\n  DNS (pods of kube-system) lost for dev (2 pods), prod (2 pods), qa (2 pods): tcp/53 udp/53\n      egress denied: NetworkPolicy dev/deny-all (world.yaml:")
	if len(r.Lifelines) != 1 || r.Lifelines[0].Kind != verdict.LifelineDNS || r.Lifelines[0].For.Pods != 6 {
		t.Errorf("lifelines %+v", r.Lifelines)
	}
	_, text = compare(t, small.Tutorial(6), small.Tutorial(7), Options{})
	has(t, text, "Lifelines gained\n  DNS (pods of kube-system) works again for prod (2 pods): tcp/53 udp/53",
		"egress is now allowed by NetworkPolicy prod/allow-coredns spec.egress[0] (world.yaml:", "added NetworkPolicy prod/allow-coredns")
}

func TestReasonsNameTheRuleOnBothSides(t *testing.T) {
	r, _ := compare(t, small.Tutorial(4), small.Tutorial(5), Options{})
	if len(r.Gained) != 1 || len(r.Gained[0].Why) != 2 {
		t.Fatalf("gained %+v", r.Gained)
	}
	has(t, r.Gained[0].Why[0], "egress is now allowed by NetworkPolicy dev/allow-prod spec.egress[0] (world.yaml:21)")
	has(t, r.Gained[0].Why[1], "ingress is now allowed by NetworkPolicy prod/allow-dev spec.ingress[0] (world.yaml:19)")
}

func TestOptionsNarrow(t *testing.T) {
	port, err := verdict.ParsePort("tcp/53")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := compare(t, small.Tutorial(6), small.Tutorial(7), Options{Ports: []verdict.Port{port}})
	if d := cmp.Diff([]sentence{{"prod (2 pods)", "kube-system/coredns", "tcp/53"}}, sentences(r.Gained)); d != "" {
		t.Error(d)
	}
	r, text := compare(t, small.Tutorial(4), small.Tutorial(6), Options{Namespaces: []string{"dev"}})
	if d := cmp.Diff([]sentence{{"dev (2 pods)", "prod (2 pods)", "all"}}, sentences(r.Gained)); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestEqualPoliciesWrittenDifferentlyAreNoDifference(t *testing.T) {
	after := small.Tutorial(5)
	after.Policy("prod/again", "ns=prod", "i", []model.Rule{small.Allow("tcp/80", small.Pods("dev", "", ""))}, nil)
	r, text := compare(t, small.Tutorial(5), after, Options{})
	if !r.Empty() {
		t.Errorf("not empty:\n%s", text)
	}
	has(t, text, "no traffic changes, though policies did", "added NetworkPolicy prod/again (world.yaml:")

	moved := small.Tutorial(5)
	for i := range moved.Snap.Tiers[1].Policies {
		moved.Snap.Tiers[1].Policies[i].Origin.Line += 100
	}
	if r, text := compare(t, small.Tutorial(5), moved, Options{}); len(r.Policies) != 0 || text != "no differences\n" {
		t.Errorf("lines moved: %s", text)
	}
}

func TestPodsOfAWorkloadAreMatchedWhateverTheirNames(t *testing.T) {
	make := func(names []string, policy bool) *small.World {
		w := &small.World{}
		w.Namespace("shop", "")
		for i, n := range names {
			e := w.Pod("shop/"+n, "app=web", "10.0.0."+string(rune('1'+i)))
			e.Owner = model.Owner{Kind: "Deployment", Name: "web"}
		}
		w.Pod("shop/db", "app=db", "10.0.0.9")
		if policy {
			w.Policy("shop/db", "app=db", "i", nil, nil)
		}
		return w
	}
	r, text := compare(t, make([]string{"web-a", "web-b"}, false), make([]string{"web-c", "web-d", "web-e"}, true), Options{})
	if len(r.Added)+len(r.Removed) != 0 {
		t.Errorf("added %v, removed %v", r.Added, r.Removed)
	}
	if d := cmp.Diff([]sentence{{"shop/web (3 pods), external", "shop/db", "all"}}, sentences(r.Lost)); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
	r, text = compare(t, make([]string{"a"}, true), make([]string{"b", "c"}, true), Options{})
	if !r.Empty() {
		t.Errorf("a rollout is a difference:\n%s", text)
	}
}

func TestAddedAndRemovedEndpointsAreToldApart(t *testing.T) {
	after := small.Tutorial(5)
	after.Pod("dev/dev3", "ns=dev", "10.1.0.3")
	after.Pod("kube-system/metrics", "k8s-app=metrics", "10.4.0.2")
	r, text := compare(t, small.Tutorial(5), after, Options{})
	if len(r.Gained)+len(r.Lost) != 0 || r.Empty() {
		t.Errorf("flows of new pods among those of old ones:\n%s", text)
	}
	has(t, text, "added dev/dev3: reaches 2 and is reached by 0 of 8 pods; not external",
		"added kube-system/metrics: reaches 1 and is reached by 1 of 8 pods; external both ways",
		"DNS (pods of kube-system) cut from the start for new dev/dev3")
	_, text = compare(t, after, small.Tutorial(5), Options{})
	has(t, text, "removed dev/dev3: reached 2 and was reached by 0")
}

func TestOutsideBlocksAreCutByBothSides(t *testing.T) {
	make := func(cidrs ...string) *small.World {
		w := &small.World{}
		w.Namespace("a", "")
		w.Pod("a/x", "app=x", "10.0.0.1")
		var rules []model.Rule
		for _, c := range cidrs {
			rules = append(rules, small.Allow("tcp/443", small.Nets(c, true)))
		}
		w.Policy("a/x", "", "e", nil, rules)
		return w
	}
	r, text := compare(t, make("192.0.2.0/24"), make("192.0.2.0/25", "198.51.100.0/24"), Options{})
	if d := cmp.Diff([]sentence{{"a/x", "external 192.0.2.128/25", "tcp/443"}}, sentences(r.Lost)); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
	if d := cmp.Diff([]sentence{{"a/x", "external 198.51.100.0/24", "tcp/443"}}, sentences(r.Gained)); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestUndefinedIsItsOwnSection(t *testing.T) {
	before, err := model.DialectByName("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Build(small.Tutorial(2).Table(t, before.Name), small.Tutorial(3).Table(t, before.Name), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Undefined) == 0 || r.Undefined[0].Was != verdict.Allow || r.Undefined[0].Is != verdict.Undefined {
		t.Fatalf("undefined %+v", r.Undefined)
	}
	for _, f := range r.Lost {
		if f.Traffic != netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP).String() {
			t.Errorf("lost %s, want only protocols with ports", f.Traffic)
		}
	}
	if _, err := Build(small.Tutorial(2).Table(t, "picket"), small.Tutorial(2).Table(t, "calico"), Options{}); err == nil {
		t.Error("two dialects were compared")
	}
}
