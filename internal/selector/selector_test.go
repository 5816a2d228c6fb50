package selector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"picket/internal/selector"
)

// The tiny world of the exhaustive tests: each key is absent or has one of the
// values. No selector below names the value "z", which stands for all values
// that a selector can't foresee.
var (
	keys   = []string{"a", "b"}
	values = []string{"x", "y", "z"}
)

// universe lists every label set of the tiny world.
func universe() []map[string]string {
	out := []map[string]string{{}}
	for _, k := range keys {
		for _, l := range out {
			for _, v := range values {
				m := map[string]string{k: v}
				for k2, v2 := range l {
					m[k2] = v2
				}
				out = append(out, m)
			}
		}
	}
	return out
}

// requirements lists every requirement of the tiny world.
func requirements() []selector.Requirement {
	var out []selector.Requirement
	for _, k := range keys {
		for _, op := range []selector.Op{selector.In, selector.NotIn} {
			for _, vs := range [][]string{{"x"}, {"y"}, {"x", "y"}} {
				out = append(out, selector.Requirement{Key: k, Op: op, Values: vs})
			}
		}
		out = append(out, selector.Requirement{Key: k, Op: selector.Exists}, selector.Requirement{Key: k, Op: selector.NotExists})
	}
	return out
}

// selectors lists every selector of up to three requirements of the tiny
// world, together with the requirements it was made of, and the zero value.
func selectors() (out []selector.Selector, made [][]selector.Requirement) {
	add := func(rs ...selector.Requirement) {
		out, made = append(out, selector.New(rs...)), append(made, slices.Clone(rs))
	}
	add()
	rs := requirements()
	for i := range rs {
		add(rs[i])
		for j := i; j < len(rs); j++ {
			add(rs[i], rs[j])
		}
	}
	for _, t := range [][3]int{{0, 3, 6}, {3, 4, 6}, {6, 7, 0}, {2, 3, 8}, {2, 3, 4}, {5, 6, 10}, {3, 6, 11}} {
		add(rs[t[0]], rs[t[1]], rs[t[2]])
	}
	return out, made
}

// theirs is the selector as the Kubernetes libraries read it.
func theirs(t *testing.T, rs []selector.Requirement) labels.Selector {
	t.Helper()
	ls := &metav1.LabelSelector{}
	for _, r := range rs {
		op := map[selector.Op]metav1.LabelSelectorOperator{
			selector.In: metav1.LabelSelectorOpIn, selector.NotIn: metav1.LabelSelectorOpNotIn,
			selector.Exists: metav1.LabelSelectorOpExists, selector.NotExists: metav1.LabelSelectorOpDoesNotExist,
		}[r.Op]
		ls.MatchExpressions = append(ls.MatchExpressions, metav1.LabelSelectorRequirement{Key: r.Key, Operator: op, Values: r.Values})
	}
	s, err := metav1.LabelSelectorAsSelector(ls)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// extent returns which label sets of the tiny world s matches.
func extent(s selector.Selector, world []map[string]string) string {
	var b strings.Builder
	for _, l := range world {
		if s.Matches(l) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

func TestMatchesLikeKubernetes(t *testing.T) {
	world := universe()
	all, made := selectors()
	for i, s := range all {
		want := theirs(t, made[i])
		for _, l := range world {
			if got := s.Matches(l); got != want.Matches(labels.Set(l)) {
				t.Errorf("%v (of %v): Matches(%v) = %v", s, made[i], l, got)
			}
		}
	}
}

// TestRelations compares what the selectors say of each other with what they
// match, for every pair.
func TestRelations(t *testing.T) {
	world := universe()
	all, _ := selectors()
	all = append(all, selector.Selector{})
	extents := make([]string, len(all))
	for i, s := range all {
		extents[i] = extent(s, world)
		if got, want := s.IsNothing(), !strings.Contains(extents[i], "1"); got != want {
			t.Errorf("%v: IsNothing() = %v", s, got)
		}
		if got, want := s.IsEverything(), !strings.Contains(extents[i], "0"); got != want {
			t.Errorf("%v: IsEverything() = %v", s, got)
		}
	}
	for i, a := range all {
		for j, b := range all {
			implies, disjoint := true, true
			for k := range world {
				implies = implies && (extents[i][k] == '0' || extents[j][k] == '1')
				disjoint = disjoint && (extents[i][k] == '0' || extents[j][k] == '0')
			}
			if a.Implies(b) != implies {
				t.Fatalf("(%v).Implies(%v) = %v", a, b, !implies)
			}
			if a.Disjoint(b) != disjoint {
				t.Fatalf("(%v).Disjoint(%v) = %v", a, b, !disjoint)
			}
			if same := extents[i] == extents[j]; a.Equal(b) != same || (a.Key() == b.Key()) != same {
				t.Fatalf("(%v).Equal(%v) = %v", a, b, !same)
			}
			and := extent(a.And(b), world)
			for k := range world {
				if (and[k] == '1') != (extents[i][k] == '1' && extents[j][k] == '1') {
					t.Fatalf("(%v).And(%v) is wrong for %v", a, b, world[k])
				}
			}
		}
	}
}

func TestZeroValueMatchesNothing(t *testing.T) {
	var zero selector.Selector
	for _, l := range universe() {
		if zero.Matches(l) {
			t.Errorf("the zero Selector matches %v", l)
		}
	}
	if zero.String() != "nothing" || !zero.IsNothing() || zero.IsEverything() {
		t.Errorf("zero value: %q, IsNothing %v, IsEverything %v", zero, zero.IsNothing(), zero.IsEverything())
	}
	if !zero.And(selector.Everything()).IsNothing() {
		t.Error("the zero Selector and Everything together match something")
	}
	if !selector.New(selector.Requirement{Key: "a", Op: selector.In}).IsNothing() {
		t.Error("In without values matches something")
	}
}

func TestString(t *testing.T) {
	r := func(k string, op selector.Op, vs ...string) selector.Requirement {
		return selector.Requirement{Key: k, Op: op, Values: vs}
	}
	for _, tt := range []struct {
		s    selector.Selector
		want string
	}{
		{selector.Everything(), "everything"},
		{selector.FromLabels(nil), "everything"},
		{selector.FromLabels(map[string]string{"b": "1", "a": "2"}), "a=2,b=1"},
		{selector.New(r("a", selector.In, "y", "x", "y")), "a in (x,y)"},
		{selector.New(r("a", selector.In, "x", "y"), r("a", selector.NotIn, "x")), "a=y"},
		{selector.New(r("a", selector.NotIn, "y"), r("a", selector.NotIn, "x")), "a notin (x,y)"},
		{selector.New(r("a", selector.NotIn, "y"), r("a", selector.Exists)), "a,a!=y"},
		{selector.New(r("a", selector.NotExists), r("a", selector.NotIn, "y")), "!a"},
		{selector.New(r("a", selector.In, "x"), r("a", selector.In, "y")), "a=x,a=y"},
		{selector.New(r("a", selector.Exists), r("a", selector.NotExists)), "!a,a"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestKeysDoNotRunTogether holds that parts of a key keep their borders.
func TestKeysDoNotRunTogether(t *testing.T) {
	in := func(key string, vs ...string) selector.Selector {
		return selector.New(selector.Requirement{Key: key, Op: selector.In, Values: vs})
	}
	for _, p := range [][2]selector.Selector{{in("a", "bc"), in("ab", "c")}, {in("a", "b", "c"), in("a", "bc")}} {
		if p[0].Equal(p[1]) {
			t.Errorf("%v and %v have the same key", p[0], p[1])
		}
	}
}

func TestNewKeepsItsArguments(t *testing.T) {
	vs := []string{"y", "x", "y"}
	s := selector.New(selector.Requirement{Key: "a", Op: selector.In, Values: vs}, selector.Requirement{Key: "a", Op: selector.In, Values: []string{"x"}})
	if !slices.Equal(vs, []string{"y", "x", "y"}) || s.String() != "a=x" {
		t.Errorf("New left %v and made %v", vs, s)
	}
}

func FuzzSelector(f *testing.F) {
	f.Add("a", "x", "a", "y", uint8(0), "a", "x")
	f.Add("a", "", "a", "", uint8(3), "", "")
	f.Add("k\"1", "v", "k", "1\"v", uint8(9), "k", "v")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, ops uint8, lk, lv string) {
		a := selector.Requirement{Key: k1, Op: selector.Op(ops & 3), Values: []string{v1, v2}}
		b := selector.Requirement{Key: k2, Op: selector.Op(ops >> 2 & 3), Values: []string{v2}}
		sa, sb, both := selector.New(a), selector.New(b), selector.New(b, a)
		for _, l := range []map[string]string{nil, {lk: lv}, {k1: v1, k2: v2}, {k2: lv}, {k1: lv, lk: v2}} {
			if each := sa.Matches(l) && sb.Matches(l); both.Matches(l) != each {
				t.Fatalf("%v matches %v: %v, one by one %v", both, l, both.Matches(l), each)
			}
			if both.Matches(l) && (both.IsNothing() || sa.Disjoint(sb)) {
				t.Fatalf("%v matches %v, and claims to match nothing", both, l)
			}
		}
		if !both.Implies(sa) || !both.Implies(sb) || !both.Equal(sa.And(sb)) {
			t.Fatalf("%v and %v give %v", sa, sb, both)
		}
		if sa.Implies(sb) && sb.Implies(sa) != sa.Equal(sb) {
			t.Fatalf("%v and %v imply each other and differ", sa, sb)
		}
	})
}

func ExampleSelector_Implies() {
	prod := selector.FromLabels(map[string]string{"env": "prod"})
	live := selector.New(selector.Requirement{Key: "env", Op: selector.In, Values: []string{"prod", "staging"}})
	fmt.Println(prod.Implies(live), live.Implies(prod), prod.Disjoint(live))
	// Output: true false false
}

func ExampleNew() {
	s := selector.New(
		selector.Requirement{Key: "env", Op: selector.In, Values: []string{"qa", "prod"}},
		selector.Requirement{Key: "env", Op: selector.NotIn, Values: []string{"qa"}},
	)
	fmt.Println(s, s.Matches(map[string]string{"env": "prod", "tier": "web"}))
	// Output: env=prod true
}
