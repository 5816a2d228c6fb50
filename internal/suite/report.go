package suite

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"picket/internal/diag"
	"picket/internal/term"
	"picket/internal/verdict"
)

// Options say how to check.
type Options struct {
	Namespace string // where endpoints without a namespace are looked for; "" means default
	Coverage  bool   // report what no assertion is about
}

// Report is what became of the tests.
type Report struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "SuiteReport"
	Dialect    string    `json:"dialect"`
	Passed     int       `json:"passed"`
	Failed     int       `json:"failed"`
	Tests      []Result  `json:"tests"` // in the order of the suites
	Coverage   *Coverage `json:"coverage,omitempty"`
}

// Result is what became of one test.
type Result struct {
	Name     string           `json:"name"`
	Position diag.Position    `json:"position"`
	Expect   verdict.Decision `json:"expect"`
	From     []string         `json:"from"`
	To       []string         `json:"to"`
	Ports    []string         `json:"ports"`
	Passed   bool             `json:"passed"`

	// Connections is how many were checked: pairs of ends times ports.
	Connections int `json:"connections"`

	// Problem says why the test fails without a look at policies: a side that
	// stands for nobody.
	Problem      string    `json:"problem,omitempty"`
	Failures     []Failure `json:"failures,omitempty"`
	MoreFailures int       `json:"moreFailures,omitempty"` // that are not in the list
}

// Failure is a decision that was not expected, for the same reason at one or
// more pairs of ends. From and To are one such pair.
type Failure struct {
	From    string           `json:"from"`
	To      string           `json:"to"`
	Port    string           `json:"port"`    // of the test
	Traffic string           `json:"traffic"` // what of the port has the decision, as ports of the destination pod
	Got     verdict.Decision `json:"got"`
	Egress  string           `json:"egress,omitempty"`  // the reason at the source
	Ingress string           `json:"ingress,omitempty"` // the reason at the destination
	Bypass  string           `json:"bypass,omitempty"`  // why policies are not asked; Egress and Ingress are "" then
	Pairs   int              `json:"pairs"`             // how many pairs of ends fail so
}

// Run checks tests against the table.
func Run(t *verdict.Table, tests []Test, o Options) *Report {
	r := &Report{APIVersion: APIVersion, Kind: "SuiteReport", Dialect: t.Dialect.Name, Tests: make([]Result, len(tests))}
	x := newIndex(t)
	var cov *cover
	if o.Coverage {
		cov = newCover(len(x.groups))
	}
	for i := range tests {
		res := &r.Tests[i]
		*res = Result{
			Name: tests[i].Name, Position: tests[i].Position, Expect: tests[i].Expect,
			From: texts(tests[i].From), To: texts(tests[i].To), Ports: texts(tests[i].Ports),
		}
		c := &checker{
			index: x, test: &tests[i], cover: cov, result: res,
			memo: map[memoKey][]mismatch{}, failures: map[failureKey]int{},
		}
		c.run(o.Namespace)
		if res.Passed = res.Problem == "" && len(res.Failures) == 0; res.Passed {
			r.Passed++
		} else {
			r.Failed++
		}
	}
	if cov != nil {
		r.Coverage = x.coverage(cov)
	}
	return r
}

// String returns the port as it was written.
func (p Port) String() string { return p.Text }

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// Message says in one line why the test failed, "" if it passed.
func (r *Result) Message() string {
	switch {
	case r.Passed:
		return ""
	case r.Problem != "":
		return r.Problem
	}
	f := r.Failures[0]
	return fmt.Sprintf("want %s, got %s: %s", r.Expect, f.Got, f.ends())
}

// ends says the example's ends and traffic.
func (f *Failure) ends() string {
	s := fmt.Sprintf("%s → %s %s", f.From, f.To, f.Traffic)
	if f.Pairs > 1 {
		s += fmt.Sprintf(" and %d more like it", f.Pairs-1)
	}
	return s
}

// lines says the reasons, one a line.
func (f *Failure) lines() []string {
	if f.Bypass != "" {
		return []string{"not judged: " + f.Bypass}
	}
	return []string{"egress of the source: " + f.Egress, "ingress of the destination: " + f.Ingress}
}

// maxUncovered bounds the lines about coverage in text.
const maxUncovered = 20

// WriteText writes a line for each test, the reasons of a failure below it,
// and a summary.
func (r *Report) WriteText(w *term.Writer) error {
	var b strings.Builder
	for i := range r.Tests {
		t := &r.Tests[i]
		if t.Passed {
			fmt.Fprintf(&b, "%s  %s\n", w.Green("ok  "), term.Clean(t.Name))
			continue
		}
		fmt.Fprintf(&b, "%s  %s  %s\n", w.Red("FAIL"), term.Clean(t.Name), w.Dim(place(t.Position)))
		if t.Problem != "" {
			fmt.Fprintf(&b, "      %s\n", term.Clean(t.Problem))
		}
		for k := range t.Failures {
			f := &t.Failures[k]
			fmt.Fprintf(&b, "      want %s, got %s: %s\n", t.Expect, w.Bold(f.Got.String()), term.Clean(f.ends()))
			for _, l := range f.lines() {
				fmt.Fprintf(&b, "        %s\n", term.Clean(l))
			}
		}
		if t.MoreFailures > 0 {
			fmt.Fprintf(&b, "      and %d more reasons\n", t.MoreFailures)
		}
	}
	if c := r.Coverage; c != nil {
		r.writeCoverage(&b, c)
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed\n", r.Passed, r.Failed)
	_, err := io.WriteString(w, b.String())
	return err
}

// place is a position without its column.
func place(p diag.Position) string {
	p.Col = 0
	return p.String()
}

func (r *Report) writeCoverage(b *strings.Builder, c *Coverage) {
	fmt.Fprintf(b, "\ncoverage: %d of %d pairs of groups (%.1f%%)\n", c.Covered, c.Pairs, c.Percent)
	for i, u := range c.Uncovered {
		if i == maxUncovered {
			fmt.Fprintf(b, "  and %d more lines; -o json has all\n", len(c.Uncovered)-i)
			break
		}
		fmt.Fprintf(b, "  no assertion: %s → %s\n", term.Clean(some(u.From)), term.Clean(some(u.To)))
	}
}

// some lists names, at most six of them.
func some(names []string) string {
	if n := len(names) - 5; n > 1 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more groups", n)
	}
	return strings.Join(names, ", ")
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
