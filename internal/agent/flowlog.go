//go:build linux

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"picket/internal/flow"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// defaultLogGroup is the netlink log group of the flow log where none is
// chosen.
const defaultLogGroup = 9476

// flowLog writes denied connections as JSON, one a line, with the names that
// Hubble gives to such things. It never holds up who reports to it: what comes
// faster than it may be written is counted, and the count is written instead.
type flowLog struct {
	w     io.Writer
	node  string
	audit bool
	rate  int // lines a second
	plan  *atomic.Pointer[plan]
	queue chan flow.Denied

	written, leftOut, lost atomic.Uint64
}

// flowQueue is how many denied packets may wait to be written.
const flowQueue = 1024

// openFlowLog opens the flow log of the configuration; nil if there is to be
// none.
func openFlowLog(o *Options, in *atomic.Pointer[plan]) (*flowLog, func() error, error) {
	l := &flowLog{node: o.Node, audit: o.Audit, rate: o.FlowRate, plan: in, queue: make(chan flow.Denied, flowQueue)}
	switch o.FlowLog {
	case "":
		return nil, func() error { return nil }, nil
	case "-":
		l.w = o.Out
		return l, func() error { return nil }, nil
	}
	f, err := os.OpenFile(o.FlowLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the flow log: %w", err)
	}
	l.w = f
	return l, f.Close, nil
}

// report takes a denied packet over, if there is room.
func (l *flowLog) report(d flow.Denied) {
	select {
	case l.queue <- d:
	default:
		l.leftOut.Add(1)
	}
}

// run writes until ctx ends. A write that fails ends it.
func (l *flowLog) run(ctx context.Context) error {
	tokens, since := float64(l.rate), time.Now()
	var said [2]uint64 // left out and lost, as far as the log says so
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var b bytes.Buffer
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-l.queue:
			now := time.Now()
			tokens = min(float64(l.rate), tokens+now.Sub(since).Seconds()*float64(l.rate))
			since = now
			if tokens < 1 {
				l.leftOut.Add(1)
				continue
			}
			tokens--
			l.line(&b, l.record(d))
			l.written.Add(1)
		case now := <-tick.C:
			for i, c := range []*atomic.Uint64{&l.leftOut, &l.lost} {
				if n := c.Load(); n > said[i] {
					l.line(&b, lostLine{Time: stamp(now), Node: l.node, Lost: lostEvents{[]string{"RATE_LIMIT", "KERNEL"}[i], n - said[i]}})
					said[i] = n
				}
			}
		}
		if b.Len() > 0 {
			if _, err := l.w.Write(b.Bytes()); err != nil {
				return fmt.Errorf("write the flow log: %w", err)
			}
			b.Reset()
		}
	}
}

func (l *flowLog) line(b *bytes.Buffer, v any) {
	enc := json.NewEncoder(b) // ends with a line feed
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		l.leftOut.Add(1)
	}
}

// The lines of the flow log. Names and nesting are those of Hubble's export.
type (
	flowLine struct {
		Flow flowRecord `json:"flow"`
		Node string     `json:"node_name"`
		Time string     `json:"time"`
	}
	lostLine struct {
		Lost lostEvents `json:"lost_events"`
		Node string     `json:"node_name"`
		Time string     `json:"time"`
	}
	lostEvents struct {
		Source string `json:"source"` // RATE_LIMIT: we left them out; KERNEL: they never reached us
		Count  uint64 `json:"num_events_lost"`
	}
	flowRecord struct {
		Time        string       `json:"time"`
		Verdict     string       `json:"verdict"`          // DROPPED, or AUDIT where nothing is enforced
		Reason      string       `json:"drop_reason_desc"` // POLICY_DENIED, or UNKNOWN_ENDPOINT
		IP          flowIP       `json:"IP"`
		L4          any          `json:"l4,omitempty"`
		Source      flowEnd      `json:"source"`
		Destination flowEnd      `json:"destination"`
		Node        string       `json:"node_name"`
		Direction   string       `json:"traffic_direction,omitempty"` // EGRESS, INGRESS: whose policies denied it
		IngressBy   []flowPolicy `json:"ingress_denied_by,omitempty"`
		EgressBy    []flowPolicy `json:"egress_denied_by,omitempty"`
		Summary     string       `json:"Summary"`
	}
	flowIP struct {
		Source      netip.Addr `json:"source"`
		Destination netip.Addr `json:"destination"`
		Version     string     `json:"ipVersion"`
	}
	flowEnd struct {
		Namespace string         `json:"namespace,omitempty"`
		Pod       string         `json:"pod_name,omitempty"`
		Workloads []flowWorkload `json:"workloads,omitempty"`
		Labels    []string       `json:"labels,omitempty"` // reserved:host and reserved:world only
	}
	flowWorkload struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
	}
	flowPolicy struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
		Kind      string `json:"kind"`
	}
	l4Port struct {
		Port uint16 `json:"destination_port"`
	}
	l4ICMP struct {
		Type uint8 `json:"type"`
		Code uint8 `json:"code"`
	}
)

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// record names a denied packet by what is in force now.
func (l *flowLog) record(d flow.Denied) flowLine {
	r := flowRecord{
		Time: stamp(d.At), Verdict: "DROPPED", Reason: "POLICY_DENIED", Node: l.node,
		IP: flowIP{d.Initiator, d.Responder, "IPv4"}, L4: layer4(d.Key),
	}
	if l.audit {
		r.Verdict = "AUDIT"
	}
	if netset.FamilyOf(d.Initiator) == netset.V6 {
		r.IP.Version = "IPv6"
	}
	if d.Unknown {
		r.Reason = "UNKNOWN_ENDPOINT"
	} else {
		r.Direction = map[model.Direction]string{model.Ingress: "INGRESS", model.Egress: "EGRESS"}[d.Direction]
	}
	if p := l.plan.Load(); p != nil && p.table != nil {
		t := p.table
		src, dst := t.AddrParty(d.Initiator), t.AddrParty(d.Responder)
		r.Source, r.Destination = endOf(t, src), endOf(t, dst)
		r.Summary = d.Sentence(t)
		if !d.Unknown {
			by := deniedBy(t, d, src, dst)
			if d.Direction == model.Ingress {
				r.IngressBy = by
			} else {
				r.EgressBy = by
			}
		}
	}
	return flowLine{Flow: r, Node: l.node, Time: r.Time}
}

func layer4(k netset.Key) any {
	proto, port := k.Proto(), k.Port()
	switch proto {
	case netset.TCP:
		return map[string]l4Port{"TCP": {port}}
	case netset.UDP:
		return map[string]l4Port{"UDP": {port}}
	case netset.SCTP:
		return map[string]l4Port{"SCTP": {port}}
	case netset.ICMP:
		return map[string]l4ICMP{"ICMPv4": {uint8(port >> 8), uint8(port)}}
	case netset.ICMPv6:
		return map[string]l4ICMP{"ICMPv6": {uint8(port >> 8), uint8(port)}}
	}
	return nil
}

func endOf(t *verdict.Table, p verdict.Party) flowEnd {
	switch {
	case p.Endpoint != verdict.None:
		e := &t.Snapshot.Endpoints[p.Endpoint]
		out := flowEnd{Namespace: e.Namespace, Pod: e.Name}
		if e.Owner.Name != "" {
			out.Workloads = []flowWorkload{{e.Owner.Name, e.Owner.Kind}}
		}
		return out
	case p.Node != verdict.None:
		return flowEnd{Labels: []string{"reserved:host"}}
	}
	return flowEnd{Labels: []string{"reserved:world"}}
}

// deniedBy returns the policies that deny a connection: the one whose rule
// does, or all that isolate the pod.
func deniedBy(t *verdict.Table, d flow.Denied, src, dst verdict.Party) []flowPolicy {
	target := dst
	if d.Direction == model.Egress {
		target = src
	}
	if target.Endpoint == verdict.None || src.Family != dst.Family {
		return nil
	}
	id := t.TargetOf[d.Direction][target.Endpoint]
	pair := t.Pair(src, dst)
	if id == verdict.None || pair.Sides[d.Direction] == verdict.None {
		return nil
	}
	_, pieces := t.Decide(pair, d.Key)
	piece := pieces[d.Direction]
	if piece.Decision == verdict.Allow || piece.Reason == verdict.None {
		return nil // the policies have changed since
	}
	var out []flowPolicy
	add := func(ref verdict.PolicyRef) {
		p := t.Policy(ref)
		out = append(out, flowPolicy{p.Name, p.Namespace, p.Kind})
	}
	switch r := t.Reasons[piece.Reason]; r.Kind {
	case verdict.ByRule:
		add(r.Rule.PolicyRef)
	case verdict.Isolated:
		for _, s := range t.Targets[d.Direction][id].Policies {
			if s.Tier == r.Rule.Tier && t.Policy(s.PolicyRef).Applies[d.Direction] {
				add(s.PolicyRef)
			}
		}
	case verdict.Open:
		if r.Rule.Policy != verdict.None {
			add(r.Rule.PolicyRef)
		}
	}
	return out
}
