package nearest

import "testing"

func TestWord(t *testing.T) {
	known := []string{"podSelector", "namespaceSelector", "ipBlock", "ports"}
	for _, c := range []struct{ word, want string }{
		{"podSelectr", "podSelector"},   // dropped
		{"podSelectorr", "podSelector"}, // added
		{"podselector", "podSelector"},  // case
		{"pdoSelector", "podSelector"},  // swapped
		{"prots", "ports"},
		{"port", "ports"},
		{"ipBlock", ""}, // it exists
		{"xyz", ""},
		{"", ""},
		{"selectors", ""},
	} {
		if got := Word(c.word, known); got != c.want {
			t.Errorf("%q: %q, want %q", c.word, got, c.want)
		}
	}
	if got := Word("a-very-long-name-that-is-another", []string{"a-very-long-name-that-was-no-other"}); got != "" {
		t.Errorf("too far: %q", got)
	}
	if got := Word("web", []string{"wed", "wep"}); got != "wed" {
		t.Errorf("of two as near: %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abc", "cab", 2}, {"flaw", "lawn", 2},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
