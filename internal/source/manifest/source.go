package manifest

import (
	"bytes"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"picket/internal/diag"
	"picket/internal/kube"
)

// yamlSource finds positions in a YAML document by parsing it once more, when
// first asked for one inside.
type yamlSource struct {
	doc    *document
	parsed bool
	root   *yaml.Node // nil if it can't be parsed
	items  []itemAt   // where the items of a List begin, as far as the layout shows it
}

// Position implements kube.Source.
func (s *yamlSource) Position(path string) diag.Position {
	if path == "" {
		return s.doc.start()
	}
	s.parse()
	if s.root == nil {
		return s.doc.start()
	}
	return s.position(locate(s.root, path))
}

func (s *yamlSource) position(n *yaml.Node) diag.Position {
	if n == nil || n.Line == 0 {
		return s.doc.start()
	}
	p := diag.Position{File: s.doc.file, Line: s.doc.line + n.Line - 1, Col: n.Column}
	if n.Line == 1 { // the document may begin after a separator
		bol := bytes.LastIndexByte(s.doc.data[:s.doc.from], '\n') + 1
		p.Col += s.doc.from - bol
	}
	return p
}

func (s *yamlSource) parse() {
	if s.parsed {
		return
	}
	s.parsed = true
	var doc yaml.Node
	if yaml.Unmarshal(s.doc.text(), &doc) == nil && len(doc.Content) == 1 {
		s.root = doc.Content[0]
	}
}

// locate walks a JSON path and returns the node that it names: the key of a
// field, or the item of a list. It returns nil for the root.
func locate(n *yaml.Node, path string) *yaml.Node {
	var at *yaml.Node
	for path != "" {
		for hops := 0; n.Kind == yaml.AliasNode && hops < 100; hops++ {
			n = n.Alias
		}
		var next, mark *yaml.Node
		var rest string
		switch n.Kind {
		case yaml.SequenceNode:
			if i, after, ok := kube.CutIndex(path); ok && i < len(n.Content) {
				next, mark, rest = n.Content[i], n.Content[i], after
			}
		case yaml.MappingNode:
			mark, next, rest = field(n, path, 0)
		}
		if next == nil {
			return at
		}
		at, n, path = mark, next, rest
	}
	return at
}

// field finds the longest key of a mapping that the path begins with, in the
// mapping itself or in what it merges by "<<".
func field(n *yaml.Node, path string, depth int) (key, value *yaml.Node, rest string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		after, ok := kube.CutKey(path, k.Value)
		if ok && (key == nil || len(k.Value) >= len(key.Value)) {
			key, value, rest = k, n.Content[i+1], after
		}
	}
	if key != nil || depth > 8 {
		return key, value, rest
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "<<" {
			continue
		}
		from := []*yaml.Node{n.Content[i+1]}
		if from[0].Kind == yaml.SequenceNode {
			from = from[0].Content
		}
		for _, m := range from {
			if m.Kind == yaml.AliasNode {
				m = m.Alias
			}
			if m.Kind == yaml.MappingNode {
				if key, value, rest = field(m, path, depth+1); key != nil {
					return key, value, rest
				}
			}
		}
	}
	return nil, nil, ""
}

// Comments implements kube.CommentSource.
func (s *yamlSource) Comments() []kube.Comment {
	return comments(s.doc.file, s.doc.text(), s.doc.line)
}

var commentMark = []byte("picket:")

// comments returns the comment lines for Picket in text, whose first line has
// the number given.
func comments(file string, text []byte, line int) []kube.Comment {
	if !bytes.Contains(text, commentMark) {
		return nil
	}
	var out []kube.Comment
	for l := range bytes.Lines(text) {
		trimmed := bytes.TrimLeft(l, " \t")
		if bytes.HasPrefix(trimmed, []byte("#")) {
			body := bytes.TrimSpace(bytes.TrimLeft(trimmed, "#"))
			if bytes.HasPrefix(body, commentMark) {
				out = append(out, kube.Comment{
					Text:     string(body),
					Position: diag.Position{File: file, Line: line, Col: len(l) - len(trimmed) + 1},
				})
			}
		}
		line++
	}
	return out
}

// Item implements kube.ListSource.
func (s *yamlSource) Item(i int) kube.Source {
	if s.items == nil {
		s.items = itemLines(s.doc.text())
	}
	return &itemSource{list: s, index: i}
}

// itemSource is an item of a YAML List.
type itemSource struct {
	list  *yamlSource
	index int
}

func (s *itemSource) prefix() string { return "items[" + strconv.Itoa(s.index) + "]" }

// Position implements kube.Source.
func (s *itemSource) Position(path string) diag.Position {
	if path == "" && s.index < len(s.list.items) {
		return s.list.itemStart(s.index)
	}
	switch {
	case path == "":
		path = s.prefix()
	case path[0] == '[':
		path = s.prefix() + path
	default:
		path = s.prefix() + "." + path
	}
	return s.list.Position(path)
}

// Comments implements kube.CommentSource. Where the lines of items are not
// known, comments belong to no item.
func (s *itemSource) Comments() []kube.Comment {
	items, text := s.list.items, s.list.doc.text()
	if s.index >= len(items) || !bytes.Contains(text, commentMark) {
		return nil
	}
	from := items[s.index]
	to := len(text)
	if s.index+1 < len(items) {
		to = items[s.index+1].offset
	}
	return comments(s.list.doc.file, text[from.offset:to], s.list.doc.line+from.line)
}

// itemStart returns where an item whose line is known begins.
func (s *yamlSource) itemStart(i int) diag.Position {
	line := s.doc.line + s.items[i].line
	l, _, _ := bytes.Cut(s.doc.text()[s.items[i].offset:], []byte("\n"))
	body := bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(l, " "), []byte("-")), " ")
	return diag.Position{File: s.doc.file, Line: line, Col: len(l) - len(body) + 1}
}

// jsonSource finds positions in JSON text.
type jsonSource struct {
	doc   *document
	raw   []byte
	base  int   // offset of raw in the file
	items []int // offsets of the items in raw, once asked for
	lines *lineIndex
	index *kube.Index // once a path was asked for
}

// Position implements kube.Source.
func (s *jsonSource) Position(path string) diag.Position {
	if s.lines == nil {
		s.lines = &lineIndex{}
	}
	if path == "" {
		return s.lines.at(s.doc, s.base+len(s.raw)-len(bytes.TrimLeft(s.raw, " \t\r\n")))
	}
	if s.index == nil {
		s.index = kube.NewIndex(s.raw)
	}
	return s.lines.at(s.doc, s.base+s.index.Offset(path))
}

// Item implements kube.ListSource.
func (s *jsonSource) Item(i int) kube.Source {
	if s.lines == nil {
		s.lines = &lineIndex{}
	}
	if s.items == nil {
		s.items = append(kube.ItemOffsets(s.raw), len(s.raw))
	}
	if i+1 >= len(s.items) {
		return s
	}
	from := s.items[i]
	return &jsonSource{doc: s.doc, raw: s.raw[from:s.items[i+1]], base: s.base + from, lines: s.lines}
}

// lineIndex holds where the lines of a file begin.
type lineIndex struct{ starts []int }

func (x *lineIndex) at(d *document, offset int) diag.Position {
	if x.starts == nil {
		x.starts = []int{0}
		for i, c := range d.data {
			if c == '\n' {
				x.starts = append(x.starts, i+1)
			}
		}
	}
	i, ok := slices.BinarySearch(x.starts, offset)
	if !ok {
		i--
	}
	return diag.Position{File: d.file, Line: i + 1, Col: offset - x.starts[i] + 1}
}
