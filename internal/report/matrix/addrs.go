package matrix

import (
	"net/netip"

	"picket/internal/netset"
)

// prefixes returns the CIDRs of a, single addresses without a length.
func prefixes(a netset.Addrs) []string {
	var out []string
	for _, p := range a.Prefixes() {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return out
}

// covers returns the smallest prefix around a, if a has one family.
func covers(a netset.Addrs) []netip.Prefix {
	rs := a.Ranges()
	if len(rs) == 0 || rs[0].From.BitLen() != rs[len(rs)-1].To.BitLen() {
		return nil
	}
	first, last := rs[0].From, rs[len(rs)-1].To
	for bits := first.BitLen(); ; bits-- {
		if p := netip.PrefixFrom(first, bits).Masked(); p.Contains(last) {
			return []netip.Prefix{p}
		}
	}
}
