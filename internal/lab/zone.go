//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// zone is all that cluster DNS knows: the names that the Kubernetes DNS
// specification, version 1.1.0, gives to Services, their back ends and pods;
// the names of external hosts; and names for addresses. It is not changed after
// it was made.
type zone struct {
	domain string              // of the cluster: "cluster.local."
	names  map[string][]dns.RR // by full name in lower case; no records where there are only names below
	known  map[string]bool     // records by their text, while the zone is made
}

const (
	recordTTL = 5    // seconds, as cluster DNS has it by default
	ednsSize  = 1232 // octets: what passes every path without fragments
)

// newZone makes the zone of a spec. nodes are the spec's, complete with
// addresses.
func newZone(spec *Spec, nodes []NodeSpec) *zone {
	domain := spec.DNS.Domain
	if domain == "" {
		domain = defaultDomain
	}
	z := &zone{domain: dns.CanonicalName(domain), names: map[string][]dns.RR{}, known: map[string]bool{}}
	full := *spec
	full.Nodes = nodes
	pods := full.podAddrs()

	ns := "ns.dns." + z.domain
	for _, apex := range z.apexes() {
		z.add(apex, &dns.SOA{Ns: ns, Mbox: "hostmaster." + z.domain, Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: recordTTL})
		z.add(apex, &dns.NS{Ns: ns})
	}
	z.add("dns-version."+z.domain, &dns.TXT{Txt: []string{"1.1.0"}})
	seen := map[string]bool{}
	for _, s := range spec.DNS.Servers {
		if !seen[s.Pod] {
			seen[s.Pod] = true
			z.addAddrs(ns, pods[s.Pod])
		}
	}
	for i := range spec.DNS.Services {
		z.addService(&spec.DNS.Services[i])
	}
	for _, p := range spec.Pods {
		ns, _, _ := strings.Cut(p.Name, "/")
		for _, a := range pods[p.Name] {
			name := z.podName(a, ns)
			z.addAddrs(name, []netip.Addr{a})
			if !p.HostNetwork {
				z.addReverse(a, name, true)
			}
		}
	}
	for _, e := range spec.Externals {
		_, ok := dns.IsDomainName(e.Name)
		if _, err := netip.ParseAddr(e.Name); err == nil || !ok {
			continue
		}
		name := dns.CanonicalName(e.Name)
		z.addAddrs(name, e.Addrs)
		for _, a := range e.Addrs {
			z.addReverse(a, name, true)
		}
	}
	z.known = nil
	return z
}

// apexes are the names for which z speaks, the innermost first. What it does
// not know under the root does not exist in the lab.
func (z *zone) apexes() []string { return []string{z.domain, "in-addr.arpa.", "ip6.arpa.", "."} }

func (z *zone) addService(s *DNSService) {
	ns, svc, _ := strings.Cut(s.Name, "/")
	name := strings.ToLower(svc + "." + ns + ".svc." + z.domain)
	z.exists(name)
	if len(s.ClusterIPs) > 0 {
		z.addAddrs(name, s.ClusterIPs)
		z.addPorts(name, name, s.Ports)
		for _, a := range s.ClusterIPs {
			z.addReverse(a, name, false)
		}
		return
	}
	for _, b := range s.Backends {
		z.addAddrs(name, b.Addrs)
		for i, a := range b.Addrs {
			host := strings.ToLower(b.Hostname)
			if host == "" {
				host = dashed(a)
			}
			target := host + "." + name
			z.addAddrs(target, []netip.Addr{a})
			z.addReverse(a, target, false)
			if i == 0 || b.Hostname == "" {
				z.addPorts(name, target, b.Ports)
			}
		}
	}
}

func (z *zone) addPorts(service, target string, ports []DNSPort) {
	for _, p := range ports {
		name := strings.ToLower("_" + p.Name + "._" + p.Proto.String() + "." + service)
		z.add(name, &dns.SRV{Weight: 100, Port: p.Number, Target: target})
	}
}

func (z *zone) addAddrs(name string, as []netip.Addr) {
	for _, a := range as {
		if a.Is4() {
			z.add(name, &dns.A{A: a.AsSlice()})
		} else {
			z.add(name, &dns.AAAA{AAAA: a.AsSlice()})
		}
	}
}

// addReverse adds a name for an address; an alternative one only if there is
// none yet.
func (z *zone) addReverse(a netip.Addr, name string, alternative bool) {
	reverse, err := dns.ReverseAddr(a.String())
	if err != nil || alternative && len(z.names[reverse]) > 0 {
		return
	}
	z.add(reverse, &dns.PTR{Ptr: name})
}

// podName is the name of a pod by its address.
func (z *zone) podName(a netip.Addr, ns string) string {
	return dashed(a) + "." + strings.ToLower(ns) + ".pod." + z.domain
}

// dashed writes an address as a label: 10-0-0-1 or fd00--1.
func dashed(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// undashed reads such a label. An IPv6 address has several spellings.
func undashed(label string) netip.Addr {
	for _, separator := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator)); err == nil {
			return a
		}
	}
	return netip.Addr{}
}

// add adds a record, unless the name has the same.
func (z *zone) add(name string, rr dns.RR) {
	*rr.Header() = dns.RR_Header{Name: name, Rrtype: typeOf(rr), Class: dns.ClassINET, Ttl: recordTTL}
	z.exists(name)
	if text := rr.String(); !z.known[text] {
		z.known[text] = true
		z.names[name] = append(z.names[name], rr)
	}
}

func typeOf(rr dns.RR) uint16 {
	switch rr.(type) {
	case *dns.A:
		return dns.TypeA
	case *dns.AAAA:
		return dns.TypeAAAA
	case *dns.SRV:
		return dns.TypeSRV
	case *dns.PTR:
		return dns.TypePTR
	case *dns.TXT:
		return dns.TypeTXT
	case *dns.NS:
		return dns.TypeNS
	}
	return dns.TypeSOA
}

// exists notes a name and, as there is something below them, those above it.
func (z *zone) exists(name string) {
	for {
		if _, ok := z.names[name]; ok {
			return
		}
		z.names[name] = nil
		i, end := dns.NextLabel(name, 0)
		if end {
			return
		}
		name = name[i:]
	}
}

// find returns the records of a name, and whether there is such a name.
func (z *zone) find(name string) ([]dns.RR, bool) {
	name = dns.CanonicalName(name)
	if rrs, ok := z.names[name]; ok {
		return rrs, true
	}
	if rest, ok := strings.CutSuffix(name, ".pod."+z.domain); ok {
		label, ns, _ := strings.Cut(rest, ".")
		if a := undashed(label); a.IsValid() {
			rrs, ok := z.names[z.podName(a, ns)]
			return rrs, ok
		}
	}
	return nil, false
}

// apexOf returns the innermost apex above name.
func (z *zone) apexOf(name string) string {
	for _, apex := range z.apexes() {
		if dns.IsSubDomain(apex, name) {
			return apex
		}
	}
	return "."
}

// reply returns the answer to a query as received, or nil if none is due. Over
// UDP it is cut to what the client can take, and says so, so that the client
// asks again over TCP.
func (z *zone) reply(query []byte, udp bool) []byte {
	const header, responseBit = 12, 0x80
	if len(query) < header || query[2]&responseBit != 0 {
		return nil
	}
	limit := dns.MaxMsgSize
	if udp {
		limit = dns.MinMsgSize
	}
	var q dns.Msg
	var r *dns.Msg
	failed := dns.MsgHdr{Id: binary.BigEndian.Uint16(query), Response: true}
	if err := q.Unpack(query); err != nil {
		failed.Rcode = dns.RcodeFormatError
		r = &dns.Msg{MsgHdr: failed}
	} else {
		if opt := q.IsEdns0(); opt != nil && udp {
			limit = max(limit, min(int(opt.UDPSize()), ednsSize))
		}
		r = z.answer(&q)
	}
	r.Truncate(limit)
	out, err := r.Pack()
	if err != nil { // a name of the spec that is too long
		failed.Rcode = dns.RcodeServerFailure
		out, _ = (&dns.Msg{MsgHdr: failed}).Pack()
	}
	return out
}

func (z *zone) answer(q *dns.Msg) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		r.SetEdns0(ednsSize, false)
		if opt.Version() != 0 {
			r.Rcode = dns.RcodeBadVers
			return r
		}
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		r.Rcode = dns.RcodeNotImplemented
		return r
	case len(q.Question) != 1:
		r.Rcode = dns.RcodeFormatError
		return r
	}
	ask := q.Question[0]
	if ask.Qclass != dns.ClassINET || ask.Qtype == dns.TypeAXFR || ask.Qtype == dns.TypeIXFR {
		r.Rcode = dns.RcodeRefused
		return r
	}
	apex := z.apexOf(ask.Name)
	r.Authoritative = apex != "."
	rrs, ok := z.find(ask.Name)
	for _, rr := range rrs {
		if rr.Header().Rrtype == ask.Qtype || ask.Qtype == dns.TypeANY {
			r.Answer = append(r.Answer, as(rr, ask.Name))
			r.Extra = append(r.Extra, z.addrsOf(rr)...)
		}
	}
	if len(r.Answer) > 0 {
		return r
	}
	if !ok {
		r.Rcode = dns.RcodeNameError
	}
	for _, rr := range z.names[apex] {
		if rr.Header().Rrtype == dns.TypeSOA {
			r.Ns = append(r.Ns, rr)
		}
	}
	return r
}

// as returns the record under the name as it was asked for: a client may write
// letters large and small, and expect to see them again.
func as(rr dns.RR, name string) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Name = name
	return rr
}

// addrsOf returns the addresses of the host that an SRV record names, which the
// client will ask for next.
func (z *zone) addrsOf(rr dns.RR) []dns.RR {
	srv, ok := rr.(*dns.SRV)
	if !ok {
		return nil
	}
	var out []dns.RR
	for _, a := range z.names[srv.Target] {
		if t := a.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
			out = append(out, a)
		}
	}
	return out
}
