//go:build linux

package nft

import (
	"encoding/binary"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// Names of the sets that do not differ by direction or family.
const (
	setPairs = "pairs"
	setND    = "nd"
)

var (
	dirNames = [2]string{model.Ingress: "in", model.Egress: "eg"}
	suffix   = map[netset.Family]string{netset.V4: "4", netset.V6: "6"}
	families = [2]netset.Family{netset.V4, netset.V6}
)

func setTarget(d model.Direction, f netset.Family) string { return "target_" + dirNames[d] + suffix[f] }
func setIsolated(d model.Direction, f netset.Family) string {
	return "isolated_" + dirNames[d] + suffix[f]
}
func setPorts(d model.Direction) string { return "ports_" + dirNames[d] }
func setExact(d model.Direction) string { return "exact_" + dirNames[d] }
func setPeer(f netset.Family) string    { return "peer" + suffix[f] }
func setCIDR(f netset.Family) string    { return "cidr" + suffix[f] }
func setPods(f netset.Family) string    { return "pods" + suffix[f] }
func setRange(f netset.Family) string   { return "range" + suffix[f] }
func setSelf(f netset.Family) string    { return "self" + suffix[f] }

// specs declares every set of the table, in the order of creation.
func specs() []SetSpec {
	out := []SetSpec{
		{Name: setPorts(model.Ingress), Key: []Field{ID, Proto, Port}, Verdicts: true, Interval: true},
		{Name: setPorts(model.Egress), Key: []Field{ID, Proto, Port}, Verdicts: true, Interval: true},
		{Name: setExact(model.Ingress), Key: []Field{ID, Proto, Port}},
		{Name: setExact(model.Egress), Key: []Field{ID, Proto, Port}},
		{Name: setPairs, Key: []Field{ID, ID}, Value: []Field{ID, ID}},
		{Name: setND, Key: []Field{Proto}},
	}
	for _, f := range families {
		addr := IPv4
		if f == netset.V6 {
			addr = IPv6
		}
		out = append(out,
			SetSpec{Name: setPeer(f), Key: []Field{addr}, Value: []Field{ID}},
			SetSpec{Name: setCIDR(f), Key: []Field{addr}, Value: []Field{ID}, Interval: true},
			SetSpec{Name: setPods(f), Key: []Field{addr}},
			SetSpec{Name: setRange(f), Key: []Field{addr}, Interval: true},
			SetSpec{Name: setSelf(f), Key: []Field{addr, addr}},
		)
		for _, d := range model.Directions {
			out = append(out,
				SetSpec{Name: setTarget(d, f), Key: []Field{addr}, Value: []Field{ID, ID}},
				SetSpec{Name: setIsolated(d, f), Key: []Field{addr}},
			)
		}
	}
	return out
}

// specByName is specs by their names.
var specByName = func() map[string]*SetSpec {
	out := map[string]*SetSpec{}
	all := specs()
	for i := range all {
		out[all[i].Name] = &all[i]
	}
	return out
}()

// Counters are the names of the table's counters.
var Counters = []string{"allowed", "denied_in", "denied_eg", "unknown", "invalid", "midstream"}

// host returns v in the byte order of the machine, as connection marks and
// states are kept.
func host(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// be returns v in network byte order, as our identifiers are written.
func be(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// addrReg loads an address of the connection into register 16 and up.
func addrReg(f netset.Family, d Dir) Ct {
	if f == netset.V6 {
		return Ct{Key: CtSrcIP6, Dir: d, Dreg: 16}
	}
	return Ct{Key: CtSrcIP, Dir: d, Dreg: 16}
}

// ends returns which tuple holds the target's and the peer's address.
func ends(d model.Direction) (target, peer Dir) {
	if d == model.Ingress {
		return Reply, Original
	}
	return Original, Reply
}

// Prefixes of the log messages, by what is logged.
const (
	LogIngress = "picket:in:deny" // denied by the policies of the responder
	LogEgress  = "picket:eg:deny" // denied by the policies of the initiator
	LogUnknown = "picket:unknown" // from or to a local pod that is not known
)

func (o Options) log(prefix string) []Expr {
	if o.LogGroup == 0 {
		return nil
	}
	return []Expr{Log{Group: o.LogGroup, Prefix: prefix, Snaplen: 128}}
}

// chains builds the static rules.
func (o Options) chains(generation uint32) []Chain {
	out := []Chain{}
	drop := Jump{Code: Drop}
	if o.Audit {
		drop = Jump{Code: Return}
	}
	for _, d := range model.Directions {
		name, prefix := "denied_"+dirNames[d], LogIngress
		if d == model.Egress {
			prefix = LogEgress
		}
		c := Chain{Name: name, Hook: NoHook}
		for _, f := range families {
			c.Rules = append(c.Rules, Rule{
				Exprs:   append(selfKey(f), Lookup{Set: setSelf(f), Sreg: 16}, Jump{Code: Return}),
				Comment: "a pod reaches itself",
			})
		}
		c.Rules = append(c.Rules, Rule{Exprs: append(o.log(prefix), Count{name}, drop)})
		out = append(out, c)
	}
	for _, name := range []string{"unknown", "invalid", "midstream"} {
		var log []Expr
		if name == "unknown" {
			log = o.log(LogUnknown)
		}
		out = append(out, Chain{Name: "drop_" + name, Hook: NoHook, Rules: []Rule{
			{Exprs: append(log, Count{name}, drop)},
		}})
	}
	for _, f := range families {
		for _, d := range model.Directions {
			out = append(out, judgeChain(d, f, ""), judgeChain(d, f, icmpChain))
		}
		out = append(out,
			forwardedChain(f, icmpChain), deliveredChain(f, icmpChain), forwardedChain(f, ""), deliveredChain(f, ""),
			isolatedChain(f, "midstream"), isolatedChain(f, "invalid"))
	}
	return append(out, oddChain(), midstreamChain(),
		o.hookChain("postrouting", Postrouting, 95, "forwarded", generation),
		o.hookChain("input", Input, -5, "delivered", generation),
		o.outputChain(generation))
}

// icmpChain ends the names of the chains that judge ICMP by type and code.
const icmpChain = "_icmp"

// judgeChain looks target, peer, pair and ports up, in this order, and returns
// if the traffic is allowed. Each rule asks for another kind of peer, and has
// the last word if the peer is of that kind: every target has a pair with every
// class, and every port set covers all traffic. So what one packet is told does
// not come from two versions of the policy. The first load of each rule only
// tells the nft program the lengths of registers 9 and 10, without which it
// cannot list the rule.
func judgeChain(d model.Direction, f netset.Family, kind string) Chain {
	target, peer := ends(d)
	port := Ct{Key: CtProtoSrc, Dir: Reply, Dreg: 11}
	if kind == icmpChain {
		port = Ct{Key: CtProtoDst, Dir: Original, Dreg: 11}
	}
	verdict := []Expr{Lookup{Set: setPorts(d), Sreg: 9, Dreg: Verdict, Map: true}}
	exact := []Expr{Lookup{Set: setExact(d), Sreg: 9}, Jump{Code: Return}}
	rule := func(comment string, end []Expr, middle ...Expr) Rule {
		return Rule{Comment: comment, Exprs: slices.Concat([]Expr{
			Payload{Off: 12, Len: 8, Dreg: 9},
			addrReg(f, target),
			Lookup{Set: setTarget(d, f), Sreg: 16, Dreg: 8, Map: true},
		}, middle, []Expr{
			Lookup{Set: setPairs, Sreg: 9, Dreg: 8, Map: true},
			Ct{Key: CtProto, Dir: NoDir, Dreg: 10},
			port,
		}, end)}
	}
	c := Chain{Name: "judge_" + dirNames[d] + suffix[f] + kind, Hook: NoHook}
	peers := []Expr{addrReg(f, peer), Lookup{Set: setPeer(f), Sreg: 16, Dreg: 10, Map: true}}
	if kind == "" {
		// Most connections are to a port that is allowed by number. The set of these
		// is several times faster to ask than the map of all ranges.
		c.Rules = append(c.Rules, rule("peers of the cluster, on a single port", exact, peers...))
	}
	c.Rules = append(c.Rules,
		rule("peers of the cluster", verdict, peers...),
		rule("address blocks", verdict, addrReg(f, peer), Lookup{Set: setCIDR(f), Sreg: 16, Dreg: 10, Map: true}),
		rule("anybody", verdict, Set{Dreg: 10, Data: be(anyPeer)}),
		Rule{Exprs: []Expr{Jump{Code: GoTo, Chain: "denied_" + dirNames[d]}}})
	return c
}

// selfKey loads both addresses of the connection into register 16 and up.
func selfKey(f netset.Family) []Expr {
	if f == netset.V6 {
		return []Expr{Ct{Key: CtSrcIP6, Dir: Original, Dreg: 16}, Ct{Key: CtSrcIP6, Dir: Reply, Dreg: 20}}
	}
	return []Expr{Ct{Key: CtSrcIP, Dir: Original, Dreg: 16}, Ct{Key: CtSrcIP, Dir: Reply, Dreg: 17}}
}

// knownRule drops what a local pod without a class sends or receives.
func knownRule(f netset.Family, end Dir) Rule {
	return Rule{Comment: "a local pod that is not known yet", Exprs: []Expr{
		addrReg(f, end), Lookup{Set: setPods(f), Sreg: 16, Not: true}, Lookup{Set: setRange(f), Sreg: 16},
		Jump{Code: GoTo, Chain: "drop_unknown"},
	}}
}

func judgeRule(d model.Direction, f netset.Family, kind string, code Code) Rule {
	target, _ := ends(d)
	return Rule{Exprs: []Expr{
		addrReg(f, target), Lookup{Set: setIsolated(d, f), Sreg: 16},
		Jump{Code: code, Chain: "judge_" + dirNames[d] + suffix[f] + kind},
	}}
}

// icmpRule sends ICMP queries to the chain that looks at type and code.
func icmpRule(f netset.Family, chain string) Rule {
	proto := netset.ICMP
	if f == netset.V6 {
		proto = netset.ICMPv6
	}
	return Rule{Exprs: []Expr{
		Ct{Key: CtProto, Dir: NoDir, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{byte(proto)}},
		Jump{Code: GoTo, Chain: chain},
	}}
}

// forwardedChain judges traffic that leaves the node or goes to one of its
// pods. Whether the pods are known is asked first: see delta.
func forwardedChain(f netset.Family, kind string) Chain {
	c := Chain{Name: "forwarded" + suffix[f] + kind, Hook: NoHook}
	if kind == "" {
		c.Rules = append(c.Rules, knownRule(f, Original), knownRule(f, Reply), icmpRule(f, c.Name+icmpChain))
	}
	c.Rules = append(c.Rules, judgeRule(model.Egress, f, kind, JumpTo), judgeRule(model.Ingress, f, kind, GoTo))
	return c
}

// deliveredChain judges what local pods send to the node itself.
func deliveredChain(f netset.Family, kind string) Chain {
	c := Chain{Name: "delivered" + suffix[f] + kind, Hook: NoHook}
	if kind == "" {
		c.Rules = append(c.Rules, knownRule(f, Original), icmpRule(f, c.Name+icmpChain))
	}
	c.Rules = append(c.Rules, judgeRule(model.Egress, f, kind, GoTo))
	return c
}

// isolatedChain drops packets without a usable connection, if an isolated or
// unknown pod sends or gets them. They have no connection to look at, so it
// goes by the packet's own addresses.
func isolatedChain(f netset.Family, why string) Chain {
	c := Chain{Name: why + suffix[f], Hook: NoHook}
	off, size := [2]uint8{12, 16}, uint8(4)
	if f == netset.V6 {
		off, size = [2]uint8{8, 24}, 16
	}
	for _, o := range off {
		for _, d := range model.Directions {
			c.Rules = append(c.Rules, Rule{Exprs: []Expr{
				Payload{Off: o, Len: size, Dreg: 16}, Lookup{Set: setIsolated(d, f), Sreg: 16}, Jump{Code: GoTo, Chain: "drop_" + why},
			}})
		}
		c.Rules = append(c.Rules, Rule{Exprs: []Expr{
			Payload{Off: o, Len: size, Dreg: 16}, Lookup{Set: setRange(f), Sreg: 16}, Lookup{Set: setPods(f), Sreg: 16, Not: true},
			Jump{Code: GoTo, Chain: "drop_unknown"},
		}})
	}
	return c
}

// isFamily matches packets of one family.
func isFamily(f netset.Family) []Expr {
	proto := byte(2)
	if f == netset.V6 {
		proto = 10
	}
	return []Expr{Meta{Key: MetaNFProto, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{proto}}}
}

// hasState matches packets whose connection is in one of the states.
func hasState(bits uint32) []Expr {
	return []Expr{
		Ct{Key: CtState, Dir: NoDir, Dreg: 16},
		Bitwise{Sreg: 16, Dreg: 16, Mask: host(bits), Xor: host(0)},
		Cmp{Sreg: 16, NotEqual: true, Data: host(0)},
	}
}

// fromNode matches packets whose source address is the node's.
func fromNode() []Expr { return []Expr{FibLocal{Dreg: 16}, Cmp{Sreg: 16, Data: host(2)}} }

// judged matches packets of connections that were judged in this generation.
func (o Options) judged(generation uint32) []Expr {
	return []Expr{
		Ct{Key: CtMark, Dir: NoDir, Dreg: 16},
		Bitwise{Sreg: 16, Dreg: 16, Mask: host(o.MarkMask), Xor: host(0)},
		Cmp{Sreg: 16, Data: host(o.mark(generation))},
	}
}

// remember writes the generation into the connection mark.
func (o Options) remember(generation uint32) []Expr {
	return []Expr{
		Ct{Key: CtMark, Dir: NoDir, Dreg: 16},
		Bitwise{Sreg: 16, Dreg: 16, Mask: host(^o.MarkMask), Xor: host(o.mark(generation))},
		CtSetMark{Sreg: 16},
	}
}

func rule(comment string, parts ...[]Expr) Rule {
	return Rule{Comment: comment, Exprs: slices.Concat(parts...)}
}

func end(code Code, chain string) []Expr { return []Expr{Jump{Code: code, Chain: chain}} }

// madeHere matches packets that came in by no link.
func madeHere() []Expr {
	return []Expr{Meta{Key: MetaIif, Dreg: 16}, Cmp{Sreg: 16, Data: host(0)}}
}

// oddChain judges packets without a usable connection.
func oddChain() Chain {
	c := Chain{Name: "odd", Hook: NoHook, Rules: []Rule{
		// Neighbour discovery is only good with the hop limit it was sent with.
		// Anything else came over a router and would carry data past the policies.
		rule("neighbour discovery", isFamily(netset.V6), []Expr{
			Meta{Key: MetaL4Proto, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{byte(netset.ICMPv6)}},
			Payload{Off: 7, Len: 1, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{255}},
			Payload{Transport: true, Off: 0, Len: 1, Dreg: 16}, Lookup{Set: setND, Sreg: 16},
		}, end(Accept, "")),
		rule("the node", madeHere(), fromNode(), end(Accept, "")),
	}}
	for _, f := range families {
		c.Rules = append(c.Rules, rule("", isFamily(f), end(GoTo, "invalid"+suffix[f])))
	}
	return c
}

// midstreamChain drops packets from the middle of a connection that nobody
// knows, where an isolated pod is concerned.
func midstreamChain() Chain {
	c := Chain{Name: "midstream", Hook: NoHook}
	for _, f := range families {
		c.Rules = append(c.Rules, rule("", isFamily(f), end(GoTo, "midstream"+suffix[f])))
	}
	return c
}

// hookChain is the way in: what is already judged passes at once.
func (o Options) hookChain(name string, hook Hook, priority int32, call string, generation uint32) Chain {
	c := Chain{Name: name, Hook: hook, Priority: priority}
	add := func(comment string, parts ...[]Expr) { c.Rules = append(c.Rules, rule(comment, parts...)) }

	add("judged in this generation", o.judged(generation), end(Accept, ""))
	add("no usable connection", hasState(StateInvalid|StateUntracked), end(GoTo, "odd"))
	if hook == Postrouting {
		// The generation may have changed since the packet passed the output hook.
		add("the node, in the generation before", madeHere(), o.judged(generation+o.generations()-1), fromNode(), end(Accept, ""))
	}
	add("a connection does not begin in the middle", hasState(StateNew), []Expr{
		Meta{Key: MetaL4Proto, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{byte(netset.TCP)}},
		Payload{Transport: true, Off: 13, Len: 1, Dreg: 16},
		Bitwise{Sreg: 16, Dreg: 16, Mask: []byte{0x17}, Xor: []byte{0}},
		Cmp{Sreg: 16, NotEqual: true, Data: []byte{0x02}},
	}, end(JumpTo, "midstream"))
	for _, f := range families {
		add("", isFamily(f), end(JumpTo, call+suffix[f]))
	}
	add("allowed: remember the generation", []Expr{Count{"allowed"}}, o.remember(generation))
	return c
}

// outputChain lets the node reach its own pods, by marking its connections as
// judged where they begin. Only packets that the node makes come here, so that
// a pod that borrows the node's address gains nothing; and only its own address
// counts, since IPVS sends other people's packets this way.
func (o Options) outputChain(generation uint32) Chain {
	return Chain{Name: "output", Hook: Output, Priority: -5, Rules: []Rule{
		rule("judged in this generation", o.judged(generation), end(Accept, "")),
		rule("what the node begins", []Expr{
			Ct{Key: CtDirection, Dir: NoDir, Dreg: 16}, Cmp{Sreg: 16, Data: []byte{byte(Original)}},
		}, fromNode(), o.remember(generation)),
	}}
}
