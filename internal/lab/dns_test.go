//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// named is a cluster with DNS: a pod that answers on port 53, one on 5353, and
// one of each kind of Service. big is headless, with more back ends than fit
// into a datagram.
func named() Spec {
	spec := small()
	spec.Pods = append(spec.Pods,
		PodSpec{Name: "kube-system/coredns-1", Node: "n2", Addrs: addrs("10.2.0.53", "fd00:2::53"), Ports: []Port{{netset.UDP, 53}, {netset.TCP, 9153}}},
		PodSpec{Name: "odd/dns", Node: "n1", Addrs: addrs("10.1.0.53")},
	)
	spec.Externals = append(spec.Externals, ExternalSpec{Name: "API.example.com", Addrs: addrs("203.0.113.9", "2001:db8::9")})
	big := DNSService{Name: "dev/big"}
	for i := range 200 {
		big.Backends = append(big.Backends, DNSBackend{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})}})
	}
	https := DNSPort{"https", Port{netset.TCP, 443}}
	spec.DNS = DNSSpec{
		Servers: []DNSServer{{"kube-system/coredns-1", 53}, {"odd/dns", 5353}},
		Services: []DNSService{
			big,
			{Name: "dev/db", Backends: []DNSBackend{
				{Hostname: "a", Addrs: addrs("10.1.0.1", "fd00:1::1"), Ports: []DNSPort{{"pg", Port{netset.TCP, 5432}}}},
				{Addrs: addrs("10.2.0.1"), Ports: []DNSPort{{"pg", Port{netset.TCP, 5433}}}},
			}},
			{Name: "dev/empty"},
			{Name: "dev/web", ClusterIPs: addrs("10.96.0.7", "fd00:96::7"), Ports: []DNSPort{https}},
		},
	}
	return spec
}

// ask asks a zone, and returns the code and the answers as text, sorted.
func ask(t *testing.T, z *zone, name, kind string) string {
	t.Helper()
	return said(z.answer(new(dns.Msg).SetQuestion(name, dns.StringToType[kind])))
}

func said(r *dns.Msg) string {
	var out []string
	for _, rr := range r.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	if r.Rcode != dns.RcodeSuccess || len(out) == 0 {
		out = append(out, dns.RcodeToString[r.Rcode])
	}
	return strings.Join(out, ", ")
}

func TestZone(t *testing.T) {
	spec := named()
	nodes, _ := spec.complete()
	z := newZone(&spec, nodes)
	for _, c := range []struct{ name, kind, want string }{
		{"web.dev.svc.cluster.local.", "A", "10.96.0.7"},
		{"web.dev.svc.cluster.local.", "AAAA", "fd00:96::7"},
		{"WEB.dev.svc.Cluster.Local.", "A", "10.96.0.7"},
		{"_https._tcp.web.dev.svc.cluster.local.", "SRV", "0 100 443 web.dev.svc.cluster.local."},
		{"_https._udp.web.dev.svc.cluster.local.", "SRV", "NXDOMAIN"},
		{"_tcp.web.dev.svc.cluster.local.", "SRV", "NOERROR"},
		{"web.dev.svc.cluster.local.", "TXT", "NOERROR"},
		{"web.prod.svc.cluster.local.", "A", "NXDOMAIN"},
		{"web.dev.svc.", "A", "NXDOMAIN"},
		{"web.dev.", "A", "NXDOMAIN"},

		{"db.dev.svc.cluster.local.", "A", "10.1.0.1, 10.2.0.1"},
		{"db.dev.svc.cluster.local.", "AAAA", "fd00:1::1"},
		{"a.db.dev.svc.cluster.local.", "A", "10.1.0.1"},
		{"a.db.dev.svc.cluster.local.", "AAAA", "fd00:1::1"},
		{"10-2-0-1.db.dev.svc.cluster.local.", "A", "10.2.0.1"},
		{"_pg._tcp.db.dev.svc.cluster.local.", "SRV", "0 100 5432 a.db.dev.svc.cluster.local., 0 100 5433 10-2-0-1.db.dev.svc.cluster.local."},
		{"empty.dev.svc.cluster.local.", "A", "NOERROR"},
		{"dev.svc.cluster.local.", "A", "NOERROR"},
		{"svc.cluster.local.", "A", "NOERROR"},
		{"nothing.svc.cluster.local.", "A", "NXDOMAIN"},

		{"10-1-0-2.dev.pod.cluster.local.", "A", "10.1.0.2"},
		{"10-1-0-2.dev.pod.cluster.local.", "AAAA", "NOERROR"},
		{"10-1-0-2.prod.pod.cluster.local.", "A", "NXDOMAIN"},
		{"10-1-0-9.dev.pod.cluster.local.", "A", "NXDOMAIN"},
		{"fd00-1--2.dev.pod.cluster.local.", "AAAA", "fd00:1::2"},
		{"FD00-1-0-0-0-0-0-2.dev.pod.cluster.local.", "AAAA", "fd00:1::2"},
		{"192-168-7-2.kube.pod.cluster.local.", "A", "192.168.7.2"}, // on the host network

		{"7.0.96.10.in-addr.arpa.", "PTR", "web.dev.svc.cluster.local."},
		{"1.0.1.10.in-addr.arpa.", "PTR", "a.db.dev.svc.cluster.local."},
		{"1.0.2.10.in-addr.arpa.", "PTR", "10-2-0-1.db.dev.svc.cluster.local."},
		{"2.0.1.10.in-addr.arpa.", "PTR", "10-1-0-2.dev.pod.cluster.local."},
		{"9.0.1.10.in-addr.arpa.", "PTR", "NXDOMAIN"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.", "PTR", "fd00-1--2.dev.pod.cluster.local."},
		{"9.113.0.203.in-addr.arpa.", "PTR", "api.example.com."},

		{"api.example.com.", "A", "203.0.113.9"},
		{"Api.Example.Com.", "AAAA", "2001:db8::9"},
		{"internet.", "A", "198.51.100.7"},
		{"www.example.com.", "A", "NXDOMAIN"},
		{"example.com.", "A", "NOERROR"},

		{"cluster.local.", "SOA", "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
		{"cluster.local.", "NS", "ns.dns.cluster.local."},
		{"ns.dns.cluster.local.", "A", "10.1.0.53, 10.2.0.53"},
		{"dns-version.cluster.local.", "TXT", `"1.1.0"`},
		{"cluster.local.", "AXFR", "REFUSED"},
	} {
		if got := ask(t, z, c.name, c.kind); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, c.kind, got, c.want)
		}
	}
}

// TestZoneManners looks at what is around an answer.
func TestZoneManners(t *testing.T) {
	spec := named()
	spec.DNS.Domain = "corp.example"
	nodes, _ := spec.complete()
	z := newZone(&spec, nodes)
	r := z.answer(new(dns.Msg).SetQuestion("WeB.dev.svc.corp.example.", dns.TypeA))
	if !r.Authoritative || !r.Response || len(r.Answer) != 1 || r.Answer[0].Header().Name != "WeB.dev.svc.corp.example." || len(r.Ns) > 0 {
		t.Error(r)
	}
	r = z.answer(new(dns.Msg).SetQuestion("_pg._tcp.db.dev.svc.corp.example.", dns.TypeSRV))
	if len(r.Answer) != 2 || len(r.Extra) != 3 {
		t.Errorf("want the addresses of the targets: %s", r)
	}
	for name, soa := range map[string]string{
		"no.svc.corp.example.": "corp.example.", "9.9.9.9.in-addr.arpa.": "in-addr.arpa.", "web.dev.svc.cluster.local.": ".",
	} {
		r := z.answer(new(dns.Msg).SetQuestion(name, dns.TypeA))
		if r.Rcode != dns.RcodeNameError || len(r.Ns) != 1 || r.Ns[0].Header().Name != soa || r.Authoritative == (soa == ".") {
			t.Errorf("%s: want NXDOMAIN with the SOA of %s: %s", name, soa, r)
		}
	}
	odd := new(dns.Msg).SetQuestion("web.dev.svc.corp.example.", dns.TypeA)
	odd.SetEdns0(4096, false)
	odd.IsEdns0().SetVersion(1)
	if r := z.answer(odd); r.Rcode != dns.RcodeBadVers {
		t.Error(r)
	}
	if r := z.answer(new(dns.Msg).SetNotify("corp.example.")); r.Rcode != dns.RcodeNotImplemented {
		t.Error(r)
	}
	chaos := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if r := z.answer(chaos); r.Rcode != dns.RcodeRefused {
		t.Error(r)
	}
	if r := z.answer(&dns.Msg{}); r.Rcode != dns.RcodeFormatError {
		t.Error(r)
	}
}

// TestZoneSizes asks for more than fits.
func TestZoneSizes(t *testing.T) {
	spec := named()
	nodes, _ := spec.complete()
	z := newZone(&spec, nodes)
	for _, c := range []struct {
		edns, most int
		udp        bool
	}{{0, 512, true}, {100, 512, true}, {900, 900, true}, {65535, ednsSize, true}, {0, 65535, false}} {
		q := new(dns.Msg).SetQuestion("big.dev.svc.cluster.local.", dns.TypeA)
		if c.edns > 0 {
			q.SetEdns0(uint16(c.edns), false)
		}
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := z.reply(packed, c.udp)
		var r dns.Msg
		if err := r.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > c.most || len(out) < c.most-50 && c.udp || r.Truncated != c.udp || (r.IsEdns0() != nil) != (c.edns > 0) || !c.udp && len(r.Answer) != 200 {
			t.Errorf("%+v: %d octets, %d answers, truncated %v", c, len(out), len(r.Answer), r.Truncated)
		}
	}
	for _, bad := range []string{"", "short", "\x12\x34\x81\x80\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if out := z.reply([]byte(bad), true); out != nil {
			t.Errorf("%q was answered", bad)
		}
	}
	var r dns.Msg
	if err := r.Unpack(z.reply([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09oops"), true)); err != nil || r.Rcode != dns.RcodeFormatError || r.Id != 0x1234 {
		t.Error(err, &r)
	}
}

func FuzzReply(f *testing.F) {
	spec := named()
	nodes, _ := spec.complete()
	z := newZone(&spec, nodes)
	q := new(dns.Msg).SetQuestion("_pg._tcp.db.dev.svc.cluster.local.", dns.TypeSRV)
	q.SetEdns0(4096, true)
	for _, m := range []*dns.Msg{q, new(dns.Msg).SetQuestion("fd00-1--2.dev.pod.cluster.local.", dns.TypeANY)} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, query []byte) {
		for _, udp := range []bool{true, false} {
			out := z.reply(query, udp)
			if out == nil {
				continue
			}
			var r dns.Msg
			if err := r.Unpack(out); err != nil {
				t.Fatalf("the answer cannot be read: %v", err)
			}
			if !r.Response || udp && len(out) > ednsSize || len(query) < 12 || r.Id != uint16(query[0])<<8|uint16(query[1]) {
				t.Fatalf("%d octets: %s", len(out), &r)
			}
		}
	})
}

// resolver is Go's, in the namespace of dev/a, asking one server.
func resolver(l *Lab, server, only string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if only != "" {
			network = only
		}
		return l.Dial(ctx, "dev/a", network, server)
	}}
}

// TestDNS asks the lab's servers as programs do, from another pod on another
// node.
func TestDNS(t *testing.T) {
	l := start(t, named())
	ctx := context.Background()
	for _, server := range []string{"10.2.0.53:53", "[fd00:2::53]:53", "10.1.0.53:5353"} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(server+" "+network, func(t *testing.T) {
				r := resolver(l, server, network)
				got, err := r.LookupNetIP(ctx, "ip", "web.dev.svc.cluster.local.")
				slices.SortFunc(got, netip.Addr.Compare)
				if d := cmp.Diff(addrs("10.96.0.7", "fd00:96::7"), got, compareAddrs); d != "" || err != nil {
					t.Error(err, d)
				}
				names, err := r.LookupAddr(ctx, "10.1.0.2")
				if !slices.Equal(names, []string{"10-1-0-2.dev.pod.cluster.local."}) || err != nil {
					t.Error(names, err)
				}
				_, srv, err := r.LookupSRV(ctx, "https", "tcp", "web.dev.svc.cluster.local.")
				if err != nil || len(srv) != 1 || *srv[0] != (net.SRV{Target: "web.dev.svc.cluster.local.", Port: 443, Weight: 100}) {
					t.Error(srv, err)
				}
				var not *net.DNSError
				if _, err := r.LookupHost(ctx, "nobody.dev.svc.cluster.local."); !errors.As(err, &not) || !not.IsNotFound {
					t.Error(err)
				}
				client := &dns.Client{Net: network}
				conn, err := l.Dial(ctx, "dev/a", network, server)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for _, c := range []struct{ name, kind, want string }{
					{"api.example.com.", "AAAA", "2001:db8::9"},
					{"nobody.example.com.", "A", "NXDOMAIN"},
				} {
					q := new(dns.Msg).SetQuestion(c.name, dns.StringToType[c.kind])
					a, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: conn})
					if err != nil {
						t.Fatal(err)
					}
					if got := said(a); got != c.want {
						t.Errorf("%s: %s, want %s", c.name, got, c.want)
					}
				}
			})
		}
	}
	// 200 addresses do not fit: a client comes again over TCP.
	got, err := resolver(l, "10.2.0.53:53", "").LookupNetIP(ctx, "ip4", "big.dev.svc.cluster.local.")
	if len(got) != 200 || err != nil {
		t.Errorf("%d addresses, %v; want 200", len(got), err)
	}
}

// TestDNSAndProbes probes the servers' ports, before and after a rule of the
// node drops what goes there.
func TestDNSAndProbes(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("skipped: the nft program is not installed")
	}
	l := start(t, named())
	var probes []Probe
	for _, f := range families {
		for _, p := range []Port{{netset.UDP, 53}, {netset.TCP, 53}} {
			for _, from := range []string{"dev/a", "dev/c", "n1", "internet"} {
				probes = append(probes, Probe{From: from, To: l.Addr("kube-system/coredns-1", f), Proto: p.Proto, Port: p.Number})
			}
		}
	}
	expect := func(when string, want Result) {
		t.Helper()
		// Queries beside the probes do not confuse them.
		r := resolver(l, "10.2.0.53:53", "")
		asked := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := r.LookupHost(ctx, "web.dev.svc.cluster.local.")
			asked <- err
		}()
		out, err := l.ProbeAll(context.Background(), probes, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			if o.Result != want {
				t.Errorf("%s: %s: %s, want %s", when, probes[i], o.Result, want)
			}
		}
		if err := <-asked; (err == nil) != (want == Answered) {
			t.Errorf("%s: the resolver says %v", when, err)
		}
	}
	expect("open", Answered)
	rules := "table inet test { chain f { type filter hook forward priority 0; meta l4proto { tcp, udp } th dport 53 drop; }; }"
	if err := l.Do("n2", func() error {
		if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	expect("dropped", NoAnswer)
}

func TestAddDNS(t *testing.T) {
	labels := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	pod := func(ns, name, addr string, l map[string]string, ports ...model.Port) model.Endpoint {
		e := model.Endpoint{Namespace: ns, Name: name, Labels: l, Ports: ports}
		if addr != "" {
			e.Addrs = addrs(addr)
		}
		return e
	}
	stateful := pod("dev", "db-0", "10.0.0.8", labels("app", "db"), model.Port{Name: "pg", Proto: netset.TCP, Number: 5432})
	stateful.Owner = model.Owner{Kind: "StatefulSet", Name: "db"}
	s := &model.Snapshot{
		Endpoints: []model.Endpoint{
			stateful,
			pod("dev", "web", "10.0.0.9", nil),
			pod("kube-system", "backend", "10.0.0.3", labels("app", "resolver")),
			pod("kube-system", "coredns", "10.0.0.1", nil, model.Port{Name: "dns", Proto: netset.UDP, Number: 1053}),
			pod("kube-system", "coredns-gone", "", nil),
			pod("kube-system", "coredns-x", "10.0.0.2", labels("x", "y"), model.Port{Name: "udp", Proto: netset.UDP, Number: 5353}),
			pod("net", "node-dns", "10.0.0.4", labels("k8s-app", "kube-dns")),
		},
		Services: []model.Service{
			{Namespace: "dev", Name: "db", Selector: selector.FromLabels(labels("app", "db")), Ports: []model.ServicePort{{Name: "sql", Proto: netset.TCP, Port: 1, TargetName: "pg"}}, Backends: addrs("192.0.2.1")},
			{Namespace: "dev", Name: "else", Type: "ExternalName"},
			{Namespace: "dev", Name: "web", ClusterIPs: addrs("10.96.0.1"), Ports: []model.ServicePort{{Name: "http", Proto: netset.TCP, Port: 80, TargetPort: 8080}, {Proto: netset.TCP, Port: 81}}},
			{Namespace: "kube-system", Name: "kube-dns", ClusterIPs: addrs("10.96.0.10"), Selector: selector.FromLabels(labels("app", "resolver")), Ports: []model.ServicePort{{Proto: netset.UDP, Port: 53, TargetPort: 8053}}},
			{Namespace: "kube-system", Name: "other", ClusterIPs: addrs("10.96.0.11"), Selector: selector.FromLabels(labels("x", "y")), Ports: []model.ServicePort{{Proto: netset.TCP, Port: 53, TargetPort: 5353}, {Proto: netset.UDP, Port: 53, TargetName: "udp"}}},
		},
	}
	want := DNSSpec{
		Servers: []DNSServer{{"kube-system/backend", 8053}, {"kube-system/coredns", 1053}, {"kube-system/coredns-x", 5353}, {"net/node-dns", 53}},
		Services: []DNSService{
			{Name: "dev/db", Backends: []DNSBackend{
				{Hostname: "db-0", Addrs: addrs("10.0.0.8"), Ports: []DNSPort{{"sql", Port{netset.TCP, 5432}}}},
				{Addrs: addrs("192.0.2.1")},
			}},
			{Name: "dev/web", ClusterIPs: addrs("10.96.0.1"), Ports: []DNSPort{{"http", Port{netset.TCP, 80}}}},
			{Name: "kube-system/kube-dns", ClusterIPs: addrs("10.96.0.10")},
			{Name: "kube-system/other", ClusterIPs: addrs("10.96.0.11")},
		},
	}
	spec := FromSnapshot(s, 1, nil)
	if d := cmp.Diff(want, spec.DNS, compareAddrs); d != "" {
		t.Error(d)
	}
	if err := spec.check(); err != nil {
		t.Error(err)
	}
	// A second snapshot: the same servers, a Service changed, one new.
	second := *s
	second.Services = []model.Service{
		{Namespace: "dev", Name: "web", ClusterIPs: addrs("10.96.0.2")},
		{Namespace: "dev", Name: "new", ClusterIPs: addrs("10.96.0.3")},
	}
	spec.AddDNS(&second)
	var names []string
	for _, sv := range spec.DNS.Services {
		names = append(names, fmt.Sprint(sv.Name, sv.ClusterIPs))
	}
	if got := strings.Join(names, " "); got != "dev/db[] dev/new[10.96.0.3] dev/web[10.96.0.2] kube-system/kube-dns[10.96.0.10] kube-system/other[10.96.0.11]" {
		t.Error(got)
	}
}

func TestDNSMistakes(t *testing.T) {
	base := func() Spec { return named() }
	for want, edit := range map[string]func(d *DNSSpec){
		`no pod "a/x" to answer`:        func(d *DNSSpec) { d.Servers[0].Pod = "a/x" },
		"answers on no port":            func(d *DNSSpec) { d.Servers[0].Port = 0 },
		"has no namespace":              func(d *DNSSpec) { d.Services[0].Name = "big" },
		`"b.c" is no label`:             func(d *DNSSpec) { d.Services[0].Name = "a/b.c" },
		"canonical":                     func(d *DNSSpec) { d.Services[3].ClusterIPs[0] = netip.Addr{} },
		"a Service has no port of icmp": func(d *DNSSpec) { d.Services[3].Ports[0].Proto = netset.ICMP },
		"is no domain name":             func(d *DNSSpec) { d.Domain = "a..b" },
		"there is no server":            func(d *DNSSpec) { d.Servers = nil },
	} {
		spec := base()
		edit(&spec.DNS)
		if err := spec.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
