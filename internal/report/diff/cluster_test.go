package diff

import (
	"strings"
	"testing"

	"picket/internal/clustergen/small"
	"picket/internal/term"
)

// compare compares two worlds and returns the report and its text.
func compare(t *testing.T, before, after *small.World, o Options) (*Report, string) {
	t.Helper()
	r, err := Build(before.Table(t, "picket"), after.Table(t, "picket"), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteText(term.Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	return r, b.String()
}

// has fails for each piece that the text does not hold.
func has(t *testing.T, text string, pieces ...string) {
	t.Helper()
	for _, p := range pieces {
		if !strings.Contains(text, p) {
			t.Errorf("the text lacks %q", p)
		}
	}
	if t.Failed() {
		t.Logf("text:\n%s", text)
	}
}
