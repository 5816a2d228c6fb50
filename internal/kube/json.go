package kube

import (
	"bytes"
	"strconv"
	"strings"
)

// Offset returns where the JSON path lies in raw: the offset of the field's
// name, or of the item's first byte. If the path leads nowhere it is the offset
// of the deepest part that exists. Malformed JSON gives some offset inside raw.
func Offset(raw []byte, path string) int {
	s := scanner{raw: raw}
	s.space()
	at := s.i
	for path != "" {
		next, rest, ok := s.step(path)
		if !ok {
			break
		}
		at, path = next, rest
	}
	return min(at, len(raw))
}

// ItemOffsets returns the offset of each element of the field "items" of the
// object raw.
func ItemOffsets(raw []byte) []int {
	s := scanner{raw: raw}
	s.space()
	if _, _, ok := s.step("items"); !ok {
		return nil
	}
	var out []int
	if s.peek() != '[' {
		return nil
	}
	s.i++
	for s.space(); s.i < len(raw) && s.peek() != ']'; s.space() {
		out = append(out, s.i)
		if !s.skip() {
			break
		}
		if s.space(); s.peek() == ',' {
			s.i++
		}
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

// step goes from the value at the scanner to the child that path begins with.
// It returns where the child is written and the path that is left.
func (s *scanner) step(path string) (at int, rest string, ok bool) {
	if s.peek() == '[' {
		n, rest, found := cutIndex(path)
		if !found {
			return 0, "", false
		}
		s.i++
		for s.space(); ; n-- {
			if c := s.peek(); c == ']' || c == 0 {
				return 0, "", false
			}
			if n == 0 {
				return s.i, rest, true
			}
			if !s.skip() {
				return 0, "", false
			}
			s.space()
			if s.peek() == ',' {
				s.i++
				s.space()
			}
		}
	}
	best, bestValue, bestName := -1, 0, ""
	save := s.i
	s.fields(func(name []byte) bool {
		if after, match := CutKey(path, string(name)); match && len(name) >= len(bestName) {
			best, bestValue, bestName, rest = s.name, s.i, string(name), after
		}
		return true
	})
	if best < 0 {
		s.i = save
		return 0, "", false
	}
	s.i = bestValue
	return best, rest, true
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
func CutIndex(path string) (n int, rest string, ok bool) { return cutIndex(path) }

func cutIndex(path string) (n int, rest string, ok bool) {
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
