package netset

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// Addrs is a set of IPv4 and IPv6 addresses. The zero value is empty. Values
// are immutable and safe to share.
type Addrs struct{ r run[netip.Addr] }

// Family is an IP version: 4 or 6.
type Family uint8

// The two address families.
const (
	V4 Family = 4
	V6 Family = 6
)

// FamilyOf returns the family of a, taking IPv4-mapped IPv6 as IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return V4
	}
	return V6
}

// AllAddrs returns every address of the family.
func AllAddrs(f Family) Addrs {
	if f == V4 {
		return FromPrefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return FromPrefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

// FromPrefix returns the addresses of p. Bits after the prefix length are
// ignored, as everywhere in Kubernetes. A prefix of IPv4-mapped IPv6 addresses
// is taken as IPv4. An invalid prefix gives the empty set.
func FromPrefix(p netip.Prefix) Addrs {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if !p.IsValid() {
		return Addrs{}
	}
	return Addrs{run[netip.Addr]{{p.Addr(), lastOf(p)}}}
}

// FromAddr returns the set of one address. An invalid address gives the empty
// set; zones are dropped.
func FromAddr(a netip.Addr) Addrs {
	if a = a.Unmap().WithZone(""); !a.IsValid() {
		return Addrs{}
	}
	return Addrs{run[netip.Addr]{{a, a}}}
}

// lastOf returns the highest address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		n := binary.BigEndian.Uint32(b[:]) | uint32(uint64(1)<<(32-p.Bits())-1)
		binary.BigEndian.PutUint32(b[:], n)
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	// A shift by 64 or more gives 0, so all ones after the subtraction.
	if p.Bits() <= 64 {
		hi, lo = hi|(uint64(1)<<(64-p.Bits())-1), ^uint64(0)
	} else {
		lo |= uint64(1)<<(128-p.Bits()) - 1
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}

// widest returns the widest prefix that starts at from and does not go beyond
// to.
func widest(from, to netip.Addr) netip.Prefix {
	low := 0 // a prefix of fewer bits would start before from
	if b := from.AsSlice(); len(b) == 4 {
		low = 32 - bits.TrailingZeros32(binary.BigEndian.Uint32(b))
	} else if lo := binary.BigEndian.Uint64(b[8:]); lo != 0 {
		low = 128 - bits.TrailingZeros64(lo)
	} else {
		low = 64 - bits.TrailingZeros64(binary.BigEndian.Uint64(b[:8]))
	}
	n := from.BitLen() - low
	n = sort.Search(n, func(i int) bool { return lastOf(netip.PrefixFrom(from, low+i)).Compare(to) <= 0 })
	return netip.PrefixFrom(from, low+n)
}

// Contains reports whether a is in the set, whatever its zone.
func (s Addrs) Contains(a netip.Addr) bool { return s.r.contains(a.Unmap().WithZone("")) }

// Empty reports whether the set holds no address.
func (s Addrs) Empty() bool { return len(s.r) == 0 }

// Union returns the addresses in s or o.
func (s Addrs) Union(o Addrs) Addrs { return Addrs{s.r.union(o.r)} }

// Intersect returns the addresses in s and o.
func (s Addrs) Intersect(o Addrs) Addrs { return Addrs{s.r.intersect(o.r)} }

// Subtract returns the addresses in s but not in o.
func (s Addrs) Subtract(o Addrs) Addrs { return Addrs{s.r.subtract(o.r)} }

// Equal reports whether both sets hold the same addresses.
func (s Addrs) Equal(o Addrs) bool { return s.r.equal(o.r) }

// Ranges returns the set's ranges in order, IPv4 first. The caller must not
// change them.
func (s Addrs) Ranges() []Range[netip.Addr] { return s.r }

// First returns the lowest address, or the zero Addr of an empty set.
func (s Addrs) First() netip.Addr {
	if len(s.r) == 0 {
		return netip.Addr{}
	}
	return s.r[0].From
}

// Only returns the part of the set in family f.
func (s Addrs) Only(f Family) Addrs {
	i := 0
	for i < len(s.r) && s.r[i].From.Is4() {
		i++
	}
	if f == V4 {
		return Addrs{s.r[:i:i]}
	}
	return Addrs{s.r[i:]}
}

// Prefixes returns the fewest CIDR prefixes that together are the set, in
// address order.
func (s Addrs) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, r := range s.r {
		from := r.From
		for {
			p := widest(from, r.To)
			out = append(out, p)
			last := lastOf(p)
			if last == r.To {
				break
			}
			from = last.Next()
		}
	}
	return out
}

// String lists the prefixes, joined by commas; the empty set is "none".
func (s Addrs) String() string {
	ps := s.Prefixes()
	if len(ps) == 0 {
		return "none"
	}
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return strings.Join(out, ",")
}

// Block is one cell of a Partition: the addresses that lie in exactly the
// member sets.
type Block struct {
	Addrs   Addrs
	Members []int // indices into the partitioned sets, ascending
}

// Partition cuts the whole address space, both families, into the coarsest
// blocks that no given set can tell apart inside.
type Partition struct {
	Blocks []Block
	starts []netip.Addr // ascending; the first address of each elementary interval
	block  []int32      // the block of each elementary interval
}

// NewPartition partitions the address space by sets. Blocks are in the order
// of their lowest address. There is at least one block, and the union of all
// blocks is every IPv4 and IPv6 address.
func NewPartition(sets []Addrs) *Partition {
	type edge struct {
		at  netip.Addr
		set int
		in  bool
	}
	var edges []edge
	for i, s := range sets {
		for _, r := range s.r {
			edges = append(edges, edge{r.From, i, true})
			if n := r.To.Next(); n.IsValid() {
				edges = append(edges, edge{n, i, false})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })

	p := &Partition{}
	byKey := map[string]int32{}
	active := map[int]int{} // set → how many of its ranges cover the sweep point
	emit := func(from, to netip.Addr) {
		members := make([]int, 0, len(active))
		for i := range active {
			members = append(members, i)
		}
		slices.Sort(members)
		var key strings.Builder
		for _, m := range members {
			key.WriteString(string([]byte{byte(m), byte(m >> 8), byte(m >> 16), byte(m >> 24)}))
		}
		id, ok := byKey[key.String()]
		if !ok {
			id = int32(len(p.Blocks))
			byKey[key.String()] = id
			p.Blocks = append(p.Blocks, Block{Members: members})
		}
		b := &p.Blocks[id]
		b.Addrs.r = b.Addrs.r.push(Range[netip.Addr]{from, to})
		p.starts = append(p.starts, from)
		p.block = append(p.block, id)
	}
	e := 0
	for _, f := range []Family{V4, V6} {
		all := AllAddrs(f).r[0]
		from := all.From
		clear(active) // a range that reaches the end of IPv4 has no closing edge
		for from.IsValid() {
			for e < len(edges) && edges[e].at == from {
				if edges[e].in {
					active[edges[e].set]++
				} else if active[edges[e].set]--; active[edges[e].set] == 0 {
					delete(active, edges[e].set)
				}
				e++
			}
			if e < len(edges) && edges[e].at.BitLen() == from.BitLen() {
				emit(from, edges[e].at.Prev())
				from = edges[e].at
			} else {
				emit(from, all.To)
				break
			}
		}
	}
	return p
}

// Of returns the index of the block that holds a, which must be valid.
func (p *Partition) Of(a netip.Addr) int {
	i, ok := slices.BinarySearchFunc(p.starts, a.Unmap(), netip.Addr.Compare)
	if !ok {
		i--
	}
	return int(p.block[i])
}
