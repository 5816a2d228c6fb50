package verdict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"picket/internal/model"
	"picket/internal/nearest"
	"picket/internal/netset"
)

// Ref is what a person means by a word on the command line: one or more
// endpoints, a Service, a node, an address, or the rest of the world.
type Ref struct {
	Text      string
	Endpoints []int32        // the pods meant, ascending; of a workload all its pods
	Service   *model.Service // set if the word names a Service; Endpoints are its back ends then
	Node      int32          // None unless the word names a node
	Addr      netip.Addr     // valid if the word is an address
	External  bool           // the rest of the world
}

// Parties returns the ends of connections that the Ref stands for, IPv4 before
// IPv6.
func (t *Table) Parties(r Ref) []Party {
	var out []Party
	for _, f := range t.Families() {
		switch {
		case r.External:
			out = append(out, t.External(f))
		case r.Addr.IsValid():
			if netset.FamilyOf(r.Addr) == f {
				out = append(out, t.AddrParty(r.Addr))
			}
		case r.Node != None:
			if p, ok := t.NodeParty(int(r.Node), f); ok {
				out = append(out, p)
			}
		}
		for _, e := range r.Endpoints {
			if p, ok := t.EndpointParty(int(e), f); ok {
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 && r.Addr.IsValid() {
		out = append(out, t.AddrParty(r.Addr))
	}
	return out
}

// Families returns the address families that the cluster uses.
func (t *Table) Families() []netset.Family {
	if t.Snapshot.DualStack {
		return []netset.Family{netset.V4, netset.V6}
	}
	for i := range t.Snapshot.Endpoints {
		if t.PeerOf[0][i] != None {
			return []netset.Family{netset.V4}
		}
		if t.PeerOf[1][i] != None {
			return []netset.Family{netset.V6}
		}
	}
	return []netset.Family{netset.V4}
}

// kinds are the words for the middle of namespace/kind/name.
var kinds = map[string]string{
	"pod": "Pod", "po": "Pod", "pods": "Pod",
	"deployment": "Deployment", "deploy": "Deployment", "deployments": "Deployment",
	"statefulset": "StatefulSet", "sts": "StatefulSet", "statefulsets": "StatefulSet",
	"daemonset": "DaemonSet", "ds": "DaemonSet", "daemonsets": "DaemonSet",
	"replicaset": "ReplicaSet", "rs": "ReplicaSet", "replicasets": "ReplicaSet",
	"replicationcontroller": "ReplicationController", "rc": "ReplicationController",
	"job": "Job", "jobs": "Job",
	"cronjob": "CronJob", "cj": "CronJob", "cronjobs": "CronJob",
	"service": "Service", "svc": "Service", "services": "Service",
}

// Resolve finds what text means: "external"; an address; "node/name";
// "namespace/name", which is a pod, else a workload, else a Service;
// "namespace/kind/name"; or a bare name, which is looked for in namespace. The
// error of a miss names what comes nearest.
func (t *Table) Resolve(text, namespace string) (Ref, error) {
	r := Ref{Text: text, Node: None}
	if text == "external" {
		r.External = true
		return r, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		r.Addr = a.Unmap().WithZone("")
		for i := range t.Snapshot.Services {
			if slices.Contains(t.Snapshot.Services[i].ClusterIPs, r.Addr) {
				return t.serviceRef(text, i), nil
			}
		}
		if o, ok := t.Owner[r.Addr]; ok && o.Endpoint != None {
			r.Endpoints = []int32{o.Endpoint}
			r.Addr = netip.Addr{}
		}
		return r, nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return r, fmt.Errorf("%s is a block of addresses: name one address of it, such as %s, or external", text, p.Masked().Addr())
	}
	parts := strings.Split(text, "/")
	switch {
	case len(parts) == 2 && (parts[0] == "node" || parts[0] == "nodes"):
		if i := t.nodeIndex(parts[1]); i != None {
			r.Node = i
			return r, nil
		}
		return r, fmt.Errorf("no node %q", parts[1])
	case len(parts) == 1:
		parts = []string{cmp.Or(namespace, "default"), parts[0]}
	case len(parts) > 3 || slices.Contains(parts, ""):
		return r, fmt.Errorf("%q is no endpoint: want namespace/pod, namespace/kind/name, node/name, an address or external", text)
	}
	ns, name, kind := parts[0], parts[len(parts)-1], ""
	if len(parts) == 3 {
		var ok bool
		if kind, ok = kinds[strings.ToLower(parts[1])]; !ok {
			return r, fmt.Errorf("%q names no kind of workload: want pod, deployment, statefulset, daemonset, replicaset, job, cronjob or service", parts[1])
		}
	}
	if kind == "" || kind == "Pod" {
		if i, ok := t.Endpoint(ns, name); ok {
			r.Endpoints = []int32{int32(i)}
			return r, nil
		}
	}
	if kind != "Service" {
		for i := range t.Snapshot.Endpoints {
			e := &t.Snapshot.Endpoints[i]
			if e.Namespace == ns && e.Owner.Name == name && (kind == "" || e.Owner.Kind == kind) {
				r.Endpoints = append(r.Endpoints, int32(i))
			}
		}
		if len(r.Endpoints) > 0 {
			return r, nil
		}
	}
	if kind == "" || kind == "Service" {
		for i := range t.Snapshot.Services {
			if s := &t.Snapshot.Services[i]; s.Namespace == ns && s.Name == name {
				return t.serviceRef(text, i), nil
			}
		}
	}
	return r, t.missing(ns, name)
}

func (t *Table) serviceRef(text string, i int) Ref {
	s := &t.Snapshot.Services[i]
	return Ref{Text: text, Node: None, Service: s, Endpoints: t.Backends(s)}
}

// Backends returns the pods that a Service leads to, ascending. Addresses
// outside the cluster that it leads to are in its Backends field.
func (t *Table) Backends(s *model.Service) []int32 {
	var out []int32
	for i := range t.Snapshot.Endpoints {
		e := &t.Snapshot.Endpoints[i]
		if e.Namespace == s.Namespace && s.Selector.Matches(e.Labels) {
			out = append(out, int32(i))
		}
	}
	for _, a := range s.Backends {
		if o, ok := t.Owner[a]; ok && o.Endpoint != None {
			out = append(out, o.Endpoint)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TargetPort returns the port of endpoint e that port p of a Service leads to,
// and false if e has no port of that name.
func TargetPort(p model.ServicePort, e *model.Endpoint) (uint16, bool) {
	if p.TargetName == "" {
		return p.TargetPort, true
	}
	for _, c := range e.Ports {
		if c.Name == p.TargetName && c.Proto == p.Proto {
			return c.Number, true
		}
	}
	return 0, false
}

// missing is the error for an endpoint that does not exist.
func (t *Table) missing(ns, name string) error {
	var known []string
	for i := range t.Snapshot.Endpoints {
		e := &t.Snapshot.Endpoints[i]
		known = append(known, e.String())
		if e.Owner.Name != "" {
			known = append(known, e.Namespace+"/"+e.Owner.Name)
		}
	}
	for i := range t.Snapshot.Services {
		known = append(known, t.Snapshot.Services[i].String())
	}
	if near := nearest.Word(ns+"/"+name, known); near != "" {
		return fmt.Errorf("no pod, workload or service %q in the input; did you mean %q?", ns+"/"+name, near)
	}
	return fmt.Errorf("no pod, workload or service %q in the input", ns+"/"+name)
}

// ParsePort reads "tcp/80", "udp/53", "sctp/9", "icmp" (an echo request of
// either family), "80" (TCP), or a protocol number with a port ("47/0"). For
// icmp, Port.In gives the key of each family.
func ParsePort(s string) (Port, error) {
	proto, port, ok := strings.Cut(s, "/")
	if !ok {
		if _, err := strconv.Atoi(s); err == nil {
			proto, port = "tcp", s
		}
	}
	p, err := netset.ParseProto(proto)
	if err != nil {
		return Port{}, err
	}
	echo := p == netset.ICMP || p == netset.ICMPv6
	if echo && (port == "" || port == "-") {
		return Port{echo: true}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || echo {
		return Port{}, fmt.Errorf("%q is no port: want tcp/80, udp/53, sctp/9, icmp or 80", s)
	}
	return Port{key: netset.KeyOf(p, uint16(n))}, nil
}

// Port is what a person means by a protocol and port.
type Port struct {
	key  netset.Key
	echo bool
}

// In returns the point of the traffic space that the port is in family f.
func (p Port) In(f netset.Family) netset.Key {
	if p.echo {
		return netset.Echo(f)
	}
	return p.key
}

// String returns the port as ParsePort reads it.
func (p Port) String() string {
	if p.echo {
		return "icmp"
	}
	return p.key.String()
}
