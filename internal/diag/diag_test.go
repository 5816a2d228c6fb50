package diag_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/diag"
)

func at(file string, line, col int) diag.Position {
	return diag.Position{File: file, Line: line, Col: col}
}

func TestString(t *testing.T) {
	for want, d := range map[string]diag.Diagnostic{
		"no place":           {Message: "no place"},
		"a.yaml: empty file": {Position: at("a.yaml", 0, 0), Message: "empty file"},
		"a.yaml:3: bad":      {Position: at("a.yaml", 3, 0), Message: "bad"},
		"a.yaml:3:7: bad":    {Position: at("a.yaml", 3, 7), Message: "bad"},
		"a.yaml:3:7: warning: NP101 two peers (NetworkPolicy prod/p)": {Position: at("a.yaml", 3, 7), Severity: diag.Warning, Code: "NP101", Message: "two peers", Object: "NetworkPolicy prod/p", Path: "spec"},
		"info: NP310 open": {Severity: diag.Info, Code: "NP310", Message: "open"},
	} {
		if got := d.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestZeroSeverity holds that a severity nobody set is the worst one.
func TestZeroSeverity(t *testing.T) {
	if l := (diag.List{{}}); !l.HasErrors() {
		t.Error("a diagnostic without a severity is no error")
	}
}

func TestSort(t *testing.T) {
	want := diag.List{
		{Message: "without a place"},
		{Position: at("a.yaml", 0, 0), Message: "whole file"},
		{Position: at("a.yaml", 2, 9), Message: "second line"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Error, Code: "Z", Message: "errors first"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "A", Message: "m"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "B", Object: "x", Message: "m"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "B", Object: "y", Path: "p", Message: "m"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "B", Object: "y", Path: "q", Message: "l"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "B", Object: "y", Path: "q", Message: "m"},
		{Position: at("a.yaml", 10, 1), Severity: diag.Warning, Code: "B", Object: "y", Path: "q", Message: "m", Fix: "f"},
		{Position: at("b.yaml", 1, 1), Message: "second file"},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		got := append(append(diag.List{}, want...), want...)
		rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		got.Sort()
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("order (-want +got):\n%s", d)
		}
	}
}

func TestCount(t *testing.T) {
	l := diag.List{{Severity: diag.Info}, {Severity: diag.Warning}, {Severity: diag.Info}}
	if e, w, i := l.Count(diag.Error), l.Count(diag.Warning), l.Count(diag.Info); e != 0 || w != 1 || i != 2 || l.HasErrors() {
		t.Errorf("%d errors, %d warnings, %d infos, HasErrors %v", e, w, i, l.HasErrors())
	}
}

func TestWriteText(t *testing.T) {
	var b bytes.Buffer
	l := diag.List{{Position: at("a.yaml", 1, 2), Message: "wrong", Fix: "write\n- x\n"}, {Message: "worse"}}
	if err := l.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := "a.yaml:1:2: wrong\n    write\n    - x\nworse\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}

func TestWriteJSON(t *testing.T) {
	var b bytes.Buffer
	l := diag.List{{Position: at("a.yaml", 1, 2), Severity: diag.Warning, Code: "NP101", Object: "o", Path: "p", Message: "m", Fix: "f"}, {Message: "m"}}
	if err := l.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []any{
		map[string]any{
			"code": "NP101", "severity": "warning", "object": "o", "path": "p", "message": "m", "fix": "f",
			"position": map[string]any{"file": "a.yaml", "line": 1.0, "column": 2.0},
		},
		map[string]any{"severity": "error", "position": map[string]any{}, "message": "m"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
	b.Reset()
	if err := diag.List(nil).WriteJSON(&b); err != nil || b.String() != "[]\n" {
		t.Errorf("an empty list is written as %q, %v", b.String(), err)
	}
}

type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteErrors(t *testing.T) {
	l := diag.List{{Message: "m"}}
	if err := l.WriteText(full{}); !errors.Is(err, errFull) {
		t.Errorf("WriteText: %v", err)
	}
	if err := l.WriteJSON(full{}); !errors.Is(err, errFull) {
		t.Errorf("WriteJSON: %v", err)
	}
}
