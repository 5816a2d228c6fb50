// Package golden compares what a test produces with a file that holds what is
// expected, and with GOLDEN_UPDATE=1 in the environment rewrites that file.
//
// A case is a txtar archive that several stages may share: each stage owns the
// section out/STAGE and touches no other, and input sections have names outside
// out/. Rewriting is for form and cost. What a verdict should be is written by
// hand in other sections, which no update touches. Run updates with
// "go test -p 1", as two packages may own sections of one file.
package golden

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// updating reports whether files are to be rewritten.
func updating() bool { return os.Getenv("GOLDEN_UPDATE") == "1" }

// Run calls f, as a subtest, for each case in dir with a section out/stage, and
// compares what f returns with that section. The archive that f gets has the
// input sections only. It is an error if no case has the section.
func Run(t *testing.T, dir, stage string, f func(t *testing.T, in *txtar.Archive) string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	ran := 0
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		in, want := split(ar, stage)
		if want == nil {
			continue
		}
		ran++
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Helper()
			got := withNewline(f(t, in))
			if bytes.Equal(got, want.Data) {
				return
			}
			if updating() {
				want.Data = got
				write(t, path, txtar.Format(ar))
				return
			}
			t.Errorf("%s: section out/%s (-want +got; GOLDEN_UPDATE=1 rewrites it):\n%s", path, stage, cmp.Diff(string(want.Data), string(got)))
		})
	}
	if ran == 0 {
		t.Fatalf("no case in %s has a section out/%s", dir, stage)
	}
}

// split returns the input sections of ar, and the section of the stage inside
// ar, nil if there is none.
func split(ar *txtar.Archive, stage string) (in *txtar.Archive, want *txtar.File) {
	in = &txtar.Archive{Comment: ar.Comment}
	for i := range ar.Files {
		switch name := ar.Files[i].Name; {
		case name == "out/"+stage:
			want = &ar.Files[i]
		case !strings.HasPrefix(name, "out/"):
			in.Files = append(in.Files, ar.Files[i])
		}
	}
	return in, want
}

// File compares got with the file at path, for output that is no text section
// of a case.
func File(t *testing.T, path, got string) {
	t.Helper()
	if updating() {
		if old, err := os.ReadFile(path); err != nil || string(old) != got {
			write(t, path, []byte(got))
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (GOLDEN_UPDATE=1 writes it)", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; GOLDEN_UPDATE=1 rewrites it):\n%s", path, d)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func withNewline(s string) []byte {
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return []byte(s)
}
