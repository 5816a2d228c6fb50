//go:build linux

package nft

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"pgregory.net/rapid"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
)

func open(t testing.TB, o Options) *Kernel {
	t.Helper()
	k, err := Open(int(inNetNS(t)), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// sized is the plan of one node of a generated cluster.
func sized(c clustergen.Config) (*model.Snapshot, *Plan) {
	s := clustergen.Sized(c)
	node := s.Endpoints[0].Node
	return s, NewPlan(compile.Compile(s, model.Dialects[0]), Node{Name: node, Pods: LocalPods(s, node)}, Options{})
}

// holds fails unless the kernel holds exactly what was applied.
func holds(t rapidOrTest, k *Kernel) {
	t.Helper()
	for _, s := range specs() {
		got, err := k.Elements(s.Name)
		if err != nil {
			t.Fatalf("%v", err)
		}
		c := diff(got, k.loaded.elements(s.Name))
		if len(c.add)+len(c.remove) > 0 {
			t.Fatalf("set %s: missing or changed %v, not ours %v", s.Name, c.add, c.remove)
		}
	}
}

type rapidOrTest interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Whatever plan follows whatever plan, the kernel takes every transaction and
// ends up with exactly the elements of the last.
func TestApplyAnyAfterAny(t *testing.T) {
	k := open(t, Options{LogGroup: 7})
	applied := 0
	rapid.Check(t, func(rt *rapid.T) {
		s := clustergen.Random(func(what string) bool { return rapid.Bool().Draw(rt, what) })
		tab := compile.Compile(s, model.Dialects[0])
		for _, node := range append([]model.Node{{}}, s.Nodes...) {
			p := NewPlan(tab, Node{Name: node.Name, Pods: LocalPods(s, node.Name)}, Options{LogGroup: 7})
			if err := k.Apply(p); err != nil {
				rt.Fatalf("%v", err)
			}
			applied++
			holds(rt, k)
		}
	})
	t.Logf("applied %d plans, %+v", applied, k.Stats)
}

// Element counts agree with two programs that share no code with ours.
func TestElementCountsBySecondOpinion(t *testing.T) {
	k := open(t, Options{})
	_, p := sized(clustergen.Config{Pods: 3000, Namespaces: 30, Policies: 150})
	if err := k.Apply(p); err != nil {
		t.Fatal(err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(k.netns))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "picket"}
	sets, err := conn.GetSets(table)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, s := range sets {
		elems, err := conn.GetSetElements(s)
		if err != nil {
			t.Fatalf("set %s: %v", s.Name, err)
		}
		n := 0
		for _, e := range elems {
			if !e.IntervalEnd {
				n++
			}
		}
		if n != len(k.loaded.elements(s.Name)) {
			t.Errorf("set %s: google/nftables counts %d elements, we loaded %d", s.Name, n, len(k.loaded.elements(s.Name)))
		}
		total += n
	}
	if total < 3000 {
		t.Errorf("only %d elements: the cluster is too small for this test", total)
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("the nft program cannot list our table: %v\n%s", err, out)
	}
	for _, want := range []string{"table inet picket {", "map pairs", "chain postrouting"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nft list ruleset has no %q", want)
		}
	}
}

// Somebody else's hand is noticed, and repaired.
func TestCheckAndRepair(t *testing.T) {
	k := open(t, Options{})
	s, p := sized(clustergen.Config{Pods: 60, Namespaces: 3, Policies: 15})
	if err := k.Apply(p); err != nil {
		t.Fatal(err)
	}
	clean := func(when string) {
		t.Helper()
		if wrong, err := k.Check(); err != nil || len(wrong) > 0 {
			t.Fatalf("%s: %v %v", when, wrong, err)
		}
	}
	clean("after load")
	pod := s.Endpoints[0].Addrs[0].String()
	for _, c := range [][]string{
		{"nft", "delete table inet picket"},
		{"nft", "flush table inet picket"},
		{"nft", "flush chain inet picket forwarded4"},
		{"nft", "delete element inet picket pods4 { " + pod + " }"},
		{"nft", "add element inet picket pods4 { 192.0.2.77 }"},
		{"nft", "flush set inet picket pods4"},
		{"nft", "insert rule inet picket postrouting accept"},
		{"nft", "add table inet picket { flags dormant; }"},
		{"nft", "flush ruleset"},
	} {
		c[1] = strings.ReplaceAll(c[1], "pods4", k.names[setPods(netset.V4)])
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", c, err, out)
		}
		wrong, err := k.Check()
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if len(wrong) == 0 {
			t.Errorf("%v was not noticed", c)
		}
		if err := k.Repair(p); err != nil {
			t.Fatalf("repair after %v: %v", c, err)
		}
		clean(c[1])
	}
	// What is none of our business is left alone.
	if out, err := exec.Command("nft", "add table inet other { chain c { counter; }; }").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	clean("after another table came")
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "table inet other" {
		t.Errorf("after Remove: %v %s", err, out)
	}
}

// Changes of our table by others are told.
func TestWatch(t *testing.T) {
	k := open(t, Options{})
	_, p := sized(clustergen.Config{Pods: 60, Namespaces: 3, Policies: 15})
	if err := k.Apply(p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	calls := make(chan bool, 100)
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, k.netns, "picket", func() { calls <- true }) }()
	nft := func(text string) {
		t.Helper()
		if out, err := exec.Command("nft", text).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", text, err, out)
		}
	}
	// The watch begins at some time: ask until it answers.
	for begun := false; !begun; {
		nft("add element inet picket pods4 { 192.0.2.77 }")
		nft("delete element inet picket pods4 { 192.0.2.77 }")
		select {
		case <-calls:
			begun = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	for range 3 {
		nft("add chain inet picket foreign { counter; }")
		nft("delete chain inet picket foreign")
		<-calls
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Of the events of the kernel only those of the named table count.
func TestReadEvent(t *testing.T) {
	message := func(typ uint16, fill func(*encoder)) netlink.Message {
		e := &encoder{b: []byte{familyInet, 0, 0, 0}}
		fill(e)
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(subsysNFTables<<8 | typ)}, Data: e.b}
	}
	table, _, end := readEvent(message(msgNewSetElem, func(e *encoder) { e.str(1, "other"); e.str(2, "picket") }))
	if table != "other" || end {
		t.Errorf("element: %q %t", table, end)
	}
	_, pid, end := readEvent(message(msgNewGen, func(e *encoder) { e.u32(1, 9); e.u32(2, 77); e.str(3, "nft") }))
	if pid != 77 || !end {
		t.Errorf("end of a transaction: %d %t", pid, end)
	}
	if _, _, end := readEvent(netlink.Message{}); end {
		t.Error("an empty message ends a transaction")
	}
}
