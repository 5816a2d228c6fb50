package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/model"
)

// The spec of np and cnp begins at line 5, column 3.

func TestNetworkPolicyErrors(t *testing.T) {
	rule := func(s string) string { return "podSelector: {}\ningress:\n- " + s }
	for _, tt := range []struct{ name, spec, want string }{
		{"unknown field", rule("from:\n  - podSelector: {}\n  - podSelectr: {}"), `9:7: unknown field "spec.ingress[0].from[1].podSelectr"`},
		{"unknown in selector", "podSelector: {matchLables: {a: b}}", `5:17: unknown field "spec.podSelector.matchLables"`},
		{"namespace in peer", rule("from: [{namespace: dev}]"), `7:13: unknown field "spec.ingress[0].from[0].namespace"`},
		{"empty peer", rule("from: [{}]"), "7:12: NP106 spec.ingress[0].from[0]: Required value: must specify a peer"},
		{"ipBlock and selector", rule("from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]"), "7:12: spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"},
		{"bad CIDR", rule("from: [{ipBlock: {cidr: 10.0.0.300/8}}]"), `7:23: NP111 spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.300/8": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{"address for CIDR", rule("from: [{ipBlock: {cidr: 10.0.0.3}}]"), `7:23: NP111 spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.3": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{"missing CIDR", rule("from: [{ipBlock: {except: []}}]"), "7:13: NP111 spec.ingress[0].from[0].ipBlock.cidr: Required value"},
		{"mapped CIDR", rule("from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]"), `7:23: NP111 spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "::ffff:10.0.0.0/104": must not have an IPv4-mapped IPv6 address`},
		{"except outside", rule("from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]"), "7:50: NP111 spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"},
		{"except equal", rule("from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]"), "7:50: NP111 spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"},
		{"except of the other family", rule("from: [{ipBlock: {cidr: 0.0.0.0/0, except: ['::/1']}}]"), "7:49: NP111 spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"::/1\": must be a strict subset of `cidr`"},
		{"ICMP", rule("ports: [{protocol: ICMP}]"), `7:14: NP112 spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`},
		{"lower case", rule("ports: [{protocol: udp}]"), `7:14: NP113 spec.ingress[0].ports[0].protocol: Unsupported value: "udp": supported values: "SCTP", "TCP", "UDP"`},
		{"port 0", rule("ports: [{port: 0}]"), "7:14: spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"},
		{"port too large", rule("ports: [{port: 65536}]"), "7:14: spec.ingress[0].ports[0].port: Invalid value: 65536: must be between 1 and 65535, inclusive"},
		{"port as text", rule("ports: [{port: '80'}]"), `7:14: spec.ingress[0].ports[0].port: Invalid value: "80": must contain at least one letter (a-z)`},
		{"long port name", rule("ports: [{port: averylongportname}]"), `7:14: spec.ingress[0].ports[0].port: Invalid value: "averylongportname": must be no more than 15 characters`},
		{"endPort before port", rule("ports: [{port: 80, endPort: 79}]"), "7:24: NP110 spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`"},
		{"endPort with a name", rule("ports: [{port: web, endPort: 79}]"), "7:25: NP110 spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric"},
		{"endPort alone", rule("ports: [{endPort: 79}]"), "7:14: NP110 spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified"},
		{"endPort too large", rule("ports: [{port: 1, endPort: 70000}]"), "7:23: NP110 spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive"},
		{"policy type", "policyTypes: [ingress]", `5:17: spec.policyTypes[0]: Unsupported value: "ingress": supported values: "Egress", "Ingress"`},
		{"three policy types", "policyTypes: [Ingress, Egress, Ingress]", "5:3: spec.policyTypes: Invalid value: may not specify more than two policyTypes"},
		{"operator", "podSelector: {matchExpressions: [{key: a, operator: Equals}]}", `5:45: spec.podSelector.matchExpressions[0].operator: Invalid value: "Equals": not a valid selector operator`},
		{"In without values", "podSelector: {matchExpressions: [{key: a, operator: In}]}", "5:36: spec.podSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
		{"Exists with values", "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}", "5:63: spec.podSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"},
		{"label value", "podSelector: {matchLabels: {a: 'b c'}}", `5:31: spec.podSelector.matchLabels[a]: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`},
		{"type, with indices", rule("from: [{podSelector: []}]"), "7:13: spec.ingress[0].from[0].podSelector: want an object, found a list"},
		{"number for a label", "podSelector: {matchLabels: {a: 1}}", "5:31: spec.podSelector.matchLabels[a]: want a string, found the number 1"},
		{"object for a list", "ingress: {}", "5:3: spec.ingress: want a list, found an object"},
		{"fraction", rule("ports: [{port: 1, endPort: 1.5}]"), "7:23: spec.ingress[0].ports[0].endPort: want a whole number of 32 bits, found the number 1.5"},
		{"repeated key", "podSelector: {}\npodSelector: {}", `6: key "podSelector" already set in map`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := read(t, kube.Options{}, np(tt.spec))
			want := "stdin:" + tt.want + " (NetworkPolicy prod/p)\n"
			if diff := cmp.Diff(want, lines(r.Diagnostics)); diff != "" {
				t.Error(diff)
			}
			ps := policies(r.Snapshot)
			if len(ps) != 1 || ps[0].Broken != r.Diagnostics[0].Message || ps[0].Applies != [2]bool{true, true} {
				t.Errorf("a broken policy must stay: %+v", ps)
			}
			if r.Unusable != "" {
				t.Errorf("unusable %q", r.Unusable)
			}
			for _, d := range model.Directions {
				for _, rule := range ps[0].Rules[d] {
					if rule.Note != "" && (rule.AnyPeer || len(rule.Peers) > 0) {
						t.Errorf("a rule in error must match nothing: %+v", rule)
					}
				}
			}
		})
	}
}

// TestBrokenSubject holds how much a broken policy may concern.
func TestBrokenSubject(t *testing.T) {
	for _, tt := range []struct{ yaml, want string }{
		{np("podSelector: {matchLabels: {a: b}}\ningress: [{from: [{}]}]"), "[pods labelled a=b in namespace prod]"},
		{np("podSelector: {matchLabels: {a: b, c: 'd e'}}"), "[all pods in namespace prod]"},
		{np("podSelector: {matchLabels: {a: b}, x: y}"), "[all pods in namespace prod]"},
		{strings.Replace(np("podSelector: {matchLabels: {a: b}}"), "spec:", "spce:", 1), "[all pods in namespace prod]"},
		{cnp("tier: Admin\npriority: 1\nsubject: {}"), "[all pods in any namespace]"},
		{cnp("tier: Admin\npriority: -1\nsubject: {namespaces: {matchLabels: {a: b}}}"), "[all pods in namespaces labelled a=b]"},
		{cnp("tier: Wrong\npriority: 1\nsubject: {namespaces: {matchLabels: {a: b}}}"), "[all pods in namespaces labelled a=b]"},
	} {
		r := read(t, kube.Options{}, tt.yaml)
		ps := policies(r.Snapshot)
		if !r.Diagnostics.HasErrors() || len(ps) != 1 || ps[0].Broken == "" {
			t.Errorf("%s\n%v", tt.yaml, r.Diagnostics)
			continue
		}
		if got := fmt.Sprint(ps[0].Subject); got != tt.want {
			t.Errorf("%s\nsubject %s, want %s", tt.yaml, got, tt.want)
		}
	}
}

func TestClusterNetworkPolicyErrors(t *testing.T) {
	spec := func(s string) string { return "tier: Admin\npriority: 1\nsubject: {namespaces: {}}\n" + s }
	egress := func(s string) string { return spec("egress:\n- {action: Accept, " + s + "}") }
	peers := strings.Repeat("{namespaces: {}}, ", 26)
	for _, tt := range []struct{ name, spec, want string }{
		{"tier", "tier: admin\npriority: 1\nsubject: {namespaces: {}}", `5:3: spec.tier: Unsupported value: "admin": supported values: "Admin", "Baseline"`},
		{"no tier", "priority: 1\nsubject: {namespaces: {}}", "4:1: spec.tier: Required value"},
		{"no priority", "tier: Admin\nsubject: {namespaces: {}}", "4:1: spec.priority: Required value"},
		{"priority too low", "tier: Admin\npriority: -1\nsubject: {namespaces: {}}", "6:3: CN514 spec.priority: Invalid value: -1: must be greater than or equal to 0"},
		{"priority too high", "tier: Admin\npriority: 1001\nsubject: {namespaces: {}}", "6:3: CN514 spec.priority: Invalid value: 1001: must be less than or equal to 1000"},
		{"no subject", "tier: Admin\npriority: 1", "4:1: spec.subject: Required value"},
		{"empty subject", "tier: Admin\npriority: 1\nsubject: {}", "7:3: spec.subject: Invalid value: must have at least 1 properties"},
		{"two subjects", "tier: Admin\npriority: 1\nsubject: {namespaces: {}, pods: {namespaceSelector: {}, podSelector: {}}}", "7:3: spec.subject: Too many: 2: must have at most 1 properties"},
		{"pods without podSelector", "tier: Admin\npriority: 1\nsubject: {pods: {namespaceSelector: {}}}", "7:13: spec.subject.pods.podSelector: Required value"},
		{"no action", spec("egress: [{to: [{namespaces: {}}]}]"), "8:12: spec.egress[0].action: Required value"},
		{"action of ANP", spec("egress: [{action: Allow, to: [{namespaces: {}}]}]"), `8:13: spec.egress[0].action: Unsupported value: "Allow": supported values: "Accept", "Deny", "Pass"`},
		{"no peers", spec("egress: [{action: Deny}]"), "8:12: spec.egress[0].to: Required value"},
		{"empty peers", egress("to: []"), "9:22: spec.egress[0].to: Invalid value: 0: must have at least 1 items"},
		{"26 peers", egress("to: [" + peers + "]"), "9:22: CN514 spec.egress[0].to: Too many: 26: must have at most 25 items"},
		{"empty peer", egress("to: [{}]"), "9:27: spec.egress[0].to[0]: Invalid value: must have at least 1 properties"},
		{"null peer", egress("to: [{namespaces: null}]"), "9:27: spec.egress[0].to[0]: Invalid value: must have at least 1 properties"},
		{"unknown peer", egress("to: [{services: {}}]"), `9:28: unknown field "spec.egress[0].to[0].services"`},
		{"networks on ingress", spec("ingress: [{action: Accept, from: [{networks: [10.0.0.0/8]}]}]"), `8:38: unknown field "spec.ingress[0].from[0].networks"`},
		{"older shape", egress("to: [{namespaces: {namespaceSelector: {}}}]"), `9:41: CN505 unknown field "spec.egress[0].to[0].namespaces.namespaceSelector"`},
		{"CIDR", egress("to: [{networks: [10.0.0.1]}]"), `9:39: NP111 spec.egress[0].to[0].networks[0]: Invalid value: "10.0.0.1": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{"no networks", egress("to: [{networks: []}]"), "9:28: spec.egress[0].to[0].networks: Invalid value: 0: must have at least 1 items"},
		{"same network twice", egress("to: [{networks: [10.0.0.0/8, 10.0.0.0/8]}]"), `9:51: spec.egress[0].to[0].networks[1]: Duplicate value: "10.0.0.0/8"`},
		{"names denied", spec("egress: [{action: Deny, to: [{domainNames: [a.example]}]}]"), "8:33: CN509 spec.egress[0].to[0].domainNames: Forbidden: domainNames is only supported for Accept rules"},
		{"no protocols", egress("to: [{namespaces: {}}], protocols: []"), "9:46: spec.egress[0].protocols: Invalid value: 0: must have at least 1 items"},
		{"empty protocol", egress("to: [{namespaces: {}}], protocols: [{}]"), "9:58: CN510 spec.egress[0].protocols[0]: Invalid value: must have at least 1 properties"},
		{"empty tcp", egress("to: [{namespaces: {}}], protocols: [{tcp: {}}]"), "9:59: CN510 spec.egress[0].protocols[0].tcp: Invalid value: must have at least 1 properties"},
		{"indentation", egress("to: [{namespaces: {}}], protocols: [{tcp: null, destinationPort: {number: 1}}]"), `9:70: CN510 unknown field "spec.egress[0].protocols[0].destinationPort"`},
		{"two protocols", egress("to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 1}}, udp: {destinationPort: {number: 1}}}]"), "9:58: CN510 spec.egress[0].protocols[0]: Too many: 2: must have at most 1 properties"},
		{"port 0", egress("to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]"), "9:83: spec.egress[0].protocols[0].tcp.destinationPort.number: Invalid value: 0: must be between 1 and 65535, inclusive"},
		{"empty range", egress("to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 5, end: 5}}}}]"), "9:83: CN514 spec.egress[0].protocols[0].tcp.destinationPort.range: Invalid value: Start port must be less than End port"},
		{"port name", egress("to: [{namespaces: {}}], protocols: [{destinationNamedPort: '80'}]"), `9:59: spec.egress[0].protocols[0].destinationNamedPort: Invalid value: "80": must contain at least one letter (a-z)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := read(t, kube.Options{}, cnp(tt.spec))
			if diff := cmp.Diff("stdin:"+tt.want+" (ClusterNetworkPolicy p)\n", lines(r.Diagnostics)); diff != "" {
				t.Error(diff)
			}
			if ps := policies(r.Snapshot); len(ps) != 1 || ps[0].Broken == "" || ps[0].Applies != [2]bool{true, true} {
				t.Errorf("a broken policy must stay: %+v", ps)
			}
		})
	}
}

// TestFailsClosed holds what a rule in error becomes: Accept matches nothing,
// Deny and Pass deny everything.
func TestFailsClosed(t *testing.T) {
	r := read(t, kube.Options{}, cnp(`
tier: Admin
priority: 1
subject: {namespaces: {}}
egress:
- {action: Accept, to: [{}]}
- {action: Pass, to: [{services: {}}]}
- {action: Deny, to: [{namespaces: {}}]}`))
	const want = `ClusterNetworkPolicy p subject=[all pods in any namespace] applies=[true true]
egress allow NOTE fails closed: spec.egress[0].to[0]: Invalid value: must have at least 1 properties
egress deny any-peer any-port NOTE fails closed: unknown field "spec.egress[1].to[0].services"
egress deny [all pods in any namespace] any-port
`
	if diff := cmp.Diff(want, describe(policies(r.Snapshot)[0])); diff != "" {
		t.Error(diff)
	}
}

func TestShapeFindings(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"NP103", np("policyTypes: [Ingress]\ningress: [{from: []}]"), "6:14: warning: NP103 from: [] allows every source, inside and outside the cluster"},
		{"NP104", np("policyTypes: [Ingress]\ningress: [{ports: []}]"), "6:14: warning: NP104 ports: [] allows all ports of all protocols"},
		{"NP107", np("policyTypes: [Ingress]\negress: [{}, {}]"), "6:3: warning: NP107 policyTypes lacks Egress: 2 rules here are ignored, and egress stays as open as it was"},
		{"NP108", np("podSelector: {}"), "4:1: info: NP108 policyTypes is missing: the policy isolates its pods for ingress"},
		{"NP108 both", np("egress: [{}]"), "4:1: info: NP108 policyTypes is missing: the policy isolates its pods for ingress and egress"},
		{"NP109", np("policyTypes: [Ingress]\ningress: [{ports: [{port: 53}]}]"), "6:22: info: NP109 port 53 without protocol means TCP only"},
		{"NP111", np("policyTypes: [Ingress]\ningress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]"), "6:32: warning: NP111 10.0.0.1/8 has bits set beyond its length: it means all of 10.0.0.0/8, and new API servers reject it"},
		{"NP115", strings.Replace(np("policyTypes: [Ingress]"), "namespace: prod", "labels: {}", 1), "3:1: info: NP115 metadata.namespace is missing: the policy lands in namespace default"},
		{"CN506", cnp("tier: Admin\npriority: 1\nsubject: {pods: {podSelector: {}}}"), "7:13: warning: CN506 pods without namespaceSelector selects pods in all namespaces"},
		{"no CN506 if it is written", cnp("tier: Admin\npriority: 1\nsubject: {pods: {namespaceSelector: {}, podSelector: {}}}"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := clean(t, tt.yaml)
			got := lines(s.Findings)
			if tt.want == "" {
				if got != "" {
					t.Error(got)
				}
				return
			}
			if p := policies(s)[0]; got != "stdin:"+tt.want+" ("+p.Ref()+")\n" {
				t.Errorf("got %swant %s", got, tt.want)
			}
			if s.Findings[0].Fix == "" {
				t.Error("no fix")
			}
		})
	}
	s := clean(t, np("egress: []"))
	if s.Findings.Count(diag.Warning) != 1 || s.Findings[1].Code != "NP105" {
		t.Errorf("NP105: %v", s.Findings)
	}
}

// TestDuplicateName holds that the later document wins, and is reported.
func TestDuplicateName(t *testing.T) {
	s := clean(t, np("policyTypes: [Ingress]")+"---\n"+np("policyTypes: [Egress]"))
	ps := policies(s)
	if len(ps) != 1 || ps[0].Applies != [2]bool{false, true} {
		t.Errorf("%+v", ps)
	}
	const want = "stdin:9:12: warning: NP114 the name is taken already: this policy replaces the one of stdin:1:1, which has no effect (NetworkPolicy prod/p)\n"
	if diff := cmp.Diff(want, lines(s.Findings)); diff != "" {
		t.Error(diff)
	}
}

func TestIgnores(t *testing.T) {
	r := read(t, kube.Options{}, `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p
  namespace: prod
  annotations:
    picket/ignore: "NP301 reason=no names are resolved; NP310"
spec:
  # picket: ignore=NP102 reason="open on purpose"
  policyTypes: [Ingress]
  # picket: ignore=NP103
`)
	var got []string
	for _, ig := range policies(r.Snapshot)[0].Ignore {
		got = append(got, fmt.Sprint(ig.Code, " ", ig.Reason, " ", ig.Origin.Position))
	}
	if diff := cmp.Diff([]string{"NP301 no names are resolved stdin:7:5", "NP102 open on purpose stdin:9:3"}, got); diff != "" {
		t.Error(diff)
	}
	const want = `stdin:7:5: warning: KB002 "NP310" does not say which finding to ignore and why (NetworkPolicy prod/p)
stdin:11:3: warning: KB002 "NP103" does not say which finding to ignore and why (NetworkPolicy prod/p)
`
	if diff := cmp.Diff(want, lines(r.Diagnostics)); diff != "" {
		t.Error(diff)
	}
}

// TestNotUnderstood holds that no kind of policy is dropped in silence.
func TestNotUnderstood(t *testing.T) {
	for _, tt := range []struct{ apiVersion, kind string }{
		{"projectcalico.org/v3", "NetworkPolicy"},
		{"crd.projectcalico.org/v1", "GlobalNetworkPolicy"},
		{"projectcalico.org/v3", "Tier"},
		{"projectcalico.org/v3", "NetworkSet"},
		{"projectcalico.org/v3", "GlobalNetworkSet"},
		{"projectcalico.org/v3", "StagedNetworkPolicy"},
		{"projectcalico.org/v3", "StagedKubernetesNetworkPolicy"},
		{"cilium.io/v2", "CiliumNetworkPolicy"},
		{"cilium.io/v2", "CiliumClusterwideNetworkPolicy"},
		{"policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"},
		{"policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"},
		{"k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy"},
		{"crd.antrea.io/v1beta1", "NetworkPolicy"},
		{"example.com/v1", "FancyNetworkPolicyThing"},
	} {
		yaml := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x, namespace: y1}\n", tt.apiVersion, tt.kind)
		r := read(t, kube.Options{}, yaml)
		if len(r.Diagnostics) != 1 {
			t.Errorf("%s %s: %v", tt.apiVersion, tt.kind, r.Diagnostics)
			continue
		}
		d := r.Diagnostics[0]
		if d.Code != "KB001" || d.Severity != diag.Warning || d.Object != tt.kind+" y1/x" || d.Position.Line != 1 || d.Fix == "" {
			t.Errorf("%+v", d)
		}
		if r = read(t, kube.Options{Strict: true}, yaml); r.Diagnostics.Count(diag.Error) != 1 {
			t.Errorf("strict: %v", r.Diagnostics)
		}
	}
	s := clean(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n")
	if diff := cmp.Diff(map[string]int{"ConfigMap.v1": 2, "Tier.projectcalico.org/v3": 1}, s.Ignored); diff != "" {
		t.Error(diff)
	}
}

// A policy of a version that no API server takes is an error, and what it may
// select is undefined, not open.
func TestUnknownVersion(t *testing.T) {
	for _, tt := range []struct{ apiVersion, kind, ns, want string }{
		{"networking.k8s.io/v2", "NetworkPolicy", "y1", "networking.k8s.io/v1"},
		{"extensions/v1beta1", "NetworkPolicy", "y1", "networking.k8s.io/v1"},
		{"policy.networking.k8s.io/v1beta9", "ClusterNetworkPolicy", "", "policy.networking.k8s.io/v1alpha2"},
	} {
		yaml := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x, namespace: %q}\nspec: {podSelector: {matchLabels: {a: b}}}\n", tt.apiVersion, tt.kind, tt.ns)
		r := read(t, kube.Options{}, yaml)
		if len(r.Diagnostics) != 1 || r.Diagnostics[0].Severity != diag.Error || r.Diagnostics[0].Fix != "write apiVersion: "+tt.want {
			t.Errorf("%s: %v", tt.apiVersion, r.Diagnostics)
		}
		var broken []model.Policy
		for _, tier := range r.Snapshot.Tiers {
			broken = append(broken, tier.Policies...)
		}
		if len(broken) != 1 || broken[0].Broken == "" || broken[0].Applies != [2]bool{true, true} || !broken[0].Subject[0].Pods.IsEverything() || broken[0].Subject[0].Namespace != tt.ns {
			t.Errorf("%s: %+v", tt.apiVersion, broken)
		}
	}
}

// Where a key is there twice in a policy, nobody knows which pods it selects:
// all of its namespace is uncertain. Where the key may be of its name, all is.
func TestRepeatedKeyInPolicy(t *testing.T) {
	const head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
	r := read(t, kube.Options{}, head+"metadata: {name: x, namespace: y1}\nspec:\n  podSelector: {matchLabels: {a: b}}\n  podSelector: {matchLabels: {a: c}}\n")
	if r.Unusable != "" || r.Diagnostics.Count(diag.Error) != 1 {
		t.Fatalf("%q %v", r.Unusable, r.Diagnostics)
	}
	if p := r.Snapshot.Tiers[1].Policies[0]; p.Broken == "" || !p.Subject[0].Pods.IsEverything() {
		t.Errorf("%+v", p)
	}
	if r := read(t, kube.Options{}, head+"metadata: {name: x, name: z, namespace: y1}\nspec: {podSelector: {}}\n"); r.Unusable == "" {
		t.Error("a policy whose name is there twice leaves verdicts")
	}
}

// TestUnusable holds when no verdict can be given at all.
func TestUnusable(t *testing.T) {
	for _, tt := range []struct {
		yaml string
		want bool
	}{
		{"metadata: {name: x}", true},
		{"kind: NetworkPolicy", true},
		{"- a\n- b", true},
		{"just text", true},
		{"{", true},
		{strings.Replace(np("{}"), "name: p,", "", 1), true},
		{strings.Replace(np("{}"), "namespace: prod", "namespace: 5", 1), true},
		{np("podSelector: 5"), false},
		{"apiVersion: v1\nkind: Pod\nmetadata: {}", false},
		{"apiVersion: apps/v2\nkind: Deployment\nmetadata: {name: x}", false},
	} {
		r := read(t, kube.Options{}, tt.yaml)
		if !r.Diagnostics.HasErrors() || (r.Unusable != "") != tt.want {
			t.Errorf("%q: unusable %q, diagnostics %v", tt.yaml, r.Unusable, r.Diagnostics)
		}
	}
}
