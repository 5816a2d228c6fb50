package kube

import (
	"strings"
	"testing"

	"picket/internal/diag"
)

type nowhere struct{}

func (nowhere) Position(string) diag.Position { return diag.Position{File: "f"} }

// What is larger than a cluster can hold is refused as a whole, and no verdict
// is given.
func TestTooMuchForACluster(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"a list", `{"apiVersion":"v1","kind":"List","items":[{}` + strings.Repeat(",{}", maxListed) + `]}`, "the list has more than 1000000 items"},
		{"an object", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + strings.Repeat("a", maxObject) + `"}}`, "a Pod of more than 4 MiB"},
	} {
		b := NewBuilder(Options{})
		b.Add([]byte(c.raw), nowhere{})
		r := b.Build()
		if r.Unusable == "" {
			t.Errorf("%s: a verdict would be given", c.name)
		}
		if len(r.Diagnostics) != 1 || r.Diagnostics[0].Message != c.want {
			t.Errorf("%s: %v, want one diagnostic %q", c.name, r.Diagnostics, c.want)
		}
	}
}
