//go:build linux

package agent

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"picket/internal/diag"
)

// The head of a configuration file.
const (
	configVersion = "picket/v1"
	configKind    = "AgentConfiguration"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// ReadConfig reads a configuration file, YAML of one document, into c. given
// reports whether a flag was given, which the file does not change; its values
// are checked all the same. Everything that is wrong is reported, with its
// place; c is of no use then.
func ReadConfig(file string, data []byte, c *Config, given func(flag string) bool) diag.List {
	r := &configReader{file: file}
	if len(data) > maxConfig {
		r.fail(nil, "", "the file is larger than %d bytes", maxConfig)
		return r.out
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&doc); err != nil {
		r.syntax(err)
		return r.out
	}
	var more yaml.Node
	if dec.Decode(&more) == nil {
		r.fail(&more, "", "the file has more than one document")
		return r.out
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		r.fail(root, "", "want fields such as nodeName: NAME")
		return r.out
	}
	settings := map[string]*Setting{}
	var names []string
	for _, s := range c.Settings() {
		settings[s.Field()] = s
		names = append(names, s.Field())
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if first, twice := lines[key.Value]; twice {
			r.fail(key, key.Value, "the field is set twice, first in line %d", first)
			continue
		}
		lines[key.Value] = key.Line
		switch s := settings[key.Value]; {
		case key.Value == "apiVersion":
			r.want(key, value, configVersion)
		case key.Value == "kind":
			r.want(key, value, configKind)
		case s == nil:
			r.fail(key, key.Value, "unknown field %q: want one of %s", key.Value, strings.Join(names, ", "))
		default:
			r.set(s, value, given != nil && given(s.Name))
		}
	}
	for _, head := range []string{"apiVersion", "kind"} {
		if _, ok := lines[head]; !ok {
			r.fail(root, head, "the field %s is missing", head)
		}
	}
	r.out.Sort()
	return r.out
}

type configReader struct {
	file string
	out  diag.List
}

func (r *configReader) fail(n *yaml.Node, path, format string, args ...any) {
	d := diag.Diagnostic{Position: diag.Position{File: r.file}, Path: path, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		d.Position.Line, d.Position.Col = n.Line, n.Column
	}
	r.out = append(r.out, d)
}

// syntax reports an error of the YAML library, which says the line in words.
func (r *configReader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	if text == "EOF" {
		text = "the file is empty"
	}
	r.out = append(r.out, diag.Diagnostic{Position: diag.Position{File: r.file, Line: line}, Message: text})
}

func (r *configReader) want(key, value *yaml.Node, want string) {
	if value.Kind != yaml.ScalarNode || value.Value != want {
		r.fail(value, key.Value, "want %s: %s", key.Value, want)
	}
}

// set takes a value over, unless a flag has been given for it.
func (r *configReader) set(s *Setting, value *yaml.Node, given bool) {
	before := s.String()
	if s.clear != nil {
		s.clear()
	}
	values := []*yaml.Node{value}
	if s.Kind == "list" && value.Kind == yaml.SequenceNode {
		values = value.Content
	}
	for _, v := range values {
		switch {
		case v.Kind != yaml.ScalarNode:
			r.fail(v, s.Field(), "want a %s", s.Kind)
			continue
		case v.ShortTag() == "!!null":
			r.fail(v, s.Field(), "the value is missing")
			continue
		}
		if err := s.Set(v.Value); err != nil {
			r.fail(v, s.Field(), "%v", err)
		}
	}
	if given {
		if s.clear != nil {
			s.clear()
		}
		if before != "" || s.Kind != "list" {
			_ = s.Set(before) // it was set before
		}
	}
}
