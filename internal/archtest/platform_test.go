package archtest

import (
	"errors"
	"go/build"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// linuxOnly are the packages that need Linux, with all below them. The border
// lies between packages: each of their files but doc.go is for Linux alone, and
// others are for every system.
var linuxOnly = []string{"internal/lab", "internal/nft", "internal/prove", "internal/agent"}

// atBorder are the exceptions: internal/cli has files for Linux and files that
// say so elsewhere, and flows are read from files everywhere but from the
// kernel's log on Linux.
var atBorder = []string{"internal/cli", "internal/flow/denied.go", "internal/flow/denied_test.go"}

// kernelModules are modules that are of use on Linux alone, whether or not they
// compile elsewhere.
var kernelModules = []string{
	"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/mdlayher/netlink",
	"github.com/google/nftables", "github.com/florianl/go-nflog", "github.com/ti-mo/conntrack",
}

func needsLinux(name string) bool { return within(name, linuxOnly) }

// reads lists the packages that the program is made of on a system, and what
// they import.
func reads(t *testing.T, goos string) map[string][]string {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = goos, "amd64", false
	seen := map[string][]string{}
	var visit func(name string)
	visit = func(name string) {
		if _, ok := seen[name]; ok {
			return
		}
		p, err := ctx.ImportDir(filepath.Join(root, name), 0)
		if err != nil {
			t.Fatalf("%s: %s: %v", goos, name, err)
		}
		seen[name] = p.Imports
		for _, imp := range p.Imports {
			if in, ok := strings.CutPrefix(imp, module); ok {
				visit(in)
			}
		}
	}
	visit("cmd/picket")
	return seen
}

// TestProgramOnOtherSystems follows the imports from cmd/picket on systems
// that have no Linux kernel.
func TestProgramOnOtherSystems(t *testing.T) {
	linux := reads(t, "linux")
	for _, goos := range []string{"darwin", "windows"} {
		there := reads(t, goos)
		for name, imports := range there {
			if needsLinux(name) {
				t.Errorf("%s: the program has %s, which needs Linux", goos, name)
			}
			for _, imp := range imports {
				if within(imp, kernelModules) {
					t.Errorf("%s: %s imports %s", goos, name, imp)
				}
			}
		}
		for _, imp := range linux["internal/cli"] {
			in, ours := strings.CutPrefix(imp, module)
			if ours && there[in] == nil && !needsLinux(in) {
				t.Errorf("%s: the program lacks %s", goos, in)
			}
		}
	}
}

// TestBorderOfLinux looks at every file.
func TestBorderOfLinux(t *testing.T) {
	other := build.Default
	other.GOOS, other.GOARCH = "darwin", "arm64"
	bound := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n := d.Name()
		if d.IsDir() {
			if path != root && (n == "testdata" || strings.HasPrefix(n, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(n, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		elsewhere, err1 := other.MatchFile(filepath.Dir(path), n)
		here, err2 := build.Default.MatchFile(filepath.Dir(path), n)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		switch {
		case !needsLinux(name) && elsewhere != here && !within(name+"/"+n, atBorder):
			t.Errorf("%s/%s is not for every system: the border lies between packages", name, n)
		case needsLinux(name) && elsewhere && n != "doc.go":
			t.Errorf("%s/%s: start it with //go:build linux: the package needs Linux", name, n)
		case needsLinux(name) && !elsewhere:
			bound++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bound == 0 {
		t.Error("no file needs Linux: the test looks in the wrong place")
	}
}
