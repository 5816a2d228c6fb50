//go:build linux

package prove

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/reference"
	"picket/internal/verdict"
)

// soak is how many verdicts a test must compare, 0 unless the environment asks
// for a long run.
func soak() int {
	n, _ := strconv.Atoi(os.Getenv("PICKET_SOAK"))
	return n
}

// TestProveGenerated takes small clusters through the literal reading, the
// compiler, the tracer and the kernel, which must agree about every packet.
func TestProveGenerated(t *testing.T) {
	needsLab(t)
	random := rapid.Custom(func(rt *rapid.T) *model.Snapshot {
		return clustergen.Random(func(what string) bool { return rapid.Bool().Draw(rt, what) })
	})
	clusters, target := 12, soak()
	if testing.Short() {
		clusters = 3
	}
	var n struct{ clusters, packets, cells, unproved, verdicts, traced int }
	start := time.Now()
	for seed := 0; seed < clusters || n.verdicts < target; seed++ {
		placer := &Placer{Nodes: 2}
		s := placer.Place(random.Example(seed))
		table := compile.Compile(s, model.Dialects[0])
		proofs, err := Run(t.Context(), []Step{{"", table}}, Options{All: target > 0})
		if err != nil {
			if err.Error() == "there is no pod to probe" {
				continue
			}
			t.Fatalf("seed %d: %v", seed, err)
		}
		p := proofs[0]
		n.clusters++
		n.packets += p.Sent
		n.cells += p.Proved
		n.unproved += p.missed()
		t.Logf("seed %d: %v %v %d %v", seed, p.Unproved, p.Results, p.Sent, p.Elapsed)
		for i := range p.Mismatches {
			if i < 3 {
				t.Errorf("seed %d: %s %v", seed, &p.Mismatches[i], p.why(&p.Mismatches[i]))
			}
		}
		tr := newTracers(table)
		for i := range p.shots {
			shot := &p.shots[i]
			src, dst := &p.ends[shot.src], &p.ends[shot.dst]
			want := p.predicted(int32(i))
			ref := reference.Evaluate(s, table.Dialect, refEnd(src), refEnd(dst), shot.key)
			n.verdicts++
			if ref.String() != want.String() {
				t.Errorf("seed %d: %s > %s %s: the reading says %s, the table %s", seed, src.name, dst.name, shot.key, ref, want)
			}
			passes, err := tr.send(src, dst, shot.key)
			if err != nil {
				t.Fatal(err)
			}
			n.traced++
			if passes != (want == verdict.Allow) {
				t.Errorf("seed %d: %s > %s %s: the traced rules pass it: %t, the table says %s", seed, src.name, dst.name, shot.key, passes, want)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d clusters: sent %d packets in %d cells (%d more could not be proved), compared %d verdicts of table, reading, tracer and kernel, %s",
		n.clusters, n.packets, n.cells, n.unproved, n.verdicts, time.Since(start).Round(time.Millisecond))
	if n.cells == 0 || n.verdicts == 0 {
		t.Error("nothing was tried")
	}
}

func refEnd(e *end) reference.End {
	switch e.kind {
	case node:
		return reference.End{Kind: reference.Node, Index: int(e.Node), Family: e.Family}
	case outside:
		return reference.End{Kind: reference.Outside, Addr: e.Addr, Family: e.Family}
	}
	return reference.End{Kind: reference.Endpoint, Index: int(e.Endpoint), Family: e.Family}
}

// tracers walk packets through the plans of all nodes.
type tracers struct {
	t  *verdict.Table
	by map[int32]*nft.Tracer
}

func newTracers(t *verdict.Table) *tracers {
	out := &tracers{t, map[int32]*nft.Tracer{}}
	for i := range t.Snapshot.Nodes {
		name := t.Snapshot.Nodes[i].Name
		out.by[int32(i)] = nft.NewTracer(nft.NewPlan(t, nft.Node{Name: name, Pods: nft.LocalPods(t.Snapshot, name)}, nft.Options{}))
	}
	return out
}

// send walks the first packet of a connection through the nodes on its way.
func (tr *tracers) send(src, dst *end, k netset.Key) (bool, error) {
	pkt := nft.Packet{Src: src.Addr, Dst: dst.Addr, Initiator: src.Addr, Responder: dst.Addr, Proto: k.Proto(), State: nft.StateNew, Payload: make([]byte, 20)}
	switch {
	case hasPorts(k.Proto()):
		pkt.Port = k.Port()
		pkt.Payload[13] = 2
	case isICMP(k.Proto()):
		pkt.Query = k.Port()
		pkt.Payload[0], pkt.Payload[1] = byte(k.Port()>>8), byte(k.Port())
	}
	run := func(at int32, hook string, own bool) (bool, error) {
		pkt.FromNode = own
		trace, err := tr.by[at].Run(hook, pkt)
		if err != nil {
			return false, fmt.Errorf("trace %s from %s to %s: %w", k, src.Addr, dst.Addr, err)
		}
		pkt.Mark = trace.Mark
		return trace.Verdict == nft.Accept, nil
	}
	toNode, fromNode := dst.kind == node || dst.kind == hostPod, src.kind == node || src.kind == hostPod
	same := src.kind != outside && src.node == dst.node
	ok, err := true, error(nil)
	if fromNode {
		ok, err = run(src.node, "output", true)
	}
	if ok && err == nil && src.kind != outside && !(same && toNode) {
		ok, err = run(src.node, "postrouting", fromNode)
	}
	if !same {
		pkt.Mark = 0 // another kernel
	}
	switch {
	case !ok || err != nil || dst.kind == outside:
	case toNode:
		ok, err = run(dst.node, "input", same && fromNode)
	case !same:
		ok, err = run(dst.node, "postrouting", false)
	}
	return ok, err
}
