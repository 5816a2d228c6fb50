package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/nearest"
	"picket/internal/selector"
)

// nameLabel is the label that every namespace has.
const nameLabel = "kubernetes.io/metadata.name"

// labels are the values that label keys have, with how many objects carry each.
type labels map[string]map[string]int

func (ls labels) add(m map[string]string) {
	for k, v := range m {
		if ls[k] == nil {
			ls[k] = map[string]int{}
		}
		ls[k][v]++
	}
}

// podLabels returns the labels of the pods in a namespace, with "" in all.
func (l *linter) podLabels(ns string) labels {
	if ls, ok := l.labels[ns]; ok {
		return ls
	}
	ls := labels{}
	from, to := 0, len(l.s.Endpoints)
	if ns != "" {
		from, to = 0, 0
		if n := l.namespaces[ns]; n != nil {
			from, to = n.from, n.to
		}
	}
	for i := from; i < to; i++ {
		ls.add(l.s.Endpoints[i].Labels)
	}
	l.labels[ns] = ls
	return ls
}

// namespaceLabels returns the labels of all namespaces.
func (l *linter) namespaceLabels() labels {
	const key = "/" // no namespace is called so
	if ls, ok := l.labels[key]; ok {
		return ls
	}
	ls := labels{}
	for _, n := range l.names {
		ls.add(l.namespaces[n].Labels)
	}
	l.labels[key] = ls
	return ls
}

// suggest says, for a selector that matches none of the objects with labels
// have, which requirement fails and what comes nearest. other are the labels
// of the other kind of object, which the writer may have had in mind. It is
// "" if each requirement is met by some object.
func suggest(sel selector.Selector, have labels, what string, other labels, otherWhat string) string {
	var out []string
	for _, r := range sel.Requirements() {
		if r.Op != selector.In && r.Op != selector.Exists {
			continue
		}
		values := have[r.Key]
		if values == nil {
			s := fmt.Sprintf("no %s has a label %s", what, r.Key)
			if near := nearest.Word(r.Key, sortedKeys(have)); near != "" {
				s += fmt.Sprintf("; did you mean %s?", near)
			}
			if other[r.Key] != nil {
				s += fmt.Sprintf(" (%ss have it)", otherWhat)
			}
			out = append(out, s)
			continue
		}
		if r.Op == selector.Exists || slices.ContainsFunc(r.Values, func(v string) bool { return values[v] > 0 }) {
			continue
		}
		all := sortedKeys(values)
		s := fmt.Sprintf("the label %s has the values %s", r.Key, list(all, 4))
		if len(all) == 1 {
			s = fmt.Sprintf("the label %s has only the value %s", r.Key, all[0])
		}
		if near := nearest.Word(r.Values[0], all); near != "" && len(all) > 1 {
			s += fmt.Sprintf("; did you mean %s?", near)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// requires returns the value that sel requires of a key, and false if it
// leaves it open.
func requires(sel selector.Selector, key string) (string, bool) {
	for _, r := range sel.Requirements() {
		if r.Key == key && r.Op == selector.In && len(r.Values) == 1 {
			return r.Values[0], true
		}
	}
	return "", false
}

// namespaceOnly reports whether a peer was written as a namespaceSelector
// alone: all pods of the namespaces it selects.
func namespaceOnly(p model.Peer) bool {
	return len(p.Terms) == 1 && p.Terms[0].Kind == model.PodTerm && !p.Terms[0].Not &&
		p.Terms[0].Namespace == "" && p.Terms[0].Pods.IsEverything()
}

// podOnly reports whether a peer was written as a podSelector alone: pods of
// the policy's own namespace.
func podOnly(p model.Peer) bool {
	return len(p.Terms) == 1 && p.Terms[0].Kind == model.PodTerm && !p.Terms[0].Not && p.Terms[0].Namespace != ""
}
