package lint

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/golden"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

// build reads YAML as one file called policy.yaml.
func build(t *testing.T, o kube.Options, yaml ...string) kube.Result {
	t.Helper()
	b := kube.NewBuilder(o)
	err := manifest.Read(b, []string{"-"}, manifest.Options{Stdin: strings.NewReader(strings.Join(yaml, "\n---\n"))})
	if err != nil {
		t.Fatal(err)
	}
	return b.Build()
}

// table compiles YAML that must be without errors.
func table(t *testing.T, o kube.Options, yaml ...string) *verdict.Table {
	t.Helper()
	res := build(t, o, yaml...)
	if res.Diagnostics.HasErrors() {
		t.Fatalf("errors in the input: %v", res.Diagnostics)
	}
	return compile.Compile(res.Snapshot, model.Dialects[0])
}

func world(t *testing.T) string {
	t.Helper()
	data, err := files.ReadFile("catalogue/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// dualStack are the checks whose example needs a cluster with both families.
var dualStack = []string{"NP404"}

// TestExamples lints both examples of every check: the bad one has exactly that
// finding with the severity of the catalogue, the good one has not.
func TestExamples(t *testing.T) {
	for _, c := range Catalogue() {
		t.Run(c.Code, func(t *testing.T) {
			cluster := c.world
			if cluster == "" {
				cluster = world(t)
			}
			o := kube.Options{DualStack: slices.Contains(dualStack, c.Code)}
			if c.Bad == "" || c.Good == "" || c.Title == "" || c.Explanation == "" {
				t.Fatalf("the entry is not complete: %+v", c)
			}
			find := func(yaml string) []diag.Diagnostic {
				res := build(t, o, cluster, yaml)
				var out []diag.Diagnostic
				for _, d := range res.Diagnostics {
					if d.Code == c.Code {
						out = append(out, d)
					} else if d.Severity == diag.Error {
						t.Errorf("the example has another error: %s", d)
					}
				}
				only := Options{Only: []string{c.Code}}
				if c.Code == "LT001" {
					only = Options{} // judges the other checks' findings
				}
				for _, f := range Run(compile.Compile(res.Snapshot, model.Dialects[0]), only).Findings {
					if f.Code == c.Code {
						out = append(out, f.Diagnostic)
					}
				}
				return out
			}
			bad := find(c.Bad)
			if len(bad) == 0 {
				t.Error("the bad example has no such finding")
			}
			for i, d := range bad {
				if i == 0 && d.Severity != c.Severity {
					t.Errorf("severity %s, but the catalogue says %s", d.Severity, c.Severity)
				}
				if d.Position.Line == 0 || d.Object == "" {
					t.Errorf("no position or object: %+v", d)
				}
				if strings.HasSuffix(d.Message, ".") || d.Message == "" || strings.Contains(d.Message, "%!") || strings.Contains(d.Fix, "%!") {
					t.Errorf("message %q", d.Message)
				}
				t.Logf("%s\n%s", d, d.Fix)
			}
			for _, d := range find(c.Good) {
				t.Errorf("the good example has the finding: %s", d)
			}
		})
	}
}

// TestEveryCheckIsInTheCatalogue holds both ways as far as this package runs
// the check.
func TestEveryCheckIsInTheCatalogue(t *testing.T) {
	for _, c := range checks() {
		if _, ok := Lookup(c.code); !ok {
			t.Errorf("%s is not in the catalogue", c.code)
		}
	}
	if len(Catalogue()) < len(checks()) {
		t.Errorf("%d entries for %d checks", len(Catalogue()), len(checks()))
	}
	codes := map[string]bool{}
	for _, c := range Catalogue() {
		if codes[c.Code] || family(c.Code) == "~" {
			t.Errorf("code %s is there twice, or of no family", c.Code)
		}
		codes[c.Code] = true
	}
}

// TestDocs compares the generated page with the one in docs.
func TestDocs(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCatalogue(&b); err != nil {
		t.Fatal(err)
	}
	const page = "../../../docs/lint.md"
	golden.File(t, page, b.String())
}
