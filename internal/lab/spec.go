//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
)

// Spec says what a lab consists of. Endpoints are named: a pod
// "namespace/name", a node by its bare name, an external host as its spec says.
// Names and addresses are unique throughout.
type Spec struct {
	Nodes     []NodeSpec
	Pods      []PodSpec
	Externals []ExternalSpec
	DNS       DNSSpec

	// Bridged attaches the pods of a node to one bridge, as the bridge CNI
	// plugin does, instead of routing to each. The kernel must have br_netfilter,
	// or no policy could be enforced between pods of a node. Costs grow with the
	// square of the pods on a node.
	Bridged bool

	// Discover lets hosts find each other's hardware addresses by ARP and
	// neighbour discovery. Without it they are told. The table of discovered
	// neighbours is one for the whole machine, 1,024 entries long by default:
	// only for small labs.
	Discover bool
}

// NodeSpec is a node. Without an address of a family it is given one, in
// 172.18.0.0/16 or fd00:172:18::/64.
type NodeSpec struct {
	Name  string
	Addrs []netip.Addr
}

// PodSpec is a pod and the ports on which it answers. A pod on the host network
// listens in its node's namespace and has its node's addresses; Addrs is
// ignored.
type PodSpec struct {
	Name        string // namespace/name
	Node        string // name of a node of the spec
	Addrs       []netip.Addr
	Ports       []Port
	HostNetwork bool
}

// Port is where a pod listens: TCP, UDP or SCTP.
type Port struct {
	Proto  netset.Proto
	Number uint16
}

// ExternalSpec is a host outside the cluster. If its name is a domain name, the
// lab's DNS knows it.
type ExternalSpec struct {
	Name  string
	Addrs []netip.Addr
}

// FromSnapshot makes the spec of a snapshot's pods on its nodes, and on as many
// more as there are to be at least. Pods without a node are dealt out to the
// nodes in order. Pods without an address are left out: no packet can reach
// them. Each external address becomes a host of its own, named after it. Pods
// that are cluster DNS answer it; see AddDNS.
func FromSnapshot(s *model.Snapshot, nodes int, externals []netip.Addr) Spec {
	var spec Spec
	index := map[string]int{}
	node := func(name string, addrs []netip.Addr) {
		if _, ok := index[name]; !ok {
			index[name] = len(spec.Nodes)
			spec.Nodes = append(spec.Nodes, NodeSpec{Name: name, Addrs: slices.Clone(addrs)})
		}
	}
	for _, n := range s.Nodes {
		node(n.Name, n.Addrs)
	}
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.Node != "" {
			node(e.Node, nil)
		}
	}
	for i := 1; len(spec.Nodes) < max(nodes, 1); i++ {
		node(fmt.Sprintf("node-%d", i), nil)
	}
	next := 0
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Kind == model.Pod && len(e.Addrs) == 0 {
			continue
		}
		p := PodSpec{Name: e.String(), Node: e.Node, HostNetwork: e.Kind == model.HostPod}
		if p.Node == "" {
			p.Node = spec.Nodes[next%len(spec.Nodes)].Name
			next++
		}
		if p.HostNetwork {
			if n := &spec.Nodes[index[p.Node]]; len(n.Addrs) == 0 && !e.Assigned {
				n.Addrs = slices.Clone(e.Addrs)
			}
		} else {
			p.Addrs = slices.Clone(e.Addrs)
		}
		for _, port := range e.Ports {
			p.Ports = append(p.Ports, Port{port.Proto, port.Number})
		}
		spec.Pods = append(spec.Pods, p)
	}
	for _, a := range externals {
		spec.Externals = append(spec.Externals, ExternalSpec{Name: a.String(), Addrs: []netip.Addr{a}})
	}
	spec.AddDNS(s)
	return spec
}

// gateways are the addresses that every pod sends to first. They are the same
// for all and live on the link alone, as in Calico.
var gateways = map[netset.Family]netip.Addr{
	netset.V4: netip.MustParseAddr("169.254.1.1"),
	netset.V6: netip.MustParseAddr("fe80::1"),
}

// Usable says why no host of a lab can have the address, or nil.
func Usable(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("no address")
	case a.Is4In6(), a.Zone() != "":
		return fmt.Errorf("%s is not an address in canonical form", a)
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0:
		return fmt.Errorf("%s stands for no host", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is a loopback address", a)
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is not the address of one host", a)
	case a.Is6() && a.IsLinkLocalUnicast(), a == gateways[netset.V4]:
		return fmt.Errorf("%s is valid on one link only", a)
	}
	return nil
}

// check returns the mistakes of the spec.
func (s *Spec) check() error {
	var errs []error
	names, addrs := map[string]bool{}, map[netip.Addr]string{}
	claim := func(name string, as []netip.Addr) {
		if name == "" || names[name] {
			errs = append(errs, fmt.Errorf("the name %q is missing or used twice", name))
		}
		names[name] = true
		for _, a := range as {
			if err := Usable(a); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			} else if other, ok := addrs[a]; ok {
				errs = append(errs, fmt.Errorf("%s: %s belongs to %s already", name, a, other))
			}
			addrs[a] = name
		}
	}
	for _, n := range s.Nodes {
		claim(n.Name, n.Addrs)
		if strings.Contains(n.Name, "/") {
			errs = append(errs, fmt.Errorf("%s: the name of a node has no slash", n.Name))
		}
	}
	nodes := len(names)
	for _, p := range s.Pods {
		if p.HostNetwork {
			claim(p.Name, nil)
		} else {
			claim(p.Name, p.Addrs)
		}
		if !slices.ContainsFunc(s.Nodes, func(n NodeSpec) bool { return n.Name == p.Node }) {
			errs = append(errs, fmt.Errorf("%s: there is no node %q", p.Name, p.Node))
		}
		if !p.HostNetwork && len(p.Addrs) == 0 {
			errs = append(errs, fmt.Errorf("%s: the pod has no address", p.Name))
		}
		for _, port := range p.Ports {
			if port.Proto != netset.TCP && port.Proto != netset.UDP && port.Proto != netset.SCTP {
				errs = append(errs, fmt.Errorf("%s: a pod cannot listen on %s", p.Name, port.Proto))
			}
		}
	}
	for _, e := range s.Externals {
		claim(e.Name, e.Addrs)
		if len(e.Addrs) == 0 {
			errs = append(errs, fmt.Errorf("%s: the host has no address", e.Name))
		}
	}
	errs = append(errs, s.DNS.check(s.Pods)...)
	if nodes == 0 {
		errs = append(errs, errors.New("there is no node"))
	}
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d mistakes more", len(errs)-5))
	}
	return errors.Join(errs...)
}

// complete returns the spec's nodes with an address of each family, and the
// addresses of the router between them.
func (s *Spec) complete() (nodes []NodeSpec, router []netip.Addr) {
	used := map[netip.Addr]bool{}
	use := func(as []netip.Addr) {
		for _, a := range as {
			used[a] = true
		}
	}
	for _, n := range s.Nodes {
		use(n.Addrs)
	}
	for _, p := range s.Pods {
		use(p.Addrs)
	}
	for _, e := range s.Externals {
		use(e.Addrs)
	}
	next := [...]netip.Addr{netip.MustParseAddr("172.18.0.1"), netip.MustParseAddr("fd00:172:18::1")}
	fresh := func(i int) netip.Addr {
		for used[next[i]] {
			next[i] = next[i].Next()
		}
		used[next[i]] = true
		return next[i]
	}
	router = []netip.Addr{fresh(0), fresh(1)}
	for _, n := range s.Nodes {
		n.Addrs = slices.Clone(n.Addrs)
		for i, f := range families {
			if !first(n.Addrs, f).IsValid() {
				n.Addrs = append(n.Addrs, fresh(i))
			}
		}
		nodes = append(nodes, n)
	}
	return nodes, router
}

var families = [...]netset.Family{netset.V4, netset.V6}

// first returns the first address of the family, or the zero Addr.
func first(addrs []netip.Addr, f netset.Family) netip.Addr {
	for _, a := range addrs {
		if netset.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}
