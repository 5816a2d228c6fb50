package kube

import (
	"encoding/json"
	"maps"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"picket/internal/model"
)

// workload is an object that makes pods.
type workload struct {
	o        object
	pattern  pod
	copies   int // how many pods
	first    int // the first ordinal of a StatefulSet
	owner    ownerRef
	finished bool // a Job that is done, or a live workload scaled to nothing
}

func (o *object) readWorkload(raw []byte) {
	type template struct {
		Metadata meta    `json:"metadata"`
		Spec     podSpec `json:"spec"`
	}
	var doc struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			Replicas    *int32          `json:"replicas"`
			Parallelism *int32          `json:"parallelism"`
			Completions *int32          `json:"completions"`
			Selector    json.RawMessage `json:"selector"`
			Ordinals    *struct {
				Start int32 `json:"start"`
			} `json:"ordinals"`
			Template    template `json:"template"`
			JobTemplate struct {
				Spec struct {
					Template template `json:"template"`
				} `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
		Status struct {
			ObservedGeneration int64 `json:"observedGeneration"`
			Conditions         []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Subdomain)
	w := workload{copies: 1, owner: controller(doc.Metadata.OwnerReferences)}
	t, at := &doc.Spec.Template, "spec.template"
	count, countAt := doc.Spec.Replicas, "spec.replicas"
	switch o.kind {
	case "CronJob":
		t, at, count = &doc.Spec.JobTemplate.Spec.Template, "spec.jobTemplate.spec.template", nil
	case "DaemonSet":
		count = nil
	case "Job":
		count, countAt = doc.Spec.Parallelism, "spec.parallelism"
		for _, c := range doc.Status.Conditions {
			w.finished = w.finished || c.Status == "True" && (c.Type == "Complete" || c.Type == "Failed")
		}
	case "StatefulSet":
		if doc.Spec.Ordinals != nil {
			w.first = max(0, int(doc.Spec.Ordinals.Start))
		}
	}
	if count != nil {
		if *count < 0 {
			o.fail("", countAt, "", "%s: Invalid value: %d: must be greater than or equal to 0", countAt, *count)
		}
		w.copies = max(1, int(*count))
		w.finished = w.finished || *count == 0 && o.kind != "Job" && doc.Status.ObservedGeneration > 0
	}
	if c := doc.Spec.Completions; o.kind == "Job" && c != nil {
		w.copies = max(1, min(w.copies, int(*c)))
	}
	o.failFields(o.b.labelErrors(t.Metadata.Labels, at+".metadata.labels"))
	o.checkSelector(doc.Spec.Selector, t.Metadata.Labels, at)
	w.pattern = o.makePod(t.Metadata.Labels, t.Metadata.Annotations, &t.Spec, at+".metadata", at+".spec")
	w.o = *o
	o.b.workloads[o.kindKey()] = w
}

// expand makes the pods of a workload. base is the name that they begin with.
func (w *workload) expand(base string, nodes []string) []model.Endpoint {
	var out []model.Endpoint
	one := func(suffix, node string, extra map[string]string) {
		e := w.pattern.endpoint
		e.Name = base + "-" + suffix
		if node != "" {
			e.Node = node
		}
		if extra != nil {
			e.Labels = maps.Clone(e.Labels)
			if e.Labels == nil {
				e.Labels = map[string]string{}
			}
			maps.Copy(e.Labels, extra)
		}
		out = append(out, e)
	}
	switch {
	case w.o.kind == "DaemonSet" && len(nodes) > 0:
		for _, n := range nodes {
			one(n, n, nil)
		}
	case w.o.kind == "StatefulSet":
		for i := w.first; i < w.first+w.copies; i++ {
			s := strconv.Itoa(i)
			one(s, "", map[string]string{
				"apps.kubernetes.io/pod-index":       s,
				"statefulset.kubernetes.io/pod-name": w.o.name + "-" + s,
			})
		}
	default:
		for i := 1; i <= w.copies; i++ {
			one(strconv.Itoa(i), "", nil)
		}
	}
	return out
}
