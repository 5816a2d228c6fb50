package explain

import (
	"net/netip"
	"strings"
	"testing"

	"picket/internal/term"
	"picket/internal/verdict"
)

// ask explains and returns the report and its text.
func ask(t *testing.T, table *verdict.Table, src, dst, port string) (*Report, string) {
	t.Helper()
	ref := func(text string) verdict.Ref {
		r, err := table.Resolve(text, "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	p, err := verdict.ParsePort(port)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Build(table, ref(src), ref(dst), p, Options{})
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

func addrs(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
