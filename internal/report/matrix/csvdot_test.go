package matrix

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
)

func TestOutputIsTheSameEveryTime(t *testing.T) {
	tab := compile.Compile(clustergen.Sized(clustergen.Config{Pods: 300, Namespaces: 6, Policies: 60}), model.Dialects[1])
	for i, write := range []func(*Report, *bytes.Buffer) error{
		func(r *Report, b *bytes.Buffer) error { return r.WriteJSON(b) },
		func(r *Report, b *bytes.Buffer) error { return r.WriteCSV(b) },
		func(r *Report, b *bytes.Buffer) error { return r.WriteDOT(b) },
		func(r *Report, b *bytes.Buffer) error { return r.WriteHTML(b) },
	} {
		var a, b bytes.Buffer
		r := build(t, tab, Options{External: true})
		again := build(t, tab, Options{External: true})
		text(t, again, 0) // another order of look-ups must not matter
		if err := write(r, &a); err != nil {
			t.Fatal(err)
		}
		if err := write(again, &b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("format %d differs", i)
		}
	}
}

func TestCSV(t *testing.T) {
	c := newCluster()
	c.namespace("shop", "")
	c.pod("shop", "db", "app=db", "")
	c.pod("shop", "web", "app=web", "")
	c.policy("shop", "db", "app=db", []model.Rule{allow("tcp/5432 tcp/5433 udp/7", podsIn("shop", "app=web"))}, nil)
	var b bytes.Buffer
	if err := build(t, c.table(t, "picket"), Options{}).WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	diff(t, `from,to,family,protocol,ports,decision,ingress,egress
shop/db,shop/web,,all,,allow,no policy selects the pod for ingress,no policy selects the pod for egress
shop/web,shop/db,,tcp,5432-5433,allow,NetworkPolicy shop/db ingress[0] (policies/shop.yaml:13),no policy selects the pod for egress
shop/web,shop/db,,udp,7,allow,NetworkPolicy shop/db ingress[0] (policies/shop.yaml:13),no policy selects the pod for egress
`, b.String())

	b.Reset()
	if err := build(t, hostile().table(t, "kubernetes"), Options{External: true}).WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := csv.NewReader(&b).ReadAll(); err != nil {
		t.Error(err)
	}
}

func TestDOT(t *testing.T) {
	c := newCluster()
	c.namespace("shop", "")
	c.pod("shop", "db", "app=db", "")
	c.pod("shop", "web", "app=web", "")
	c.policy("shop", "db", "app=db", []model.Rule{allow("tcp/5432", podsIn("shop", "app=web"))}, none)
	var b bytes.Buffer
	if err := build(t, c.table(t, "picket"), Options{}).WriteDOT(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{"subgraph cluster_0 {\n\t\tlabel=\"shop\";", "\t\tg0 [label=\"shop/db\"];", "\tg1 -> g0 [label=\"tcp/5432\"];"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "->"); n != 1 {
		t.Errorf("%d edges, want 1", n)
	}
}

// Every quoted string of the DOT form ends where it should: outside of them are
// no characters but those of the form itself.
func TestDOTQuotes(t *testing.T) {
	var b bytes.Buffer
	if err := build(t, hostile().table(t, "picket"), Options{External: true}).WriteDOT(&b); err != nil {
		t.Fatal(err)
	}
	var plain strings.Builder
	in, escaped := false, false
	for _, c := range b.String() {
		switch {
		case escaped:
			escaped = false
		case in && c == '\\':
			escaped = true
		case c == '"':
			in = !in
		case !in:
			plain.WriteRune(c)
		}
	}
	if in || strings.ContainsAny(plain.String(), "<&'\\$") {
		t.Errorf("a name escapes its quotes: %s", plain.String())
	}
	if s := dotQuote("a\\\"b\n"); s != `"a\\\"b\n"` {
		t.Errorf("dotQuote = %s", s)
	}
}

func FuzzDOTQuote(f *testing.F) {
	f.Add(`a"b\`)
	f.Fuzz(func(t *testing.T, s string) {
		q := dotQuote(s)
		for i := 1; i < len(q)-1; i++ {
			if q[i] == '\\' {
				i++
				if i == len(q)-1 {
					t.Fatalf("%s: the closing quote is escaped", strconv.Quote(q))
				}
			} else if q[i] == '"' || q[i] == '\n' {
				t.Fatalf("%s ends early", strconv.Quote(q))
			}
		}
	})
}
