package manifest

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"picket/internal/diag"
	"picket/internal/kube"
)

// itemAt is where an item begins: offset and line, from 0, in its document.
type itemAt struct{ offset, line int }

// itemLines finds where the items of a List in block style begin: the lines
// that start with "-" at the depth of the first one below "items:". It returns
// nil if the list is written in some other way, and the parser must find them.
func itemLines(text []byte) []itemAt {
	out := []itemAt{}
	pos, depth, line := 0, -1, -1
	inside := false
	for l := range bytes.Lines(text) {
		from := pos
		pos += len(l)
		line++
		body := bytes.TrimLeft(l, " ")
		indent := len(l) - len(body)
		body = bytes.TrimRight(body, " \t\r\n")
		switch {
		case len(body) == 0 || body[0] == '#':
		case !inside:
			inside = indent == 0 && bytes.Equal(body, []byte("items:"))
		case body[0] == '-' && (len(body) == 1 || body[1] == ' ') && (depth < 0 || indent == depth):
			depth = indent
			out = append(out, itemAt{from, line})
		case depth < 0, indent < depth, indent == depth && depth > 0:
			return out
		case indent == 0:
			return out
		}
	}
	return out
}

// bigList is from where on a List is read item by item.
var bigList = 64 << 10

// listType is the head of a List.
type listType struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// alias finds what may be a YAML alias. Items that share one can't be read
// apart.
var alias = regexp.MustCompile(`(?m)(^|[\s,:\[{-])\*[^\s*]`)

// splitList reads a large List in block style, as kubectl prints it, item by
// item, so that memory holds one at a time. It returns false, having done
// nothing, if the document is something else or its items need each other.
func (d *document) splitList(b *kube.Builder) bool {
	text := d.text()
	if len(text) < bigList {
		return false
	}
	src := &yamlSource{doc: d, items: itemLines(text)}
	if len(src.items) == 0 || alias.Match(text) {
		return false
	}
	from, to := src.items[0].offset, itemsEnd(text, src.items)
	frame := append(append([]byte{}, text[:from]...), text[to:]...)
	raw, err := yaml.YAMLToJSONStrict(frame)
	if err != nil {
		return false
	}
	var list struct {
		listType
		Items json.RawMessage `json:"items"`
	}
	if json.Unmarshal(raw, &list) != nil || !strings.HasSuffix(list.Kind, "List") || string(list.Items) != "null" {
		return false
	}
	for i := range src.items {
		if b.Hopeless() {
			b.Unreadable(diag.Diagnostic{Position: d.start(), Message: "too much is wrong: the rest of the list is passed over"})
			break
		}
		end := to
		if i+1 < len(src.items) {
			end = src.items[i+1].offset
		}
		item := d.item(src, i, end)
		item.list = list.listType
		item.yaml(b)
	}
	return true
}

// item returns the item of the List as a document of its own, its dash blanked
// so that columns stay. end is its end in the List's text.
func (d *document) item(src *yamlSource, i, end int) *document {
	at := src.items[i]
	start := src.itemStart(i)
	piece := bytes.Clone(d.text()[at.offset:end])
	piece[bytes.IndexByte(piece, '-')] = ' '
	from := d.from + at.offset
	return &document{
		file: d.file, data: d.data, from: from, to: d.from + end, line: start.Line,
		content: from + start.Col - 1, first: start.Line, piece: piece,
	}
}

// itemsEnd returns where the last item ends: at the first line after it that
// belongs to the List again.
func itemsEnd(text []byte, items []itemAt) int {
	last := items[len(items)-1].offset
	depth := bytes.IndexByte(text[last:], '-')
	pos := last
	for l := range bytes.Lines(text[last:]) {
		body := bytes.TrimLeft(l, " ")
		indent := len(l) - len(body)
		trimmed := bytes.TrimRight(body, " \t\r\n")
		if pos > last && len(trimmed) > 0 && trimmed[0] != '#' && indent <= depth {
			return pos
		}
		pos += len(l)
	}
	return len(text)
}
