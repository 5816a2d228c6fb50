package matrix

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"picket/internal/verdict"
)

// WriteCSV writes a line for each pair of groups and each protocol, decision
// and pair of rules that is allowed or undefined between them: from, to,
// family (where they differ), protocol, ports ("80 443 8000-8100", empty for
// all), decision, and what decided at the responder and at the initiator. What
// has no line is denied.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"from", "to", "family", "protocol", "ports", "decision", "ingress", "egress"}); err != nil {
		return err
	}
	n := newNumbers(r.t)
	known := map[int32][][]string{}
	var err error
	r.eachRow(func(g int, cells []int32) {
		for c, id := range cells {
			if id == noCell || err != nil || r.cells[id].bypass == verdict.Itself {
				continue
			}
			lines, ok := known[id]
			if !ok {
				lines = r.csvLines(r.cells[id], n)
				known[id] = lines
			}
			for _, l := range lines {
				if e := out.Write(append([]string{r.groups[g].name, r.groups[r.columns[c]].name}, l...)); e != nil {
					err = e
				}
			}
		}
	})
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// csvLines returns the fields after from and to for each piece of traffic.
func (r *Report) csvLines(c cell, n *numbers) [][]string {
	var out [][]string
	for _, p := range r.pieces(c, n) {
		if p.Decision == verdict.Deny.String() {
			continue
		}
		ps := make([]string, len(p.Ports))
		for i, pr := range p.Ports {
			ps[i] = fmt.Sprint(pr[0])
			if pr[1] != pr[0] {
				ps[i] += fmt.Sprintf("-%d", pr[1])
			}
		}
		out = append(out, []string{p.Family, p.Protocol, strings.Join(ps, " "), p.Decision, n.cause(p.Ingress), n.cause(p.Egress)})
	}
	return out
}

// cause says what decided: a rule with its place, or the reason.
func (n *numbers) cause(reason *int) string {
	if reason == nil {
		return "no policy can guard it"
	}
	r := &n.reasons[*reason]
	if r.Rule == nil {
		return r.Text
	}
	rule := &n.rules[*r.Rule]
	p := &n.policies[rule.Policy]
	out := fmt.Sprintf("%s %s %s[%d]", p.Kind, p.Name, rule.Direction, rule.Index)
	if rule.File != "" {
		out += fmt.Sprintf(" (%s:%d)", rule.File, rule.Line)
	}
	return out
}
