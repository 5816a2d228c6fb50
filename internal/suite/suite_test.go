package suite

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/term"
	"picket/internal/verdict"
)

func podsLabelled(ns, app string) []model.Term {
	return []model.Term{{Kind: model.PodTerm, Namespace: ns, Pods: selector.FromLabels(map[string]string{"app": app})}}
}

func tcp(n uint16) []model.PortMatch {
	return []model.PortMatch{{Traffic: netset.Ports(netset.TCP, n, n), Text: fmt.Sprintf("tcp/%d", n)}}
}

// cluster has pods dev/dev1, dev/dev2, prod/api, prod/db, prod/host (on the
// host network of node n1) and prod/late (on n1). Pod db accepts tcp/5432 from
// api only, and late accepts nothing.
func cluster() *model.Snapshot {
	pod := func(ns, name, app, addr string) model.Endpoint {
		return model.Endpoint{
			Namespace: ns, Name: name, Labels: map[string]string{"app": app},
			Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Ports: []model.Port{{Name: "sql", Proto: netset.TCP, Number: 5432}},
		}
	}
	host := pod("prod", "host", "host", "192.168.0.1")
	host.Kind, host.Node = model.HostPod, "n1"
	late := pod("prod", "late", "late", "10.244.1.3")
	late.Node = "n1"
	return &model.Snapshot{
		Namespaces: []model.Namespace{
			{Name: "dev", Labels: map[string]string{"stage": "dev"}},
			{Name: "prod", Labels: map[string]string{"stage": "prod"}},
		},
		Nodes: []model.Node{{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}},
		Endpoints: []model.Endpoint{
			pod("dev", "dev1", "dev", "10.244.0.1"), pod("dev", "dev2", "dev", "10.244.0.2"),
			pod("prod", "api", "api", "10.244.1.1"), pod("prod", "db", "db", "10.244.1.2"),
			host, late,
		},
		Services: []model.Service{{
			Namespace: "prod", Name: "sql", Selector: selector.FromLabels(map[string]string{"app": "db"}),
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
			Ports:      []model.ServicePort{{Proto: netset.TCP, Port: 80, TargetName: "sql"}, {Proto: netset.TCP, Port: 81, TargetPort: 9}},
		}},
		Tiers: []model.Tier{{
			Name: "NetworkPolicy", Union: true, Ports: true,
			Policies: []model.Policy{
				{
					Kind: "NetworkPolicy", Namespace: "prod", Name: "db", Subject: podsLabelled("prod", "db"), Applies: [2]bool{true, false},
					Rules: [2][]model.Rule{{{
						Action: model.Allow, Ports: tcp(5432), Peers: []model.Peer{{Terms: podsLabelled("prod", "api")}},
						Origin: model.Origin{Position: diag.Position{File: "db.yaml", Line: 12}, Path: "spec.ingress[0]"},
					}}},
					Origin: model.Origin{Position: diag.Position{File: "db.yaml", Line: 1}},
				},
				{
					Kind: "NetworkPolicy", Namespace: "prod", Name: "late", Subject: podsLabelled("prod", "late"), Applies: [2]bool{true, false},
					Origin: model.Origin{Position: diag.Position{File: "late.yaml", Line: 3}},
				},
			},
		}},
	}
}

func header(tests string) string {
	return "apiVersion: picket/v1\nkind: Suite\ntests:\n" + tests
}

func runSuite(t *testing.T, tests string, o Options) *Report {
	t.Helper()
	ts, diags := Parse("s.yaml", []byte(header(tests)))
	if diags != nil {
		t.Fatalf("the suite of the test is wrong: %v", diags)
	}
	return Run(compile.Compile(cluster(), model.Dialects[0]), ts, o)
}

func TestAssertions(t *testing.T) {
	for _, c := range []struct {
		name, test  string
		want        string // Message; "" means passed
		connections int
	}{
		{"one pair", "{from: prod/api, to: prod/db, port: tcp/5432, expect: allow}", "", 1},
		{"one pair denied", "{from: dev/dev1, to: prod/db, port: tcp/5432, expect: deny}", "", 1},
		{"wrong", "{from: dev/dev1, to: prod/db, port: tcp/5432, expect: allow}", "want allow, got deny: dev/dev1 → prod/db tcp/5432", 1},
		{"namespace", "{from: {namespace: dev}, to: prod/db, ports: [tcp/5432, icmp], expect: deny}", "", 4},
		{"namespace wrong", "{from: {namespace: dev}, to: prod/db, port: 80, expect: allow}", "want allow, got deny: dev/dev1 → prod/db tcp/80 and 1 more like it", 2},
		{"namespace labels", "{from: {namespaceSelector: {matchLabels: {stage: dev}}}, to: prod/db, port: 80, expect: deny}", "", 2},
		{"pods of all namespaces", "{from: {namespaceSelector: {}, podSelector: {matchLabels: {app: dev}}}, to: prod/db, port: 80, expect: deny}", "", 2},
		{"expressions", "{from: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [api, db]}]}}, to: prod/db, port: 5432, expect: deny}", "", 4},
		{"list", "{from: [dev/dev1, dev/dev1, {namespace: dev}], to: prod/db, port: 80, expect: deny}", "", 2},
		{"not to themselves", "{from: {namespace: dev}, to: {namespace: dev}, ports: all, expect: allow}", "", 2},
		{"all means all", "{from: prod/api, to: prod/db, ports: all, expect: allow}", "want allow, got deny: prod/api → prod/db ", 1},
		{"range", "{from: prod/api, to: prod/db, ports: tcp/5432-5433, expect: allow}", "want allow, got deny: prod/api → prod/db tcp/5433", 1},
		{"all of a protocol", "{from: prod/api, to: prod/db, ports: [udp, sctp], expect: deny}", "", 2},
		{"external", "{from: external, to: prod/db, ports: all, expect: deny}", "", 1},
		{"address", "{from: 198.51.100.7, to: prod/db, ports: all, expect: deny}", "", 1},
		{"address of a pod", "{from: ip:10.244.1.1, to: prod/db, port: 5432, expect: allow}", "", 1},
		{"block", "{from: 198.51.100.0/24, to: prod/db, ports: all, expect: deny}", "", 1},
		{"block of pods", "{from: 10.244.0.0/24, to: prod/db, ports: all, expect: deny}", "", 3}, // two pods, and others that may be in it
		{"service", "{from: prod/api, to: prod/sql, port: 80, expect: allow}", "", 1},
		{"service by address", "{from: dev/dev1, to: 10.96.0.10, port: 80, expect: deny}", "", 1},
		{"service all", "{from: prod/api, to: prod/sql, ports: all, expect: allow}", "want allow, got deny: prod/api → prod/db (service prod/sql) tcp/9", 1},
		{"service without port", "{from: prod/api, to: prod/sql, port: 5432, expect: allow}", "to: service prod/sql leads nowhere at 5432", 0},
		{"nobody", "{from: {namespace: qa}, to: prod/db, port: 80, expect: deny}", "from: all pods in namespace qa: selects nobody; correct it, or set allowEmpty", 0},
		{"nobody allowed", "{from: {namespace: qa}, to: prod/db, port: 80, expect: deny, allowEmpty: true}", "", 0},
		{"unknown pod", "{from: dev/dev3, to: prod/db, port: 80, expect: deny, allowEmpty: true}", `from: no pod, workload or service "dev/dev3" in the input; did you mean "dev/dev1"?`, 0},
		{"only itself", "{from: prod/db, to: prod/db, port: 80, expect: allow}", "there is no connection to check: from and to are the same pod, or have no addresses of one family", 0},
		{"other family", "{from: 2001:db8::1, to: prod/db, port: 80, expect: allow}", "there is no connection to check: from and to are the same pod, or have no addresses of one family", 0},
		{"a node reaches its pods", "{from: node/n1, to: prod/late, ports: all, expect: allow}", "", 1},
		{"and no others", "{from: node/n1, to: [prod/db, prod/late], port: 80, expect: deny}", "want deny, got allow: node/n1 → prod/late tcp/80", 2},
		{"host network pod is its node", "{from: prod/host, to: prod/late, port: 80, expect: allow}", "", 1},
		{"undefined", "{from: dev/dev1, to: prod/db, port: icmp, expect: undefined}", "want undefined, got deny: dev/dev1 → prod/db icmp", 1},
	} {
		r := runSuite(t, "- "+c.test+"\n", Options{})
		res := r.Tests[0]
		got := res.Message()
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) || res.Connections != c.connections {
			t.Errorf("%s: got %q after %d connections, want %q after %d", c.name, got, res.Connections, c.want, c.connections)
		}
		if res.Passed != (c.want == "") || r.Passed+r.Failed != 1 || res.Passed != (r.Passed == 1) {
			t.Errorf("%s: passed %v, counts %d and %d", c.name, res.Passed, r.Passed, r.Failed)
		}
	}
}

func TestFailureNamesTheRules(t *testing.T) {
	r := runSuite(t, "- {from: prod/api, to: [prod/db, prod/late], port: 5432, expect: deny}\n- {from: dev/dev1, to: prod/late, port: 1, expect: allow}\n", Options{})
	want := []Failure{{
		From: "prod/api", To: "prod/db", Port: "5432", Traffic: "tcp/5432", Got: verdict.Allow, Pairs: 1,
		Egress:  "open: no policy selects it for egress",
		Ingress: "allowed by NetworkPolicy prod/db spec.ingress[0] (db.yaml:12)",
	}}
	if diff := cmp.Diff(want, r.Tests[0].Failures); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	want = []Failure{{
		From: "dev/dev1", To: "prod/late", Port: "1", Traffic: "tcp/1", Got: verdict.Deny, Pairs: 1,
		Egress:  "open: no policy selects it for egress",
		Ingress: "denied: NetworkPolicy prod/late (late.yaml:3) isolates it for ingress and has no rules",
	}}
	if diff := cmp.Diff(want, r.Tests[1].Failures); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCoverage(t *testing.T) {
	// The groups are dev (2 pods), api, db, late, host, and the outside: api is
	// named by a rule, db and late are selected, host has its node's address.
	r := runSuite(t, "- {from: {namespace: dev}, to: [prod/db, prod/late], port: 80, expect: deny}\n- {from: external, to: {namespaceSelector: {}}, port: icmp, expect: allow}\n", Options{Coverage: true})
	c := r.Coverage
	// 5 groups of pods, 1 outside: 6*6 pairs without outside to outside and
	// the four single pods to themselves.
	if c.Pairs != 31 || c.Covered != 2+5 {
		t.Errorf("%d of %d pairs covered, want 7 of 31", c.Covered, c.Pairs)
	}
	if c.Percent != 22.5 {
		t.Errorf("%v percent, want 22.5", c.Percent)
	}
	n := 0
	for _, u := range c.Uncovered {
		n += len(u.From) * len(u.To)
	}
	if n != c.Pairs-c.Covered {
		t.Errorf("%d pairs are listed as uncovered, want %d", n, c.Pairs-c.Covered)
	}
	want := Uncovered{From: []string{"dev/dev1 (+1)"}, To: []string{"dev/dev1 (+1)", "prod/api", "prod/host", "external"}}
	if diff := cmp.Diff(want, c.Uncovered[0]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if r := runSuite(t, "- {from: external, to: prod/db, port: 80, expect: deny}\n", Options{}); r.Coverage != nil {
		t.Error("coverage without asking for it")
	}
}

func TestText(t *testing.T) {
	r := runSuite(t, "- {name: good, from: prod/api, to: prod/db, port: 5432, expect: allow}\n- {name: bad, from: {namespace: dev}, to: prod/db, ports: [5432], expect: allow}\n- {name: empty, from: {namespace: qa}, to: prod/db, port: 1, expect: deny}\n", Options{})
	var b bytes.Buffer
	if err := r.WriteText(term.Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	want := `ok    good
FAIL  bad  s.yaml:5
      want allow, got deny: dev/dev1 → prod/db tcp/5432 and 1 more like it
        egress of the source: open: no policy selects it for egress
        ingress of the destination: denied: NetworkPolicy prod/db (db.yaml:1) isolates it for ingress and none of its rules matches
FAIL  empty  s.yaml:6
      from: all pods in namespace qa: selects nobody; correct it, or set allowEmpty

1 passed, 2 failed
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestJUnit(t *testing.T) {
	r := runSuite(t, "- {name: good, from: prod/api, to: prod/db, port: 5432, expect: allow}\n- {name: \"<bad> & \\x01\", from: {namespace: dev}, to: prod/db, ports: [5432], expect: allow}\n", Options{})
	var b bytes.Buffer
	if err := r.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if got.Tests != 2 || got.Failures != 1 || len(got.Suites) != 1 || len(got.Suites[0].Cases) != 2 {
		t.Fatalf("got %+v", got)
	}
	good, bad := got.Suites[0].Cases[0], got.Suites[0].Cases[1]
	if good.Name != "good" || good.Failure != nil || good.File != "s.yaml" || good.Line != 4 {
		t.Errorf("got %+v", good)
	}
	if !strings.HasPrefix(bad.Name, "<bad> & ") || bad.Failure == nil || !strings.Contains(bad.Failure.Text, "ingress of the destination: denied") ||
		!strings.HasPrefix(bad.Failure.Message, "want allow, got deny: dev/dev1 → prod/db tcp/5432") {
		t.Errorf("got %+v", bad)
	}
}

func TestJSON(t *testing.T) {
	r := runSuite(t, "- {from: dev/dev1, to: prod/db, port: 1, expect: allow}\n", Options{Coverage: true})
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	test := got["tests"].([]any)[0].(map[string]any)
	fail := test["failures"].([]any)[0].(map[string]any)
	if got["apiVersion"] != "picket/v1" || got["kind"] != "SuiteReport" || test["expect"] != "allow" || fail["got"] != "deny" || test["name"] != "dev/dev1 reaches prod/db at 1" {
		t.Errorf("got %s", b.String())
	}
}

// TestGroupsNotPods holds the cost: a thousand pods of one kind are one look-up.
func TestGroupsNotPods(t *testing.T) {
	s := cluster()
	var many []model.Endpoint
	for i := range 1000 {
		e := s.Endpoints[0]
		e.Name = fmt.Sprintf("a%04d", i)
		e.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 245, byte(i >> 8), byte(i)})}
		many = append(many, e)
	}
	s.Endpoints = append(many, s.Endpoints...)
	tab := compile.Compile(s, model.Dialects[0])
	ts, _ := Parse("s.yaml", []byte(header("- {from: {namespace: dev}, to: {namespace: dev}, ports: all, expect: deny}\n")))
	r := Run(tab, ts, Options{})
	f := r.Tests[0].Failures
	if r.Tests[0].Connections != 1002*1001 || len(f) != 1 || f[0].Pairs != 1002*1001 {
		t.Errorf("checked %d, failures %+v", r.Tests[0].Connections, f)
	}
	if n := testing.AllocsPerRun(5, func() { Run(tab, ts, Options{}) }); n > 3000 {
		t.Errorf("%v allocations for one pair of groups", n)
	}
}

func BenchmarkRun(b *testing.B) {
	for _, pods := range []int{1000, 10000} {
		s := clustergen.Sized(clustergen.Config{Pods: pods, Namespaces: pods / 20, Policies: pods / 4})
		tab := compile.Compile(s, model.Dialects[0])
		ts, _ := Parse("s.yaml", []byte(header("- {from: {namespaceSelector: {}}, to: {namespaceSelector: {}}, ports: [tcp/80, icmp], expect: allow}\n")))
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := Run(tab, ts, Options{Coverage: true}); r.Tests[0].Connections == 0 {
					b.Fatal("nothing was checked")
				}
			}
			b.ReportMetric(float64(len(tab.Groups(false))), "groups")
		})
	}
}
