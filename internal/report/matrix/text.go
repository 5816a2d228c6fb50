package matrix

import (
	"fmt"
	"io"
	"strings"

	"picket/internal/model"
	"picket/internal/term"
	"picket/internal/verdict"
)

const itself = verdict.Itself

// defaultWidth is the width of text that goes to no terminal.
const defaultWidth = 100

// WriteText writes the matrix for people: a summary, then a grid if it fits the
// terminal (100 columns without one), else what each group may reach, line by
// line. Groups that read the same are shown as one where space is short.
func (r *Report) WriteText(w *term.Writer) error {
	width := w.Width()
	if width == 0 {
		width = defaultWidth
	}
	v := r.plainView()
	var grid *grid
	if v != nil {
		grid = r.fit(v, width)
	}
	if grid == nil {
		v = r.mergedView()
		if len(v.rows) <= viewLimit && len(v.columns) <= viewLimit {
			r.fill(v)
			grid = r.fit(v, width)
		}
	}
	if err := r.writeSummary(w, v.summary, width); err != nil {
		return err
	}
	if grid == nil {
		return r.writeLines(w, v, width)
	}
	return grid.write(w)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if strings.HasSuffix(one, "y") {
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(one, "y"))
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func (r *Report) writeSummary(w *term.Writer, s *summary, width int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s, %s, %s (dialect %s)\n", w.Bold(plural(s.Pods, "pod")), plural(s.Namespaces, "namespace"),
		plural(s.Groups, "group"), plural(s.Policies, "policy"), r.t.Dialect.Name)
	if s.Pairs.Total > 0 {
		fmt.Fprintf(&b, "%s\n", r.pairsText(s))
	}
	if s.Policies > 0 {
		fmt.Fprintf(&b, "isolated pods: %d for ingress, %d for egress", s.Isolated[model.Ingress], s.Isolated[model.Egress])
		if s.HostPods > 0 {
			fmt.Fprintf(&b, "; %d on the host network, beyond any policy", s.HostPods)
		}
		b.WriteString("\n")
		if len(s.unselected) > 0 {
			fmt.Fprintf(&b, "selected by no policy: %s\n", term.Clean(r.namer.endpoints(s.unselected, max(width-24, nameWidth))))
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) pairsText(s *summary) string {
	what, on := "may connect", "on some ports only"
	if r.o.Evidence != nil {
		what = "connect, as measured"
	}
	if len(r.o.Ports) > 0 {
		words := make([]string, len(r.o.Ports))
		for i, p := range r.o.Ports {
			words[i] = p.String()
		}
		what += " on " + strings.Join(words, ", ")
		on = "on some of these only"
	}
	n := s.Pairs.Open + s.Pairs.Partly
	out := fmt.Sprintf("%d of %s %s (%s)", n, plural(s.Pairs.Total, "ordered pair")+" of pods", what, percent(n, s.Pairs.Total))
	if s.Pairs.Partly > 0 {
		out += fmt.Sprintf(", %d %s", s.Pairs.Partly, on)
	}
	if s.Pairs.Undefined > 0 {
		out += fmt.Sprintf(", %d undefined", s.Pairs.Undefined)
	}
	return out
}

// percent never says 0 % of something or 100 % of less than all.
func percent(n, of int) string {
	switch p := float64(n) * 100 / float64(of); {
	case n > 0 && p < 1:
		return "under 1%"
	case n < of && p > 99:
		return "over 99%"
	default:
		return fmt.Sprintf("%.0f%%", p)
	}
}

// style returns the colour of a cell.
func style(w *term.Writer, l level) func(string) string {
	switch l {
	case open, partly:
		return w.Green
	case unclear:
		return w.Yellow
	case closed:
		return w.Red
	}
	return w.Dim
}

// whys returns what the undefined cells of ids are about, in order.
func (r *Report) whys(cells [][]int32) []string {
	var seen [verdict.WhyBroken + 1]bool
	done := map[int32]bool{}
	for _, row := range cells {
		for _, id := range row {
			if id == noCell || done[id] || !r.shown(id).undefined {
				continue
			}
			done[id] = true
			for _, f := range r.families(r.cells[id]) {
				for _, j := range r.joined(r.cells[id], f) {
					for _, reason := range j.Reasons {
						if j.Decision == verdict.Undefined && reason != verdict.None {
							seen[r.t.Reasons[reason].Why] = true
						}
					}
				}
			}
		}
	}
	var out []string
	for why, ok := range seen {
		if ok && verdict.Why(why) != verdict.WhyNothing {
			out = append(out, verdict.Why(why).String())
		}
	}
	return out
}
