//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// DNSSpec is what the lab's cluster DNS knows besides the pods of the spec and
// the external hosts whose names are domain names. Without servers there is no
// DNS in the lab.
type DNSSpec struct {
	Domain   string // of the cluster; "" for cluster.local
	Servers  []DNSServer
	Services []DNSService
}

// DNSServer is a pod of the spec that answers DNS on a port, over UDP and TCP,
// whether or not its spec has the port.
type DNSServer struct {
	Pod  string // namespace/name
	Port uint16
}

// DNSService is a Service. With cluster IPs its name leads to these, and Ports
// are its own; without, it is headless, and its name leads to the back ends.
// Of a headless Service, Ports is not used.
type DNSService struct {
	Name       string // namespace/name
	ClusterIPs []netip.Addr
	Ports      []DNSPort
	Backends   []DNSBackend // not used if there are cluster IPs
}

// DNSBackend is what a headless Service leads to. It has a name below that of
// the Service: Hostname, or one made of its address.
type DNSBackend struct {
	Hostname string
	Addrs    []netip.Addr
	Ports    []DNSPort
}

// DNSPort is a named port: what an SRV record tells.
type DNSPort struct {
	Name string
	Port
}

const (
	defaultDomain = "cluster.local"
	dnsPort       = 53
)

// AddDNS makes DNS servers of the spec's pods that are cluster DNS in the
// snapshot: those labelled k8s-app=kube-dns, those in kube-system named coredns
// or coredns-…, and the back ends of Service kube-system/kube-dns. They answer
// where their Services lead port 53 to, else on the ports they declare by the
// names dns and dns-tcp, else on port 53. They know the snapshot's Services. A
// Service without a cluster IP counts as headless: manifests seldom say one, and
// the lab routes none. Host names of back ends are those of pods of StatefulSets.
//
// The spec's pods must be there already. For a lab of several snapshots AddDNS
// is called for each; of Services of one name the last counts. Without a pod
// that is cluster DNS the spec stays as it is.
func (s *Spec) AddDNS(snapshot *model.Snapshot) {
	addrs := s.podAddrs()
	for i := range snapshot.Endpoints {
		e := &snapshot.Endpoints[i]
		if _, ok := addrs[e.String()]; !ok || !isDNS(snapshot, e) {
			continue
		}
		for _, p := range dnsPorts(snapshot, e) {
			if d := (DNSServer{e.String(), p}); !slices.Contains(s.DNS.Servers, d) {
				s.DNS.Servers = append(s.DNS.Servers, d)
			}
		}
	}
	if len(s.DNS.Servers) == 0 {
		return
	}
	for i := range snapshot.Services {
		if sv := &snapshot.Services[i]; sv.Type != "ExternalName" {
			s.DNS.add(dnsService(snapshot, sv, addrs))
		}
	}
}

// add adds or replaces a Service; they are sorted by name.
func (d *DNSSpec) add(sv DNSService) {
	at, found := slices.BinarySearchFunc(d.Services, sv.Name, func(s DNSService, name string) int { return cmp.Compare(s.Name, name) })
	if found {
		d.Services[at] = sv
		return
	}
	d.Services = slices.Insert(d.Services, at, sv)
}

// podAddrs returns the addresses of the spec's pods, as far as they are known.
func (s *Spec) podAddrs() map[string][]netip.Addr {
	nodes, pods := map[string][]netip.Addr{}, map[string][]netip.Addr{}
	for _, n := range s.Nodes {
		nodes[n.Name] = n.Addrs
	}
	for _, p := range s.Pods {
		pods[p.Name] = p.Addrs
		if p.HostNetwork {
			pods[p.Name] = nodes[p.Node]
		}
	}
	return pods
}

func isDNS(s *model.Snapshot, e *model.Endpoint) bool {
	if e.Labels["k8s-app"] == "kube-dns" {
		return true
	}
	if e.Namespace != "kube-system" {
		return false
	}
	return e.Name == "coredns" || strings.HasPrefix(e.Name, "coredns-") ||
		slices.ContainsFunc(s.Services, func(sv model.Service) bool {
			return sv.Namespace == e.Namespace && sv.Name == "kube-dns" && leads(&sv, e)
		})
}

// leads reports whether e is a back end of the Service.
func leads(sv *model.Service, e *model.Endpoint) bool {
	return sv.Namespace == e.Namespace && sv.Selector.Matches(e.Labels) ||
		slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return slices.Contains(sv.Backends, a) })
}

func dnsPorts(s *model.Snapshot, e *model.Endpoint) []uint16 {
	var ports []uint16
	for i := range s.Services {
		sv := &s.Services[i]
		for _, p := range sv.Ports {
			if p.Port != dnsPort || p.Proto == netset.SCTP || !leads(sv, e) {
				continue
			}
			if n, ok := verdict.TargetPort(p, e); ok && n != 0 {
				ports = append(ports, n)
			}
		}
	}
	if len(ports) == 0 {
		for _, p := range e.Ports {
			if (p.Name == "dns" || p.Name == "dns-tcp") && p.Number != 0 {
				ports = append(ports, p.Number)
			}
		}
	}
	if len(ports) == 0 {
		ports = []uint16{dnsPort}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func dnsService(s *model.Snapshot, sv *model.Service, addrs map[string][]netip.Addr) DNSService {
	out := DNSService{Name: sv.String(), ClusterIPs: slices.Clone(sv.ClusterIPs)}
	if len(sv.ClusterIPs) > 0 {
		for _, p := range sv.Ports {
			if p.Name != "" {
				out.Ports = append(out.Ports, DNSPort{p.Name, Port{p.Proto, p.Port}})
			}
		}
		return out
	}
	pods := map[netip.Addr]bool{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		as := addrs[e.String()]
		if len(as) == 0 || !leads(sv, e) {
			continue
		}
		b := DNSBackend{Addrs: slices.Clone(as)}
		if e.Owner.Kind == "StatefulSet" {
			b.Hostname = e.Name
		}
		for _, p := range sv.Ports {
			if n, ok := verdict.TargetPort(p, e); ok && p.Name != "" {
				b.Ports = append(b.Ports, DNSPort{p.Name, Port{p.Proto, n}})
			}
		}
		out.Backends = append(out.Backends, b)
		for _, a := range e.Addrs {
			pods[a] = true
		}
	}
	for _, a := range sv.Backends {
		if pods[a] {
			continue
		}
		b := DNSBackend{Addrs: []netip.Addr{a}}
		for _, p := range sv.Ports {
			if p.Name != "" && p.TargetName == "" {
				b.Ports = append(b.Ports, DNSPort{p.Name, Port{p.Proto, p.TargetPort}})
			}
		}
		out.Backends = append(out.Backends, b)
	}
	return out
}

// check returns the mistakes of the spec's DNS.
func (d *DNSSpec) check(pods []PodSpec) (errs []error) {
	if n, ok := dns.IsDomainName(d.Domain); d.Domain != "" && (!ok || n == 0) {
		errs = append(errs, fmt.Errorf("DNS: %q is no domain name", d.Domain))
	}
	for _, s := range d.Servers {
		if !slices.ContainsFunc(pods, func(p PodSpec) bool { return p.Name == s.Pod }) {
			errs = append(errs, fmt.Errorf("DNS: there is no pod %q to answer", s.Pod))
		}
		if s.Port == 0 {
			errs = append(errs, fmt.Errorf("DNS: %s answers on no port", s.Pod))
		}
	}
	label := func(service, s string) {
		if n, ok := dns.IsDomainName(s); !ok || n != 1 {
			errs = append(errs, fmt.Errorf("DNS: service %q: %q is no label of a domain name", service, s))
		}
	}
	addresses := func(service string, as []netip.Addr) {
		for _, a := range as {
			if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				errs = append(errs, fmt.Errorf("DNS: service %q: %s is not an address in canonical form", service, a))
			}
		}
	}
	ports := func(service string, ps []DNSPort) {
		for _, p := range ps {
			if p.Proto != netset.TCP && p.Proto != netset.UDP && p.Proto != netset.SCTP {
				errs = append(errs, fmt.Errorf("DNS: service %q: port %q: a Service has no port of %s", service, p.Name, p.Proto))
			}
			label(service, p.Name)
		}
	}
	for _, s := range d.Services {
		ns, name, ok := strings.Cut(s.Name, "/")
		if !ok {
			errs = append(errs, fmt.Errorf("DNS: the name of service %q has no namespace", s.Name))
			continue
		}
		label(s.Name, ns)
		label(s.Name, name)
		addresses(s.Name, s.ClusterIPs)
		ports(s.Name, s.Ports)
		for _, b := range s.Backends {
			if b.Hostname != "" {
				label(s.Name, b.Hostname)
			}
			addresses(s.Name, b.Addrs)
			ports(s.Name, b.Ports)
		}
	}
	if len(d.Servers) == 0 && len(d.Services) > 0 {
		errs = append(errs, errors.New("DNS: there is no server"))
	}
	return errs
}
