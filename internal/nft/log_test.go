//go:build linux

package nft

import (
	"context"
	"slices"
	"testing"
	"time"

	"picket/internal/compile"
	"picket/internal/flow"
	"picket/internal/model"
	"picket/internal/netset"
)

// What is denied comes out of the log with both ends and the policies' names.
func TestDeniedIsLogged(t *testing.T) {
	w := newWorld(t, false)
	policies := []model.Policy{
		isolate("a", []model.Rule{allow(netset.Ports(netset.TCP, 80, 80))}, nil),
		isolate("b", nil, []model.Rule{}),
	}
	w.apply(policies...)
	table := compile.Compile(w.snapshot(policies...), model.Dialects[0])
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	denied := make(chan flow.Denied, 100)
	done := make(chan error, 1)
	go func() {
		done <- flow.ReadDenied(ctx, int(w.spaces["n1"].ns), 7, func(d flow.Denied) { denied <- d }, func() {})
	}()
	var got []string
	next := func(counter, from string, p packet) {
		t.Helper()
		// The reader may still be on its way: send until something is there.
		for {
			w.dropped("", counter, from, "nobody", p)
			select {
			case d := <-denied:
				s := d.Sentence(table)
				if !slices.Contains(got, s) {
					got = append(got, s)
				}
				return
			case err := <-done:
				t.Fatal(err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	at := func(name string, i int) (a packet) { a.src = w.spaces[name].addrs[i]; return a }
	p := at("d", 0)
	p.dst, p.proto, p.sport, p.dport = w.spaces["a"].addrs[0], netset.TCP, 999, 81
	next("denied_in", "d", p)
	p = at("b", 1)
	p.dst, p.proto, p.sport, p.dport = w.spaces["c"].addrs[1], netset.UDP, 999, 53
	next("denied_eg", "b", p)
	p = at("c", 0)
	p.dst, p.proto, p.sport, p.dport = w.spaces["a"].addrs[0], netset.ICMP, 999, echo(netset.V4)
	next("denied_in", "c", p)
	p = at("stranger", 0)
	p.dst, p.proto, p.sport, p.dport = w.spaces["a"].addrs[0], netset.TCP, 999, 80
	next("unknown", "stranger", p)
	want := []string{
		"ns/d (10.0.2.1) → ns/a (10.0.1.1) tcp/81: denied: NetworkPolicy ns/isolate-a isolates it for ingress and none of its rules matches",
		"ns/b (fd00:1::2) → ns/c (fd00:1::3) udp/53: denied: NetworkPolicy ns/isolate-b isolates it for egress and has no rules",
		"ns/c (10.0.1.3) → ns/a (10.0.1.1) icmp: denied: NetworkPolicy ns/isolate-a isolates it for ingress and none of its rules matches",
		"10.0.1.4 → ns/a (10.0.1.1) tcp/80: dropped: an address of the node's pod range that no known pod has",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
