//go:build linux

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"picket/internal/flow"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/nft"
)

// flowPlan is the plan of a small cluster: shop/a is isolated by two policies,
// and an admin's rule denies shop/b what comes from shop/a.
func flowPlan(t *testing.T) *plan {
	t.Helper()
	s := newFakeSource()
	close(s.began)
	s.changed = func() {}
	s.put("Node/n1", `"spec":{"podCIDRs":["10.1.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}`)
	s.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
	s.put("Pod/shop/b", podOn("n1", "10.1.0.2"))
	s.put("NetworkPolicy/shop/deny", denyAll)
	s.put("NetworkPolicy/shop/web", `"spec":{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}`)
	s.put("ClusterNetworkPolicy/fence", `"spec":{"tier":"Admin","priority":1,"subject":{"pods":{"namespaceSelector":{},"podSelector":{}}},"egress":[{"name":"no-dns","action":"Deny","to":[{"networks":["203.0.113.0/24"]}]}]}`)
	c := Defaults()
	c.Node = "n1"
	p, err := makePlan(s.Snapshot(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestFlowRecords(t *testing.T) {
	l := &flowLog{node: "n1", plan: &atomic.Pointer[plan]{}}
	l.plan.Store(flowPlan(t))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		d    flow.Denied
		want string
	}{
		{
			flow.Denied{At: at, Direction: model.Ingress, Initiator: addr("10.1.0.2"), Responder: addr("10.1.0.1"), Key: netset.KeyOf(netset.TCP, 443)},
			`{"flow":{"time":"2026-01-02T03:04:05Z","verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED",` +
				`"IP":{"source":"10.1.0.2","destination":"10.1.0.1","ipVersion":"IPv4"},"l4":{"TCP":{"destination_port":443}},` +
				`"source":{"namespace":"shop","pod_name":"b"},"destination":{"namespace":"shop","pod_name":"a"},"node_name":"n1","traffic_direction":"INGRESS",` +
				`"ingress_denied_by":[{"name":"deny","namespace":"shop","kind":"NetworkPolicy"},{"name":"web","namespace":"shop","kind":"NetworkPolicy"}],`,
		},
		{
			flow.Denied{At: at, Direction: model.Egress, Initiator: addr("10.1.0.1"), Responder: addr("203.0.113.9"), Key: netset.KeyOf(netset.UDP, 53)},
			`"l4":{"UDP":{"destination_port":53}},"source":{"namespace":"shop","pod_name":"a"},"destination":{"labels":["reserved:world"]},` +
				`"node_name":"n1","traffic_direction":"EGRESS","egress_denied_by":[{"name":"fence","kind":"ClusterNetworkPolicy"}],`,
		},
		{
			flow.Denied{At: at, Unknown: true, Initiator: addr("10.1.0.9"), Responder: addr("192.0.2.1"), Key: netset.KeyOf(netset.ICMP, 8<<8)},
			`"drop_reason_desc":"UNKNOWN_ENDPOINT","IP":{"source":"10.1.0.9","destination":"192.0.2.1","ipVersion":"IPv4"},"l4":{"ICMPv4":{"type":8,"code":0}},` +
				`"source":{"labels":["reserved:world"]},"destination":{"labels":["reserved:host"]},"node_name":"n1","Summary":`,
		},
		{ // allowed by now
			flow.Denied{At: at, Direction: model.Ingress, Initiator: addr("10.1.0.2"), Responder: addr("10.1.0.1"), Key: netset.KeyOf(netset.TCP, 80)},
			`"traffic_direction":"INGRESS","Summary":"shop/b → shop/a tcp/80: denied by policies that have changed since`,
		},
	} {
		var b bytes.Buffer
		l.line(&b, l.record(tt.d))
		if !strings.Contains(b.String(), tt.want) {
			t.Errorf("got  %s\nwant %s", b.String(), tt.want)
		}
		if !json.Valid(b.Bytes()) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("no line of JSON: %q", b.String())
		}
	}
}

// TestFlowRate holds that more than may be written is counted, and the count
// written.
func TestFlowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &flowLog{w: &out, node: "n1", rate: 10, plan: &atomic.Pointer[plan]{}, queue: make(chan flow.Denied, flowQueue)}
		l.plan.Store(flowPlan(t))
		for range 3000 { // before anybody reads: the queue is full at some time
			l.report(flow.Denied{Initiator: addr("10.1.0.2"), Responder: addr("10.1.0.1")})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		want(t, "lines", len(lines), 11)
		if last := lines[10]; !strings.Contains(last, `"lost_events":{"source":"RATE_LIMIT","num_events_lost":2990}`) {
			t.Error(last)
		}
		want(t, "written", l.written.Load(), 10)
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestFlowLogBreaks holds that a log that can't be written is an error, and
// that reporting goes on without waiting.
func TestFlowLogBreaks(t *testing.T) {
	l := &flowLog{w: full{}, rate: 10, plan: &atomic.Pointer[plan]{}, queue: make(chan flow.Denied, 1)}
	l.report(flow.Denied{Initiator: addr("10.1.0.2"), Responder: addr("10.1.0.1")})
	if err := l.run(t.Context()); err == nil {
		t.Error("no error")
	}
	for range 10 {
		l.report(flow.Denied{})
	}
	want(t, "left out", l.leftOut.Load(), 9)
}

// TestAudit holds that what the plan would deny passes under audit, and is
// counted.
func TestAudit(t *testing.T) {
	for _, audit := range []bool{false, true} {
		p := flowPlan(t)
		p.Options.Audit = audit
		tracer := nft.NewTracer(p.Plan)
		for _, tt := range []struct {
			src, dst string
			port     uint16
			counter  string // that counts it; "" if it is allowed anyway
		}{
			{"10.1.0.2", "10.1.0.1", 443, "denied_in"},
			{"10.1.0.1", "203.0.113.9", 80, "denied_eg"},
			{"10.1.0.77", "10.1.0.1", 443, "unknown"},
			{"10.1.0.2", "10.1.0.1", 80, ""},
		} {
			out, err := tracer.Run("postrouting", nft.Packet{
				Src: addr(tt.src), Dst: addr(tt.dst), Proto: netset.TCP, Payload: syn(tt.port), State: nft.StateNew, Dir: nft.Original,
				Initiator: addr(tt.src), Responder: addr(tt.dst), Port: tt.port,
			})
			if err != nil {
				t.Fatal(err)
			}
			verdict := nft.Code(nft.Accept)
			if tt.counter != "" && !audit {
				verdict = nft.Drop
			}
			counted := strings.Join(out.Counters, " ")
			if out.Verdict != verdict || tt.counter != "" && !strings.Contains(counted, tt.counter) || tt.counter == "" && counted != "allowed" {
				t.Errorf("audit %t, %s → %s: verdict %v, counted by %q", audit, tt.src, tt.dst, out.Verdict, counted)
			}
		}
	}
}

// syn is a TCP header that begins a connection.
func syn(port uint16) []byte {
	h := make([]byte, 20)
	h[2], h[3], h[12], h[13] = byte(port>>8), byte(port), 5<<4, 2
	return h
}
