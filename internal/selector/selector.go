// Package selector holds label selectors in canonical form, so that two
// selectors written differently but with the same requirements are equal
// values, and answers what one needs to know of them beyond matching: whether
// one implies another, whether two exclude each other, whether one can match
// anything at all.
//
// The zero Selector matches nothing: a selector that somebody forgot to set
// opens no door. Everything returns the selector that matches all labels.
package selector

import (
	"slices"
	"strconv"
	"strings"
)

// Op is the operator of a Requirement, as in metav1.LabelSelectorOperator.
type Op uint8

// The operators. NotIn and NotExists also match where the key is absent.
const (
	In Op = iota
	NotIn
	Exists
	NotExists
)

// Requirement restricts the value of one label key.
type Requirement struct {
	Key    string
	Op     Op
	Values []string // sorted, without duplicates; only for In and NotIn
}

// Matches reports whether labels satisfy the requirement.
func (r Requirement) Matches(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Op {
	case In:
		return ok && r.has(v)
	case NotIn:
		return !ok || !r.has(v)
	case Exists:
		return ok
	default:
		return !ok
	}
}

func (r Requirement) has(v string) bool {
	_, ok := slices.BinarySearch(r.Values, v)
	return ok
}

// String returns the requirement in kubectl's notation: "a=b", "a in (b,c)",
// "a!=b", "a notin (b,c)", "a", "!a".
func (r Requirement) String() string {
	switch r.Op {
	case In:
		if len(r.Values) == 1 {
			return r.Key + "=" + r.Values[0]
		}
		return r.Key + " in (" + strings.Join(r.Values, ",") + ")"
	case NotIn:
		if len(r.Values) == 1 {
			return r.Key + "!=" + r.Values[0]
		}
		return r.Key + " notin (" + strings.Join(r.Values, ",") + ")"
	case Exists:
		return r.Key
	default:
		return "!" + r.Key
	}
}

// Selector is a conjunction of requirements. It is immutable and safe to share.
type Selector struct {
	ok    bool // false only in the zero value, which matches nothing
	never bool // the requirements contradict each other
	reqs  []Requirement
}

// Everything returns the selector that matches all labels, also none.
func Everything() Selector { return Selector{ok: true} }

// New returns the selector that all reqs together describe. Values may be in
// any order and repeat. Requirements of one key are merged as far as they can
// be; no requirement at all is Everything.
func New(reqs ...Requirement) Selector {
	s := Selector{ok: true}
	byKey := map[string][]Requirement{}
	keys := make([]string, 0, len(reqs))
	for _, r := range reqs {
		if byKey[r.Key] == nil {
			keys = append(keys, r.Key)
		}
		byKey[r.Key] = append(byKey[r.Key], r)
	}
	slices.Sort(keys)
	for _, k := range keys {
		rs, never := merge(k, byKey[k])
		s.never = s.never || never
		s.reqs = append(s.reqs, rs...)
	}
	return s
}

// merge returns the canonical requirements of one key: a single In, or an
// optional Exists and an optional NotIn, or NotExists. If they can't all hold,
// it returns them as they came and true.
func merge(key string, rs []Requirement) ([]Requirement, bool) {
	var in, notIn []string
	var hasIn, exists, absent bool
	for _, r := range rs {
		vs := slices.Clone(r.Values)
		slices.Sort(vs)
		vs = slices.Compact(vs)
		switch r.Op {
		case In:
			if hasIn {
				in = slices.DeleteFunc(in, func(v string) bool { return !slices.Contains(vs, v) })
			} else {
				in, hasIn = vs, true
			}
		case NotIn:
			notIn = append(notIn, vs...)
		case Exists:
			exists = true
		case NotExists:
			absent = true
		}
	}
	slices.Sort(notIn)
	notIn = slices.Compact(notIn)
	if hasIn {
		left := slices.DeleteFunc(slices.Clone(in), func(v string) bool { return slices.Contains(notIn, v) })
		if len(left) == 0 || absent {
			return originals(rs), true
		}
		return []Requirement{{Key: key, Op: In, Values: left}}, false
	}
	if absent && exists {
		return originals(rs), true
	}
	if absent {
		return []Requirement{{Key: key, Op: NotExists}}, false
	}
	var out []Requirement
	if exists {
		out = append(out, Requirement{Key: key, Op: Exists})
	}
	if len(notIn) > 0 {
		out = append(out, Requirement{Key: key, Op: NotIn, Values: notIn})
	}
	return out, false
}

// originals returns rs with sorted values, in an order of their own.
func originals(rs []Requirement) []Requirement {
	out := slices.Clone(rs)
	for i := range out {
		out[i].Values = slices.Clone(out[i].Values)
		slices.Sort(out[i].Values)
		out[i].Values = slices.Compact(out[i].Values)
	}
	slices.SortFunc(out, func(a, b Requirement) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(out, func(a, b Requirement) bool { return a.String() == b.String() })
}

// FromLabels returns the selector that requires each label with its value.
func FromLabels(labels map[string]string) Selector {
	reqs := make([]Requirement, 0, len(labels))
	for k, v := range labels {
		reqs = append(reqs, Requirement{Key: k, Op: In, Values: []string{v}})
	}
	return New(reqs...)
}

// Requirements returns the canonical requirements, sorted by key. The caller
// must not change them.
func (s Selector) Requirements() []Requirement { return s.reqs }

// IsEverything reports whether s matches all labels.
func (s Selector) IsEverything() bool { return s.ok && !s.never && len(s.reqs) == 0 }

// IsNothing reports whether s can match no labels: it contradicts itself, or
// it is the zero value.
func (s Selector) IsNothing() bool { return !s.ok || s.never }

// Matches reports whether labels satisfy every requirement.
func (s Selector) Matches(labels map[string]string) bool {
	if s.IsNothing() {
		return false
	}
	for _, r := range s.reqs {
		if !r.Matches(labels) {
			return false
		}
	}
	return true
}

// And returns the selector that matches what both match.
func (s Selector) And(o Selector) Selector {
	if !s.ok || !o.ok {
		return Selector{}
	}
	return New(append(slices.Clone(s.reqs), o.reqs...)...)
}

// Equal reports whether both selectors have the same canonical form. Two
// selectors that can never match are equal.
func (s Selector) Equal(o Selector) bool { return s.Key() == o.Key() }

// Implies reports whether labels that match s always match o. It is exact.
func (s Selector) Implies(o Selector) bool {
	if s.IsNothing() {
		return true
	}
	if o.IsNothing() {
		return false
	}
	// s implies o exactly if s contradicts the negation of each requirement
	// of o.
	for _, r := range o.reqs {
		if !s.And(New(r.negate())).IsNothing() {
			return false
		}
	}
	return true
}

// Disjoint reports whether no labels match both. It is exact.
func (s Selector) Disjoint(o Selector) bool { return s.And(o).IsNothing() }

func (r Requirement) negate() Requirement {
	r.Op = map[Op]Op{In: NotIn, NotIn: In, Exists: NotExists, NotExists: Exists}[r.Op]
	return r
}

// Key returns a string that is equal for equal selectors only.
func (s Selector) Key() string {
	if s.IsNothing() {
		return "!"
	}
	var b strings.Builder
	for _, r := range s.reqs {
		b.WriteString(strconv.Itoa(int(r.Op)))
		for _, v := range append([]string{r.Key}, r.Values...) {
			b.WriteString(strconv.Quote(v))
		}
	}
	return b.String()
}

// String returns the requirements in kubectl's notation, joined by commas;
// "everything" or "nothing" where there are none.
func (s Selector) String() string {
	if !s.ok {
		return "nothing"
	}
	if len(s.reqs) == 0 {
		return "everything"
	}
	out := make([]string, len(s.reqs))
	for i, r := range s.reqs {
		out[i] = r.String()
	}
	return strings.Join(out, ",")
}
