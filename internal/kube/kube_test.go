package kube_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/source/manifest"
)

// read builds a snapshot from YAML.
func read(t testing.TB, o kube.Options, yaml string) kube.Result {
	t.Helper()
	b := kube.NewBuilder(o)
	if err := manifest.Read(b, []string{"-"}, manifest.Options{Stdin: strings.NewReader(yaml)}); err != nil {
		t.Fatal(err)
	}
	return b.Build()
}

// clean is read for input without errors.
func clean(t testing.TB, yaml string) *model.Snapshot {
	t.Helper()
	r := read(t, kube.Options{}, yaml)
	if len(r.Diagnostics) > 0 || r.Unusable != "" {
		t.Fatalf("unexpected diagnostics %v, unusable %q", r.Diagnostics, r.Unusable)
	}
	return r.Snapshot
}

func lines(l diag.List) string {
	var b strings.Builder
	for _, d := range l {
		fmt.Fprintln(&b, d.String())
	}
	return b.String()
}

// np returns a NetworkPolicy prod/p with the spec given, indented by nothing.
func np(spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: prod}\nspec:\n" + indent(spec)
}

// cnp returns a ClusterNetworkPolicy p with the spec given.
func cnp(spec string) string {
	return "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec:\n" + indent(spec)
}

func indent(s string) string {
	var b strings.Builder
	for l := range strings.Lines(strings.Trim(s, "\n")) {
		b.WriteString("  " + l)
	}
	return b.String() + "\n"
}

// describe writes a policy in one line a rule, so that expectations can be
// read.
func describe(p model.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s subject=%v applies=%v\n", p.Ref(), p.Subject, p.Applies)
	for _, d := range model.Directions {
		for _, r := range p.Rules[d] {
			fmt.Fprintf(&b, "%s %s", d, r.Action)
			if r.AnyPeer {
				b.WriteString(" any-peer")
			}
			for _, peer := range r.Peers {
				fmt.Fprintf(&b, " %v", peer.Terms)
			}
			if r.AnyPort {
				b.WriteString(" any-port")
			}
			for _, m := range r.Ports {
				b.WriteString(" " + m.Text)
			}
			if r.Note != "" {
				b.WriteString(" NOTE " + r.Note)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func policies(s *model.Snapshot) []model.Policy {
	var out []model.Policy
	for _, t := range s.Tiers {
		out = append(out, t.Policies...)
	}
	return out
}

// TestNetworkPolicyMeaning holds what missing, null and empty mean, as the API
// says it.
func TestNetworkPolicyMeaning(t *testing.T) {
	const head = "NetworkPolicy prod/p subject=[all pods in namespace prod] "
	for _, tt := range []struct{ name, spec, want string }{
		{"no spec: default deny ingress", "{}", "applies=[true false]\n"},
		{"null spec fields", "podSelector: null\ningress: null", "applies=[true false]\n"},
		{"missing ingress", "podSelector: {}", "applies=[true false]\n"},
		{"empty ingress", "podSelector: {}\ningress: []", "applies=[true false]\n"},
		{"empty matchLabels", "podSelector: {matchLabels: {}}", "applies=[true false]\n"},
		{"empty egress without types", "podSelector: {}\negress: []", "applies=[true false]\n"},
		{"empty egress with type", "podSelector: {}\negress: []\npolicyTypes: [Egress]", "applies=[false true]\n"},
		{"egress rule without types", "podSelector: {}\negress: [{}]", "applies=[true true]\negress allow any-peer any-port\n"},
		{"empty types are missing types", "podSelector: {}\npolicyTypes: []\negress: [{}]", "applies=[true true]\negress allow any-peer any-port\n"},
		{"rules of a direction not listed", "podSelector: {}\npolicyTypes: [Ingress]\negress: [{}]", "applies=[true false]\n"},
		{"allow all", "podSelector: {}\ningress: [{}]", "applies=[true false]\ningress allow any-peer any-port\n"},
		{"empty from", "podSelector: {}\ningress: [{from: []}]", "applies=[true false]\ningress allow any-peer any-port\n"},
		{"null from and ports", "podSelector: {}\ningress: [{from: null, ports: null}]", "applies=[true false]\ningress allow any-peer any-port\n"},
		{"empty ports", "podSelector: {}\ningress: [{ports: []}]", "applies=[true false]\ningress allow any-peer any-port\n"},
		{
			"one rule a source rule", "podSelector: {}\ningress: [{ports: [{port: 1}]}, {ports: [{port: 2}]}]",
			"applies=[true false]\ningress allow any-peer tcp/1\ningress allow any-peer tcp/2\n",
		},
		{
			"peers: alone and together", `
podSelector: {}
ingress:
- from:
  - podSelector: {}
  - podSelector: {matchLabels: {a: b}}
  - namespaceSelector: {}
  - namespaceSelector: {matchLabels: {c: d}}
    podSelector: {matchExpressions: [{key: e, operator: NotIn, values: [f]}]}`,
			"applies=[true false]\ningress allow [all pods in namespace prod] [pods labelled a=b in namespace prod] [all pods in any namespace] [pods labelled e!=f in namespaces labelled c=d] any-port\n",
		},
		{
			"ipBlock", "podSelector: {}\negress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}}]}]",
			"applies=[true true]\negress allow [addresses in 10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16] any-port\n",
		},
		{
			"ports", "podSelector: {}\ningress: [{ports: [{port: 80}, {port: 53, protocol: UDP}, {port: dns, protocol: UDP}, {protocol: SCTP}, {port: 8000, endPort: 8100}, {}]}]",
			"applies=[true false]\ningress allow any-peer tcp/80 udp/53 udp/dns sctp tcp/8000-8100 tcp\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ps := policies(clean(t, np(tt.spec)))
			if len(ps) != 1 {
				t.Fatalf("%d policies", len(ps))
			}
			if diff := cmp.Diff(head+tt.want, describe(ps[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNetworkPolicyModel(t *testing.T) {
	s := clean(t, np(`
podSelector: {matchLabels: {app: db}}
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
  ports: [{port: web}, {port: 5, endPort: 7, protocol: UDP}]`))
	if diff := cmp.Diff([]string{"Admin false true", "NetworkPolicy true false", "Baseline false true"}, tiers(s)); diff != "" {
		t.Error(diff)
	}
	if !s.Tiers[1].Ports || s.Tiers[0].Ports {
		t.Error("only the NetworkPolicy tier leaves other protocols open")
	}
	p := policies(s)[0]
	if !p.Subject[0].Pods.Equal(selector.FromLabels(map[string]string{"app": "db"})) || p.Subject[0].Namespace != "prod" {
		t.Errorf("subject %+v", p.Subject)
	}
	r := p.Rules[model.Ingress][0]
	term := r.Peers[0].Terms[0]
	if term.Kind != model.NetTerm || !term.PodsOpen || term.Nets.Contains(netip.MustParseAddr("10.1.2.3")) ||
		!term.Nets.Contains(netip.MustParseAddr("10.2.2.3")) {
		t.Errorf("ipBlock %+v", term)
	}
	if m := r.Ports[0]; m.Name != "web" || !cmp.Equal(m.Protos, []netset.Proto{netset.TCP}) {
		t.Errorf("named port %+v", m)
	}
	if m := r.Ports[1]; !m.Traffic.Equal(netset.Ports(netset.UDP, 5, 7)) || m.Name != "" {
		t.Errorf("port range %+v", m)
	}
	want := model.Origin{Position: diag.Position{File: "stdin", Line: 7, Col: 12}, Path: "spec.ingress[0].from[0]"}
	if diff := cmp.Diff(want, r.Peers[0].Origin); diff != "" {
		t.Error(diff)
	}
}

func tiers(s *model.Snapshot) []string {
	var out []string
	for _, t := range s.Tiers {
		out = append(out, fmt.Sprint(t.Name, " ", t.Union, " ", t.Continue))
	}
	return out
}

func TestClusterNetworkPolicyMeaning(t *testing.T) {
	s := clean(t, cnp(`
tier: Baseline
priority: 7
subject: {namespaces: {}}
ingress:
- {name: one, action: Deny, from: [{namespaces: {matchLabels: {a: b}}}]}
- {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {c: d}}}}], protocols: [{destinationNamedPort: web}]}
- {action: Accept, from: [{namespaces: {}}], protocols: null}
egress:
- action: Accept
  to: [{networks: [10.0.0.0/8, "fd00::/8"]}, {nodes: {}}]
  protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 9}}}}]`))
	p := s.Tiers[2].Policies[0]
	if diff := cmp.Diff(`ClusterNetworkPolicy p subject=[all pods in any namespace] applies=[true true]
ingress deny [all pods in namespaces labelled a=b] any-port
ingress pass [pods labelled c=d in any namespace] web
ingress allow [all pods in any namespace] any-port
egress allow [addresses in 10.0.0.0/8] [addresses in fd00::/8] [all nodes] tcp/80 udp/1-9
`, describe(p)); diff != "" {
		t.Error(diff)
	}
	if p.Order != 7 || p.Rules[model.Ingress][0].Name != "one" {
		t.Errorf("order %v, name %q", p.Order, p.Rules[model.Ingress][0].Name)
	}
	if m := p.Rules[model.Ingress][1].Ports[0]; m.Name != "web" || m.Protos != nil {
		t.Errorf("named port %+v", m)
	}
	if term := p.Rules[model.Egress][0].Peers[0].Terms[0]; term.PodsOpen {
		t.Error("networks match pods by the API's own words")
	}
	s = clean(t, cnp("tier: Admin\npriority: 0\nsubject: {namespaces: {}}\negress: [{action: Accept, to: [{domainNames: ['*.example.com']}]}]"))
	p = s.Tiers[0].Policies[0]
	if diff := cmp.Diff("ClusterNetworkPolicy p subject=[all pods in any namespace] applies=[false true]\negress allow [hosts named [*.example.com]] any-port\n", describe(p)); diff != "" {
		t.Error(diff)
	}
}

func TestPolicyOrder(t *testing.T) {
	var docs []string
	for _, p := range []struct {
		name string
		prio int
	}{{"b", 5}, {"a", 5}, {"z", 1}} {
		docs = append(docs, strings.Replace(cnp(fmt.Sprintf("tier: Admin\npriority: %d\nsubject: {namespaces: {}}", p.prio)), "name: p", "name: "+p.name, 1))
	}
	for _, ns := range []string{"ns2", "ns1"} {
		docs = append(docs, strings.Replace(np("{}"), "namespace: prod", "namespace: "+ns, 1))
	}
	var got []string
	for _, p := range policies(clean(t, strings.Join(docs, "---\n"))) {
		got = append(got, p.String())
	}
	if diff := cmp.Diff([]string{"z", "a", "b", "ns1/p", "ns2/p"}, got); diff != "" {
		t.Error(diff)
	}
}
