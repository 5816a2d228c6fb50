package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"picket/internal/diag"
	"picket/internal/kube"
)

// parse adds the objects of one file's content.
func parse(b *kube.Builder, name string, data []byte) {
	if d, ok := notText(name, data); !ok {
		b.Unreadable(d)
		return
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	split(name, data, func(doc *document) bool {
		if b.Hopeless() {
			b.Unreadable(diag.Diagnostic{Position: doc.start(), Message: "too much is wrong: the rest of the file is passed over"})
			return false
		}
		if first := data[doc.content]; first != '{' && first != '[' || !doc.json(b) {
			doc.yaml(b)
		}
		return true
	})
}

// notText says why data can't be a manifest, or that it can.
func notText(name string, data []byte) (diag.Diagnostic, bool) {
	d := diag.Diagnostic{Position: diag.Position{File: name, Line: 1, Col: 1}}
	for _, bom := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(data, []byte(bom)) {
			d.Message, d.Fix = "the file is UTF-16 text", "save it as UTF-8"
			return d, false
		}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		d.Message = "the file is binary, not YAML or JSON"
		d.Position = at(name, data, i)
		return d, false
	}
	if !utf8.Valid(data) {
		i := 0
		for i < len(data) {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		d.Message, d.Fix = "the file is not UTF-8 text", "save it as UTF-8"
		d.Position = at(name, data, i)
		return d, false
	}
	return d, true
}

// at returns the position of an offset. Columns count bytes.
func at(name string, data []byte, offset int) diag.Position {
	before := data[:min(offset, len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	return diag.Position{File: name, Line: line, Col: len(before) - bytes.LastIndexByte(before, '\n')}
}

// document is one document of a YAML stream.
type document struct {
	file    string
	data    []byte // the whole file
	from    int    // where the document's text begins in data
	to      int    // where it ends
	line    int    // the line of from
	content int    // where its first line that says something begins, after blanks
	first   int    // the line of content
	piece   []byte // the text, of an item of a List; otherwise nil
	list    listType
}

func (d *document) text() []byte {
	if d.piece != nil {
		return d.piece
	}
	return d.data[d.from:d.to]
}

// start is the position of the first thing in the document.
func (d *document) start() diag.Position {
	bol := bytes.LastIndexByte(d.data[:d.content], '\n') + 1
	return diag.Position{File: d.file, Line: d.first, Col: d.content - bol + 1}
}

// split cuts a YAML stream at its separators and yields the documents, but for
// those that say nothing, until it is told to stop.
func split(name string, data []byte, yield func(*document) bool) {
	cur := document{file: name, data: data, line: 1}
	found := false
	end := func(to int) bool {
		cur.to = to
		doc := cur
		return !found || yield(&doc)
	}
	line := 0
	for pos := 0; pos < len(data); {
		line++
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		text := data[pos:next]
		if after, ok := separator(text); ok {
			if !end(pos) {
				return
			}
			from, first := pos+after, line
			if rest := bytes.TrimLeft(data[from:next], " \t\r\n"); len(rest) == 0 || rest[0] == '#' {
				from, first = next, line+1
			}
			cur, found = document{file: name, data: data, from: from, line: first}, false
			if from == next {
				pos = next
				continue
			}
			text, pos = data[from:next], from
		}
		if !found {
			if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] != '#' && text[0] != '%' {
				found = true
				cur.content, cur.first = pos+len(text)-len(trimmed), line
			}
		}
		pos = next
	}
	end(len(data))
}

// separator reports whether a line ends a document, and how long the marker is.
// What follows the marker on its line belongs to the next document.
func separator(line []byte) (after int, ok bool) {
	if len(line) < 3 || line[0] != '-' && line[0] != '.' {
		return 0, false
	}
	if marker := string(line[:3]); marker != "---" && marker != "..." {
		return 0, false
	}
	if len(line) > 3 && !strings.ContainsRune(" \t\r\n", rune(line[3])) {
		return 0, false
	}
	return 3, true
}

// json reads the document as JSON: one value, or several behind each other. It
// returns false if it is no JSON and may be YAML, whose flow style looks alike.
func (d *document) json(b *kube.Builder) bool {
	dec := json.NewDecoder(bytes.NewReader(d.data[d.content:d.to]))
	type value struct {
		raw json.RawMessage
		at  int
	}
	var values []value
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if d.to-d.content < 1<<20 && !strings.EqualFold(filepath.Ext(d.file), ".json") {
				return false
			}
			offset := d.content + int(dec.InputOffset())
			var syntax *json.SyntaxError
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF):
				offset = d.content + len(bytes.TrimRight(d.data[d.content:d.to], " \t\r\n"))
			case errors.As(err, &syntax):
				offset = d.content + max(0, int(syntax.Offset)-1)
			}
			for _, v := range values {
				b.Add(v.raw, &jsonSource{doc: d, raw: v.raw, base: v.at})
			}
			b.Unreadable(diag.Diagnostic{Position: at(d.file, d.data, offset), Message: "invalid JSON: " + err.Error()})
			return true
		}
		values = append(values, value{raw, d.content + int(dec.InputOffset()) - len(raw)})
	}
	for _, v := range values {
		b.Add(v.raw, &jsonSource{doc: d, raw: v.raw, base: v.at})
	}
	return true
}

// maxYAML bounds one YAML document, whose parsed form takes a hundred times its
// size. The API server takes no objects larger than 3 MiB; Lists are cut into
// their items first.
const maxYAML = 4 << 20

// yaml reads the document as YAML.
func (d *document) yaml(b *kube.Builder) {
	if d.piece == nil && d.splitList(b) {
		return
	}
	text := d.text()
	if len(text) > maxYAML {
		b.Unreadable(diag.Diagnostic{
			Position: d.start(), Message: fmt.Sprintf("the document is larger than %s", mib(maxYAML)),
			Fix: "cut it into several documents, or give it as JSON",
		})
		return
	}
	src := &yamlSource{doc: d}
	raw, err := yaml.YAMLToJSONStrict(text)
	switch {
	case err == nil && d.list.Kind != "":
		b.AddItem(raw, src, d.list.Kind, d.list.APIVersion)
		return
	case err == nil && d.kustomization(raw, b):
		return
	case err == nil:
		b.Add(raw, src)
		return
	}
	errs := d.yamlErrors(err)
	if raw, err := yaml.YAMLToJSON(text); err == nil {
		b.AddBroken(raw, src, errs...) // a key is there twice; the kind is known all the same
		return
	}
	for _, e := range errs {
		b.Unreadable(e)
	}
}

// kustomization reports whether the document is the file of that name that says
// no kind; it holds no objects.
func (d *document) kustomization(raw []byte, b *kube.Builder) bool {
	switch filepath.Base(d.file) {
	case "kustomization.yaml", "kustomization.yml":
	default:
		return false
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(raw, &head) != nil || head.Kind != "" {
		return false
	}
	b.Ignore("Kustomization")
	return true
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// yamlErrors makes diagnostics of what the YAML parser says, whose lines count
// from the document.
func (d *document) yamlErrors(err error) []diag.Diagnostic {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	lines := []string{text}
	if rest, ok := strings.CutPrefix(text, "unmarshal errors:\n"); ok {
		lines = strings.Split(rest, "\n")
	}
	var out []diag.Diagnostic
	for _, l := range lines[:min(len(lines), 20)] {
		l = strings.TrimSpace(l)
		e := diag.Diagnostic{Position: d.start()}
		if m := yamlLine.FindStringSubmatch(l); m != nil {
			n, _ := strconv.Atoi(m[1])
			e.Position.Line, e.Position.Col = min(d.line+n-1, d.lastLine()), 0
			l = l[len(m[0]):]
		}
		e.Message = "invalid YAML: " + shorten(l)
		switch {
		case strings.Contains(l, "already set in map"):
			e.Message, e.Fix = shorten(l), "remove one of them"
		case bytes.Contains(d.text(), []byte("{{")):
			e.Fix = "this looks like a template: render it first, as in helm template … | picket … -f -"
		case strings.Contains(l, "cannot start any token") && bytes.Contains(d.text(), []byte("\t")):
			e.Fix = "indent with spaces, not tabs"
		}
		out = append(out, e)
	}
	return out
}

func (d *document) lastLine() int {
	text := bytes.TrimSuffix(d.text(), []byte("\n"))
	return d.line + bytes.Count(text, []byte("\n"))
}

func shorten(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%s…", string(r[:most]))
	}
	return s
}
