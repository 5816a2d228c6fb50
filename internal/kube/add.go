package kube

import (
	"encoding/json"
	"fmt"
	"strings"

	"picket/internal/diag"
)

// Add reads one object, or a List of objects, given as JSON.
func (b *Builder) Add(raw []byte, src Source) { b.add(raw, src, typeMeta{}, nil, 0) }

// AddBroken is Add for an object that the source read with errors, such as a
// key that is written twice. The errors are reported, and the object counts as
// not understood.
func (b *Builder) AddBroken(raw []byte, src Source, errs ...diag.Diagnostic) {
	b.add(raw, src, typeMeta{}, errs, 0)
}

// AddItem is Add for an item of a List of the kind and version, which it takes
// on if it has none of its own.
func (b *Builder) AddItem(raw []byte, src Source, listKind, apiVersion string) {
	b.add(raw, src, itemType(listKind, apiVersion), nil, 1)
}

// itemType returns what the items of a List are: nothing of a plain List.
func itemType(listKind, apiVersion string) typeMeta {
	if kind, ok := strings.CutSuffix(listKind, "List"); ok && kind != "" {
		return typeMeta{kind, apiVersion}
	}
	return typeMeta{}
}

// maxListDepth bounds Lists inside Lists.
const maxListDepth = 8

// maxObject bounds one object, in bytes. The API server takes none larger than
// 3 MiB, and no list within one is worth more.
const maxObject = 4 << 20

// typeMeta is what an object is.
type typeMeta struct{ kind, apiVersion string }

// add reads an object. Items of a PodList and the like, as the API server's
// answers are written, are of type dflt unless they say otherwise.
func (b *Builder) add(raw []byte, src Source, dflt typeMeta, errs []diag.Diagnostic, depth int) {
	o := &object{b: b, src: src, start: len(b.diags)}
	o.kind, o.apiVersion = kindOf(raw)
	if o.kind == "" && o.apiVersion == "" && isObject(raw) {
		o.kind, o.apiVersion = dflt.kind, dflt.apiVersion
	}
	if o.kind == "" || o.apiVersion == "" {
		for _, d := range errs {
			b.Unreadable(d)
		}
		if len(errs) == 0 {
			b.nameless(raw, o)
		}
		return
	}
	group, version := "", o.apiVersion
	if g, v, ok := strings.Cut(o.apiVersion, "/"); ok {
		group, version = g, v
	}
	if kind, ok := strings.CutSuffix(o.kind, "List"); ok && (hasItems(raw) || kind == "") {
		for _, d := range errs { // which of the items has the error is not known
			b.Unreadable(d)
		}
		b.addList(raw, src, itemType(o.kind, o.apiVersion), depth)
		return
	}
	if len(raw) > maxObject {
		b.Unreadable(diag.Diagnostic{
			Position: src.Position(""), Message: fmt.Sprintf("a %s of more than %d MiB", shorten(o.kind), maxObject>>20),
			Fix: "the API server takes no object of that size",
		})
		return
	}
	if len(errs) > 0 {
		o.mistakes(raw, errs)
	}
	b.read(raw, o, group, version)
}

// mistakes reports errors that the source found, as those of the object.
func (o *object) mistakes(raw []byte, errs []diag.Diagnostic) {
	var doc struct {
		Metadata meta `json:"metadata"`
	}
	o.peekInto(raw, &doc)
	generated := o.b.generated
	o.identify(&doc.Metadata, !clusterScoped[o.kind])
	for _, d := range errs {
		if d.Object == "" {
			d.Object = o.ref()
		}
		o.b.Report(d)
		o.mark(d)
		o.unsure = o.unsure || repeatsIdentity(d)
	}
	o.ns, o.name, o.b.generated = "", "", generated // for the reader to find
}

// clusterScoped lists the kinds read that have no namespace.
var clusterScoped = map[string]bool{
	"Namespace": true, "Node": true, "ClusterNetworkPolicy": true,
	"ValidatingWebhookConfiguration": true, "MutatingWebhookConfiguration": true,
}

// nameless reports an object whose kind or API version is missing.
func (b *Builder) nameless(raw []byte, o *object) {
	var v any
	err := json.Unmarshal(raw, &v)
	d := diag.Diagnostic{Position: o.src.Position("")}
	_, isObject := v.(map[string]any)
	switch {
	case err != nil:
		d.Message = "invalid JSON: " + err.Error()
	case !isObject:
		d.Message = "want an object, found " + describe(v)
		d.Fix = "a Kubernetes manifest is an object with apiVersion, kind and metadata"
	case o.kind == "":
		d.Message = "object 'Kind' is missing"
		d.Fix = "add the field kind, such as kind: NetworkPolicy"
	default:
		d.Message = fmt.Sprintf("object 'apiVersion' is missing in a %s", shorten(o.kind))
		d.Fix = "add the field apiVersion, such as apiVersion: networking.k8s.io/v1"
	}
	b.Unreadable(d)
}

func hasItems(raw []byte) bool {
	s := scanner{raw: raw}
	return s.find("items") && s.peek() == '['
}

// addList reads the items of a List.
func (b *Builder) addList(raw []byte, src Source, of typeMeta, depth int) {
	if depth == maxListDepth {
		b.Unreadable(diag.Diagnostic{Position: src.Position(""), Message: "lists are nested too deeply"})
		return
	}
	s := scanner{raw: raw}
	if !s.find("items") {
		return
	}
	spans := s.items()
	if len(spans) > maxListed {
		b.Unreadable(diag.Diagnostic{Position: src.Position(""), Message: fmt.Sprintf("the list has more than %d items", maxListed)})
		return
	}
	if !json.Valid(raw) {
		b.Unreadable(diag.Diagnostic{Position: src.Position(""), Message: "the list is not valid JSON"})
		return
	}
	for i, span := range spans {
		item := raw[span[0]:span[1]]
		if b.Hopeless() {
			b.Unreadable(diag.Diagnostic{Position: src.Position(""), Message: "too much is wrong: the rest of the list is passed over"})
			return
		}
		var at Source
		if l, ok := src.(ListSource); ok {
			at = l.Item(i)
		} else {
			at = within{src, fmt.Sprintf("items[%d]", i)}
		}
		b.add(item, at, of, nil, depth+1)
	}
}

func isObject(raw []byte) bool {
	s := scanner{raw: raw}
	s.space()
	return s.peek() == '{'
}

// within is the Source of a part of an object.
type within struct {
	src  Source
	path string
}

func (w within) Position(path string) diag.Position {
	switch {
	case path == "":
		return w.src.Position(w.path)
	case path[0] == '[':
		return w.src.Position(w.path + path)
	}
	return w.src.Position(w.path + "." + path)
}
