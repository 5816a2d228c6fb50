//go:build linux

package nft

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
)

// Numbers of the nf_tables netlink protocol (linux/netfilter/nf_tables.h).
const (
	subsysNFTables = 10
	msgBatchBegin  = 0x10
	msgBatchEnd    = 0x11

	msgNewTable     = 0
	msgGetTable     = 1
	msgDelTable     = 2
	msgNewChain     = 3
	msgGetChain     = 4
	msgDelChain     = 5
	msgNewRule      = 6
	msgGetRule      = 7
	msgDelRule      = 8
	msgNewSet       = 9
	msgGetSet       = 10
	msgDelSet       = 11
	msgNewSetElem   = 12
	msgGetSetElem   = 13
	msgDelSetElem   = 14
	msgNewGen       = 15
	msgGetGen       = 16
	msgNewObj       = 18
	msgGetObj       = 19
	msgDelObj       = 20
	msgDestroyTable = 26

	familyInet   = 1
	familyUnspec = 0

	flagInterval = 0x4
	flagMap      = 0x8
	flagConcat   = 0x80

	elemIntervalEnd = 1
	dataVerdict     = 0xffffff00
	objectCounter   = 1
	nested          = 0x8000
)

// maxElements bounds the bytes of elements in one message: a netlink attribute
// holds no more than 64 KiB.
const maxElements = 60_000

// An encoder writes netlink attributes.
type encoder struct {
	b     []byte
	names map[string]string // of sets in the kernel, by ours
}

func (e *encoder) set(name string) string {
	if n, ok := e.names[name]; ok {
		return n
	}
	return name
}

func (e *encoder) attr(typ uint16, data []byte) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(4+len(data)))
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = append(e.b, data...)
	e.pad()
}

func (e *encoder) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) str(typ uint16, s string) { e.attr(typ, append([]byte(s), 0)) }
func (e *encoder) u32(typ uint16, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	e.attr(typ, b[:])
}
func (e *encoder) u64(typ uint16, v uint64) { e.attr(typ, binary.BigEndian.AppendUint64(nil, v)) }
func (e *encoder) reg(typ uint16, r Reg)    { e.u32(typ, uint32(r)) }

// nest writes what fill writes as a nested attribute.
func (e *encoder) nest(typ uint16, fill func()) {
	at := len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	fill()
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
	binary.NativeEndian.PutUint16(e.b[at+2:], typ|nested)
}

// value writes constant data: NFTA_DATA_VALUE inside typ.
func (e *encoder) value(typ uint16, data []byte) { e.nest(typ, func() { e.attr(1, data) }) }

// verdict writes a verdict: NFTA_DATA_VERDICT inside typ.
func (e *encoder) verdict(typ uint16, code Code, chain string) {
	e.nest(typ, func() {
		e.nest(2, func() {
			e.u32(1, uint32(code))
			if chain != "" {
				e.str(2, chain)
			}
		})
	})
}

// A batch is a transaction: all of it takes effect, or nothing.
type batch struct {
	table    string
	names    map[string]string // of sets in the kernel, by ours
	msgs     []netlink.Message
	setID    uint32
	bytes    int // of the messages
	ops      []op
	Elements int // how many elements it adds or removes
}

// op is what a part of a batch does, for tests that play batches through. Its
// elements are valid only as long as the caller keeps them.
type op struct {
	set    string // in the kernel
	spec   *SetSpec
	elems  []Elem
	remove bool    // elements, or without any the set
	chains []Chain // to be rewritten
}

func (b *batch) setName(name string) string {
	e := encoder{names: b.names}
	return e.set(name)
}

func newBatch(table string, names map[string]string) *batch {
	b := &batch{table: table, names: names}
	b.control(msgBatchBegin)
	return b
}

func (b *batch) control(typ uint16) {
	b.msgs = append(b.msgs, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request},
		Data:   []byte{familyUnspec, 0, 0, subsysNFTables},
	})
}

func (b *batch) add(typ uint16, flags netlink.HeaderFlags, fill func(*encoder)) {
	e := &encoder{b: []byte{familyInet, 0, 0, 0}, names: b.names}
	fill(e)
	b.bytes += len(e.b) + 16
	b.msgs = append(b.msgs, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsysNFTables<<8 | typ), Flags: netlink.Request | flags},
		Data:   e.b,
	})
}

func (b *batch) newTable() {
	b.add(msgNewTable, netlink.Create, func(e *encoder) { e.str(1, b.table) })
}

// destroyTable removes the table, if it is there.
func (b *batch) destroyTable() {
	b.add(msgDestroyTable, 0, func(e *encoder) { e.str(1, b.table) })
}

func (b *batch) newCounter(name string) {
	b.add(msgNewObj, netlink.Create, func(e *encoder) {
		e.str(1, b.table)
		e.str(2, name)
		e.u32(3, objectCounter)
		e.nest(4, func() {
			e.u64(1, 0)
			e.u64(2, 0)
		})
	})
}

func (b *batch) newChain(c *Chain) {
	b.add(msgNewChain, netlink.Create, func(e *encoder) {
		e.str(1, b.table)
		e.str(3, c.Name)
		if c.Hook != NoHook {
			e.nest(4, func() {
				e.u32(1, uint32(c.Hook))
				e.u32(2, uint32(c.Priority))
			})
			e.u32(5, uint32(Accept))
			e.str(7, "filter")
		}
	})
}

// flushTable removes all rules of the table.
func (b *batch) flushTable() { b.add(msgDelRule, 0, func(e *encoder) { e.str(1, b.table) }) }

// delChain removes a chain, which nothing may lead to.
func (b *batch) delChain(name string) {
	b.add(msgDelChain, 0, func(e *encoder) {
		e.str(1, b.table)
		e.str(3, name)
	})
}

// delSet removes a set by its name in the kernel.
func (b *batch) delSet(name string) {
	b.ops = append(b.ops, op{set: name, remove: true})
	b.add(msgDelSet, 0, func(e *encoder) {
		e.str(1, b.table)
		e.str(2, name)
	})
}

func (b *batch) delObject(name string, kind uint32) {
	b.add(msgDelObj, 0, func(e *encoder) {
		e.str(1, b.table)
		e.str(2, name)
		e.u32(3, kind)
	})
}

// rewrite replaces the rules of the chains.
func (b *batch) rewrite(chains []Chain) {
	b.ops = append(b.ops, op{chains: chains})
	for i := range chains {
		b.flushChain(chains[i].Name)
	}
	for i := range chains {
		for j := range chains[i].Rules {
			b.newRule(chains[i].Name, &chains[i].Rules[j])
		}
	}
}

// flushChain removes all rules of a chain.
func (b *batch) flushChain(name string) {
	b.add(msgDelRule, 0, func(e *encoder) {
		e.str(1, b.table)
		e.str(2, name)
	})
}

func (b *batch) newRule(chain string, r *Rule) {
	b.add(msgNewRule, netlink.Create|netlink.Append, func(e *encoder) {
		e.str(1, b.table)
		e.str(2, chain)
		e.nest(4, func() {
			for _, x := range r.Exprs {
				e.nest(1, func() { e.expr(x) })
			}
		})
		if r.Comment != "" {
			// The nft program shows it: type 0, length, text.
			text := append([]byte(r.Comment), 0)
			e.attr(7, append([]byte{0, byte(len(text))}, text...))
		}
	})
}

// keyTypes are the numbers that the nft program gives to field types, for
// listing.
var keyTypes = [...]uint32{IPv4: 7, IPv6: 8, ID: 19, Proto: 12, Port: 13, Mark: 19}

func typeOf(fields []Field) (typ, size uint32) {
	for _, f := range fields {
		typ = typ<<6 | keyTypes[f]
		size += uint32(f.padded())
	}
	if len(fields) == 1 {
		size = uint32(fields[0].size())
	}
	return typ, size
}

// newSet declares a set. A set with room for so many elements, and no more, is
// faster to look up than one that grows; 0 lets it grow.
func (b *batch) newSet(s *SetSpec, room uint32) {
	b.setID++
	id := b.setID
	b.add(msgNewSet, netlink.Create, func(e *encoder) {
		var flags uint32
		if s.Interval {
			flags |= flagInterval
		}
		if s.Value != nil || s.Verdicts {
			flags |= flagMap
		}
		if s.Interval && len(s.Key) > 1 {
			flags |= flagConcat
		}
		typ, size := typeOf(s.Key)
		e.str(1, b.table)
		e.str(2, e.set(s.Name))
		e.u32(3, flags)
		e.u32(4, typ)
		e.u32(5, size)
		switch {
		case s.Verdicts:
			e.u32(6, dataVerdict)
			e.u32(7, 16)
		case s.Value != nil:
			typ, size := typeOf(s.Value)
			e.u32(6, typ)
			e.u32(7, size)
		}
		if room > 0 && !s.Interval {
			e.nest(9, func() { e.u32(1, room) })
		}
		if flags&flagConcat != 0 {
			e.nest(9, func() {
				e.nest(2, func() {
					for _, f := range s.Key {
						e.nest(1, func() { e.u32(1, uint32(f.size())) })
					}
				})
			})
		}
		e.u32(10, id)
	})
}

// elements adds or removes elements of a set.
func (b *batch) elements(s *SetSpec, elems []Elem, remove bool) {
	typ, flags := uint16(msgNewSetElem), netlink.HeaderFlags(netlink.Create)
	if remove {
		typ, flags = msgDelSetElem, 0
	}
	if len(elems) > 0 {
		b.ops = append(b.ops, op{set: b.setName(s.Name), spec: s, elems: elems, remove: remove})
	}
	for len(elems) > 0 {
		b.add(typ, flags, func(e *encoder) {
			e.str(1, b.table)
			e.str(2, e.set(s.Name))
			e.nest(3, func() {
				start := len(e.b)
				for len(elems) > 0 && len(e.b)-start < maxElements {
					e.elem(s, &elems[0], remove)
					elems = elems[1:]
					b.Elements++
				}
			})
		})
	}
}

// elem writes one element. An interval of one field is two: its start, and
// where it has ended.
func (e *encoder) elem(s *SetSpec, el *Elem, remove bool) {
	e.nest(1, func() {
		e.value(1, el.Key)
		if s.Interval && len(s.Key) > 1 {
			e.value(10, el.To)
		}
		if !remove {
			switch {
			case s.Verdicts:
				e.verdict(2, el.Code, el.Chain)
			case s.Value != nil:
				e.value(2, el.Value)
			}
		}
	})
	if s.Interval && len(s.Key) == 1 {
		if end, ok := successor(el.To); ok {
			e.nest(1, func() {
				e.value(1, end)
				e.u32(3, elemIntervalEnd)
			})
		}
	}
}

// successor returns the key after k, and false if k is the last one.
func successor(k []byte) ([]byte, bool) {
	out := append([]byte(nil), k...)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]++
		if out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}
