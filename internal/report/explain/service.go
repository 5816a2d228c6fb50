package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// ending is the answer where there is nothing to judge.
type ending struct {
	verdict verdict.Decision
	text    string
}

// destinations returns what is connected to when somebody connects to r.
func (b *builder) destinations(r verdict.Ref, port verdict.Port) ([]destination, []string, *ending) {
	if r.Service != nil {
		return b.serviceDestinations(r.Service, port)
	}
	var out []destination
	for _, p := range b.t.Parties(r) {
		out = append(out, destination{p, port.In(p.Family)})
	}
	return out, nil, nil
}

// serviceDestinations translates the Service's port for each of its back ends.
func (b *builder) serviceDestinations(s *model.Service, port verdict.Port) ([]destination, []string, *ending) {
	if s.Type == "ExternalName" {
		return nil, nil, &ending{verdict.Undefined, fmt.Sprintf(
			"service %s is an ExternalName: a DNS name for a host elsewhere. Policies judge the address that the name has; ask for that address", s)}
	}
	backends := b.t.Backends(s)
	var outside []netip.Addr
	for _, a := range s.Backends {
		if o, ok := b.t.Owner[a]; !ok || o.Endpoint == verdict.None {
			outside = append(outside, a)
		}
	}
	if len(backends) == 0 && len(outside) == 0 {
		why := "its selector " + s.Selector.String() + " matches no pod of namespace " + s.Namespace
		if s.Selector.IsNothing() {
			why = "it has no selector, and nothing in the input gives it addresses"
		}
		return nil, nil, &ending{verdict.Deny, fmt.Sprintf("service %s has no back ends: %s. No policy is asked; nothing answers", s, why)}
	}
	var notes []string
	if len(outside) > 0 {
		notes = append(notes, fmt.Sprintf("service %s leads to addresses that are no pods: %s", s, joinAddrs(outside)))
	}
	echo := port.String() == "icmp"
	want := port.In(netset.V4)
	b.service, b.svcKey = s, want
	for i := range s.Ports {
		if p := &s.Ports[i]; !echo && p.Proto == want.Proto() && p.Port == want.Port() {
			b.svcPort = p
		}
	}
	out, nameless := b.translated(backends, outside, port)
	ports := map[netset.Key]int{}
	for _, d := range out {
		ports[d.key]++
	}
	notes = append(notes, b.portNotes(s, echo, ports, backends)...)
	if len(nameless) > 0 {
		notes = append(notes, fmt.Sprintf("no port named %q on %s: the Service does not lead there", b.svcPort.TargetName, some(nameless, 3)))
	}
	if len(out) == 0 {
		return nil, notes, &ending{verdict.Deny, fmt.Sprintf("service %s leads nowhere on %s: none of its pods can take it", s, port)}
	}
	return out, notes, nil
}

// meant returns what a word means as the destination of a port. A workload and
// its Service often have one name; that is taken for the Service if the port is
// one that the Service leads elsewhere and no pod of the workload declares:
// nobody listens there but the Service.
func (b *builder) meant(r verdict.Ref, port verdict.Port) (verdict.Ref, []string) {
	ns, name, ok := b.plainName(r)
	k := port.In(netset.V4)
	if !ok || port.String() == "icmp" {
		return r, nil
	}
	s, to := b.redirecting(ns, name, k, r.Endpoints[0])
	if s == nil {
		return r, nil
	}
	if b.declared(r.Endpoints, k) {
		return r, []string{fmt.Sprintf("%s is a workload here, so %s is its own port; the service of that name leads its port %d to port %d of the pods: ask for %s/service/%s",
			s, k, k.Port(), to, ns, name)}
	}
	kind := strings.ToLower(cmp.Or(b.t.Snapshot.Endpoints[r.Endpoints[0]].Owner.Kind, "Pod"))
	out, err := b.t.Resolve(ns+"/service/"+name, "")
	if err != nil {
		return r, nil
	}
	out.Text = r.Text
	return out, []string{fmt.Sprintf("%s is a %s and a service; port %d is the service's, and no port of the pods, so the service is meant: for the pods' own port ask for %s/%s/%s",
		s, kind, k.Port(), ns, kind, name)}
}

// plainName returns the namespace and name of a workload or pod that was asked
// for without its kind.
func (b *builder) plainName(r verdict.Ref) (ns, name string, ok bool) {
	_, err := netip.ParseAddr(r.Text)
	if r.Service != nil || len(r.Endpoints) == 0 || err == nil || strings.Count(r.Text, "/") > 1 {
		return "", "", false
	}
	return b.t.Snapshot.Endpoints[r.Endpoints[0]].Namespace, r.Text[strings.LastIndex(r.Text, "/")+1:], true
}

// redirecting returns the Service of the name if its port k is another port of
// endpoint e, one of its back ends, and that port.
func (b *builder) redirecting(ns, name string, k netset.Key, e int32) (*model.Service, uint16) {
	for i := range b.t.Snapshot.Services {
		s := &b.t.Snapshot.Services[i]
		if s.Namespace != ns || s.Name != name || !slices.Contains(b.t.Backends(s), e) {
			continue
		}
		for _, p := range s.Ports {
			if n, ok := verdict.TargetPort(p, &b.t.Snapshot.Endpoints[e]); ok && p.Proto == k.Proto() && p.Port == k.Port() && n != p.Port {
				return s, n
			}
		}
	}
	return nil, 0
}

// declared reports whether one of the endpoints declares port k.
func (b *builder) declared(endpoints []int32, k netset.Key) bool {
	return slices.ContainsFunc(endpoints, func(e int32) bool {
		return slices.ContainsFunc(b.t.Snapshot.Endpoints[e].Ports, func(p model.Port) bool { return netset.KeyOf(p.Proto, p.Number) == k })
	})
}

// translated returns the back ends with the port that each of them sees, and
// the names of those that lack the named port.
func (b *builder) translated(backends []int32, outside []netip.Addr, port verdict.Port) (out []destination, nameless []string) {
	for _, f := range b.t.Families() {
		for _, i := range backends {
			p, ok := b.t.EndpointParty(int(i), f)
			if !ok {
				continue
			}
			if k, ok := b.podKey(&b.t.Snapshot.Endpoints[i], port, f); ok {
				out = append(out, destination{p, k})
			} else {
				nameless = append(nameless, b.name(p))
			}
		}
		for _, a := range outside {
			if netset.FamilyOf(a) != f {
				continue
			}
			if k, ok := b.podKey(&model.Endpoint{}, port, f); ok {
				out = append(out, destination{b.t.AddrParty(a), k})
			}
		}
	}
	slices.Sort(nameless)
	return out, slices.Compact(nameless)
}

// podKey returns what the asked port is at a back end, and false if the back
// end has no port of the name.
func (b *builder) podKey(e *model.Endpoint, port verdict.Port, f netset.Family) (netset.Key, bool) {
	if b.svcPort == nil {
		return port.In(f), true
	}
	n, ok := verdict.TargetPort(*b.svcPort, e)
	return netset.KeyOf(b.svcPort.Proto, n), ok
}

// portNotes says how the Service's port became the pods'.
func (b *builder) portNotes(s *model.Service, echo bool, ports map[netset.Key]int, backends []int32) []string {
	if echo {
		return []string{fmt.Sprintf("a Service translates no ICMP: the verdict is for the own addresses of the pods of %s", s)}
	}
	var keys []netset.Key
	for k := range ports {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var texts []string
	for _, k := range keys {
		texts = append(texts, fmt.Sprint(k.Port()))
	}
	if b.svcPort != nil {
		same := len(keys) == 1 && keys[0] == b.svcKey
		switch {
		case len(keys) == 0:
			return nil
		case same:
			return []string{fmt.Sprintf("port %d of service %s is port %d of its pods too", b.svcKey.Port(), s, b.svcKey.Port())}
		}
		return []string{fmt.Sprintf("port %d of service %s is port %s of its pods; policies see the pod's port",
			b.svcKey.Port(), s, strings.Join(texts, " or "))}
	}
	var have []string
	for _, p := range s.Ports {
		have = append(have, netset.KeyOf(p.Proto, p.Port).String())
		for _, i := range backends {
			if n, ok := verdict.TargetPort(p, &b.t.Snapshot.Endpoints[i]); ok && netset.KeyOf(p.Proto, n) == b.svcKey {
				return []string{fmt.Sprintf("%s is no port of service %s but the port of its pods that %s leads to; the verdict is for the pods' own %s",
					b.svcKey, s, netset.KeyOf(p.Proto, p.Port), b.svcKey)}
			}
		}
	}
	return []string{fmt.Sprintf("%s is no port of service %s (it has %s): a connection to the Service goes nowhere; the verdict is for the pods' own %s",
		b.svcKey, s, cmp.Or(strings.Join(have, ", "), "none"), b.svcKey)}
}

func joinAddrs(as []netip.Addr) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.String()
	}
	return some(out, 5)
}
