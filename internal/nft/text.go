//go:build linux

package nft

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
)

// WriteText prints what a fresh load of the plan puts into the kernel, in the
// language of the nft program as far as that can say it: a chain of look-ups
// through registers is written "key : map", read from left to right. The text
// is for people; it cannot be loaded.
func (p *Plan) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	all := (&numbers{}).number(p)
	names := map[uint32]string{anyPeer: "anybody"}
	for i := range p.Targets {
		names[all.target[i]] = p.Targets[i].Name
	}
	for i := range p.Classes {
		if i != anybody {
			names[all.class[i]] = p.Classes[i]
		}
	}
	for i := range p.PortSets {
		names[all.set[i]] = p.PortSets[i].Allowed.String()
	}
	fmt.Fprintf(b, "table inet %s {\n", p.Options.Table)
	for _, l := range p.Limits {
		fmt.Fprintf(b, "\t# limit: %s\n", l)
	}
	for _, name := range Counters {
		fmt.Fprintf(b, "\tcounter %s { }\n", name)
	}
	for _, s := range specs() {
		writeSet(b, &s, all.elements(s.Name), names)
	}
	for _, c := range p.Options.chains(1) {
		writeChain(b, &c)
	}
	fmt.Fprintln(b, "}")
	return b.Flush()
}

var fieldNames = [...]string{IPv4: "ipv4_addr", IPv6: "ipv6_addr", ID: "mark", Proto: "inet_proto", Port: "inet_service", Mark: "mark"}

func typeText(fields []Field) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = fieldNames[f]
	}
	return strings.Join(out, " . ")
}

func writeSet(b *bufio.Writer, s *SetSpec, elems []Elem, names map[uint32]string) {
	kind, typ := "set", typeText(s.Key)
	switch {
	case s.Verdicts:
		kind, typ = "map", typ+" : verdict"
	case s.Value != nil:
		kind, typ = "map", typ+" : "+typeText(s.Value)
	}
	fmt.Fprintf(b, "\n\t%s %s {\n\t\ttype %s\n", kind, s.Name, typ)
	if s.Interval {
		fmt.Fprintln(b, "\t\tflags interval")
	}
	for _, e := range elems {
		fmt.Fprintf(b, "\t\t%s", keyText(s.Key, e.Key, e.To))
		var about []uint32
		about = appendIDs(about, s.Key, e.Key)
		switch {
		case s.Verdicts:
			fmt.Fprintf(b, " : %s", codeText(e.Code, e.Chain))
		case s.Value != nil:
			fmt.Fprintf(b, " : %s", keyText(s.Value, e.Value, nil))
			about = appendIDs(about, s.Value, e.Value)
		}
		for i, id := range about {
			sep := ", "
			if i == 0 {
				sep = " # "
			}
			fmt.Fprint(b, sep+names[id])
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b, "\t}")
}

// appendIDs collects the numbers of ours in a key or value. The unused half of
// a padded value, 0, comes first and is left out.
func appendIDs(ids []uint32, fields []Field, data []byte) []uint32 {
	at := 0
	for i, f := range fields {
		if f == ID {
			id := binary.BigEndian.Uint32(data[at:])
			if id != 0 || i > 0 {
				ids = append(ids, id)
			}
		}
		at += f.padded()
	}
	return ids
}

func keyText(fields []Field, key, to []byte) string {
	var parts []string
	at := 0
	for _, f := range fields {
		v := fieldText(f, key[at:])
		if to != nil {
			if t := fieldText(f, to[at:]); t != v {
				v += "-" + t
			}
		}
		parts = append(parts, v)
		at += f.padded()
	}
	return strings.Join(parts, " . ")
}

func fieldText(f Field, v []byte) string {
	switch f {
	case IPv4, IPv6:
		a, _ := netip.AddrFromSlice(v[:f.size()])
		return a.String()
	case Proto:
		return netset.Proto(v[0]).String()
	case Port:
		return fmt.Sprint(binary.BigEndian.Uint16(v))
	case Mark:
		return fmt.Sprintf("%#x", binary.NativeEndian.Uint32(v))
	}
	return fmt.Sprintf("%#x", binary.BigEndian.Uint32(v))
}

func codeText(c Code, chain string) string {
	switch c {
	case Drop:
		return "drop"
	case Accept:
		return "accept"
	case Return:
		return "return"
	case JumpTo:
		return "jump " + chain
	}
	return "goto " + chain
}

func writeChain(b *bufio.Writer, c *Chain) {
	fmt.Fprintf(b, "\n\tchain %s {\n", c.Name)
	if c.Hook != NoHook {
		hook := map[Hook]string{Input: "input", Output: "output", Forward: "forward", Postrouting: "postrouting"}[c.Hook]
		fmt.Fprintf(b, "\t\ttype filter hook %s priority %d; policy accept;\n", hook, c.Priority)
	}
	for i := range c.Rules {
		fmt.Fprintf(b, "\t\t%s", ruleText(&c.Rules[i]))
		if c.Rules[i].Comment != "" {
			fmt.Fprintf(b, " comment %q", c.Rules[i].Comment)
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b, "\t}")
}

// ruleText follows what the registers hold, and writes each comparison and
// look-up over that.
func ruleText(r *Rule) string {
	regs := map[Reg]string{}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, x := range r.Exprs {
		switch x := x.(type) {
		case Meta:
			regs[x.Dreg] = map[MetaKey]string{MetaNFProto: "meta nfproto", MetaL4Proto: "meta l4proto", MetaIif: "meta iif"}[x.Key]
		case Ct:
			regs[x.Dreg] = ctText(x)
		case Payload:
			base := "@nh"
			if x.Transport {
				base = "@th"
			}
			regs[x.Dreg] = fmt.Sprintf("%s,%d,%d", base, int(x.Off)*8, int(x.Len)*8)
		case Bitwise:
			regs[x.Dreg] = fmt.Sprintf("%s & 0x%x ^ 0x%x", regs[x.Sreg], x.Mask, x.Xor)
		case CtSetMark:
			say("ct mark set %s", regs[x.Sreg])
		case Cmp:
			op := "=="
			if x.NotEqual {
				op = "!="
			}
			say("%s %s 0x%x", regs[x.Sreg], op, x.Data)
		case Set:
			regs[x.Dreg] = fmt.Sprintf("0x%x", x.Data)
		case FibLocal:
			regs[x.Dreg] = "fib saddr type"
		case Lookup:
			lookupText(x, regs, say)
		case Jump:
			say("%s", codeText(x.Code, x.Chain))
		case Count:
			say("counter name %q", x.Name)
		case Log:
			say("log prefix %q group %d snaplen %d", x.Prefix, x.Group, x.Snaplen)
		}
	}
	return strings.Join(out, " ")
}

func ctText(x Ct) string {
	field := map[CtKey]string{
		CtState: "state", CtDirection: "direction", CtMark: "mark", CtProto: "protocol", CtProtoSrc: "proto-src", CtProtoDst: "proto-dst",
		CtSrcIP: "ip saddr", CtSrcIP6: "ip6 saddr",
	}[x.Key]
	switch x.Dir {
	case Original:
		return "ct original " + field
	case Reply:
		return "ct reply " + field
	}
	return "ct " + field
}

func lookupText(x Lookup, regs map[Reg]string, say func(string, ...any)) {
	key := regs[x.Sreg]
	if x.Set == setPairs || x.Set == setExact(model.Ingress) || x.Set == setExact(model.Egress) {
		key = "" // composed of what was looked up before
	}
	switch {
	case key == "" && !x.Map:
		say("%s . %s @%s", regs[10], regs[11], x.Set)
	case x.Map && x.Dreg == Verdict:
		say("%s . %s vmap @%s", regs[10], regs[11], x.Set)
	case x.Map:
		say("%s", strings.TrimSpace(key+" : @"+x.Set))
	case x.Not:
		say("%s != @%s", key, x.Set)
	default:
		say("%s @%s", key, x.Set)
	}
}
