package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"picket/internal/report/lint"
	"picket/internal/term"
)

// lintCodes lists the codes of all checks.
func lintCodes() []string {
	var out []string
	for _, c := range lint.Catalogue() {
		out = append(out, c.Code)
	}
	return out
}

// checkCodes reports a code, or a family of codes, that no check has.
func checkCodes(flag string, codes []string) error {
	for _, want := range codes {
		found := false
		for _, code := range lintCodes() {
			found = found || want != "" && strings.HasPrefix(code, strings.ToUpper(want))
		}
		if !found {
			return usagef("%s: no check has the code %q; picket lint --list shows all", flag, want)
		}
	}
	return nil
}

// catalogue prints the list of checks, or what one of them means.
func (o *lintOptions) catalogue() error {
	checks := lint.Catalogue()
	if o.explain != "" {
		c, ok := lint.Lookup(o.explain)
		if !ok {
			return usagef("--explain: no check has the code %q; picket lint --list shows all", o.explain)
		}
		checks = []lint.Check{c}
	}
	out := newOutput(o.Out, o.noColor)
	switch {
	case o.format.value == "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return out.finish(enc.Encode(struct {
			APIVersion string       `json:"apiVersion"`
			Kind       string       `json:"kind"`
			Checks     []lint.Check `json:"checks"`
		}{"picket/v1", "LintCatalogue", checks}))
	case o.explain != "":
		return out.finish(explainCheck(out.term, checks[0]))
	}
	var t term.Table
	for _, c := range checks {
		t.Row(c.Code, c.Severity.String(), c.Title)
	}
	return out.finish(t.Write(out.term))
}

func explainCheck(w *term.Writer, c lint.Check) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n%s\n\n%s\n", w.Bold(c.Code), w.Bold(c.Title), c.Severity, c.Explanation)
	for _, part := range []struct{ title, yaml string }{{"With the finding:", c.Bad}, {"Without:", c.Good}} {
		if part.yaml == "" {
			continue
		}
		b.WriteString("\n" + part.title + "\n")
		for line := range strings.Lines(part.yaml) {
			b.WriteString("    " + line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
