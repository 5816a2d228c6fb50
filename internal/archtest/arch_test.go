package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "picket/"
)

// layers is what may import what, ground floor first. A package may import the
// packages on its line and nothing else of this module; "standard library"
// needs no mention. It is the agreement, not a record of what happens to be:
// do not change it to make a build pass. A line may come before its package.
const layers = `
internal/netset          :
internal/selector        :
internal/diag            :
internal/term            :
internal/nearest         :

internal/model           : netset selector diag

internal/kube            : model netset selector diag nearest
internal/source/manifest : kube model diag
internal/source/cluster  : kube model diag

internal/verdict         : model netset nearest
internal/compile         : verdict model netset selector diag
internal/reference       : model netset selector

internal/report/matrix   : verdict model netset diag term
internal/report/explain  : verdict model netset diag term
internal/report/diff     : verdict model netset diag term
internal/report/lint     : verdict model netset diag term selector nearest
internal/flow            : verdict model netset diag term
internal/nft             : verdict model netset
internal/lab             : verdict model netset
internal/suite           : verdict model netset diag term selector nearest

internal/prove           : lab nft verdict model netset diag term report/matrix
internal/agent           : source/cluster kube compile verdict model netset diag nft flow

internal/cli             : netset selector diag term model kube source/manifest source/cluster verdict compile report/matrix report/explain report/diff report/lint flow suite prove lab agent
cmd/picket               : cli

internal/clustergen      : model netset selector
internal/clustergen/gen  : clustergen
internal/nft/bench       : nft verdict model netset selector compile lab clustergen
internal/clustergen/small : compile verdict model netset selector diag
internal/golden          :
internal/archtest        :
`

// thirdParty is which package may import which module from outside the
// standard library.
const thirdParty = `
internal/term            : golang.org/x/term
internal/kube            : k8s.io/api k8s.io/apimachinery sigs.k8s.io/network-policy-api sigs.k8s.io/json
internal/source/manifest : go.yaml.in/yaml/v3 sigs.k8s.io/yaml sigs.k8s.io/json k8s.io/api k8s.io/apimachinery sigs.k8s.io/network-policy-api
internal/source/cluster  : k8s.io/client-go k8s.io/apimachinery
internal/nft             : github.com/mdlayher/netlink github.com/ti-mo/conntrack github.com/ti-mo/netfilter golang.org/x/sys
internal/nft/bench       : github.com/vishvananda/netlink github.com/vishvananda/netns golang.org/x/sys
internal/flow            : github.com/florianl/go-nflog/v2 github.com/mdlayher/netlink golang.org/x/sys
internal/lab             : github.com/miekg/dns github.com/vishvananda/netlink github.com/vishvananda/netns golang.org/x/sys
internal/suite           : go.yaml.in/yaml/v3 sigs.k8s.io/yaml
internal/agent           : github.com/prometheus/client_golang github.com/mdlayher/netlink golang.org/x/sys golang.org/x/sync go.yaml.in/yaml/v3
internal/cli             : github.com/spf13/cobra github.com/spf13/pflag
internal/golden          : github.com/google/go-cmp golang.org/x/tools/txtar
`

// rim lists the packages that may end the process or use its streams; lab may
// in the processes that it starts.
var rim = []string{"cmd/picket", "internal/cli", "internal/lab", "internal/clustergen/gen", "internal/nft/bench"}

// A pkg is what the tests need to know of one package, without its test files.
type pkg struct {
	docs    []string // files with a package comment
	imports []string
	effects []string // places that exit or print
	tests   []string // names of its test functions
}

// isModule reports whether a folder is a module of its own, with its own rules.
func isModule(path string) bool {
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

// load parses the module in this process: a test that asked "go list" would be
// answered from the test cache after some other package had changed.
func load(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs := map[string]*pkg{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (n == "testdata" || strings.HasPrefix(n, ".") || isModule(path)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if pkgs[name] == nil {
			pkgs[name] = &pkg{}
		}
		if strings.HasSuffix(path, "_test.go") {
			pkgs[name].addTests(f)
			return nil
		}
		return pkgs[name].add(fset, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

func (p *pkg) addTests(f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
			p.tests = append(p.tests, fn.Name.Name)
		}
	}
}

func (p *pkg) add(fset *token.FileSet, f *ast.File) error {
	if f.Doc != nil {
		p.docs = append(p.docs, filepath.Base(fset.File(f.Pos()).Name()))
	}
	for _, s := range f.Imports {
		imp, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			return err
		}
		p.imports = append(p.imports, imp)
	}
	effect := func(at token.Pos, what string) {
		p.effects = append(p.effects, fset.Position(at).String()+": "+what)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			switch what := x.Name + "." + n.Sel.Name; {
			case what == "os.Exit", what == "os.Stdout", what == "os.Stderr", what == "os.Stdin",
				strings.HasPrefix(what, "fmt.Print"), strings.HasPrefix(what, "log.Fatal"), strings.HasPrefix(what, "log.Print"):
				effect(n.Pos(), what)
			}
		case *ast.CallExpr:
			if x, ok := n.Fun.(*ast.Ident); ok && (x.Name == "print" || x.Name == "println") {
				effect(n.Pos(), x.Name)
			}
		}
		return true
	})
	return nil
}

// policy reads lines of "package : what it may import".
func policy(t *testing.T, text string) (names []string, allow map[string][]string) {
	t.Helper()
	allow = map[string][]string{}
	for line := range strings.Lines(text) {
		name, deps, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		name = strings.TrimSpace(name)
		names = append(names, name)
		allow[name] = strings.Fields(deps)
	}
	if len(names) == 0 {
		t.Fatal("the policy is empty")
	}
	return names, allow
}

// within reports whether import path imp is one of modules or a package below.
func within(imp string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

func TestLayers(t *testing.T) {
	names, allow := policy(t, layers)
	_, outside := policy(t, thirdParty)
	for i, name := range names {
		for _, d := range allow[name] {
			if !slices.Contains(names[:i], "internal/"+d) {
				t.Errorf("%s lists %s, which is on no line above it", name, d)
			}
		}
	}
	pkgs := load(t)
	for name, p := range pkgs {
		if len(p.docs) == 0 && len(p.imports) == 0 {
			continue // only tests
		}
		ok, known := allow[name]
		if !known {
			t.Errorf("%s has no line in layers", name)
			continue
		}
		for _, imp := range p.imports {
			first, _, _ := strings.Cut(imp, "/")
			in, ours := strings.CutPrefix(imp, module)
			switch {
			case ours && !slices.Contains(ok, strings.TrimPrefix(in, "internal/")):
				t.Errorf("%s may not import %s", name, in)
			case !ours && strings.Contains(first, ".") && !within(imp, outside[name]):
				t.Errorf("%s may not import %s", name, imp)
			}
		}
	}
}

func TestEffectsAtTheRim(t *testing.T) {
	for name, p := range load(t) {
		if !slices.Contains(rim, name) {
			for _, e := range p.effects {
				t.Errorf("%s: only %v may do this", strings.TrimPrefix(e, root+"/"), rim)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	for name, p := range load(t) {
		if len(p.imports)+len(p.docs) > 0 && len(p.docs) != 1 {
			t.Errorf("%s has package comments in %q, want exactly one", name, p.docs)
		}
	}
}

func architecture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCodemap(t *testing.T) {
	text := architecture(t)
	pkgs := load(t)
	for name, p := range pkgs {
		if n := strings.Count(text, "\n- `"+name+"`"); n != 1 && len(p.docs) > 0 {
			t.Errorf("ARCHITECTURE.md has %d codemap lines for %s, want 1", n, name)
		}
	}
	for _, m := range regexp.MustCompile("\n- `((?:internal|cmd)/[^`]+)`").FindAllStringSubmatch(text, -1) {
		if pkgs[m[1]] == nil {
			t.Errorf("ARCHITECTURE.md has a codemap line for %s, which does not exist", m[1])
		}
	}
}

// TestLinks wants every relative link of the Markdown pages to lead somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			seen++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", strings.TrimPrefix(path, root+"/"), m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no link found")
	}
}

// TestInvariantsAreHeld wants every invariant of ARCHITECTURE.md to name a
// test, and every test named there to exist. A name is package.Test.
func TestInvariantsAreHeld(t *testing.T) {
	_, text, ok := strings.Cut(architecture(t), "## Invariants\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no section Invariants")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	pkgs := load(t)
	name := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	items := regexp.MustCompile(`(?m)^\d+\. `).Split(text, -1)[1:]
	if len(items) < 5 {
		t.Fatalf("ARCHITECTURE.md has %d numbered invariants", len(items))
	}
	for i, item := range items {
		found := name.FindAllStringSubmatch(item, -1)
		if len(found) == 0 {
			t.Errorf("invariant %d names no test", i+1)
		}
		for _, m := range found {
			if p := pkgs["internal/"+m[1]]; p == nil || !slices.Contains(p.tests, m[2]) {
				t.Errorf("invariant %d names %s.%s, which does not exist", i+1, m[1], m[2])
			}
		}
	}
}
