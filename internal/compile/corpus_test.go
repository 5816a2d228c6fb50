package compile_test

import (
	"bufio"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/reference"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

const corpus = "../../testdata/corpus"

// section returns a file of the case.
func section(ar *txtar.Archive, name string) (string, bool) {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

// read makes a snapshot of manifests, as the command line would.
func read(t *testing.T, yaml string, o kube.Options) kube.Result {
	t.Helper()
	b := kube.NewBuilder(o)
	if err := manifest.Read(b, []string{"-"}, manifest.Options{Stdin: strings.NewReader(yaml)}); err != nil {
		t.Fatal(err)
	}
	r := b.Build()
	if r.Unusable != "" {
		t.Fatal(r.Unusable)
	}
	return r
}

// A want is an expectation that a person wrote: "allow shop/web -> shop/db
// tcp/5432". Both ends may be anything that the command line takes.
type want struct {
	line          int
	verdict       string
	src, dst, prt string
}

var wantLine = regexp.MustCompile(`^(allow|deny|undefined)\s+(\S+) -> (\S+) (\S+)$`)

// wants parses a section of expectations. Text from "#" on is a comment.
func wants(t *testing.T, text string) []want {
	t.Helper()
	var out []want
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := wantLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("line %d: %q is no expectation", n, line)
		}
		out = append(out, want{n, m[1], m[2], m[3], m[4]})
	}
	return out
}

// check holds one expectation against the compiled table and the reference, in
// every address family that both ends have.
func check(t *testing.T, table *verdict.Table, w want) {
	t.Helper()
	port, err := verdict.ParsePort(w.prt)
	if err != nil {
		t.Errorf("line %d: %v", w.line, err)
		return
	}
	pairs := 0
	for _, src := range parties(t, table, w.src) {
		for _, dst := range parties(t, table, w.dst) {
			if src.Family != dst.Family {
				continue
			}
			pairs++
			k := port.In(src.Family)
			got, _ := table.Decide(table.Pair(src, dst), k)
			if got.String() != w.verdict {
				t.Errorf("line %d: compile says %s, want %s %s -> %s %s (IPv%d)", w.line, got, w.verdict, w.src, w.dst, k, src.Family)
			}
			ref := reference.Evaluate(table.Snapshot, table.Dialect, refEnd(table, src), refEnd(table, dst), k)
			if ref.String() != w.verdict {
				t.Errorf("line %d: the reference says %s, want %s %s -> %s %s (IPv%d)", w.line, ref, w.verdict, w.src, w.dst, k, src.Family)
			}
		}
	}
	if pairs == 0 {
		t.Errorf("line %d: %s and %s have no address family in common", w.line, w.src, w.dst)
	}
}

func parties(t *testing.T, table *verdict.Table, name string) []verdict.Party {
	t.Helper()
	r, err := table.Resolve(name, "default")
	if err != nil {
		t.Fatal(err)
	}
	return table.Parties(r)
}

// refEnd is the party as the reference knows it.
func refEnd(t *verdict.Table, p verdict.Party) reference.End {
	switch {
	case p.Endpoint != verdict.None:
		return reference.End{Kind: reference.Endpoint, Index: int(p.Endpoint), Family: p.Family}
	case p.Node != verdict.None:
		return reference.End{Kind: reference.Node, Index: int(p.Node), Family: p.Family}
	}
	a := p.Addr
	if !a.IsValid() {
		a = unowned(t, t.Blocks.Blocks[t.ExternalBlock(p.Family)].Addrs.Only(p.Family))
	}
	return reference.End{Kind: reference.Outside, Addr: a, Family: p.Family}
}

// unowned returns an address of the set that nothing in the cluster has.
func unowned(t *verdict.Table, s netset.Addrs) netip.Addr {
	for _, r := range s.Ranges() {
		for a := r.From; a.IsValid() && a.Compare(r.To) <= 0; a = a.Next() {
			if _, ok := t.Owner[a]; !ok {
				return a
			}
		}
	}
	return netip.Addr{}
}

// TestCorpus runs the cases of testdata/corpus. A case has a cluster and, for
// one dialect or more, what a person expects; section "want" is Picket's own
// dialect. Section "errors" lists what reading the cluster must complain about.
func TestCorpus(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(corpus, "*.txtar"))
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d cases in %s: %v", len(paths), corpus, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(ar.Comment), "# clause: ") {
				t.Error("the case names no clause")
			}
			yaml, ok := section(ar, "cluster.yaml")
			if !ok {
				t.Fatal("the case has no cluster.yaml")
			}
			r := read(t, yaml, kube.Options{})
			checkErrors(t, ar, r.Diagnostics)
			n := 0
			for _, d := range model.Dialects {
				name := "want." + d.Name
				if d == model.Dialects[0] {
					name = "want"
				}
				text, ok := section(ar, name)
				if !ok {
					continue
				}
				table := compile.Compile(r.Snapshot, d)
				if err := table.Validate(); err != nil {
					t.Fatal(err)
				}
				t.Run(d.Name, func(t *testing.T) {
					for _, w := range wants(t, text) {
						check(t, table, w)
						n++
					}
				})
			}
			if n == 0 {
				t.Error("the case expects nothing")
			}
		})
	}
}

// checkErrors holds the errors of reading against section "errors": a line is
// part of an error, and there are no others.
func checkErrors(t *testing.T, ar *txtar.Archive, ds diag.List) {
	t.Helper()
	text, _ := section(ar, "errors")
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	for _, d := range ds {
		if d.Severity != diag.Error {
			continue
		}
		i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(d.String(), l) })
		if i < 0 {
			t.Errorf("unexpected error: %s", d)
			continue
		}
		lines = slices.Delete(lines, i, i+1)
	}
	for _, l := range lines {
		t.Errorf("no error says %q", l)
	}
}

// TestConformanceCorpus runs the conformance suite of ClusterNetworkPolicy.
func TestConformanceCorpus(t *testing.T) {
	dir := filepath.Join(corpus, "clusternetworkpolicy")
	shared, err := os.ReadFile(filepath.Join(dir, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			policies, _ := section(ar, "policies.yaml")
			expected, _ := section(ar, "want")
			r := read(t, string(shared)+"---\n"+policies, kube.Options{})
			checkErrors(t, ar, r.Diagnostics)
			table := compile.Compile(r.Snapshot, model.Dialects[0])
			for _, w := range wants(t, expected) {
				check(t, table, w)
				n++
			}
		})
	}
	if len(paths) != 96 || n != 301 {
		t.Errorf("%d states and %d expectations, want 96 and 301", len(paths), n)
	}
}

// TestClauses holds docs/semantics.md and the corpus together: each case that
// the document names exists, and each case is named.
func TestClauses(t *testing.T) {
	doc, err := os.ReadFile("../../docs/semantics.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`testdata/corpus/([a-z0-9-]+)\.txtar`).FindAllStringSubmatch(string(doc), -1) {
		named[m[1]] = true
	}
	paths, err := filepath.Glob(filepath.Join(corpus, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, p := range paths {
		exists[strings.TrimSuffix(filepath.Base(p), ".txtar")] = true
	}
	for _, name := range slices.Sorted(maps.Keys(exists)) {
		if !named[name] {
			t.Errorf("docs/semantics.md does not mention testdata/corpus/%s.txtar", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !exists[name] {
			t.Errorf("docs/semantics.md mentions testdata/corpus/%s.txtar, which does not exist", name)
		}
	}
	// Every row of a table is a clause with its cases.
	for i, line := range strings.Split(string(doc), "\n") {
		if strings.HasPrefix(line, "| ") && line != "| clause | cases |" && !strings.Contains(line, "](../testdata/corpus/") {
			t.Errorf("docs/semantics.md:%d: no case shows the clause %q", i+1, line)
		}
	}
}
