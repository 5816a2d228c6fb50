package golden

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

const cased = `a comment
-- in.yaml --
kind: Pod
-- out/one --
old
-- out/two --
kept
`

func TestUpdateTouchesOnlyItsSection(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "case.txtar")
	if err := os.WriteFile(path, []byte(cased), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOLDEN_UPDATE", "1")
	Run(t, dir, "one", func(t *testing.T, in *txtar.Archive) string {
		if len(in.Files) != 1 || in.Files[0].Name != "in.yaml" {
			t.Errorf("got %d input sections", len(in.Files))
		}
		return "new"
	})
	want := "a comment\n-- in.yaml --\nkind: Pod\n-- out/one --\nnew\n-- out/two --\nkept\n"
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	t.Setenv("GOLDEN_UPDATE", "")
	Run(t, dir, "one", func(*testing.T, *txtar.Archive) string { return "new\n" })
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.txt")
	t.Setenv("GOLDEN_UPDATE", "1")
	File(t, path, "text")
	t.Setenv("GOLDEN_UPDATE", "")
	File(t, path, "text")
	if got, err := os.ReadFile(path); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}
