package kube

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"picket/internal/selector"
)

// toSelector converts a selector that is present. An empty one matches
// everything; an operator that does not exist matches nothing.
func toSelector(s *metav1.LabelSelector) selector.Selector {
	reqs := make([]selector.Requirement, 0, len(s.MatchLabels)+len(s.MatchExpressions))
	for k, v := range s.MatchLabels {
		reqs = append(reqs, selector.Requirement{Key: k, Op: selector.In, Values: []string{v}})
	}
	for _, e := range s.MatchExpressions {
		r := selector.Requirement{Key: e.Key, Values: e.Values}
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			r.Op = selector.In
		case metav1.LabelSelectorOpNotIn:
			r.Op = selector.NotIn
		case metav1.LabelSelectorOpExists:
			r.Op, r.Values = selector.Exists, nil
		case metav1.LabelSelectorOpDoesNotExist:
			r.Op, r.Values = selector.NotExists, nil
		default:
			return selector.Selector{}
		}
		reqs = append(reqs, r)
	}
	return selector.New(reqs...)
}

// label is one label with its value.
type label struct{ key, value string }

// labelErrors validates labels as the API server does. It remembers what was
// valid: the same labels come up again and again.
func (b *Builder) labelErrors(labels map[string]string, path string) field.ErrorList {
	known := true
	for k, v := range labels {
		known = known && b.validLabel[label{k, v}]
	}
	if known {
		return nil
	}
	var errs field.ErrorList
	for _, k := range sortedKeys(labels) {
		v := labels[k]
		at := fieldAt(path + "[" + k + "]")
		n := len(errs)
		for _, msg := range validation.IsQualifiedName(k) {
			errs = append(errs, field.Invalid(at, shorten(k), msg))
		}
		for _, msg := range validation.IsValidLabelValue(v) {
			errs = append(errs, field.Invalid(at, shorten(v), msg))
		}
		if len(errs) == n {
			b.validLabel[label{k, v}] = true
		}
	}
	return errs
}

// selectorErrors validates a selector as the API server does.
func (b *Builder) selectorErrors(s *metav1.LabelSelector, path string) field.ErrorList {
	errs := b.labelErrors(s.MatchLabels, path+".matchLabels")
	for i, e := range s.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", path, i)
		switch e.Operator {
		case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(fieldAt(at+".values"), "must be specified when `operator` is 'In' or 'NotIn'"))
			}
		case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
			if len(e.Values) > 0 {
				errs = append(errs, field.Forbidden(fieldAt(at+".values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
			}
		default:
			errs = append(errs, field.Invalid(fieldAt(at+".operator"), shorten(string(e.Operator)), "not a valid selector operator"))
		}
		for _, msg := range validation.IsQualifiedName(e.Key) {
			errs = append(errs, field.Invalid(fieldAt(at+".key"), shorten(e.Key), msg))
		}
		for j, v := range e.Values {
			for _, msg := range validation.IsValidLabelValue(v) {
				errs = append(errs, field.Invalid(fieldAt(fmt.Sprintf("%s.values[%d]", at, j)), shorten(v), msg))
			}
		}
	}
	return errs
}

// fieldAt makes a field.Path of a path as written.
func fieldAt(path string) *field.Path { return field.NewPath(path) }

// checkSelector reports a workload whose selector does not match the labels of
// its own pods, which the API server rejects.
func (o *object) checkSelector(raw []byte, labels map[string]string, template string) {
	if len(raw) == 0 || o.broken != "" || o.kind == "Job" || o.kind == "CronJob" {
		return
	}
	var sel selector.Selector
	if o.kind == "ReplicationController" {
		var m map[string]string
		if o.decode(raw, &m); len(m) == 0 {
			return
		}
		sel = selector.FromLabels(m)
	} else {
		var ls metav1.LabelSelector
		if o.decode(raw, &ls); len(ls.MatchLabels)+len(ls.MatchExpressions) == 0 {
			return
		}
		o.failFields(o.b.selectorErrors(&ls, "spec.selector"))
		sel = toSelector(&ls)
	}
	if o.broken == "" && !sel.Matches(labels) {
		at := template + ".metadata.labels"
		o.fail("", at, "give the pod template the labels "+sel.String(),
			"%s: Invalid value: `selector` does not match template `labels`", at)
	}
}
