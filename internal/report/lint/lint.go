// Package lint finds what is wrong, dead, wider or narrower than meant in a
// set of policies. A finding has a stable code of the catalogue, a position,
// the effect in one sentence with numbers, and a fix. Lint reasons over the
// compiled table, so over what policies do, and over selectors, so over what
// they could do with pods that do not exist yet.
//
// Checks look at classes and at what policies name, never at each pod under
// each policy: their cost follows the size of the table.
package lint

import (
	"cmp"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/verdict"
)

// Options chooses what to report. The zero value reports everything.
type Options struct {
	Disable    []string // codes, or families such as "NP3", that are not reported
	Only       []string // if not empty, only these codes or families are reported
	Namespaces []string // if not empty, only findings of these namespaces and of cluster-wide objects
	Root       string   // folder that absolute file names are made relative to in SARIF; "" leaves them
}

// Finding is one finding.
type Finding struct {
	diag.Diagnostic

	namespace string   // "" for cluster-wide
	policies  []string // references of the policies whose suppressions apply, sorted
}

// Suppressed is a finding that somebody accepted, and why.
type Suppressed struct {
	Finding
	Reason string
}

// Checked counts what the report is about.
type Checked struct {
	Policies   int `json:"policies"`
	Rules      int `json:"rules"`
	Namespaces int `json:"namespaces"`
	Pods       int `json:"pods"` // including those of the host network
	Services   int `json:"services"`
	Checks     int `json:"checks"` // checks of the model that ran

	// Skipped lists the codes of checks that need pods, if the input has none.
	Skipped []string `json:"skipped,omitempty"`
}

// Report is what lint found.
type Report struct {
	Findings   []Finding    // by position, then as diag.List sorts
	Suppressed []Suppressed // likewise
	Checked    Checked

	root string
}

// Count returns how many findings have the severity.
func (r *Report) Count(s diag.Severity) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Severity == s {
			n++
		}
	}
	return n
}

// check is one check of the model. run emits findings of its own code only.
type check struct {
	code string
	pods bool // has no meaning without pods in the input
	run  func(*linter)
}

// checks are all checks, in the order of their codes.
func checks() []check {
	return slices.Concat(np1Checks, np2Checks, np3Checks, np4Checks, cn5Checks, hy7Checks)
}

// Run lints what t was compiled from, under its dialect. It is pure: equal
// tables and options give equal reports.
func Run(t *verdict.Table, o Options) *Report {
	l := newLinter(t)
	r := &Report{Checked: l.checked(), root: o.Root}
	for _, c := range checks() {
		if !wanted(c.code, o) {
			continue
		}
		if c.pods && l.podCount == 0 {
			r.Checked.Skipped = append(r.Checked.Skipped, c.code)
			continue
		}
		r.Checked.Checks++
		l.code = c.code
		c.run(l)
	}
	for _, d := range t.Snapshot.Findings {
		if wanted(d.Code, o) {
			l.out = append(l.out, Finding{Diagnostic: d, namespace: namespaceOf(d.Object), policies: []string{d.Object}})
		}
	}
	l.suppress(r, o)
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return !inNamespaces(f, o) })
	r.Suppressed = slices.DeleteFunc(r.Suppressed, func(s Suppressed) bool { return !inNamespaces(s.Finding, o) })
	slices.SortStableFunc(r.Findings, compareFindings)
	r.Findings = slices.CompactFunc(r.Findings, func(a, b Finding) bool { return a.Diagnostic == b.Diagnostic })
	slices.SortStableFunc(r.Suppressed, func(a, b Suppressed) int { return compareFindings(a.Finding, b.Finding) })
	return r
}

func wanted(code string, o Options) bool {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			s = strings.TrimRight(strings.ToUpper(s), "X")
			return s != "" && strings.HasPrefix(code, s)
		})
	}
	return (len(o.Only) == 0 || in(o.Only)) && !in(o.Disable)
}

func inNamespaces(f Finding, o Options) bool {
	return len(o.Namespaces) == 0 || f.namespace == "" || slices.Contains(o.Namespaces, f.namespace)
}

// namespaceOf returns the namespace in "Kind namespace/name", "" if there is
// none.
func namespaceOf(object string) string {
	_, name, _ := strings.Cut(object, " ")
	ns, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	return ns
}

func compareFindings(a, b Finding) int {
	return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Severity, b.Severity),
		strings.Compare(a.Code, b.Code), strings.Compare(a.Object, b.Object),
		strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
}

// suppress sorts the findings into reported and accepted ones, and reports the
// suppressions that nothing needed. A suppression of a check that did not run
// is not judged.
func (l *linter) suppress(r *Report, o Options) {
	reasons := map[[2]string]string{} // policy and code → reason
	used := map[[2]string]bool{}
	for i := range l.policies {
		p := &l.policies[i]
		for _, ig := range p.Ignore {
			reasons[[2]string{p.Ref(), ig.Code}] = ig.Reason
		}
	}
	for _, f := range l.out {
		reason, ok := "", false
		for _, p := range f.policies {
			k := [2]string{p, f.Code}
			if why, is := reasons[k]; is {
				used[k] = true
				if !ok {
					reason, ok = why, true
				}
			}
		}
		if ok {
			r.Suppressed = append(r.Suppressed, Suppressed{f, reason})
		} else {
			r.Findings = append(r.Findings, f)
		}
	}
	l.out = nil
	if !wanted("LT001", o) {
		return
	}
	l.code = "LT001"
	for i := range l.policies {
		p := &l.policies[i]
		for _, ig := range p.Ignore {
			switch _, known := Lookup(ig.Code); {
			case !known:
				l.find(p, ig.Origin, diag.Info, "suppression of "+ig.Code+", which is no code of the catalogue", "remove it, or correct the code (picket lint --list)")
			case used[[2]string{p.Ref(), ig.Code}] || !wanted(ig.Code, o) || slices.Contains(r.Checked.Skipped, ig.Code):
			default:
				l.find(p, ig.Origin, diag.Info, "suppression of "+ig.Code+" is not needed: the policy has no such finding", "remove it")
			}
		}
	}
	r.Findings = append(r.Findings, l.out...)
	l.out = nil
}
