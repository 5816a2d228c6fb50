package kube

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"slices"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
)

var (
	defaultV4 = netip.MustParsePrefix("10.244.0.0/16")
	defaultV6 = netip.MustParsePrefix("fd00:10:244::/56")
)

// podCIDRs returns the ranges in effect.
func (b *Builder) podCIDRs() []netip.Prefix {
	out := []netip.Prefix{defaultV4}
	if len(b.opts.PodCIDRs) > 0 {
		out = nil
		for _, p := range b.opts.PodCIDRs {
			if p.IsValid() {
				out = append(out, p.Masked())
			}
		}
	}
	v6 := slices.ContainsFunc(out, func(p netip.Prefix) bool { return netset.FamilyOf(p.Addr()) == netset.V6 })
	if b.opts.DualStack && !v6 {
		out = append(out, defaultV6)
	}
	return out
}

// pool hands out addresses of one family.
type pool struct {
	ranges []netip.Prefix
	sizes  []uint64
	total  uint64
	taken  map[netip.Addr]bool
}

// size is how many addresses of a range are handed out, at most 2^48: all but
// the first and the last.
func size(p netip.Prefix) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	if host < 2 {
		return uint64(host) // of a /31 one address, of a /32 none
	}
	return 1<<min(host, 48) - 2
}

// at returns address i of the pool.
func (p *pool) at(i uint64) netip.Addr {
	r := 0
	for i >= p.sizes[r] {
		i -= p.sizes[r]
		r++
	}
	b := p.ranges[r].Addr().As16()
	lo := binary.BigEndian.Uint64(b[8:])
	sum, carry := bits.Add64(lo, i+1, 0)
	binary.BigEndian.PutUint64(b[8:], sum)
	binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+carry)
	return netip.AddrFrom16(b).Unmap()
}

// assign gives name an address: where a hash of the name points, or the next
// free one. The same names get the same addresses in any cluster, unless they
// collide.
func (p *pool) assign(name string) (netip.Addr, bool) {
	if p.total == 0 {
		return netip.Addr{}, false
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	x := h.Sum64()
	x ^= x >> 32 // the low bits alone of FNV are poor for short names
	start := x % p.total
	for n := uint64(0); n < p.total && n <= uint64(len(p.taken)); n++ {
		a := p.at((start + n) % p.total)
		if !p.taken[a] {
			p.taken[a] = true
			return a, true
		}
	}
	return netip.Addr{}, false
}

// assignAddrs gives addresses to the pods that have none, in the order of the
// list. It reports ranges that are too small.
func (b *Builder) assignAddrs(s *model.Snapshot) (unusable string) {
	need := 0
	taken := map[netip.Addr]bool{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Kind == model.Pod && len(e.Addrs) == 0 {
			need++
		}
		for _, a := range e.Addrs {
			taken[a] = true
		}
	}
	if need == 0 {
		return ""
	}
	for _, n := range s.Nodes {
		for _, a := range n.Addrs {
			taken[a] = true
		}
	}
	for _, sv := range s.Services {
		for _, a := range sv.ClusterIPs {
			taken[a] = true
		}
	}
	s.PodCIDRs = b.podCIDRs()
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		p := pool{taken: taken}
		for _, r := range s.PodCIDRs {
			if netset.FamilyOf(r.Addr()) == f {
				p.ranges, p.sizes = append(p.ranges, r), append(p.sizes, size(r))
				p.total += size(r)
			}
		}
		if len(p.ranges) == 0 {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Kind != model.Pod || len(e.Addrs) > 0 && !e.Assigned {
				continue
			}
			a, ok := p.assign(e.Namespace + "/" + e.Name)
			if !ok {
				return b.tooSmall(p.ranges, need)
			}
			e.Addrs, e.Assigned = append(e.Addrs, a), true
		}
	}
	return ""
}

// tooSmall reports that ranges do not hold the pods.
func (b *Builder) tooSmall(ranges []netip.Prefix, need int) string {
	r := ranges[0]
	host := bits.Len(uint(need + need/3 + 2)) // so that collisions stay rare
	wide := netip.PrefixFrom(r.Addr(), max(0, r.Addr().BitLen()-host)).Masked()
	if wide.Bits() > r.Bits() {
		wide = netip.PrefixFrom(r.Addr(), max(0, r.Bits()-1)).Masked()
	}
	d := diag.Diagnostic{
		Message: fmt.Sprintf("the pod range %s is too small for %d pods without an address", r, need),
		Fix:     fmt.Sprintf("give a wider range: --pod-cidr %s", wide),
	}
	b.Report(d)
	return d.Message
}
