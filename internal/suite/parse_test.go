package suite

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/selector"
	"picket/internal/verdict"
)

func TestParse(t *testing.T) {
	in := `apiVersion: picket/v1
kind: Suite
metadata: {name: shop}
tests:
- name: first
  from: dev/dev1
  to: {namespace: prod, podSelector: {matchLabels: {app: db}}}
  ports: [tcp/80, icmp]
  expect: deny
- from: [external, {namespaceSelector: {}}]
  to: &db {namespace: prod}
  port: 80
  expect: allow
  allowEmpty: true
---
---
apiVersion: picket/v1
kind: Suite
tests: [{from: a/b, to: 10.0.0.0/8, ports: all, expect: undefined}]
`
	ts, diags := Parse("s.yaml", []byte(in))
	if diags != nil {
		t.Fatal(diags)
	}
	if len(ts) != 3 {
		t.Fatalf("%d tests, want 3", len(ts))
	}
	a, b, c := ts[0], ts[1], ts[2]
	if a.Name != "first" || a.Expect != verdict.Deny || a.Position.String() != "s.yaml:5:3" || len(a.Ports) != 2 || a.AllowEmpty {
		t.Errorf("got %+v", a)
	}
	if !a.To[0].Pods.Equal(selector.FromLabels(map[string]string{"app": "db"})) || a.To[0].Namespace != "prod" || a.To[0].Text != "" {
		t.Errorf("got %+v", a.To)
	}
	if b.Name != "external or all pods in any namespace reaches all pods in namespace prod at 80" || !b.AllowEmpty || len(b.From) != 2 {
		t.Errorf("got %+v", b)
	}
	if c.Expect != verdict.Undefined || c.To[0].Text != "10.0.0.0/8" || !c.Ports[0].all || c.Position.Line != 19 {
		t.Errorf("got %+v", c)
	}
}

func TestParseErrors(t *testing.T) {
	const good = "from: a/b, to: c/d, port: 80, expect: allow"
	for _, c := range []struct{ in, want string }{
		{"", "s.yaml: the file holds no suite"},
		{"# nothing\n", "s.yaml: the file holds no suite"},
		{"a: [", "s.yaml:1: not YAML: did not find expected node content"},
		{"\x00", "s.yaml: not YAML: control characters are not allowed"},
		{"[]", `s.yaml:1:1: the document: want a mapping with apiVersion, kind and tests, got a list`},
		{"kind: Suite\ntests: []\n", `s.yaml:1:1: apiVersion is missing: want "picket/v1"`},
		{"apiVersion: v1\nkind: Suite\n", `s.yaml:1:13: apiVersion: want "picket/v1", got "v1"`},
		{"apiVersion: picket/v1\nkind: Pod\n", `s.yaml:2:7: kind: want "Suite", got "Pod"`},
		{"apiVersion: picket/v1\nkind: Suite\n", "s.yaml:1:1: tests is missing: the suite asserts nothing"},
		{"apiVersion: picket/v1\nkind: Suite\ntests: []\n", "s.yaml:3:8: tests is empty: the suite asserts nothing"},
		{"apiVersion: picket/v1\nkind: Suite\ntests: 5\n", `s.yaml:3:8: tests: want a list, got "5"`},
		{"apiVersion: picket/v1\nkind: Suite\nspec: 1\ntests: [{" + good + "}]\n", `s.yaml:3:1: unknown field "spec"`},
		{header("- {" + good + ", expcet: deny}"), `s.yaml:4:49: unknown field "tests[0].expcet"; did you mean "expect"?`},
		{header("- {" + good + ", Name: x}"), `s.yaml:4:49: unknown field "tests[0].Name"; did you mean "name"?`},
		{header("- {" + good + ", to: x/y}"), `s.yaml:4:49: duplicate field "tests[0].to", first on line 4`},
		{header("- 5"), `s.yaml:4:3: tests[0]: want a test, got "5"`},
		{header("- {to: c/d, port: 80, expect: allow}"), "s.yaml:4:3: tests[0].from is missing"},
		{header("- {from: a/b, port: 80, expect: allow}"), "s.yaml:4:3: tests[0].to is missing"},
		{header("- {from: a/b, to: c/d, expect: allow}"), "s.yaml:4:3: tests[0].ports is missing: want ports such as [tcp/80, icmp], or all"},
		{header("- {from: a/b, to: c/d, port: 80}"), "s.yaml:4:3: tests[0].expect is missing: want allow, deny or undefined"},
		{header("- {from: a/b, to: c/d, port: 80, expect: pass}"), `s.yaml:4:42: tests[0].expect: want allow, deny or undefined, got "pass"`},
		{header("- {from: a/b, to: c/d, port: http, expect: allow}"), `s.yaml:4:30: tests[0].port: "http" is no port: want tcp/80, udp/53, tcp/8000-8100, tcp, icmp, 80 or all`},
		{header("- {from: a/b, to: c/d, port: tcp/9-8, expect: allow}"), `s.yaml:4:30: tests[0].port: "tcp/9-8" is no port: want a number from 0 to 65535, or two as in 8000-8100`},
		{header("- {from: a/b, to: c/d, port: tcp/65536, expect: allow}"), `s.yaml:4:30: tests[0].port: "tcp/65536" is no port: want a number from 0 to 65535, or two as in 8000-8100`},
		{header("- {from: a/b, to: c/d, port: icmp/8, expect: allow}"), `s.yaml:4:30: tests[0].port: "icmp/8" is no port: icmp has no ports`},
		{header("- {from: a/b, to: c/d, ports: [], expect: allow}"), "s.yaml:4:31: tests[0].ports is empty: want ports such as tcp/80, or all"},
		{header("- {from: [], to: c/d, port: 80, expect: allow}"), "s.yaml:4:10: tests[0].from is empty: it would assert nothing"},
		{header("- {from: a/b, to: {podSelector: {}}, port: 80, expect: allow}"), "s.yaml:4:19: tests[0].to: want a namespace, or a namespaceSelector ({} means all namespaces)"},
		{header("- {from: a/b, to: {namespace: a, namespaceSelector: {}}, port: 80, expect: allow}"), "s.yaml:4:19: tests[0].to: give either namespace or namespaceSelector"},
		{header("- {from: a/b, to: {namespace: a, podSelectr: {}}, port: 80, expect: allow}"), `s.yaml:4:34: unknown field "tests[0].to.podSelectr"; did you mean "podSelector"?`},
		{header("- {from: a/b, to: {namespace: a, podSelector: {app: x}}, port: 80, expect: allow}"), `s.yaml:4:48: unknown field "tests[0].to.podSelector.app"`},
		{header("- {from: a/b, to: {namespace: a, podSelector: {matchLabels: {app: 1}}}, port: 80, expect: allow}"), `s.yaml:4:67: tests[0].to.podSelector.matchLabels.app: want a text, got "1"; write it in quotes`},
		{header("- {from: a/b, to: {namespace: a, podSelector: {matchExpressions: [{key: a, operator: in}]}}, port: 80, expect: allow}"), `s.yaml:4:86: tests[0].to.podSelector.matchExpressions[0].operator: want In, NotIn, Exists or DoesNotExist, got "in"`},
		{header("- {from: a/b, to: {namespace: a, podSelector: {matchExpressions: [{key: a, operator: In}]}}, port: 80, expect: allow}"), `s.yaml:4:67: tests[0].to.podSelector.matchExpressions[0].values is missing: In and NotIn need values`},
		{header("- {from: a/b, to: {namespace: a, podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}, port: 80, expect: allow}"), `s.yaml:4:67: tests[0].to.podSelector.matchExpressions[0].values: Exists and DoesNotExist take no values`},
		{header("- {" + good + ", ports: [81]}"), "s.yaml:4:49: tests[0]: give either port or ports"},
		{header("- {" + good + ", allowEmpty: maybe}"), `s.yaml:4:61: tests[0].allowEmpty: want true or false, got "maybe"`},
	} {
		_, diags := Parse("s.yaml", []byte(c.in))
		var got []string
		for _, d := range diags {
			got = append(got, d.String())
		}
		if diff := cmp.Diff([]string{c.want}, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", c.in, diff)
		}
	}
}

// TestOneBadTestHidesNoOther wants the good tests of a file with bad ones.
func TestOneBadTestHidesNoOther(t *testing.T) {
	ts, diags := Parse("s.yaml", []byte(header("- {from: a/b}\n- {from: a/b, to: c/d, port: 80, expect: allow}\n- {nonsense: 1}\n")))
	if len(ts) != 1 || ts[0].Position.Line != 5 || len(diags) != 2 {
		t.Errorf("got %+v, %v", ts, diags)
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: picket/v1\nkind: Suite\ntests:\n- &t {from: [" + strings.Repeat("a/b,", 5000) + "], to: c/d, port: 80, expect: allow}\n")
	b.WriteString(strings.Repeat("- *t\n", 5000))
	ts, diags := Parse("s.yaml", []byte(b.String()))
	if len(diags) != 1 || !strings.Contains(diags[0].Message, "too large once its aliases are followed") || len(ts) > 1000 {
		t.Errorf("%d tests, %v", len(ts), diags)
	}
}

// FuzzParse checks that no file makes the parser fail but with a diagnostic
// that has a place, and that what it returns can be asked about.
func FuzzParse(f *testing.F) {
	f.Add([]byte(header("- {from: a/b, to: {namespace: x, podSelector: {matchLabels: {a: b}}}, ports: [tcp/1-2, icmp, all], expect: allow}\n")))
	f.Add([]byte(header("- &a {from: [*a, external], to: *a, port: 80}\n- *a\n---\n{}\n")))
	f.Add([]byte(header("- {from: {namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}, to: 10.0.0.0/8, port: udp, expect: deny, allowEmpty: true}\n")))
	f.Fuzz(func(t *testing.T, in []byte) {
		ts, diags := Parse("s.yaml", in)
		for _, d := range diags {
			if d.Position.File != "s.yaml" || d.Message == "" {
				t.Errorf("diagnostic without a place or text: %+v", d)
			}
		}
		if len(ts) == 0 && len(diags) == 0 {
			t.Error("neither tests nor a reason why")
		}
		for _, x := range ts {
			if x.Name == "" || len(x.From) == 0 || len(x.To) == 0 || len(x.Ports) == 0 || x.Position.Line == 0 {
				t.Errorf("incomplete test %+v", x)
			}
		}
	})
}
