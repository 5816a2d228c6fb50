package kube

import (
	"bytes"
	"cmp"
	gojson "encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/json"
)

// maxTypeErrors bounds how many wrong types of one object are reported.
const maxTypeErrors = 20

// decodeStrict is decode, and unknown and repeated fields are errors too.
// code may give an error of that kind a lint code and a fix of its own.
func (o *object) decodeStrict(raw []byte, v any, special func(path string) (code, fix string)) {
	stricts, err := json.UnmarshalStrict(raw, v)
	if err != nil {
		o.failTypes(raw, v, err)
		return
	}
	for _, e := range stricts {
		var fe json.FieldError
		if !errors.As(e, &fe) {
			o.fail("", "", "", "%s", e)
			continue
		}
		path := fe.FieldPath()
		if !strings.HasPrefix(e.Error(), "unknown field") {
			o.fail("", path, "remove one of them", "duplicate field %q", path)
			continue
		}
		code, fix := special(path)
		if fix == "" {
			fix = suggest(reflect.TypeOf(v), path)
		}
		o.fail(code, path, fix, "unknown field %q", path)
	}
}

// failTypes reports the values of raw that do not fit v, which gave err.
func (o *object) failTypes(raw []byte, v any, err error) {
	var tree any
	dec := gojson.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&tree) != nil {
		o.fail("", "", "", "%s", err)
		return
	}
	var found []mismatch
	mismatches(tree, reflect.TypeOf(v).Elem(), "", &found)
	if len(found) == 0 {
		o.fail("", "", "", "%s", strings.TrimPrefix(err.Error(), "json: "))
		return
	}
	for _, m := range found[:min(len(found), maxTypeErrors)] {
		o.fail("", m.path, m.fix, "%s: %s", cmp.Or(m.path, "the object"), m.text)
	}
}

type mismatch struct{ path, text, fix string }

var unmarshaler = reflect.TypeFor[gojson.Unmarshaler]()

// mismatches compares decoded JSON with the type that it is for.
func mismatches(v any, t reflect.Type, path string, out *[]mismatch) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil || len(*out) > maxTypeErrors {
		return
	}
	bad := func(want string) {
		m := mismatch{path: path, text: fmt.Sprintf("want %s, found %s", want, describe(v))}
		if n, ok := v.(gojson.Number); ok && want == "a string" {
			m.fix = fmt.Sprintf("put it in quotes: %q", n.String())
		}
		if _, ok := v.(bool); ok && want == "a string" {
			m.fix = "put it in quotes; YAML takes y, n, yes, no, on and off for true and false"
		}
		*out = append(*out, m)
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		raw, err := gojson.Marshal(v)
		if err == nil && reflect.New(t).Interface().(gojson.Unmarshaler).UnmarshalJSON(raw) != nil {
			if t.Name() == "IntOrString" {
				bad("a number or a string")
			} else {
				bad("a " + t.Name())
			}
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			bad("an object")
			return
		}
		known := jsonFields(t)
		for _, name := range sortedKeys(m) {
			if ft, ok := known[name]; ok {
				mismatches(m[name], ft, join(path, name), out)
			}
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			bad("an object")
			return
		}
		for _, name := range sortedKeys(m) {
			mismatches(m[name], t.Elem(), path+"["+name+"]", out)
		}
	case reflect.Slice:
		l, ok := v.([]any)
		if !ok {
			bad("a list")
			return
		}
		for i, e := range l {
			mismatches(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i), out)
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			bad("a string")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			bad("true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32:
		n, ok := v.(gojson.Number)
		if !ok {
			bad("a whole number")
			return
		}
		if _, err := strconv.ParseInt(n.String(), 10, t.Bits()); err != nil {
			bad("a whole number of " + strconv.Itoa(t.Bits()) + " bits")
		}
	}
}

// describe says what a JSON value is.
func describe(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "the string " + strconv.Quote(shorten(v))
	case gojson.Number:
		return "the number " + shorten(v.String())
	case nil:
		return "null"
	default:
		return fmt.Sprint(v)
	}
}

// shorten keeps messages readable whatever the input holds.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// jsonFields returns the JSON names of a struct's fields with their types.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && (name == "" || strings.Contains(opts, "inline")):
			for n, ft := range jsonFields(f.Type) {
				out[n] = ft
			}
		case name != "" && name != "-":
			out[name] = f.Type
		}
	}
	return out
}

// suggest says which field of t may have been meant by the unknown one at path.
func suggest(t reflect.Type, path string) string {
	at := path
	for {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return ""
		}
		known := jsonFields(t)
		first, rest := splitPath(at)
		ft, ok := known[first]
		if !ok {
			return nearest(first, sortedKeys(known))
		}
		t, at = ft, rest
		if at == "" {
			return ""
		}
	}
}

// splitPath takes the first field off a path, with the indices after it.
func splitPath(path string) (first, rest string) {
	i := strings.IndexAny(path, ".[")
	if i < 0 {
		return path, ""
	}
	first, rest = path[:i], path[i:]
	for strings.HasPrefix(rest, "[") {
		_, after, ok := strings.Cut(rest, "]")
		if !ok {
			return first, ""
		}
		rest = after
	}
	return first, strings.TrimPrefix(rest, ".")
}

// nearest says which of known is written most like name.
func nearest(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "the fields here are " + strings.Join(known, ", ")
}

// distance is the number of letters to add, drop, change or swap.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 1 << 20
	}
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := 1
			if a[i-1] == b[j-1] {
				d = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+d)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
