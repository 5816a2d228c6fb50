package explain

import (
	"fmt"
	"io"
	"strings"

	"picket/internal/term"
	"picket/internal/verdict"
)

// casesShown is how many cases the text explains in full.
const casesShown = 10

// WriteText writes the report for people.
func (r *Report) WriteText(w *term.Writer) error {
	p := &printer{w: w}
	ends := fmt.Sprintf("%s → %s  %s", r.From, r.To, r.Port)
	switch len(r.Cases) {
	case 0:
		p.line("%s  %s", p.verdict(r.Verdict, "NOTHING TO REACH"), w.Bold(term.Clean(ends)))
		p.line("  %s", term.Clean(r.Headline))
		p.notes("", r.Notes)
	case 1:
		p.line("%s  %s", p.verdict(r.Verdict, ""), w.Bold(term.Clean(ends)))
		p.line("  %s", term.Clean(brief(&r.Cases[0])))
		p.notes("", r.Notes)
		p.caseBody(&r.Cases[0])
	default:
		p.line("%s  %s", p.mixed(r), w.Bold(term.Clean(ends)))
		p.line("  %s", term.Clean(r.Headline))
		p.notes("", r.Notes)
		for i := range r.Cases[:min(len(r.Cases), casesShown)] {
			c := &r.Cases[i]
			p.line("")
			p.line("%s  %s", p.verdict(c.Verdict, ""), w.Bold(term.Clean(fmt.Sprintf("%s → %s  %s", some(c.From, 3), some(c.To, 3), c.Port))))
			p.line("  %s", term.Clean(brief(c)))
			p.caseBody(c)
		}
		if n := len(r.Cases) - casesShown; n > 0 {
			p.line("")
			p.line("and %d cases more; the JSON form has them all", n)
		}
	}
	if r.Dialect != "" && r.Dialect != "picket" {
		p.line("")
		p.line("%s", w.Dim("read as dialect "+r.Dialect))
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// brief is the summary of a case whose sides follow in full.
func brief(c *Case) string {
	if len(c.Sides) != 2 || c.Bypass != "" {
		return c.Summary
	}
	eg, in := &c.Sides[0], &c.Sides[1]
	at := func(s *Side) string { return s.Direction + " at " + s.Endpoint }
	switch {
	case c.HalfOpen && eg.Verdict == verdict.Deny:
		return fmt.Sprintf("half open: %s does not let it out, though %s would let it in", at(eg), at(in))
	case c.HalfOpen:
		return fmt.Sprintf("half open: %s lets it out, but %s does not let it in", at(eg), at(in))
	case !eg.Judged:
		return fmt.Sprintf("%s: %s; the source is not judged", at(in), in.Reason)
	case !in.Judged:
		return fmt.Sprintf("%s: %s; the destination is not judged", at(eg), eg.Reason)
	case c.Verdict == verdict.Allow:
		return "both sides let it through"
	case c.Verdict == verdict.Deny:
		return "neither side lets it through"
	}
	return c.Summary
}

// printer collects the text. What comes from the input is cleaned by line.
type printer struct {
	w *term.Writer
	b strings.Builder
}

// line writes a formatted line. The arguments may hold colour; so only the
// caller can clean them, which text does.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(&p.b, format+"\n", args...)
}

func (p *printer) notes(indent string, notes []string) {
	for _, n := range notes {
		p.line("%s  %s %s", indent, p.w.Yellow("note:"), term.Clean(n))
	}
}

func (p *printer) verdict(d verdict.Decision, deny string) string {
	switch d {
	case verdict.Allow:
		return p.w.Green("ALLOWED")
	case verdict.Deny:
		if deny == "" {
			deny = "DENIED"
		}
		return p.w.Red(deny)
	}
	return p.w.Yellow("UNDEFINED")
}

func (p *printer) mixed(r *Report) string {
	for i := range r.Cases {
		if r.Cases[i].Verdict != r.Verdict {
			return p.w.Yellow("MIXED")
		}
	}
	return p.verdict(r.Verdict, "")
}

func (p *printer) caseBody(c *Case) {
	p.notes("", c.Notes)
	if c.split {
		p.line("  over %s", strings.Join(c.Families, " and "))
	}
	if len(c.From) > 1 || len(c.To) > 1 {
		p.line("  %s", p.w.Dim(term.Clean(fmt.Sprintf("the same for %s and %s; shown for %s → %s",
			count(len(c.From), "source"), count(len(c.To), "destination"), c.From[0], c.To[0]))))
	}
	for i := range c.Sides {
		p.side(&c.Sides[i])
	}
	if c.Change != nil {
		p.line("")
		p.line("%s:", p.w.Bold(strings.ToUpper(c.Change.Intro[:1])+c.Change.Intro[1:]))
		for _, s := range c.Change.Steps {
			p.line("  - %s", term.Clean(s.Text))
			for l := range strings.Lines(s.YAML) {
				p.line("      %s", term.Clean(strings.TrimRight(l, "\n")))
			}
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("all %d %ss", n, what)
}

func (p *printer) side(s *Side) {
	p.line("")
	p.line("%s at %s: %s", p.w.Bold(strings.ToUpper(s.Direction[:1])+s.Direction[1:]), term.Clean(s.Endpoint), p.colour(s))
	for _, r := range s.Readings {
		p.line("  if %s:", r.If)
		p.line("    %s", term.Clean(r.Reason))
	}
	for i := range s.Tiers {
		t := &s.Tiers[i]
		p.line("  tier %s: %s", term.Clean(t.Name), p.w.Dim(term.Clean(t.Outcome)))
		for j := range t.Policies {
			p.policy(&t.Policies[j])
		}
	}
}

func (p *printer) colour(s *Side) string {
	text := term.Clean(s.Reason)
	switch {
	case !s.Judged:
		return p.w.Dim(text)
	case s.Verdict == verdict.Allow:
		return p.w.Green(text)
	case s.Verdict == verdict.Deny:
		return p.w.Red(text)
	}
	return p.w.Yellow(text)
}

func (p *printer) policy(q *Policy) {
	name := q.Name
	if q.Namespace != "" {
		name = q.Namespace + "/" + q.Name
	}
	head := term.Clean(q.Kind + " " + name)
	if q.Order != "" {
		head += ", " + q.Order
	}
	if q.Position != "" {
		head += p.w.Dim(" (" + term.Clean(q.Position) + ")")
	}
	if q.Note != "" {
		head += "  " + p.w.Yellow(term.Clean(q.Note))
	}
	p.line("    %s", head)
	for i := range q.Rules {
		p.rule(&q.Rules[i])
	}
	switch {
	case q.Hidden == 0:
	case q.Hidden == q.Total:
		p.line("      %s", p.w.Dim(fmt.Sprintf("none of its %d rules concerns this", q.Total)))
	default:
		p.line("      %s", p.w.Dim(fmt.Sprintf("%d rules more do not concern this", q.Hidden)))
	}
}

func (p *printer) rule(r *Rule) {
	role := r.Role
	switch r.Role {
	case RoleDecides:
		style := p.w.Green
		if r.Action != "allow" {
			style = p.w.Red
		}
		role = style("decides: " + r.Action)
	case RoleNone, RoleNotReached:
		role = p.w.Dim(role + " (" + r.Action + ")")
	default:
		role = p.w.Yellow(role) + " (" + r.Action + ")"
	}
	name := term.Clean(r.Path)
	if r.Name != "" {
		name += fmt.Sprintf(" %q", r.Name)
	}
	if r.Position != "" {
		name += p.w.Dim(" (" + term.Clean(r.Position) + ")")
	}
	p.line("      %s: %s", name, role)
	for i, q := range r.Peers {
		word := "peer  "
		switch {
		case len(r.Peers) > 1 && i == 0:
			word = "either"
		case i > 0:
			word = "or    "
		}
		text := term.Clean(q.Text)
		if q.Today != "" {
			text += ": " + term.Clean(q.Today)
		}
		p.line("        %s  %s  %s", p.mark(q.Match), word, p.dead(q, text))
	}
	port := "no"
	if r.PortMatch {
		port = "yes"
	}
	p.line("        %s  ports   %s", p.mark(port), term.Clean(r.Ports))
	for _, n := range r.Notes {
		p.line("           %s", p.w.Yellow(term.Clean(n)))
	}
}

func (p *printer) dead(q Peer, text string) string {
	if q.Dead {
		return p.w.Yellow(text)
	}
	return text
}

func (p *printer) mark(match string) string {
	switch match {
	case "yes":
		return p.w.Green("yes")
	case "no":
		return p.w.Dim("no ")
	}
	return p.w.Yellow("?  ")
}
