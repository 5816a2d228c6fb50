package kube

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"

	"picket/internal/diag"
	"picket/internal/model"
)

// object is one object while it is read.
type object struct {
	b          *Builder
	src        Source
	kind       string
	apiVersion string
	ns, name   string   // ns is "" for what is not namespaced
	noNS       bool     // metadata.namespace was missing
	broken     string   // the first error's message; "" if there is none
	bad        []string // paths of the errors; "" if it is not known where
	unsure     bool     // a key is there twice that tells which object it is
	start      int      // how many diagnostics there were before it
}

// meta is the part of metadata that has a bearing.
type meta struct {
	Name            string            `json:"name"`
	GenerateName    string            `json:"generateName"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	OwnerReferences []ownerRef        `json:"ownerReferences"`

	DeletionTimestamp any `json:"deletionTimestamp"` // nil unless the object is being deleted
}

type ownerRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller *bool  `json:"controller"`
}

// ref returns "Kind namespace/name" as far as known.
func (o *object) ref() string {
	name := o.name
	if o.ns != "" && name != "" {
		name = o.ns + "/" + name
	}
	return strings.TrimSpace(o.kind + " " + name)
}

func (o *object) key() key { return key{o.ns, o.name} }

func (o *object) kindKey() kindKey { return kindKey{o.kind, o.key()} }

// origin returns where the path is written.
func (o *object) origin(path string) model.Origin {
	return model.Origin{Position: o.src.Position(path), Path: path}
}

// fail records that something at path is an error. The first error of a path
// is enough: what follows is often its consequence.
func (o *object) fail(code, path, fix, format string, args ...any) {
	if path != "" && o.badAt(path) {
		return
	}
	d := diag.Diagnostic{
		Code: code, Position: o.src.Position(path), Object: o.ref(), Path: path,
		Message: fmt.Sprintf(format, args...), Fix: fix,
	}
	o.b.Report(d)
	o.mark(d)
}

// mark makes the object broken by d, which has been reported.
func (o *object) mark(d diag.Diagnostic) {
	if o.broken == "" {
		o.broken = cmp.Or(d.Message, "it could not be read")
	}
	o.bad = append(o.bad, d.Path)
}

// repeatsIdentity reports whether the source's error is that a key is there
// twice that may tell which object it is.
func repeatsIdentity(d diag.Diagnostic) bool {
	for _, k := range []string{"apiVersion", "kind", "metadata", "name", "namespace"} {
		if strings.HasPrefix(d.Message, `key "`+k+`" `) {
			return true
		}
	}
	return false
}

// failField records an error in the words of the API server.
func (o *object) failField(code, fix string, e *field.Error) {
	o.fail(code, e.Field, fix, "%s", strings.TrimRight(e.Error(), " :"))
}

// failFields records all of errs without code.
func (o *object) failFields(errs field.ErrorList) {
	for _, e := range errs {
		o.failField("", "", e)
	}
}

// badUnder reports whether some error lies at or below path.
func (o *object) badUnder(path string) bool {
	for _, p := range o.bad {
		if p == path {
			return true
		}
		if rest, ok := strings.CutPrefix(p, path); ok && (rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// finding records a lint finding about the shape of a policy.
func (o *object) finding(code string, s diag.Severity, path, fix, format string, args ...any) {
	o.b.findings = append(o.b.findings, diag.Diagnostic{
		Code: code, Severity: s, Position: o.src.Position(path), Object: o.ref(), Path: path,
		Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// identify takes name and namespace from metadata. It reports whether the
// object can be told from others; if not, it has been reported.
func (o *object) identify(m *meta, namespaced bool) bool {
	o.name = m.Name
	if o.name == "" && m.GenerateName != "" {
		o.b.generated++
		o.name = fmt.Sprintf("%s%05d", m.GenerateName, o.b.generated)
	}
	if namespaced {
		o.noNS = m.Namespace == ""
		o.ns = cmp.Or(m.Namespace, o.b.opts.Namespace)
	}
	for i := o.start; i < len(o.b.diags); i++ { // decoding came before the name was known
		if d := &o.b.diags[i]; d.Object == o.kind {
			d.Object = o.ref()
		}
	}
	return o.name != ""
}

// decode decodes raw into v, without regard to fields that v lacks. It reports
// errors; the object is broken then.
func (o *object) decode(raw []byte, v any) {
	err := json.UnmarshalCaseSensitivePreserveInts(raw, v)
	if err == nil {
		return
	}
	o.failTypes(raw, v, err)
}

// peekInto decodes what fits and is silent about the rest.
func (o *object) peekInto(raw []byte, v any) {
	_ = json.UnmarshalCaseSensitivePreserveInts(raw, v)
}
