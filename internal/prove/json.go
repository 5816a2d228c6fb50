//go:build linux

package prove

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"

	"picket/internal/model"
	"picket/internal/report/matrix"
)

// The JSON form; docs/output.md describes it.
type (
	jsonGroup struct {
		ID      int      `json:"id"`
		Name    string   `json:"name"`
		Kind    string   `json:"kind"` // pods, hostPods, nodes, addresses
		Family  string   `json:"family"`
		Members []string `json:"members"` // names of pods or nodes, or the addresses that were used
	}
	jsonCell struct {
		From      int         `json:"from"` // groups
		To        int         `json:"to"`
		Bypass    string      `json:"bypass,omitempty"`
		Traffic   string      `json:"traffic"`
		Predicted string      `json:"predicted"`
		Measured  string      `json:"measured"` // allow, deny, mixed, none
		Proved    bool        `json:"proved"`
		Packets   int         `json:"packets"`
		Passed    int         `json:"passed"`
		Packet    *jsonPacket `json:"packet,omitempty"` // the one that stands for the cell
		Why       string      `json:"why,omitempty"`    // why there is none
	}
	jsonPacket struct {
		From     string     `json:"from"`
		Source   netip.Addr `json:"source"`
		To       string     `json:"to"`
		Address  netip.Addr `json:"address"`
		Port     string     `json:"port"`
		SameNode bool       `json:"sameNode"`
		Result   string     `json:"result"`
	}
	jsonMismatch struct {
		Kind string `json:"kind"` // wrongly open, wrongly closed, answer lost
		jsonPacket
		Predicted string `json:"predicted"`
		Bypass    string `json:"bypass,omitempty"`
		Ingress   string `json:"ingress,omitempty"`
		Egress    string `json:"egress,omitempty"`

		Policies []string `json:"policies,omitempty"` // that isolate an end, with their places
	}
	jsonChange struct {
		From    []string `json:"from"`
		To      []string `json:"to"`
		Traffic string   `json:"traffic"`
	}
	jsonUnproved struct {
		Why   string `json:"why"`
		Cells int    `json:"cells"`
	}
	jsonSummary struct {
		Agrees   bool           `json:"agrees"`
		Pods     int            `json:"pods"`
		Nodes    int            `json:"nodes"`
		Hosts    int            `json:"hosts"`
		Cells    int            `json:"cells"`
		Proved   int            `json:"proved"`
		Refuted  int            `json:"refuted"`
		Unproved []jsonUnproved `json:"unproved"`
		Packets  int            `json:"packets"`
		Wrong    int            `json:"wrong"`
		Results  map[string]int `json:"results"`
		Seconds  float64        `json:"seconds"`
		Notes    []string       `json:"notes,omitempty"`
	}
)

// WriteJSON writes proofs as one JSON object, cell by cell.
func WriteJSON(w io.Writer, proofs []*Proof) error {
	b := bufio.NewWriterSize(w, 1<<16)
	b.WriteString("{\n\"apiVersion\": \"picket/v1\",\n\"kind\": \"Proof\",\n\"steps\": [")
	for i, p := range proofs {
		if i > 0 {
			b.WriteString(",")
		}
		p.writeJSON(b)
	}
	b.WriteString("]\n}\n")
	return b.Flush()
}

func (p *Proof) writeJSON(b *bufio.Writer) {
	fmt.Fprintf(b, "\n{\"name\": %s, \"dialect\": %s", marshal(p.Name), marshal(p.t.Dialect.Name))
	var groups []any
	names := matrix.NewNames(p.t)
	for i := range p.groups {
		g := &p.groups[i]
		groups = append(groups, jsonGroup{i, p.groupName(names, int32(i)), g.kind.String(), fmt.Sprintf("IPv%d", g.family), p.names(g.ends)})
	}
	list(b, "groups", groups)
	b.WriteString(",\n\"cells\": [")
	first := true
	for i := range p.faces {
		for s := range p.faces[i].slots {
			if !first {
				b.WriteByte(',')
			}
			first = false
			b.WriteByte('\n')
			b.Write(marshal(p.jsonCell(&p.faces[i], s)))
		}
	}
	b.WriteByte(']')
	var wrong []any
	for i := range p.Mismatches {
		m := &p.Mismatches[i]
		wrong = append(wrong, jsonMismatch{m.Kind(), *p.jsonPacket(m.shot), m.Predict.String(), m.Bypass, m.Reasons[model.Ingress], m.Reasons[model.Egress], m.Policies})
	}
	list(b, "mismatches", wrong)
	if c := p.Changes; c != nil {
		list(b, "opened", jsonChanges(c.Opened))
		list(b, "closed", jsonChanges(c.Closed))
	}
	s := jsonSummary{
		Agrees: p.Agrees(), Pods: p.Pods, Nodes: p.Nodes, Hosts: p.Hosts, Cells: p.Cells, Proved: p.Proved, Refuted: p.Refuted,
		Unproved: []jsonUnproved{}, Packets: p.Sent, Wrong: len(p.Mismatches), Results: map[string]int{},
		Seconds: p.Elapsed.Round(time.Millisecond).Seconds(), Notes: p.Notes,
	}
	for _, u := range p.Unproved {
		s.Unproved = append(s.Unproved, jsonUnproved(u))
	}
	for r, n := range p.Results {
		if n > 0 {
			s.Results[resultName(r)] = n
		}
	}
	fmt.Fprintf(b, ",\n\"summary\": %s}", marshal(s))
}

func (p *Proof) jsonCell(f *face, s int) jsonCell {
	r, slot := f.results[s], &f.slots[s]
	c := jsonCell{
		From: int(f.src), To: int(f.dst), Bypass: f.bypass.String(), Traffic: trafficName(slot.traffic), Predicted: slot.decision.String(),
		Proved: r.sent > 0 && r.wrong == 0, Packets: int(r.sent), Passed: int(r.passed),
	}
	switch {
	case r.sent == 0:
		c.Measured = "none"
	case r.passed == r.sent:
		c.Measured = "allow"
	case r.passed == 0:
		c.Measured = "deny"
	default:
		c.Measured = "mixed"
	}
	if r.first >= 0 {
		c.Packet = p.jsonPacket(r.first)
	}
	if r.sent == 0 {
		c.Why = p.unprovedWhy(f, s)
	}
	return c
}

func (p *Proof) jsonPacket(i int32) *jsonPacket {
	s := &p.shots[i]
	src, dst := &p.ends[s.src], &p.ends[s.dst]
	return &jsonPacket{
		From: src.name, Source: src.Addr, To: dst.name, Address: dst.Addr, Port: s.key.String(),
		SameNode: src.node == dst.node && src.kind != outside, Result: p.outcomes[i].Result.String(),
	}
}

func jsonChanges(cs []Change) (out []any) {
	for _, c := range cs {
		out = append(out, jsonChange{c.Sources, c.Targets, c.Traffic.String()})
	}
	return out
}

// list writes a member that is a list, an entry a line.
func list(b *bufio.Writer, key string, entries []any) {
	fmt.Fprintf(b, ",\n%q: [", key)
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(marshal(e))
	}
	b.WriteByte(']')
}

// marshal encodes what cannot fail.
func marshal(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}
