//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"picket/internal/clustergen"
	"picket/internal/netset"
)

// tree reads attributes to the given depth as text, for comparison.
func tree(b []byte, visit func(path []uint16, data []byte), path ...uint16) error {
	return attributes(b, func(typ uint16, data []byte) error {
		visit(append(path[:len(path):len(path)], typ), data)
		return nil
	})
}

// What the encoder writes for elements is what the parser reads.
func FuzzWire(f *testing.F) {
	f.Add(uint8(0), []byte{10, 0, 0, 1, 10, 0, 0, 9, 1, 2, 3, 4}, int32(-5), "denied_in")
	f.Add(uint8(4), bytes.Repeat([]byte{7}, 64), int32(-4), "x")
	f.Fuzz(func(t *testing.T, which uint8, data []byte, code int32, chain string) {
		all := specs()
		s := &all[int(which)%len(all)]
		take := func(fields []Field) []byte {
			_, size := typeOf(fields)
			b := make([]byte, size)
			data = data[copy(b, data):]
			return b
		}
		e := Elem{Key: take(s.Key)}
		if s.Interval && len(s.Key) > 1 {
			e.To = take(s.Key)
		}
		switch {
		case s.Verdicts:
			e.Code, e.Chain = Code(code), strings.ReplaceAll(chain, "\x00", "")
			if len(e.Chain) > 1000 {
				return
			}
		case s.Value != nil:
			e.Value = take(s.Value)
		}
		w := &encoder{}
		w.elem(s, &e, false)
		n := 0
		err := attributes(w.b, func(typ uint16, data []byte) error {
			if n++; n > 1 {
				return nil // the end of an interval
			}
			got, end, err := parseElem(s, data)
			if err != nil || end || !bytes.Equal(got.Key, e.Key) || !sameElem(&got, &e) {
				t.Errorf("wrote %+v, read %+v end=%t %v", e, got, end, err)
			}
			return nil
		})
		if err != nil || n == 0 {
			t.Errorf("%d elements, %v", n, err)
		}
	})
}

// Whatever comes from the kernel, the readers do not panic.
func FuzzAttributes(f *testing.F) {
	for _, c := range (Options{LogGroup: 7}).WithDefaults().chains(1) {
		b := newBatch("picket", nil)
		for i := range c.Rules {
			b.newRule(c.Name, &c.Rules[i])
		}
		for _, m := range b.msgs {
			f.Add(m.Data[4:])
		}
	}
	f.Add([]byte{3, 0, 1, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		readExprs(b)
		all := specs()
		for i := range all {
			parseElem(&all[i], b)
		}
		readConn(append([]byte{2, 0, 0, 0}, b...))
		tree(b, func([]uint16, []byte) {})
	})
}

// A message that is longer than an attribute can be is cut into several, and
// none is lost.
func TestElementsAreCutIntoMessages(t *testing.T) {
	b := newBatch("picket", nil)
	spec := specByName[setPeer(netset.V6)]
	var elems []Elem
	for i := range 10_000 {
		key := make([]byte, 16)
		binary.BigEndian.PutUint32(key[12:], uint32(i))
		elems = append(elems, Elem{Key: key, Value: be(uint32(i))})
	}
	b.elements(spec, elems, false)
	n := 0
	for _, m := range b.msgs[1:] {
		if len(m.Data) > 1<<16 {
			t.Errorf("a message of %d bytes", len(m.Data))
		}
		if err := attributes(m.Data[4:], func(typ uint16, list []byte) error {
			if typ != 3 {
				return nil
			}
			return attributes(list, func(_ uint16, data []byte) error {
				e, _, err := parseElem(spec, data)
				if !sameElem(&e, &elems[n]) || !bytes.Equal(e.Key, elems[n].Key) {
					t.Fatalf("element %d is %+v", n, e)
				}
				n++
				return err
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n != len(elems) {
		t.Errorf("%d elements of %d", n, len(elems))
	}
}

// What we wrote reads the same by a library that shares no code with ours:
// sets with their types and sizes, elements, and the instructions of the rules.
func TestReadBackBySecondOpinion(t *testing.T) {
	k := open(t, Options{LogGroup: 7})
	_, p := sized(clustergen.Config{Pods: 200, Namespaces: 5, Policies: 30})
	if err := k.Apply(p); err != nil {
		t.Fatal(err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(k.netns))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "picket"}
	for _, s := range specs() {
		set, err := conn.GetSetByName(table, k.names[s.Name])
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		_, size := typeOf(s.Key)
		if !s.Verdicts && set.KeyType.Bytes != size || set.IsMap != (s.Value != nil || s.Verdicts) || set.Interval != s.Interval {
			t.Errorf("%s: %+v", s.Name, set)
		}
		elems, err := conn.GetSetElements(set)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, e := range elems {
			if !e.IntervalEnd {
				got[hex.EncodeToString(e.Key)] = hex.EncodeToString(e.Val)
			}
		}
		for _, e := range k.loaded.elements(s.Name) {
			if v, ok := got[hex.EncodeToString(e.Key)]; !ok || !s.Verdicts && v != hex.EncodeToString(e.Value) {
				t.Errorf("%s: %x is %s, want %x", s.Name, e.Key, v, e.Value)
			}
		}
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]*nftables.Rule{}
	for _, c := range chains {
		// The library cannot read instructions that name a tuple of a connection.
		if r, err := conn.GetRules(table, c); err == nil {
			rules[c.Name] = r
		}
	}
	compared, all := 0, 0
	for _, c := range k.options.chains(k.generation) {
		for i := range c.Rules {
			all += len(c.Rules[i].Exprs)
		}
		if rules[c.Name] == nil {
			continue
		}
		if len(rules[c.Name]) != len(c.Rules) {
			t.Fatalf("chain %s has %d rules, want %d", c.Name, len(rules[c.Name]), len(c.Rules))
		}
		for i := range c.Rules {
			got := rules[c.Name][i].Exprs
			if len(got) != len(c.Rules[i].Exprs) {
				t.Fatalf("chain %s rule %d has %d instructions, want %d", c.Name, i, len(got), len(c.Rules[i].Exprs))
			}
			for j, x := range c.Rules[i].Exprs {
				compared++
				if !k.agrees(x, got[j]) {
					t.Errorf("chain %s rule %d: wrote %#v, the library reads %#v", c.Name, i, x, got[j])
				}
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d instructions compared", compared)
	}
	// The nft program counts the rest.
	out, err := exec.Command("nft", "--debug=netlink", "list", "table", "inet", "picket").Output()
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "  [ ") {
			shown++
		}
	}
	if shown != all {
		t.Errorf("the nft program shows %d instructions, we wrote %d", shown, all)
	}
}

// agrees compares an instruction with what the library makes of it. It shows
// registers of 4 bytes by numbers of its own; where it does, they are left out.
func (k *Kernel) agrees(want Expr, got expr.Any) bool {
	switch w := want.(type) {
	case Meta:
		g, ok := got.(*expr.Meta)
		return ok && uint32(g.Key) == uint32(w.Key)
	case Ct:
		g, ok := got.(*expr.Ct)
		return ok && uint32(g.Key) == uint32(w.Key) && !g.SourceRegister
	case CtSetMark:
		g, ok := got.(*expr.Ct)
		return ok && uint32(g.Key) == uint32(CtMark) // the library does not read the register
	case Payload:
		g, ok := got.(*expr.Payload)
		return ok && g.Offset == uint32(w.Off) && g.Len == uint32(w.Len) && (g.Base == expr.PayloadBaseTransportHeader) == w.Transport
	case Bitwise:
		g, ok := got.(*expr.Bitwise)
		return ok && bytes.Equal(g.Mask, w.Mask) && bytes.Equal(g.Xor, w.Xor)
	case Cmp:
		g, ok := got.(*expr.Cmp)
		return ok && bytes.Equal(g.Data, w.Data) && (g.Op == expr.CmpOpNeq) == w.NotEqual
	case Lookup:
		g, ok := got.(*expr.Lookup)
		return ok && g.SetName == k.names[w.Set] && g.Invert == w.Not && g.IsDestRegSet == w.Map
	case Set:
		g, ok := got.(*expr.Immediate)
		return ok && bytes.Equal(g.Data, w.Data)
	case Jump:
		g, ok := got.(*expr.Verdict)
		return ok && int32(g.Kind) == int32(w.Code) && g.Chain == w.Chain
	case FibLocal:
		g, ok := got.(*expr.Fib)
		return ok && g.FlagSADDR && g.ResultADDRTYPE
	case Count:
		g, ok := got.(*expr.Objref)
		return ok && g.Name == w.Name
	case Log:
		g, ok := got.(*expr.Log)
		return ok && g.Group == w.Group && strings.TrimRight(string(g.Data), "\x00") == w.Prefix
	}
	return false
}

// The text names what the plan holds, and the nft program can list the table.
func TestTextAndList(t *testing.T) {
	k := open(t, Options{LogGroup: 7})
	_, p := sized(clustergen.Config{Pods: 100, Namespaces: 4, Policies: 20})
	if err := k.Apply(p); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"table inet picket {", "map peer4 {", "ct reply proto-src", "vmap @ports_in", p.Targets[0].Name, "comment \"anybody\""} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text has no %q", want)
		}
	}
	for _, args := range [][]string{{"list", "ruleset"}, {"-j", "list", "ruleset"}, {"-t", "list", "table", "inet", "picket"}} {
		if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil || len(out) < 1000 {
			t.Errorf("nft %v: %v, %d bytes", args, err, len(out))
		}
	}
}
