package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"picket/internal/diag"
	"picket/internal/term"
)

// WriteText writes a finding as a line, "NP203 warning prod/name path
// (file:line): message", with its fix indented below, and a summary at the end.
func (r *Report) WriteText(w *term.Writer) error {
	var b strings.Builder
	for i := range r.Findings {
		writeFinding(&b, w, &r.Findings[i].Diagnostic)
		for line := range strings.Lines(r.Findings[i].Fix) {
			b.WriteString("    " + w.Dim(term.Clean(strings.TrimRight(line, "\n"))) + "\n")
		}
	}
	for i := range r.Suppressed {
		d := r.Suppressed[i].Diagnostic
		fmt.Fprintf(&b, "%s\n", w.Dim(fmt.Sprintf("%s accepted %s%s: %s", d.Code, term.Clean(place(&d)), at(&d), term.Clean(r.Suppressed[i].Reason))))
	}
	if len(r.Findings)+len(r.Suppressed) > 0 {
		b.WriteString("\n")
	}
	b.WriteString(w.Bold(r.summary()) + "\n")
	if n := len(r.Checked.Skipped); n > 0 {
		b.WriteString(w.Dim(fmt.Sprintf("%s not run: the input has no pods", plural(n, "check"))) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFinding(b *strings.Builder, w *term.Writer, d *diag.Diagnostic) {
	style := map[diag.Severity]func(string) string{diag.Error: w.Red, diag.Warning: w.Yellow, diag.Info: w.Cyan}[d.Severity]
	fmt.Fprintf(b, "%s %s %s%s: %s\n", w.Bold(style(d.Code)), style(d.Severity.String()), w.Bold(term.Clean(place(d))), term.Clean(at(d)), term.Clean(d.Message))
}

// place names the object and path of a finding; "NetworkPolicy" goes without
// saying.
func place(d *diag.Diagnostic) string {
	s := strings.TrimPrefix(d.Object, "NetworkPolicy ")
	if d.Path != "" {
		s += " " + d.Path
	}
	return s
}

func at(d *diag.Diagnostic) string {
	p := d.Position
	p.Col = 0
	if s := p.String(); s != "" {
		return " (" + s + ")"
	}
	return ""
}

func (r *Report) summary() string {
	c := r.Checked
	s := "no findings"
	if len(r.Findings) > 0 {
		s = fmt.Sprintf("%s, %s, %s", plural(r.Count(diag.Error), "error"), plural(r.Count(diag.Warning), "warning"), plural(r.Count(diag.Info), "note"))
	}
	if n := len(r.Suppressed); n > 0 {
		s += fmt.Sprintf(", %d accepted", n)
	}
	return fmt.Sprintf("%s in %s with %s, for %s in %s", s, plural(c.Policies, "policy"), plural(c.Rules, "rule"), plural(c.Pods, "pod"), plural(c.Namespaces, "namespace"))
}

// WriteJSON writes the report as the object that docs/output.md describes.
func (r *Report) WriteJSON(w io.Writer) error {
	type accepted struct {
		diag.Diagnostic
		Reason string `json:"reason"`
	}
	out := struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Findings   []diag.Diagnostic `json:"findings"`
		Suppressed []accepted        `json:"suppressed"`
		Summary    map[string]int    `json:"summary"`
		Checked    Checked           `json:"checked"`
	}{
		"picket/v1", "LintReport", []diag.Diagnostic{}, []accepted{},
		map[string]int{"errors": r.Count(diag.Error), "warnings": r.Count(diag.Warning), "infos": r.Count(diag.Info), "suppressed": len(r.Suppressed)},
		r.Checked,
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, f.Diagnostic)
	}
	for _, s := range r.Suppressed {
		out.Suppressed = append(out.Suppressed, accepted{s.Diagnostic, s.Reason})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}
