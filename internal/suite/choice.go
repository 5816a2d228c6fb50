package suite

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"picket/internal/selector"
)

// choices reads one choice, or a list of them.
func (p *parser) choices(f field) []Choice {
	if f.value.Kind != yaml.SequenceNode {
		if c, ok := p.choice(f.value, f.path); ok {
			return []Choice{c}
		}
		return nil
	}
	if len(f.value.Content) == 0 {
		p.errorf(f.value, f.path, "%s is empty: it would assert nothing", f.path)
	}
	var out []Choice
	for i, n := range f.value.Content {
		if c, ok := p.choice(n, fmt.Sprintf("%s[%d]", f.path, i)); ok {
			out = append(out, c)
		}
	}
	return out
}

const choiceForms = `an endpoint such as "prod/web", external, an address, a CIDR, or {namespace: …, podSelector: …}`

func (p *parser) choice(n *yaml.Node, path string) (Choice, bool) {
	n = p.follow(n)
	c := Choice{Position: p.at(n)}
	if n.Kind == yaml.ScalarNode && !isNull(n) && n.Value != "" {
		c.Text = n.Value
		return c, true
	}
	errs := len(p.diags)
	fs, ok := p.fields(n, path, choiceForms, "namespace", "namespaceSelector", "podSelector")
	if !ok {
		return c, false
	}
	c.Pods = selector.Everything()
	spaces := 0
	for _, f := range fs {
		switch f.key.Value {
		case "namespace":
			spaces++
			c.Namespace, _ = p.text(f)
		case "namespaceSelector":
			spaces++
			c.Namespaces = p.selector(f)
		case "podSelector":
			c.Pods = p.selector(f)
		}
	}
	switch {
	case errs < len(p.diags):
		return c, false
	case spaces == 0:
		p.errorf(n, path, "%s: want a namespace, or a namespaceSelector ({} means all namespaces)", path)
	case spaces == 2:
		p.errorf(n, path, "%s: give either namespace or namespaceSelector", path)
	}
	return c, errs == len(p.diags)
}

// selector reads a label selector in the form of the Kubernetes API. Both
// parts missing selects everything.
func (p *parser) selector(f field) selector.Selector {
	fs, ok := p.fields(f.value, f.path, "a label selector", "matchLabels", "matchExpressions")
	if !ok {
		return selector.Selector{}
	}
	var reqs []selector.Requirement
	for _, f := range fs {
		if f.key.Value == "matchLabels" {
			labels, _ := p.fields(f.value, f.path, "a mapping of labels")
			for _, l := range labels {
				reqs = append(reqs, selector.Requirement{Key: l.key.Value, Op: selector.In, Values: []string{p.label(l.value, l.path)}})
			}
			continue
		}
		if f.value.Kind != yaml.SequenceNode {
			p.errorf(f.value, f.path, "%s: want a list, got %s", f.path, describe(f.value))
			continue
		}
		for i, n := range f.value.Content {
			if r, ok := p.requirement(n, fmt.Sprintf("%s[%d]", f.path, i)); ok {
				reqs = append(reqs, r)
			}
		}
	}
	return selector.New(reqs...)
}

// label reads a label's value, which must be a text: yes and 1 are none.
func (p *parser) label(n *yaml.Node, path string) string {
	n = p.follow(n)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		p.errorf(n, path, "%s: want a text, got %s; write it in quotes", path, describe(n))
	}
	return n.Value
}

var operators = map[string]selector.Op{
	"In": selector.In, "NotIn": selector.NotIn, "Exists": selector.Exists, "DoesNotExist": selector.NotExists,
}

func (p *parser) requirement(n *yaml.Node, path string) (selector.Requirement, bool) {
	var r selector.Requirement
	errs := len(p.diags)
	fs, ok := p.fields(n, path, "a requirement with key, operator and values", "key", "operator", "values")
	if !ok {
		return r, false
	}
	operator := false
	for _, f := range fs {
		switch f.key.Value {
		case "key":
			r.Key, _ = p.text(f)
		case "operator":
			if r.Op, operator = operators[f.value.Value]; !operator {
				p.errorf(f.value, f.path, "%s: want In, NotIn, Exists or DoesNotExist, got %s", f.path, describe(f.value))
				return r, false
			}
		case "values":
			if f.value.Kind != yaml.SequenceNode {
				p.errorf(f.value, f.path, "%s: want a list, got %s", f.path, describe(f.value))
				continue
			}
			for i, n := range f.value.Content {
				r.Values = append(r.Values, p.label(n, fmt.Sprintf("%s[%d]", f.path, i)))
			}
		}
	}
	if errs < len(p.diags) {
		return r, false
	}
	needs := r.Op == selector.In || r.Op == selector.NotIn
	switch {
	case r.Key == "":
		p.errorf(n, path, "%s.key is missing", path)
	case !operator:
		p.errorf(n, path, "%s.operator is missing: want In, NotIn, Exists or DoesNotExist", path)
	case needs && len(r.Values) == 0:
		p.errorf(n, path, "%s.values is missing: In and NotIn need values", path)
	case !needs && len(r.Values) > 0:
		p.errorf(n, path, "%s.values: Exists and DoesNotExist take no values", path)
	default:
		return r, true
	}
	return r, false
}
