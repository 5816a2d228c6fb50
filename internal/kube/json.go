package kube

import (
	"bytes"
	"strconv"
	"strings"
)

// Index finds JSON paths in text. It remembers the layout of every object and
// list that it has walked through, so that many questions cost little more than
// one. Malformed JSON gives some offset inside the text.
type Index struct {
	raw    []byte
	fields map[int][]fieldSpan // by the offset of the object
	items  map[int][]int       // offsets, by the offset of the list
}

type fieldSpan struct {
	name         string
	begin, value int // offsets of the name and the value
}

// NewIndex returns an Index of raw, which must not change.
func NewIndex(raw []byte) *Index {
	return &Index{raw: raw, fields: map[int][]fieldSpan{}, items: map[int][]int{}}
}

// Offset returns where the path lies: the offset of the field's name, or of the
// item's first byte. If the path leads nowhere it is the offset of the deepest
// part that exists.
func (x *Index) Offset(path string) int {
	s := scanner{raw: x.raw}
	s.space()
	at, value := s.i, s.i
	for path != "" {
		begin, next, rest, ok := x.step(value, path)
		if !ok {
			break
		}
		at, value, path = begin, next, rest
	}
	return min(at, len(x.raw))
}

// step goes from the value at the offset to the child that path begins with. It
// returns where the child and its value are written and the path that is left.
func (x *Index) step(at int, path string) (begin, value int, rest string, ok bool) {
	if at >= len(x.raw) {
		return 0, 0, "", false
	}
	if x.raw[at] == '[' {
		list, known := x.items[at]
		if !known {
			s := scanner{raw: x.raw, i: at}
			for _, span := range s.items() {
				list = append(list, span[0])
			}
			x.items[at] = list
		}
		n, rest, ok := CutIndex(path)
		if !ok || n >= len(list) {
			return 0, 0, "", false
		}
		return list[n], list[n], rest, true
	}
	fields, known := x.fields[at]
	if !known {
		s := scanner{raw: x.raw, i: at}
		s.fields(func(name []byte) bool {
			fields = append(fields, fieldSpan{string(name), s.name, s.i})
			return true
		})
		x.fields[at] = fields
	}
	best := -1
	for _, f := range fields {
		if after, match := CutKey(path, f.name); match && len(f.name) >= best {
			best, begin, value, rest = len(f.name), f.begin, f.value, after
		}
	}
	return begin, value, rest, best >= 0
}

// ItemOffsets returns the offset of each element of the field "items" of the
// object raw.
func ItemOffsets(raw []byte) []int {
	s := scanner{raw: raw}
	if !s.find("items") {
		return nil
	}
	var out []int
	for _, span := range s.items() {
		out = append(out, span[0])
	}
	return out
}

// kindOf returns the values of the top-level fields "kind" and "apiVersion" of
// an object.
func kindOf(raw []byte) (kind, apiVersion string) {
	s := scanner{raw: raw}
	s.space()
	s.fields(func(name []byte) bool {
		var to *string
		switch string(name) {
		case "kind":
			to = &kind
		case "apiVersion":
			to = &apiVersion
		default:
			return true
		}
		from := s.i
		if !s.skip() {
			return false
		}
		if v, err := strconv.Unquote(string(raw[from:s.i])); err == nil {
			*to = v
		}
		return kind == "" || apiVersion == ""
	})
	return kind, apiVersion
}

// scanner walks JSON text without decoding it. It is lenient: what it is given
// has been, or will be, checked by a decoder.
type scanner struct {
	raw  []byte
	i    int
	name int // where the name of the current field begins
}

func (s *scanner) peek() byte {
	if s.i < len(s.raw) {
		return s.raw[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.raw) {
		switch s.raw[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// str skips a string and returns what is between its quotes, escapes and all.
func (s *scanner) str() []byte {
	s.i++
	from := s.i
	for s.i < len(s.raw) {
		switch s.raw[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return s.raw[from : s.i-1]
		}
		s.i++
	}
	s.i = len(s.raw)
	return s.raw[from:]
}

// skip passes over one value. It reports whether there was one.
func (s *scanner) skip() bool {
	s.space()
	depth := 0
	for s.i < len(s.raw) {
		switch c := s.raw[s.i]; c {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			depth--
			s.i++
		default:
			n := bytes.IndexAny(s.raw[s.i:], "\",:{}[] \t\r\n")
			switch {
			case n < 0:
				s.i = len(s.raw)
			case n == 0:
				s.i++
			default:
				s.i += n
			}
		}
		if depth <= 0 {
			return depth == 0
		}
	}
	return false
}

// fields calls f for each field of the object at the scanner, which then stands
// before the value; f passes over the value itself, or returns true without
// moving to have it skipped, or false to stop.
func (s *scanner) fields(f func(name []byte) bool) {
	if s.peek() != '{' {
		return
	}
	s.i++
	for {
		s.space()
		if s.peek() != '"' {
			return
		}
		s.name = s.i
		name := s.str()
		s.space()
		if s.peek() != ':' {
			return
		}
		s.i++
		s.space()
		at := s.i
		if !f(name) {
			return
		}
		if s.i == at && !s.skip() {
			return
		}
		s.space()
		if s.peek() != ',' {
			return
		}
		s.i++
	}
}

// find moves to the value of the top-level field called name; of several, the
// last counts, as for decoders.
func (s *scanner) find(name string) bool {
	found := -1
	s.space()
	s.fields(func(n []byte) bool {
		if string(n) == name {
			found = s.i
		}
		return true
	})
	s.i = found
	return found >= 0
}

// maxListed bounds a List. It is what a cluster of the largest supported size
// has several times over.
const maxListed = 1_000_000

// items passes over the list at the scanner and returns where its elements
// begin and end: of a longer list than may be, one more than may be.
func (s *scanner) items() [][2]int {
	var out [][2]int
	if s.peek() != '[' {
		return nil
	}
	s.i++
	for s.space(); s.i < len(s.raw) && s.peek() != ']' && len(out) <= maxListed; s.space() {
		from := s.i
		if !s.skip() {
			break
		}
		out = append(out, [2]int{from, s.i})
		if s.space(); s.peek() == ',' {
			s.i++
		}
	}
	return out
}

// CutKey takes the mapping key off the front of a JSON path: "a.b[0]" without
// "a" is "b[0]", "[x/y].z" without "x/y" is "z", and "a[0]" without "a" is
// "[0]". It reports whether the path begins with the key.
func CutKey(path, name string) (rest string, ok bool) {
	if in, found := strings.CutPrefix(path, "["); found {
		rest, ok = strings.CutPrefix(in, name+"]")
		return strings.TrimPrefix(rest, "."), ok
	}
	rest, ok = strings.CutPrefix(path, name)
	if !ok || name == "" || rest != "" && rest[0] != '.' && rest[0] != '[' {
		return "", false
	}
	return strings.TrimPrefix(rest, "."), true
}

// CutIndex takes "[3]" off the front of a JSON path.
func CutIndex(path string) (n int, rest string, ok bool) {
	in, found := strings.CutPrefix(path, "[")
	if !found {
		return 0, "", false
	}
	digits, rest, found := strings.Cut(in, "]")
	n, err := strconv.Atoi(digits)
	if !found || err != nil || n < 0 {
		return 0, "", false
	}
	return n, strings.TrimPrefix(rest, "."), true
}
