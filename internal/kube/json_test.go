package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIndex(t *testing.T) {
	const text = ` {"a": [1, {"b.c": "x\"}", "b": {"c": 2}}, [3 ,4]], "d[0]": null, "spec": {"x/y": {"z": 5}}}`
	x := NewIndex([]byte(text))
	for _, tt := range []struct{ path, at string }{
		{"", `{"a"`},
		{"a", `"a"`},
		{"a[0]", "1,"},
		{"a[1]", `{"b.c`},
		{"a[1].b.c", `"b.c"`}, // the longest name wins
		{"a[2][1]", "4]"},
		{"a[2][7]", "[3"},
		{"a.nothing", `"a"`},
		{"d[0]", `"d[0]"`},
		{"spec[x/y].z", `"z"`},
		{"spec.x/y.z", `"z"`},
		{"none", `{"a"`},
		{"a[x]", `"a"`},
	} {
		at := x.Offset(tt.path)
		if got := text[at:min(len(text), at+len(tt.at))]; got != tt.at {
			t.Errorf("%s is at %q, want %q", tt.path, got, tt.at)
		}
	}
	if diff := cmp.Diff([]int{11, 15, 18}, ItemOffsets([]byte(`{"items": [[], {},"a"]}`))); diff != "" {
		t.Error(diff)
	}
}

func TestKindOf(t *testing.T) {
	for text, want := range map[string][2]string{
		`{"x":{"kind":"no"},"kind":"Pod","apiVersion":"v1"}`: {"Pod", "v1"},
		`{"kind":5,"apiVersion":"v1"}`:                       {"", "v1"},
		`{"kind":"A`:                                         {"", ""},
		`[]`:                                                 {"", ""},
		``:                                                   {"", ""},
	} {
		kind, version := kindOf([]byte(text))
		if kind != want[0] || version != want[1] {
			t.Errorf("%s: %q %q", text, kind, version)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"podSelectr", `did you mean "podSelector"?`},
		{"podselector", `did you mean "podSelector"?`},
		{"ipblock", `did you mean "ipBlock"?`},
		{"ingress", "the fields here are ipBlock, namespaceSelector, podSelector"},
	} {
		if got := nearest(tt.name, []string{"ipBlock", "namespaceSelector", "podSelector"}); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}
