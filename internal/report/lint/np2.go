package lint

import (
	"fmt"
	"slices"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/nearest"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// np2Checks find selectors that are dead or that select by accident.
var np2Checks = []check{
	{"NP200", true, np200},
	{"NP201", true, np201},
	{"NP202", true, np202},
	{"NP203", true, np203},
	{"NP204", true, np204},
	{"NP205", true, np205},
	{"NP206", true, np206},
	{"NP207", false, np207},
	{"NP208", false, np208},
	{"NP209", false, np209},
}

// runtimeLabels are set by controllers while they work: a template cannot have
// them, and they change with each roll-out.
var runtimeLabels = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation",
	"controller-uid", "batch.kubernetes.io/controller-uid",
}

// defect is why a pod term selects nothing, by the code that reports it.
type defect struct {
	code string
	sev  diag.Severity
	msg  string
	fix  string
}

// subject returns the term of a policy's subject, and false if it is more than
// one or no pod term.
func subject(p *policy) (model.Term, bool) {
	if len(p.Subject) != 1 || p.Subject[0].Kind != model.PodTerm || p.Subject[0].Not {
		return model.Term{}, false
	}
	return p.Subject[0], true
}

// deadSubjects calls f for each policy that selects no pod, with the reason.
func (l *linter) deadSubjects(f func(p *policy, t model.Term, why defect)) {
	for i := range l.policies {
		p := &l.policies[i]
		t, ok := subject(p)
		if !ok || !p.live() || p.selects() > 0 || p.Applies == [2]bool{} {
			continue
		}
		if why, ok := l.defect(t, true); ok {
			if why.code == "NP203" {
				why.code = "NP200"
			}
			f(p, t, why)
		}
	}
}

// deadPeers calls f for each peer that matches nothing, with the reason.
func (l *linter) deadPeers(f func(p *policy, d model.Direction, ri, i int, why defect)) {
	l.eachPeer(func(p *policy, d model.Direction, ri int, r *model.Rule, i int) {
		t := r.Peers[i].Terms
		if len(t) != 1 || t[0].Kind != model.PodTerm || t[0].Not || !l.dead(p.rule(d, ri), i) {
			return
		}
		if why, ok := l.defect(t[0], false); ok {
			f(p, d, ri, i, why)
		}
	})
}

// dead reports whether a peer matches no endpoint for certain.
func (l *linter) dead(r verdict.RuleRef, i int) bool {
	a := l.atom(r, i)
	return !slices.ContainsFunc(a.Yes, func(p verdict.PeerID) bool { return len(l.t.Peers[p].Members) > 0 })
}

// defect finds why a pod term matches no pod; false if it does match, or if
// nothing can be said. Contradictions and labels set at run time have checks
// of their own.
func (l *linter) defect(t model.Term, subject bool) (defect, bool) {
	if t.Pods.IsNothing() || t.Namespace == "" && t.Namespaces.IsNothing() || runtimeLabel(t.Pods) != "" {
		return defect{}, false
	}
	in := l.namespacesOf(t)
	if len(in) == 0 {
		return l.noNamespace(t), true
	}
	pods, host := l.count(t)
	where := "namespace " + in[0].Name
	if t.Namespace == "" {
		where = plural(len(in), "namespace") + " labelled " + t.Namespaces.String()
		if t.Namespaces.IsEverything() {
			where = "any namespace"
		}
	}
	switch {
	case pods > 0:
		return defect{}, false
	case host > 0:
		return defect{"NP205", diag.Warning,
			fmt.Sprintf("the only matches are %s on the host network in %s, which pod selectors do not select", plural(host, "pod"), where),
			"policies see such a pod as its node: allow the nodes' addresses with an ipBlock"}, true
	case podsIn(in) == 0 && (subject || t.Pods.IsEverything()):
		if subject {
			return defect{}, false // nothing there yet: also a default-deny must come first
		}
		return defect{"NP203", diag.Info, "matches no pod: the input has none in " + where, ""}, true
	case podsIn(in) == 0:
		return defect{"NP203", diag.Info, fmt.Sprintf("podSelector %s matches no pod: the input has none in %s", t.Pods, where), ""}, true
	}
	have := l.podLabels("")
	if len(in) == 1 {
		have = l.podLabels(in[0].Name)
	}
	d := defect{code: "NP203", sev: diag.Warning}
	d.msg = fmt.Sprintf("podSelector %s matches 0 of %s in %s", t.Pods, plural(podsIn(in), "pod"), where)
	if s := suggest(t.Pods, have, "pod there", l.namespaceLabels(), "namespace"); s != "" {
		d.msg += ": " + s
	} else {
		d.msg += ": no pod there has all of these labels"
	}
	d.fix = "correct the labels: " + sample(have)
	if _, ok := requires(t.Pods, "run"); ok && have["run"] == nil {
		d.fix = "only pods made by kubectl run have the label run; select a label of the workload's template: " + sample(have)
	}
	return d, true
}

// noNamespace is the defect of a term whose namespaces do not exist.
func (l *linter) noNamespace(t model.Term) defect {
	if name, ok := requires(t.Namespaces, nameLabel); ok && l.namespaces[name] == nil {
		d := defect{code: "NP201", sev: diag.Info, msg: fmt.Sprintf("the input has no namespace %s: nothing here shows what the peer matches", name)}
		if near := nearest.Word(name, l.names); near != "" {
			d.sev = diag.Warning
			d.msg = fmt.Sprintf("there is no namespace %s; did you mean %s?", name, near)
			d.fix = nameLabel + ": " + near
		}
		return d
	}
	have := l.namespaceLabels()
	d := defect{code: "NP201", sev: diag.Warning}
	d.msg = fmt.Sprintf("namespaceSelector %s matches 0 of %s", t.Namespaces, plural(len(l.names), "namespace"))
	declared := 0
	for _, n := range l.names {
		if !l.namespaces[n].Implied {
			declared++
		}
	}
	if declared == 0 {
		d.sev = diag.Info
		d.msg += ", of which the input declares none, so that their labels are not known"
	}
	for _, r := range t.Namespaces.Requirements() {
		if r.Op != selector.In || r.Key == nameLabel {
			continue
		}
		values := have[r.Key]
		if values == nil && l.podLabels("")[r.Key] != nil || values != nil && !slices.ContainsFunc(r.Values, func(v string) bool { return values[v] > 0 }) {
			d.code = "NP202"
		}
		for _, v := range r.Values {
			if l.namespaces[v] != nil || v == "kube-system" {
				d.fix = "every namespace has the label " + nameLabel + ":\n" + indent(yamlSelector("namespaceSelector",
					selector.FromLabels(map[string]string{nameLabel: v})), "")
			}
		}
	}
	if s := suggest(t.Namespaces, have, "namespace", l.podLabels(""), "pod"); s != "" {
		d.msg += ": " + s
	} else {
		d.msg += ": none has all of these labels"
	}
	if d.fix == "" {
		d.fix = "correct the labels: " + sample(have)
	}
	return d
}

// sample lists some labels that there are.
func sample(have labels) string {
	var out []string
	for _, k := range sortedKeys(have) {
		for _, v := range sortedKeys(have[k]) {
			out = append(out, k+"="+v)
		}
	}
	if len(out) == 0 {
		return "there are none"
	}
	return "there are " + list(out, 6)
}

func runtimeLabel(s selector.Selector) string {
	for _, k := range positive(s) {
		if slices.Contains(runtimeLabels, k) {
			return k
		}
	}
	return ""
}

func np200(l *linter) {
	l.deadSubjects(func(p *policy, t model.Term, why defect) {
		if why.code == "NP200" {
			l.find(p, subjectOrigin(p), why.sev, why.msg+"; the policy does nothing", why.fix)
		}
	})
}

// subjectOrigin is where a policy's subject is written, as near as known.
func subjectOrigin(p *policy) model.Origin {
	o := p.Origin
	o.Path = "spec.podSelector"
	if !p.v1() {
		o.Path = "spec.subject"
	}
	return o
}

func np201(l *linter) { l.deadNamespaces("NP201") }
func np202(l *linter) { l.deadNamespaces("NP202") }

func (l *linter) deadNamespaces(code string) {
	l.deadSubjects(func(p *policy, _ model.Term, why defect) {
		if why.code == code {
			l.find(p, subjectOrigin(p), why.sev, why.msg+"; the policy does nothing", why.fix)
		}
	})
	l.deadPeers(func(p *policy, d model.Direction, ri, i int, why defect) {
		if why.code == code {
			l.find(p, p.Rules[d][ri].Peers[i].Origin, why.sev, why.msg, why.fix)
		}
	})
}

func np203(l *linter) {
	l.deadPeers(func(p *policy, d model.Direction, ri, i int, why defect) {
		if why.code != "NP203" {
			return
		}
		r := &p.Rules[d][ri]
		if x := l.orPairs()[orKey{p.Policy, d, ri}]; x != nil && x.pods == i {
			t := r.Peers[i].Terms[0]
			why.msg = fmt.Sprintf("podSelector %s matches 0 pods in namespace %s (the peer is limited to the policy's namespace); did you mean it together with %s[%d] (NP101)?",
				t.Pods, t.Namespace, field(d), x.ns)
			why.fix = "put both selectors in one list item, see NP101"
		}
		l.find(p, r.Peers[i].Origin, why.sev, why.msg, why.fix)
	})
	l.eachPeer(func(p *policy, d model.Direction, ri int, r *model.Rule, i int) {
		t := r.Peers[i].Terms
		if len(t) != 1 || t[0].Kind != model.NodeTerm || t[0].Not || len(l.s.Nodes) == 0 {
			return
		}
		if !slices.ContainsFunc(l.s.Nodes, func(n model.Node) bool { return t[0].Nodes.Matches(n.Labels) }) {
			l.warn(p, r.Peers[i].Origin, "correct the labels", "nodes selector %s matches 0 of %s", t[0].Nodes, plural(len(l.s.Nodes), "node"))
		}
	})
}

func np205(l *linter) {
	l.deadSubjects(func(p *policy, _ model.Term, why defect) {
		if why.code == "NP205" {
			l.find(p, subjectOrigin(p), why.sev, why.msg+"; the policy does nothing", "policies do not guard pods of the host network: guard their node instead")
		}
	})
	l.deadPeers(func(p *policy, d model.Direction, ri, i int, why defect) {
		if why.code == "NP205" {
			l.find(p, p.Rules[d][ri].Peers[i].Origin, why.sev, why.msg, why.fix)
		}
	})
}

func np208(l *linter) {
	const fix = "select a label of the workload's template, which its pods keep"
	say := func(p *policy, o model.Origin, s selector.Selector) {
		if k := runtimeLabel(s); k != "" {
			l.warn(p, o, fix, "the selector needs the label %s, which a controller sets anew on each roll-out: it will match no pod then", k)
		}
	}
	for i := range l.policies {
		if t, ok := subject(&l.policies[i]); ok {
			say(&l.policies[i], subjectOrigin(&l.policies[i]), t.Pods)
		}
	}
	l.eachPeer(func(p *policy, _ model.Direction, _ int, r *model.Rule, i int) {
		for _, t := range r.Peers[i].Terms {
			if t.Kind == model.PodTerm {
				say(p, r.Peers[i].Origin, t.Pods)
			}
		}
	})
}

func np209(l *linter) {
	const fix = "remove one of the requirements that exclude each other"
	never := func(s selector.Selector) bool { return s.IsNothing() && len(s.Requirements()) > 0 }
	for i := range l.policies {
		p := &l.policies[i]
		if t, ok := subject(p); ok && p.live() && (never(t.Pods) || never(t.Namespaces)) {
			l.info(p, subjectOrigin(p), fix, "the subject contradicts itself and can never match: %s", t)
		}
	}
	l.eachPeer(func(p *policy, _ model.Direction, _ int, r *model.Rule, i int) {
		for _, t := range r.Peers[i].Terms {
			switch {
			case t.Kind == model.PodTerm && (never(t.Pods) || never(t.Namespaces)):
				l.info(p, r.Peers[i].Origin, fix, "the peer contradicts itself and can never match: %s", t)
			case t.Kind == model.NetTerm && t.Nets.Empty() && t.NetText != "":
				l.info(p, r.Peers[i].Origin, "correct the except list", "the block %s holds no address", t.NetText)
			}
		}
	})
}
