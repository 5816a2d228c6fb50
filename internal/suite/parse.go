package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"picket/internal/diag"
	"picket/internal/nearest"
	"picket/internal/verdict"
)

// APIVersion and Kind are the type of a suite's document.
const (
	APIVersion = "picket/v1"
	Kind       = "Suite"
)

// maxNodes bounds how many YAML nodes a file may stand for once its aliases
// are followed.
const maxNodes = 1 << 20

// Parse reads the suites of a file: YAML or JSON, one or more documents. It is
// strict: an unknown field is an error. Tests that could be read are returned
// also if others could not. The file's name is for positions only.
func Parse(file string, data []byte) ([]Test, diag.List) {
	p := &parser{file: file}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	documents := 0
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		documents++
		if err != nil {
			p.diags = append(p.diags, syntaxError(file, err))
			break
		}
		if len(doc.Content) == 1 && !isNull(doc.Content[0]) {
			p.suite(doc.Content[0])
		} else {
			documents--
		}
	}
	if documents == 0 {
		p.diags = append(p.diags, diag.Diagnostic{Position: diag.Position{File: file}, Message: "the file holds no suite"})
	}
	p.diags.Sort()
	return p.tests, p.diags
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func syntaxError(file string, err error) diag.Diagnostic {
	d := diag.Diagnostic{Position: diag.Position{File: file}}
	m := yamlLine.FindStringSubmatch(err.Error())
	if len(m) == 2 {
		d.Position.Line, _ = strconv.Atoi(m[1])
		d.Message = "not YAML: " + strings.TrimPrefix(err.Error(), m[0])
	} else {
		d.Message = "not YAML: " + err.Error()
	}
	return d
}

type parser struct {
	file  string
	tests []Test
	diags diag.List
	nodes int
}

func (p *parser) at(n *yaml.Node) diag.Position {
	return diag.Position{File: p.file, Line: n.Line, Col: n.Column}
}

func (p *parser) errorf(n *yaml.Node, path, format string, args ...any) {
	p.diags = append(p.diags, diag.Diagnostic{Position: p.at(n), Path: path, Message: fmt.Sprintf(format, args...)})
}

// follow returns the node that n stands for.
func (p *parser) follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	p.nodes++
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// field is an entry of a mapping.
type field struct {
	key   *yaml.Node
	value *yaml.Node
	path  string
}

// fields returns the entries of mapping n that are known by name, in the order
// of the file, and reports all others. An entry of value null counts as
// missing.
func (p *parser) fields(n *yaml.Node, path, what string, known ...string) ([]field, bool) {
	n = p.follow(n)
	if n.Kind != yaml.MappingNode {
		p.errorf(n, path, "%s: want %s, got %s", cmpPath(path), what, describe(n))
		return nil, false
	}
	var out []field
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := p.follow(n.Content[i])
		f := field{key: k, value: p.follow(n.Content[i+1]), path: join(path, clip(k.Value))}
		switch line, again := seen[k.Value]; {
		case again:
			p.errorf(k, f.path, "duplicate field %q, first on line %d", f.path, line)
			continue
		case known != nil && (k.Kind != yaml.ScalarNode || !slices.Contains(known, k.Value)):
			p.errorf(k, f.path, "unknown field %q%s", f.path, suggest(k.Value, known))
			continue
		}
		seen[k.Value] = k.Line
		if known == nil || !isNull(f.value) {
			out = append(out, f)
		}
	}
	return out, true
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func cmpPath(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

// suggest names the known field that is nearest to s, if one is near.
func suggest(s string, known []string) string {
	if k := nearest.Word(s, known); k != "" {
		return fmt.Sprintf("; did you mean %q?", k)
	}
	return ""
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if isNull(n) {
			return "nothing"
		}
		return strconv.Quote(clip(n.Value))
	}
	return "something else"
}

// clip cuts a piece of the input that is shown in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// text returns the scalar at f, and false if it is none or is empty.
func (p *parser) text(f field) (string, bool) {
	if f.value.Kind != yaml.ScalarNode || isNull(f.value) || f.value.Value == "" {
		p.errorf(f.value, f.path, "%s: want a text, got %s", f.path, describe(f.value))
		return "", false
	}
	return f.value.Value, true
}

func (p *parser) suite(n *yaml.Node) {
	fs, ok := p.fields(n, "", "a mapping with apiVersion, kind and tests", "apiVersion", "kind", "metadata", "tests")
	if !ok {
		return
	}
	got := map[string]field{}
	for _, f := range fs {
		got[f.key.Value] = f
	}
	for _, x := range [][2]string{{"apiVersion", APIVersion}, {"kind", Kind}} {
		name, want := x[0], x[1]
		f, ok := got[name]
		switch {
		case !ok:
			p.errorf(n, name, "%s is missing: want %q", name, want)
		case f.value.Value != want:
			p.errorf(f.value, name, "%s: want %q, got %s", name, want, describe(f.value))
		default:
			continue
		}
		return // of another kind, its fields would only make noise
	}
	tests, ok := got["tests"]
	switch {
	case !ok:
		p.errorf(n, "tests", "tests is missing: the suite asserts nothing")
	case tests.value.Kind != yaml.SequenceNode:
		p.errorf(tests.value, "tests", "tests: want a list, got %s", describe(tests.value))
	case len(tests.value.Content) == 0:
		p.errorf(tests.value, "tests", "tests is empty: the suite asserts nothing")
	default:
		for i, n := range tests.value.Content {
			if p.nodes > maxNodes {
				p.errorf(n, "tests", "the file is too large once its aliases are followed")
				return
			}
			p.test(n, fmt.Sprintf("tests[%d]", i))
		}
	}
}

func (p *parser) test(n *yaml.Node, path string) {
	errs := len(p.diags)
	t := Test{Position: p.at(n)}
	fs, ok := p.fields(n, path, "a test", "name", "from", "to", "port", "ports", "expect", "allowEmpty")
	if !ok {
		return
	}
	expect := false
	for _, f := range fs {
		switch f.key.Value {
		case "name":
			t.Name, _ = p.text(f)
		case "from":
			t.From = p.choices(f)
		case "to":
			t.To = p.choices(f)
		case "port", "ports":
			if len(t.Ports) > 0 {
				p.errorf(f.key, f.path, "%s: give either port or ports", path)
			}
			t.Ports = p.ports(f)
		case "expect":
			expect = true
			if t.Expect, ok = parseDecision(f.value.Value); !ok || f.value.Kind != yaml.ScalarNode {
				p.errorf(f.value, f.path, "%s: want allow, deny or undefined, got %s", f.path, describe(f.value))
			}
		case "allowEmpty":
			if err := f.value.Decode(&t.AllowEmpty); err != nil {
				p.errorf(f.value, f.path, "%s: want true or false, got %s", f.path, describe(f.value))
			}
		}
	}
	if errs < len(p.diags) {
		return
	}
	switch {
	case t.From == nil:
		p.errorf(n, path, "%s.from is missing", path)
	case t.To == nil:
		p.errorf(n, path, "%s.to is missing", path)
	case t.Ports == nil:
		p.errorf(n, path, "%s.ports is missing: want ports such as [tcp/80, icmp], or all", path)
	case !expect:
		p.errorf(n, path, "%s.expect is missing: want allow, deny or undefined", path)
	default:
		if t.Name == "" {
			t.Name = defaultName(t)
		}
		p.tests = append(p.tests, t)
	}
}

// defaultName says what the test asserts.
func defaultName(t Test) string {
	verb := map[verdict.Decision]string{
		verdict.Allow: "reaches", verdict.Deny: "does not reach", verdict.Undefined: "reaches, undefined,",
	}[t.Expect]
	ports := make([]string, len(t.Ports))
	for i, p := range t.Ports {
		ports[i] = p.Text
	}
	return fmt.Sprintf("%s %s %s at %s", sayChoices(t.From), verb, sayChoices(t.To), strings.Join(ports, ", "))
}

func sayChoices(cs []Choice) string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.String()
	}
	return strings.Join(out, " or ")
}

func (p *parser) ports(f field) []Port {
	nodes := []*yaml.Node{f.value}
	if f.value.Kind == yaml.SequenceNode {
		nodes = f.value.Content
		if len(nodes) == 0 {
			p.errorf(f.value, f.path, "%s is empty: want ports such as tcp/80, or all", f.path)
		}
	}
	var out []Port
	for _, n := range nodes {
		n = p.follow(n)
		if n.Kind != yaml.ScalarNode {
			p.errorf(n, f.path, "%s: want a port such as tcp/80, got %s", f.path, describe(n))
			continue
		}
		port, err := ParsePort(n.Value)
		if err != nil {
			p.errorf(n, f.path, "%s: %v", f.path, err)
			continue
		}
		out = append(out, port)
	}
	return out
}
