package lint

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/golden"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/term"
)

// np is a NetworkPolicy of namespace shop with a spec in flow style.
func np(name, spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: shop}\nspec: " + spec + "\n"
}

// TestSilence lints policies that are right in the cluster of the examples, but
// look like a mistake: the code must not be found.
func TestSilence(t *testing.T) {
	const dnsPeer = `{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}`
	const dnsPorts = `[{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]`
	const edge = `---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: shop, labels: {app: edge}}
spec: {containers: [{name: c, image: i, ports: [{name: https, containerPort: 8443}, {name: hook, containerPort: 9443}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: shop}
spec: {type: LoadBalancer, selector: {app: edge}, ports: [{port: 443, targetPort: https}]}
`
	for _, c := range []struct{ code, why, yaml string }{
		{"NP101", "all of another namespace and all of the own one", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, {podSelector: {}}]}]}`)},
		{"NP101", "not neighbours", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, {ipBlock: {cidr: 198.51.100.0/24}}, {podSelector: {matchLabels: {app: api}}}]}]}`)},
		{"NP102", "all peers on one port", np("p", `{podSelector: {}, ingress: [{ports: [{protocol: TCP, port: 8080}]}]}`)},
		{"NP115", "one policy of the name", np("p", `{podSelector: {}}`)},
		{"NP116", "different ports", np("p", `{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{protocol: TCP, port: 1}]}, {from: [{podSelector: {}}], ports: [{protocol: TCP, port: 2}]}]}`)},
		{"NP117", "the other protocol in another policy", np("a", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: 53}]}]}`) + "---\n" + np("b", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: TCP, port: 53}]}]}`)},
		{"NP117", "a range that holds 53", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: TCP, port: 1, endPort: 1000}]}]}`)},
		{"NP200", "a default-deny before its pods", strings.Replace(np("p", `{podSelector: {}}`), "shop", "later", 1)},
		{"NP203", "a negative selector", np("p", `{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [api]}]}}]}]}`)},
		{"NP204", "some pods have it", np("p", `{podSelector: {}, ingress: [{ports: [{protocol: TCP, port: sql}]}]}`)},
		{"NP206", "the world", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`)},
		{"NP301", "DNS by address block", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.0.0/16}}], ports: `+dnsPorts+`}]}`)},
		{"NP301", "ingress only", np("p", `{podSelector: {}, policyTypes: [Ingress]}`)},
		{"NP303", "an open destination", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}`)},
		{"NP303", "a rule for everybody", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`) + "---\n" + np("q", `{podSelector: {}, policyTypes: [Ingress]}`)},
		{"NP305", "both ports", np("p", `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{protocol: TCP, port: 80}, {protocol: TCP, port: 8080}]}]}`)},
		{"NP305", "another namespace's Service has that port", np("p", `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{protocol: TCP, port: 80}]}]}`)},
		{"NP306", "no token is mounted", np("p", `{podSelector: {}, policyTypes: [Egress]}`)},
		{"NP314", "a default-deny says that it is meant", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: dev}}}]}]}`) + "---\n" + np("deny", `{podSelector: {}}`)},
		{"NP309", "a port that the Service does not expose", np("p", `{podSelector: {matchLabels: {app: edge}}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{protocol: TCP, port: 9443}]}]}`) + edge},
		{"NP309", "a named port that the Service does not expose", np("p", `{podSelector: {matchLabels: {app: edge}}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{protocol: TCP, port: hook}]}]}`) + edge},
		{"NP401", "a name server", strings.Replace(np("p", `{podSelector: {matchLabels: {k8s-app: kube-dns}}, ingress: [{from: [{namespaceSelector: {}}], ports: `+dnsPorts+`}]}`), "shop", "kube-system", 1)},
		{"NP403", "the service itself, on purpose", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 169.254.169.254/32}}]}]}`)},
		{"NP407", "the monitoring system", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], ports: [{protocol: TCP, port: 8080}, {protocol: TCP, port: 5432}]}]}`)},
		{"NP407", "pods that declare nothing", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: dev}}}], ports: [{protocol: TCP, port: 8888}]}]}`)},
		{"NP408", "an outside network", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [`+dnsPeer+`], ports: `+dnsPorts+`}, {to: [{ipBlock: {cidr: 198.51.100.25/32}}], ports: [{protocol: TCP, port: 587}]}]}`)},
		{"NP408", "one outside host of a node's network", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [`+dnsPeer+`], ports: `+dnsPorts+`}, {to: [{ipBlock: {cidr: 192.168.0.0/24}}]}]}`)},
		{"NP410", "namespaces by name", np("p", `{podSelector: {}, ingress: [{from: [`+dnsPeer+`]}]}`)},
		{"HY702", "a controller called ingress", np("allow-from-ingress-nginx", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`)},
		{"HY702", "from a namespace", np("allow-from-dev", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: dev}}}]}]}`)},
		{"HY702", "a deny for named pods", np("deny-api", `{podSelector: {matchLabels: {app: api}}}`)},
		{"HY702", "the ports as said", np("allow-tcp-8080", `{podSelector: {}, ingress: [{ports: [{protocol: TCP, port: 8080}]}]}`)},
	} {
		for _, f := range Run(table(t, kube.Options{}, world(t), c.yaml), Options{Only: []string{c.code}}).Findings {
			t.Errorf("%s, %s: %s", c.code, c.why, f)
		}
	}
}

// TestShadowBehindPass holds that an Admin Deny of everything shadows a Baseline
// rule only if no Pass before it lets traffic through to the Baseline tier.
func TestShadowBehindPass(t *testing.T) {
	cnp := func(name, tier, rules string) string {
		return "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: " + name + "}\n" +
			"spec: {tier: " + tier + ", priority: 5, subject: {namespaces: {}}, ingress: [" + rules + "]}\n"
	}
	const all, dev = `{action: Deny, from: [{namespaces: {}}]}`, `{action: Deny, from: [{namespaces: {matchLabels: {team: dev}}}]}`
	count := func(yaml string) int {
		return len(Run(table(t, kube.Options{}, world(t)+yaml), Options{Only: []string{"CN502"}}).Findings)
	}
	base := cnp("base", "Baseline", dev)
	if n := count(cnp("admin", "Admin", all) + base); n != 1 {
		t.Errorf("a Deny of everything: %d findings, want 1", n)
	}
	if n := count(cnp("admin", "Admin", `{action: Pass, from: [{namespaces: {matchLabels: {team: dev}}}]}, `+all) + base); n != 0 {
		t.Errorf("behind a Pass for dev: %d findings, want none", n)
	}
	if n := count(cnp("admin", "Admin", `{action: Pass, from: [{namespaces: {matchLabels: {team: ops}}}]}, `+all) + base); n != 1 {
		t.Errorf("behind a Pass for others: %d findings, want 1", n)
	}
}

// TestSeverity holds where a finding is less than the catalogue says, or more.
func TestSeverity(t *testing.T) {
	for _, c := range []struct {
		code, yaml string
		want       diag.Severity
		says       string
	}{
		{"NP101", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, {podSelector: {matchLabels: {app: api}}}]}]}`), diag.Info, "OR may well be meant"},
		{"NP117", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: TCP, port: 53}]}]}`), diag.Warning, "TCP only"},
		{"NP408", np("p", `{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: 53}], to: [{podSelector: {}}, {namespaceSelector: {}}]}, {to: [{ipBlock: {cidr: 10.244.0.0/16}}]}]}`), diag.Info, "1 pod in 1 namespace (shop)"},
		{"NP201", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: elsewhere}}}]}]}`), diag.Info, "no namespace elsewhere"},
		{"NP201", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitorin}}}]}]}`), diag.Warning, "did you mean monitoring?"},
		{"NP202", np("p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: devs}}}]}]}`), diag.Warning, "did you mean dev?"},
		{"NP203", np("p", `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {ap: api}}}]}]}`), diag.Warning, "did you mean app?"},
		{"NP204", np("p", `{podSelector: {}, ingress: [{ports: [{protocol: UDP, port: http}]}]}`), diag.Warning, "is tcp on"},
		{"NP402", np("p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}`), diag.Info, "on all ports"},
		{"HY702", np("allow-api", `{podSelector: {}}`), diag.Info, "has no rules and denies everything"},
		{"HY702", np("deny-all", `{podSelector: {}, ingress: [{ports: [{protocol: TCP, port: 8080}]}]}`), diag.Info, "1 allow rule"},
		{"HY702", np("to-dev", `{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: dev}}}]}]}`), diag.Info, "the opposite"},
	} {
		fs := Run(table(t, kube.Options{}, world(t), c.yaml), Options{Only: []string{c.code}}).Findings
		if len(fs) != 1 || fs[0].Severity != c.want || !strings.Contains(fs[0].Message, c.says) {
			t.Errorf("%s: want one %s that says %q, got %v", c.code, c.want, c.says, fs)
		}
	}
}

// TestGood lints a namespace that is done right, with host-network pods, DNS,
// monitoring and both halves of each flow: no warning.
func TestGood(t *testing.T) {
	const yaml = `
apiVersion: v1
kind: Pod
metadata: {name: node-exporter, namespace: monitoring, labels: {app: node-exporter}}
spec: {hostNetwork: true, containers: [{name: c, image: i}]}
---
`
	deny := func(ns string) string {
		return strings.Replace(np("default-deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`), "shop", ns, 1) + "---\n" +
			strings.Replace(np("allow-dns", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]}`), "shop", ns, 1) + "---\n"
	}
	all := yaml + deny("shop") + deny("dev") + deny("monitoring") +
		np("api-to-db", `{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{protocol: TCP, port: 5432}]}]}`) + "---\n" +
		np("db-from-api", `{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{protocol: TCP, port: sql}]}]}`)
	for _, f := range Run(table(t, kube.Options{}, world(t), all), Options{}).Findings {
		if f.Severity != diag.Info {
			t.Errorf("%s", f)
		}
	}
}

func TestOptions(t *testing.T) {
	tab := table(t, kube.Options{}, world(t), np("p", `{podSelector: {matchLabels: {app: nothing}}, ingress: [{}]}`))
	codes := func(o Options) []string {
		var out []string
		for _, f := range Run(tab, o).Findings {
			out = append(out, f.Code+" "+f.namespace)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	for _, c := range []struct {
		name string
		o    Options
		want []string
	}{
		{"code", Options{Only: []string{"np102"}}, []string{"NP102 shop"}},
		{"family", Options{Only: []string{"NP2xx", "NP102"}}, []string{"NP102 shop", "NP200 shop"}},
		{"disable", Options{Only: []string{"NP2", "NP1"}, Disable: []string{"NP2"}}, []string{"NP102 shop", "NP108 shop"}},
		{"namespace", Options{Only: []string{"NP313"}, Namespaces: []string{"dev"}}, []string{"NP313 dev"}},
	} {
		if d := cmp.Diff(c.want, codes(c.o)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// TestNoPods lints policies without a cluster: checks that need pods say that
// they did not run, and nothing dead is found.
func TestNoPods(t *testing.T) {
	r := Run(table(t, kube.Options{}, np("p", `{podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}, {podSelector: {matchLabels: {app: z}}}]}]}`)), Options{})
	if d := cmp.Diff([]string{"NP409 shop/p spec.ingress[0]", "NP101 shop/p spec.ingress[0].from[0]"}, lines(r)); d != "" {
		// Both are on the same line; the order is that of columns.
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if !slices.Contains(r.Checked.Skipped, "NP203") || slices.Contains(r.Checked.Skipped, "NP101") {
		t.Errorf("skipped: %v", r.Checked.Skipped)
	}
}

func TestSuppression(t *testing.T) {
	const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: deny
  namespace: shop
  annotations:
    picket/ignore: NP301 reason=these pods resolve no names; NP102 reason=old; XX999 reason=typo
spec:
  podSelector: {}
  policyTypes: [Egress]
`
	r := Run(table(t, kube.Options{}, world(t), policy), Options{Only: []string{"NP301", "NP102", "LT"}})
	if len(r.Suppressed) != 1 || r.Suppressed[0].Code != "NP301" || r.Suppressed[0].Reason != "these pods resolve no names" {
		t.Errorf("suppressed: %+v", r.Suppressed)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Code+" "+f.Message)
	}
	if d := cmp.Diff([]string{
		"LT001 suppression of NP102 is not needed: the policy has no such finding",
		"LT001 suppression of XX999, which is no code of the catalogue",
	}, got); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	// A check that does not run does not make its suppression useless.
	if fs := Run(table(t, kube.Options{}, world(t), policy), Options{Only: []string{"LT001", "NP301"}}).Findings; len(fs) != 1 {
		t.Errorf("findings: %v", fs)
	}
}

// report is the input of the output tests: a finding with a fix, an accepted
// one, one about a namespace.
func report(t *testing.T) *Report {
	t.Helper()
	return Run(table(t, kube.Options{}, world(t), np("allow-tools", `{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: dev}}}, {podSelector: {matchLabels: {app: tools}}}]}]}`),
		strings.Replace(np("deny", `{podSelector: {}, policyTypes: [Egress]}`), "namespace: shop", `namespace: dev, annotations: {picket/ignore: "NP301 reason=offline"}`, 1)),
		Options{Only: []string{"NP101", "NP203", "NP301", "NP310"}})
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := report(t).WriteText(term.Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	golden.File(t, "testdata/report.txt", b.String())
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := report(t).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden.File(t, "testdata/report.json", b.String())
	b.Reset()
	if err := (&Report{}).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"findings": []`) || !strings.Contains(b.String(), `"suppressed": []`) {
		t.Errorf("an empty report must have empty lists: %s", b.String())
	}
}

// TestSARIF checks what the schema of SARIF 2.1.0 requires, and what code
// scanning needs beyond it.
func TestSARIF(t *testing.T) {
	r := report(t)
	r.root = "/src"
	r.Findings[0].Position.File = "/src/a b/policy.yaml"
	r.Findings = append(r.Findings, r.Findings[0]) // two of one place have different fingerprints
	var b bytes.Buffer
	if err := r.WriteSARIF(&b); err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	dec := json.NewDecoder(&b)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("head: %+v", log)
	}
	run := log.Runs[0]
	if len(run.Tool.Driver.Rules) != len(Catalogue()) {
		t.Errorf("%d rules", len(run.Tool.Driver.Rules))
	}
	for _, rule := range run.Tool.Driver.Rules {
		if rule.ID == "" || rule.ShortDescription.Text == "" || rule.Help.Text == "" || !slices.Contains([]string{"error", "warning", "note"}, rule.Configuration.Level) {
			t.Errorf("rule %+v", rule)
		}
	}
	prints := map[string]bool{}
	accepted := 0
	for _, res := range run.Results {
		if run.Tool.Driver.Rules[res.RuleIndex].ID != res.RuleID || res.Message.Text == "" || len(res.Locations) != 1 || res.Locations[0].Physical.Region.StartLine == 0 {
			t.Errorf("result %+v", res)
		}
		p := res.Fingerprints["picket/v1"]
		if p == "" || prints[p] {
			t.Errorf("fingerprint %q of %s is empty or not unique", p, res.RuleID)
		}
		prints[p] = true
		if len(res.Suppressions) > 0 {
			accepted++
			if res.Suppressions[0] != (sarifSuppression{"inSource", "offline"}) {
				t.Errorf("suppression %+v", res.Suppressions)
			}
		}
	}
	if accepted != 1 {
		t.Errorf("%d accepted results", accepted)
	}
	if uri := run.Results[0].Locations[0].Physical.Artifact.URI; uri != "a%20b/policy.yaml" {
		t.Errorf("uri %q", uri)
	}
}

// TestRandom lints clusters of every feature under every dialect: nothing
// panics, the order of running does not matter, and each message is whole.
func TestRandom(t *testing.T) {
	for seed := range 150 {
		rnd := uint64(seed)*2654435761 + 1
		coin := func(string) bool {
			rnd ^= rnd << 13
			rnd ^= rnd >> 7
			rnd ^= rnd << 17
			return rnd&1 == 1
		}
		s := clustergen.Random(coin)
		for _, d := range model.Dialects {
			tab := compile.Compile(s, d)
			r := Run(tab, Options{})
			if diff := cmp.Diff(lines(r), lines(Run(tab, Options{}))); diff != "" {
				t.Fatalf("two runs differ: %s", diff)
			}
			for _, f := range r.Findings {
				if _, ok := Lookup(f.Code); !ok || f.Message == "" || strings.Contains(f.Message, "%!") {
					t.Fatalf("seed %d: %+v", seed, f)
				}
			}
		}
	}
}

func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name string
		clustergen.Config
	}{
		{"1k-pods-300-policies", clustergen.Config{Pods: 1000, Namespaces: 20, Policies: 300}},
		{"100k-pods-10k-policies", clustergen.Config{Pods: 100000, Namespaces: 1000, Policies: 10000}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tab := compile.Compile(clustergen.Sized(c.Config), model.Dialects[0])
			n := 0
			for b.Loop() {
				n = len(Run(tab, Options{}).Findings)
			}
			b.ReportMetric(float64(n), "findings")
		})
	}
}
