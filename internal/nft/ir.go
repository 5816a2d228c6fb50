//go:build linux

package nft

import "net/netip"

// Reg is a 32-bit register of the nf_tables machine, numbered as NFT_REG32_00
// and up: 8 to 23. Verdict stands for the verdict register.
type Reg uint8

// Registers. Values longer than 4 bytes take the following ones too.
const (
	Verdict Reg = 0
	R0      Reg = 8
)

// Expr is one instruction of a rule. The kernel runs them in order; one that
// does not match ends its rule.
type Expr interface{ isExpr() }

// The instructions.
type (
	// Meta loads packet metadata.
	Meta struct {
		Key  MetaKey
		Dreg Reg
	}
	// Ct loads a field of the connection-tracking entry. A packet without an
	// entry does not match, except for CtState.
	Ct struct {
		Key  CtKey
		Dir  Dir // which tuple; only for addresses and ports
		Dreg Reg
	}
	// CtSetMark stores a register as the connection mark.
	CtSetMark struct{ Sreg Reg }
	// Payload loads bytes of the packet.
	Payload struct {
		Transport bool // counted from the transport header; else the network header
		Off, Len  uint8
		Dreg      Reg
	}
	// Bitwise computes Dreg = Sreg & Mask ^ Xor.
	Bitwise struct {
		Sreg, Dreg Reg
		Mask, Xor  []byte
	}
	// Cmp compares a register with constant bytes.
	Cmp struct {
		Sreg     Reg
		NotEqual bool
		Data     []byte
	}
	// Lookup looks a key up in a set, or in a map and stores the value in
	// Dreg. A missing key (a present one with Not) does not match.
	Lookup struct {
		Set  string
		Sreg Reg
		Dreg Reg  // valid iff Map
		Map  bool // the set is a map
		Not  bool // valid iff !Map
	}
	// Set stores constant bytes.
	Set struct {
		Dreg Reg
		Data []byte
	}
	// Jump ends the rule with a verdict.
	Jump struct {
		Code  Code
		Chain string // valid iff Code is JumpTo or GoTo
	}
	// FibLocal loads whether the packet's source address belongs to the node,
	// as 4 bytes: 2 (RTN_LOCAL) if so.
	FibLocal struct{ Dreg Reg }
	// Count adds the packet to a named counter.
	Count struct{ Name string }
	// Log sends the packet to a netlink log group.
	Log struct {
		Group   uint16
		Prefix  string
		Snaplen uint32
	}
)

func (Meta) isExpr()      {}
func (Ct) isExpr()        {}
func (CtSetMark) isExpr() {}
func (Payload) isExpr()   {}
func (Bitwise) isExpr()   {}
func (Cmp) isExpr()       {}
func (Lookup) isExpr()    {}
func (Set) isExpr()       {}
func (Jump) isExpr()      {}
func (FibLocal) isExpr()  {}
func (Count) isExpr()     {}
func (Log) isExpr()       {}

// MetaKey names packet metadata, numbered as enum nft_meta_keys.
type MetaKey uint32

// The metadata in use.
const (
	MetaIif     MetaKey = 4  // 4 bytes, host order: the link it came in by; 0 if the node made it
	MetaNFProto MetaKey = 15 // 1 byte
	MetaL4Proto MetaKey = 16 // 1 byte
)

// CtKey names a field of a connection, numbered as enum nft_ct_keys.
type CtKey uint32

// The fields in use.
const (
	CtState     CtKey = 0 // 4 bytes, host order: a bit of State*
	CtDirection CtKey = 1 // 1 byte: 0 original, 1 reply
	CtMark      CtKey = 3 // 4 bytes, host order
	CtProto     CtKey = 10
	CtProtoSrc  CtKey = 11
	CtProtoDst  CtKey = 12 // of an ICMP query: type and code
	CtSrcIP     CtKey = 19
	CtSrcIP6    CtKey = 21
)

// Bits of CtState.
const (
	StateInvalid     = 1
	StateEstablished = 2
	StateRelated     = 4
	StateNew         = 8
	StateUntracked   = 64
)

// Dir names a tuple of a connection.
type Dir uint8

// The tuples. Original holds the initiator as it was before any translation,
// Reply the responder as it is after.
const (
	Original Dir = iota
	Reply
	NoDir
)

// Code is a verdict, numbered as in nf_tables.
type Code int32

// The verdicts.
const (
	Drop   Code = 0
	Accept Code = 1
	JumpTo Code = -3
	GoTo   Code = -4
	Return Code = -5
)

// Field is one part of a key or of a value.
type Field uint8

// The fields. Each takes whole registers of 4 bytes.
const (
	IPv4  Field = iota // 4 bytes
	IPv6               // 16 bytes
	ID                 // 4 bytes: a number of ours, big endian
	Proto              // 1 byte
	Port               // 2 bytes
	Mark               // 4 bytes
)

func (f Field) size() int {
	return [...]int{IPv4: 4, IPv6: 16, ID: 4, Proto: 1, Port: 2, Mark: 4}[f]
}

// padded is the field's size in registers.
func (f Field) padded() int { return (f.size() + 3) &^ 3 }

// SetSpec declares a set or a map. In the kernel the name may have a version
// behind it (see Kernel).
type SetSpec struct {
	Name     string
	Key      []Field
	Value    []Field // of a map; nil otherwise
	Verdicts bool    // the map's values are verdicts
	Interval bool
}

// Elem is an element of a set or map. Key and To hold the fields in register
// layout; To is nil unless the set is an interval set.
type Elem struct {
	Key, To []byte
	Value   []byte // of a map
	Code    Code   // valid iff the set's Verdicts
	Chain   string
}

// Chain is a list of rules, attached to a hook or called by others.
type Chain struct {
	Name     string
	Hook     Hook
	Priority int32 // valid iff Hook
	Rules    []Rule
}

// Hook is where the kernel runs a chain.
type Hook int8

// The hooks, numbered as in netfilter.
const (
	NoHook      Hook = -1
	Input       Hook = 1
	Forward     Hook = 2
	Output      Hook = 3
	Postrouting Hook = 4
)

// Rule is a list of instructions.
type Rule struct {
	Exprs   []Expr
	Comment string
}

func addrKey(a netip.Addr) []byte { return a.AsSlice() }
