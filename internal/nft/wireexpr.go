//go:build linux

package nft

import "encoding/binary"

// expr writes the name and data of an instruction.
func (e *encoder) expr(x Expr) {
	data := func(name string, fill func()) {
		e.str(1, name)
		e.nest(2, fill)
	}
	switch x := x.(type) {
	case Meta:
		data("meta", func() { e.reg(1, x.Dreg); e.u32(2, uint32(x.Key)) })
	case Ct:
		data("ct", func() {
			e.reg(1, x.Dreg)
			e.u32(2, uint32(x.Key))
			if x.Dir != NoDir {
				e.attr(3, []byte{byte(x.Dir)})
			}
		})
	case CtSetMark:
		data("ct", func() { e.u32(2, uint32(CtMark)); e.reg(4, x.Sreg) })
	case Payload:
		base := uint32(1)
		if x.Transport {
			base = 2
		}
		data("payload", func() { e.reg(1, x.Dreg); e.u32(2, base); e.u32(3, uint32(x.Off)); e.u32(4, uint32(x.Len)) })
	case Bitwise:
		data("bitwise", func() {
			e.reg(1, x.Sreg)
			e.reg(2, x.Dreg)
			e.u32(3, uint32(len(x.Mask)))
			e.value(4, x.Mask)
			e.value(5, x.Xor)
		})
	case Cmp:
		op := uint32(0)
		if x.NotEqual {
			op = 1
		}
		data("cmp", func() { e.reg(1, x.Sreg); e.u32(2, op); e.value(3, x.Data) })
	case Lookup:
		data("lookup", func() {
			e.str(1, e.set(x.Set))
			e.reg(2, x.Sreg)
			if x.Map {
				e.reg(3, x.Dreg)
			}
			if x.Not {
				e.u32(5, 1)
			}
		})
	case Set:
		data("immediate", func() { e.reg(1, x.Dreg); e.value(2, x.Data) })
	case Jump:
		data("immediate", func() { e.reg(1, Verdict); e.verdict(2, x.Code, x.Chain) })
	case FibLocal:
		data("fib", func() { e.reg(1, x.Dreg); e.u32(2, 3); e.u32(3, 1) })
	case Count:
		data("objref", func() { e.u32(1, objectCounter); e.str(2, x.Name) })
	case Log:
		data("log", func() {
			e.attr(1, binary.BigEndian.AppendUint16(nil, x.Group))
			e.str(2, x.Prefix)
			e.u32(3, x.Snaplen)
		})
	}
}
