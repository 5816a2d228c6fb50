package diff

import (
	"fmt"
	"io"
	"strings"

	"picket/internal/term"
	"picket/internal/verdict"
)

// shown is how many entries of a section the text and the Markdown list.
const shown = 25

// section is a heading with its lines.
type section struct {
	title  string
	colour func(*term.Writer) func(string) string
	lines  []line
}

// line is a sentence with reasons below it.
type line struct {
	text string
	why  []string
}

// sections lays the report out, for text and Markdown alike.
func (r *Report) sections() []section {
	var lost, other []line
	for _, l := range r.Lifelines {
		x := line{text: lifelineText(l), why: []string{l.Why}}
		if l.Change == "gained" {
			other = append(other, x)
		} else {
			lost = append(lost, x)
		}
	}
	var pods, policies []line
	for _, n := range r.Removed {
		pods = append(pods, line{text: "removed " + newcomerText(n, "reached", "was reached by")})
	}
	for _, n := range r.Added {
		pods = append(pods, line{text: "added " + newcomerText(n, "reaches", "is reached by")})
	}
	for _, p := range r.Policies {
		text := p.Change + " " + p.Kind + " " + p.Name
		if p.Position != "" {
			text += " (" + p.Position + ")"
		}
		policies = append(policies, line{text: text})
	}
	red := func(w *term.Writer) func(string) string { return w.Red }
	green := func(w *term.Writer) func(string) string { return w.Green }
	yellow := func(w *term.Writer) func(string) string { return w.Yellow }
	plain := func(w *term.Writer) func(string) string { return w.Bold }
	all := []section{
		{"Lifelines lost", red, lost},
		{"Lifelines gained", green, other},
		{"Traffic lost", red, flowLines(r.Lost)},
		{"Traffic gained", yellow, flowLines(r.Gained)},
		{"Undefined before or after", yellow, flowLines(r.Undefined)},
		{"Endpoints", plain, pods},
		{"Policies", plain, policies},
	}
	var out []section
	for _, s := range all {
		if len(s.lines) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func lifelineText(l Lifeline) string {
	verb := map[string]string{"lost": "lost for", "gained": "works again for", "missing": "cut from the start for new"}[l.Change]
	return fmt.Sprintf("%s %s %s: %s", l.Name, verb, l.For.Text, strings.Join(l.Ports, " "))
}

func flowLines(flows []Flow) []line {
	var out []line
	for _, f := range flows {
		traffic := f.Traffic
		if traffic == "all" {
			traffic = "all traffic"
		}
		text := fmt.Sprintf("%s → %s: %s", f.From.Text, f.To.Text, traffic)
		if f.Was == verdict.Undefined || f.Is == verdict.Undefined {
			text += fmt.Sprintf(" was %s, is %s", past(f.Was), past(f.Is))
		}
		if len(f.Families) == 1 && f.Families[0] == "IPv6" {
			text += " (IPv6)"
		}
		if f.NodeOwn {
			text += " (pods of a source's own node stay reachable)"
		}
		x := line{text: text, why: f.Why}
		if f.MoreWhy > 0 {
			x.why = append(x.why[:len(x.why):len(x.why)], fmt.Sprintf("and %d more", f.MoreWhy))
		}
		out = append(out, x)
	}
	return out
}

func past(d verdict.Decision) string {
	return [...]string{"denied", "allowed", "undefined"}[d]
}

func newcomerText(n Newcomer, reaches, reachedBy string) string {
	name := n.Name
	if n.Pods > 1 {
		name += fmt.Sprintf(" (%s)", count(n.Pods))
	}
	outside := map[string]string{"both ways": "; external both ways", "out": "; external, but not from there", "in": "; also from external, but not to it", "no": "; not external"}[n.Outside]
	return fmt.Sprintf("%s: %s %d and %s %d of %s%s", name, reaches, n.Reaches, reachedBy, n.ReachedBy, count(n.Others), outside)
}

// headline sums the report up.
func (r *Report) headline() string {
	if r.Empty() {
		if len(r.Policies) == 0 {
			return "no differences"
		}
		return "no traffic changes, though policies did"
	}
	cut := 0
	for _, l := range r.Lifelines {
		if l.Change != "gained" {
			cut++
		}
	}
	var parts []string
	for _, x := range []struct {
		n         int
		one, many string
	}{
		{cut, "lifeline cut", "lifelines cut"},
		{len(r.Lost), "change that denies", "changes that deny"},
		{len(r.Gained), "change that allows", "changes that allow"},
		{len(r.Undefined), "change of undefined verdicts", "changes of undefined verdicts"},
		{len(r.Added) + len(r.Removed), "workload added or removed", "workloads added or removed"},
	} {
		switch {
		case x.n == 1:
			parts = append(parts, "1 "+x.one)
		case x.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.many))
		}
	}
	if len(parts) == 0 {
		return "lifelines mended"
	}
	return strings.Join(parts, ", ")
}

// WriteText writes the report for people.
func (r *Report) WriteText(w *term.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.headline())
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n%s\n", s.colour(w)(s.title))
		for _, l := range s.lines[:min(shown, len(s.lines))] {
			fmt.Fprintf(&b, "  %s\n", term.Clean(l.text))
			for _, why := range l.why {
				fmt.Fprintf(&b, "      %s\n", w.Dim(term.Clean(why)))
			}
		}
		if n := len(s.lines) - shown; n > 0 {
			fmt.Fprintf(&b, "  and %d more; the JSON form has them all\n", n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes the report as a comment for a pull request. Reasons are
// folded away.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### Network policy: %s\n", escape(r.headline()))
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n#### %s\n\n", s.title)
		reasons := false
		for _, l := range s.lines[:min(shown, len(s.lines))] {
			fmt.Fprintf(&b, "- %s\n", escape(l.text))
			reasons = reasons || len(l.why) > 0
		}
		if n := len(s.lines) - shown; n > 0 {
			fmt.Fprintf(&b, "- and %d more\n", n)
		}
		if !reasons {
			continue
		}
		b.WriteString("\n<details><summary>Why</summary>\n\n")
		for _, l := range s.lines[:min(shown, len(s.lines))] {
			fmt.Fprintf(&b, "- %s\n", escape(l.text))
			for _, why := range l.why {
				fmt.Fprintf(&b, "  - %s\n", escape(why))
			}
		}
		b.WriteString("\n</details>\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// escape makes text from the input harmless in Markdown: no tag, no link, no
// mention of a person.
func escape(s string) string {
	return strings.NewReplacer("\\", "\\\\", "<", "&lt;", ">", "&gt;", "*", "\\*", "_", "\\_", "[", "\\[", "`", "\\`", "|", "\\|", "@", "@\u200b", "#", "\\#").
		Replace(term.Clean(s))
}
