//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"picket/internal/netset"
)

// Packet is what the rules can see of a packet and its connection.
type Packet struct {
	Src, Dst netip.Addr // of the packet itself
	Proto    netset.Proto
	Payload  []byte // transport header; may be short
	Hops     uint8  // hop limit of IPv6

	State     uint32     // one of the State bits
	Dir       Dir        // which way the packet goes
	Mark      uint32     // the connection's mark
	Initiator netip.Addr // source before translation
	Responder netip.Addr // destination after translation
	Port      uint16     // of the responder; 0 without ports
	Query     uint16     // of an ICMP query: type*256+code

	FromNode bool // the node made the packet, with an address of its own
}

// Trace is what a walk of the rules found.
type Trace struct {
	Verdict  Code     // Accept or Drop
	Path     []string // "chain: comment" of each rule that matched, in order
	Counters []string // that counted the packet
	Mark     uint32   // of the connection afterwards
	Lookups  int      // sets and maps that were asked
	Instrs   int      // instructions run
}

// Tracer walks packets through a plan, instruction by instruction, as the
// kernel would after a fresh load.
type Tracer struct {
	chains   map[string]*Chain
	sets     map[string]*SetSpec
	contents map[string][]Elem
	ask      func(set string) []Elem // of tests: in place of contents
}

// NewTracer prepares to trace p.
func NewTracer(p *Plan) *Tracer {
	t := &Tracer{chains: map[string]*Chain{}, sets: map[string]*SetSpec{}, contents: map[string][]Elem{}}
	loaded := (&numbers{}).number(p)
	chains := p.Options.chains(1)
	for i := range chains {
		t.chains[chains[i].Name] = &chains[i]
	}
	all := specs()
	for i := range all {
		t.sets[all[i].Name] = &all[i]
		t.contents[all[i].Name] = loaded.elements(all[i].Name)
	}
	return t
}

// Run walks pkt through the chain of a hook: "output", "postrouting" or
// "input". What the node sends passes output first, and its mark goes on. An
// error is an instruction that the tracer does not know.
func (t *Tracer) Run(hook string, pkt Packet) (*Trace, error) {
	w := &walk{Tracer: t, pkt: pkt, out: &Trace{Verdict: Accept, Mark: pkt.Mark}}
	code, err := w.chain(hook, 0)
	if code == Drop {
		w.out.Verdict = Drop
	}
	return w.out, err
}

type walk struct {
	*Tracer
	pkt  Packet
	out  *Trace
	regs [64]byte // registers 8 to 23
}

func (w *walk) reg(r Reg) []byte { return w.regs[(r-R0)*4:] }

// store puts a value into registers, the rest of its last register zero.
func (w *walk) store(r Reg, v []byte) {
	dst := w.reg(r)
	n := copy(dst, v)
	for ; n%4 != 0; n++ {
		dst[n] = 0
	}
}

// chain runs a chain and returns Accept, Drop, or Return at its end.
func (w *walk) chain(name string, depth int) (Code, error) {
	c := w.chains[name]
	if c == nil || depth > 16 {
		return Drop, fmt.Errorf("no chain %q", name)
	}
	for i := range c.Rules {
		code, next, err := w.rule(&c.Rules[i])
		if err != nil {
			return Drop, fmt.Errorf("chain %s, rule %d: %w", name, i, err)
		}
		if code == 0 && next == notDone {
			continue
		}
		w.out.Path = append(w.out.Path, name+": "+c.Rules[i].Comment)
		switch {
		case next == matched:
		case code == JumpTo:
			if code, err = w.chain(next, depth+1); err != nil || code == Accept || code == Drop {
				return code, err
			}
		case code == GoTo:
			return w.chain(next, depth+1)
		default:
			return code, nil
		}
	}
	return Return, nil
}

const (
	notDone = "-"  // an instruction did not match
	matched = "ok" // all matched, no verdict
)

func (w *walk) rule(r *Rule) (Code, string, error) {
	clear(w.regs[:])
	for _, x := range r.Exprs {
		w.out.Instrs++
		code, next, err := w.step(x)
		if err != nil || next != matched {
			return code, next, err
		}
	}
	return 0, matched, nil
}

// step runs one instruction. matched goes on, notDone ends the rule, anything
// else is a verdict with the chain it names.
func (w *walk) step(x Expr) (Code, string, error) {
	ok := true
	switch x := x.(type) {
	case Meta:
		switch x.Key {
		case MetaL4Proto:
			w.store(x.Dreg, []byte{byte(w.pkt.Proto)})
		case MetaIif:
			v := uint32(2)
			if w.pkt.FromNode {
				v = 0
			}
			w.store(x.Dreg, host(v))
		default:
			family := byte(2)
			if w.pkt.Src.Is6() {
				family = 10
			}
			w.store(x.Dreg, []byte{family})
		}
	case Ct:
		ok = w.ct(x)
	case CtSetMark:
		w.out.Mark = binary.NativeEndian.Uint32(w.reg(x.Sreg))
	case Payload:
		ok = w.payload(x)
	case Bitwise:
		v := make([]byte, len(x.Mask))
		for i := range v {
			v[i] = w.reg(x.Sreg)[i]&x.Mask[i] ^ x.Xor[i]
		}
		w.store(x.Dreg, v)
	case Cmp:
		ok = bytes.Equal(w.reg(x.Sreg)[:len(x.Data)], x.Data) != x.NotEqual
	case Lookup:
		return w.lookup(x)
	case Set:
		w.store(x.Dreg, x.Data)
	case Jump:
		return x.Code, x.Chain, nil
	case FibLocal:
		v := uint32(1)
		if w.pkt.FromNode {
			v = 2
		}
		w.store(x.Dreg, host(v))
	case Count:
		w.out.Counters = append(w.out.Counters, x.Name)
	case Log:
	default:
		return Drop, "", fmt.Errorf("unknown instruction %T", x)
	}
	if !ok {
		return 0, notDone, nil
	}
	return 0, matched, nil
}

func (w *walk) ct(x Ct) bool {
	if w.pkt.State&(StateInvalid|StateUntracked) != 0 && x.Key != CtState {
		return false
	}
	switch x.Key {
	case CtState:
		w.store(x.Dreg, host(w.pkt.State))
	case CtDirection:
		w.store(x.Dreg, []byte{byte(w.pkt.Dir)})
	case CtMark:
		w.store(x.Dreg, host(w.out.Mark))
	case CtProto:
		w.store(x.Dreg, []byte{byte(w.pkt.Proto)})
	case CtProtoSrc:
		w.store(x.Dreg, binary.BigEndian.AppendUint16(nil, w.pkt.Port))
	case CtProtoDst:
		w.store(x.Dreg, binary.BigEndian.AppendUint16(nil, w.pkt.Query))
	case CtSrcIP, CtSrcIP6:
		a := w.pkt.Initiator
		if x.Dir == Reply {
			a = w.pkt.Responder
		}
		if a.Is4() != (x.Key == CtSrcIP) {
			return false
		}
		w.store(x.Dreg, a.AsSlice())
	}
	return true
}

func (w *walk) payload(x Payload) bool {
	data := w.pkt.Payload
	if !x.Transport {
		data = make([]byte, 40)
		at, size := 12, 4
		if w.pkt.Src.Is6() {
			at, size = 8, 16
			data[7] = w.pkt.Hops
		}
		copy(data[at:], w.pkt.Src.AsSlice())
		copy(data[at+size:], w.pkt.Dst.AsSlice())
	}
	if int(x.Off)+int(x.Len) > len(data) {
		return false
	}
	w.store(x.Dreg, data[x.Off:x.Off+x.Len])
	return true
}

func (w *walk) lookup(x Lookup) (Code, string, error) {
	s := w.sets[x.Set]
	if s == nil {
		return Drop, "", fmt.Errorf("no set %q", x.Set)
	}
	w.out.Lookups++
	e := w.find(s, w.reg(x.Sreg))
	switch {
	case !x.Map:
		if (e != nil) == x.Not {
			return 0, notDone, nil
		}
		return 0, matched, nil
	case e == nil:
		return 0, notDone, nil
	case s.Verdicts:
		return e.Code, e.Chain, nil
	}
	w.store(x.Dreg, e.Value)
	return 0, matched, nil
}

// find returns the element of s that holds the key in regs.
func (w *walk) find(s *SetSpec, regs []byte) *Elem {
	elems := w.contents[s.Name]
	if w.ask != nil {
		elems = w.ask(s.Name)
	}
	if !s.Interval {
		size := 0
		for _, f := range s.Key {
			size += f.padded()
		}
		if len(s.Key) == 1 {
			size = s.Key[0].size()
		}
		i, ok := slices.BinarySearchFunc(elems, regs[:size], func(e Elem, key []byte) int { return bytes.Compare(e.Key, key) })
		if !ok {
			return nil
		}
		return &elems[i]
	}
	for i := range elems {
		in, at := true, 0
		for _, f := range s.Key {
			v := regs[at : at+f.size()]
			in = in && bytes.Compare(elems[i].Key[at:at+f.size()], v) <= 0 && bytes.Compare(v, elems[i].To[at:at+f.size()]) <= 0
			at += f.padded()
		}
		if in {
			return &elems[i]
		}
	}
	return nil
}
