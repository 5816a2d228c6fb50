package term

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestNoColourWithoutTerminal(t *testing.T) {
	var b bytes.Buffer
	w := New(&b)
	if w.Colour() || w.Width() != 0 || Width(w) != 0 {
		t.Errorf("a buffer has colour %v, width %d", w.Colour(), w.Width())
	}
	for name, style := range map[string]func(string) string{
		"Bold": w.Bold, "Dim": w.Dim, "Red": w.Red, "Green": w.Green, "Yellow": w.Yellow, "Cyan": w.Cyan,
	} {
		if got := style("x"); got != "x" {
			t.Errorf("%s without colour = %q", name, got)
		}
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if New(f).Colour() || Width(f) != 0 {
		t.Error("a file is taken for a terminal")
	}
}

func TestStyles(t *testing.T) {
	w := Fixed(nil, true, 80)
	if got, want := w.Red("no")+w.Bold(""), "\x1b[31mno\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if Width(w) != 80 {
		t.Errorf("Width = %d, want 80", Width(w))
	}
}

func TestColumns(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "abc": 3, "é": 1, "e\u0301": 1, "日本": 4, "→": 1, "…": 1, "🦊": 2, "a\u200bb": 2,
	} {
		if got := Columns(s); got != want {
			t.Errorf("Columns(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestTableAlignsByWhatIsSeen(t *testing.T) {
	var b bytes.Buffer
	w := Fixed(&b, false, 0)
	tab := Table{Indent: " "}
	tab.Row("name", "日本", "end")
	tab.Add(Cell{Text: "e\u0301", Style: w.Red}, Cell{Text: "7", Right: true}, Cell{Text: "x"})
	tab.Row("last", "", "")
	tab.Row()
	if err := tab.Write(w); err != nil {
		t.Fatal(err)
	}
	want := " name  日本  end\n e\u0301        7  x\n last\n\n"
	if b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
	if tab.Width() != 1+4+2+4+2+3 {
		t.Errorf("Width = %d", tab.Width())
	}

	b.Reset()
	c := Fixed(&b, true, 0)
	tab.rows[1][0].Style = c.Red
	if err := tab.Write(c); err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(b.String())
	if plain != want || !strings.Contains(b.String(), "\x1b[31me\u0301\x1b[0m ") {
		t.Errorf("colour moved a column: %q", b.String())
	}
}

func TestTableShowsControlCharacters(t *testing.T) {
	var b bytes.Buffer
	tab := Table{Gap: 1}
	tab.Row("a\x1b[2J\nb", "c")
	if err := tab.Write(Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	if want := "a\uFFFD[2J\uFFFDb c\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
