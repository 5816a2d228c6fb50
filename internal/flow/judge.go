package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// maxKnown bounds how many endpoint texts and ports are remembered. Beyond it
// the memory is emptied and begins anew.
const maxKnown = 1 << 16

// maxSuggestions bounds how many unknown names are compared with every name of
// the input to find the nearest: a file of a million wrong names would take
// hours.
const maxSuggestions = 50

// judge looks flows up in the table.
type judge struct {
	table     *verdict.Table
	namespace string
	names     map[string]bool       // namespace/name of all that is no pod: workloads, services
	services  map[netip.Addr]int    // by cluster IP
	ends      map[string]*end       // by text
	ports     map[string]parsedPort // by "protocol\tport"
	misses    int
}

type parsedPort struct {
	port
	err error
}

// end is what one text stands for.
type end struct {
	text    string
	parties []verdict.Party
	service *model.Service
	err     error
}

func newJudge(t *verdict.Table, namespace string) *judge {
	if namespace == "" {
		namespace = "default"
	}
	j := &judge{
		table: t, namespace: namespace,
		names: map[string]bool{}, services: map[netip.Addr]int{},
		ends: map[string]*end{}, ports: map[string]parsedPort{},
	}
	for i := range t.Snapshot.Endpoints {
		if e := &t.Snapshot.Endpoints[i]; e.Owner.Name != "" {
			j.names[e.Namespace+"/"+e.Owner.Name] = true
		}
	}
	for i := range t.Snapshot.Services {
		s := &t.Snapshot.Services[i]
		j.names[s.String()] = true
		for _, a := range s.ClusterIPs {
			j.services[a] = i
		}
	}
	return j
}

// line judges one line. The error says why it is no flow.
func (j *judge) line(line []byte) (verdict.Decision, error) {
	f, err := fields(line)
	if err != nil {
		return 0, err
	}
	src, dst := j.end(f[0]), j.end(f[1])
	p := j.port(f[2], f[3])
	switch err := errors.Join(src.err, dst.err, p.err); {
	case err != nil:
		return 0, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	case src.service != nil && len(src.parties) == 0:
		return 0, fmt.Errorf("source %q: no pod stands behind the service", src.text)
	}
	return j.decide(src, dst, p.port)
}

func (j *judge) port(proto, number []byte) parsedPort {
	var buf [64]byte
	key := append(append(append(buf[:0], proto...), '\t'), number...)
	p, ok := j.ports[string(key)]
	if !ok {
		p.port, p.err = parsePort(proto, number)
		if len(j.ports) >= maxKnown {
			clear(j.ports)
		}
		j.ports[string(key)] = p
	}
	return p
}

func (j *judge) end(text []byte) *end {
	e, ok := j.ends[string(text)]
	if !ok {
		e = j.resolve(string(text))
		if len(j.ends) >= maxKnown {
			clear(j.ends)
		}
		j.ends[e.text] = e
	}
	return e
}

func (j *judge) resolve(text string) *end {
	e := &end{text: text}
	addr, explicit := strings.CutPrefix(text, "ip:")
	if a, err := netip.ParseAddr(addr); err == nil {
		a = a.Unmap().WithZone("")
		if i, ok := j.services[a]; ok {
			e.service = &j.table.Snapshot.Services[i]
			e.parties = j.behind(e.service, netset.FamilyOf(a))
			return e
		}
		e.parties = []verdict.Party{j.table.AddrParty(a)}
		return e
	} else if explicit {
		e.err = fmt.Errorf("%s is no address", quote([]byte(addr)))
		return e
	}
	if len(text) > 600 { // two names of 253 bytes and a kind fit
		e.err = fmt.Errorf("%s is no endpoint: too long", quote([]byte(text)))
		return e
	}
	ref, err := j.ref(text)
	if err != nil {
		e.err = err
		return e
	}
	if ref.Service != nil {
		e.service = ref.Service
		e.parties = j.behind(ref.Service, j.table.Families()...)
		return e
	}
	if e.parties = j.distinct(j.table.Parties(ref)); len(e.parties) == 0 {
		e.err = fmt.Errorf("%q has no address, so it has no connections", text)
	}
	return e
}

// ref is Table.Resolve, without the search for the nearest name once there
// were many misses.
func (j *judge) ref(text string) (verdict.Ref, error) {
	if j.misses >= maxSuggestions {
		ns, name, ok := strings.Cut(text, "/")
		if !ok {
			ns, name = j.namespace, text
		}
		_, isPod := j.table.Endpoint(ns, name)
		if text != "external" && ns != "node" && !strings.Contains(name, "/") && !isPod && !j.names[ns+"/"+name] {
			return verdict.Ref{}, fmt.Errorf("no pod, workload or service %q in the input", ns+"/"+name)
		}
	}
	ref, err := j.table.Resolve(text, j.namespace)
	if err != nil {
		j.misses++
	}
	return ref, err
}

// behind returns the ends that a Service leads to.
func (j *judge) behind(s *model.Service, families ...netset.Family) []verdict.Party {
	var out []verdict.Party
	for _, f := range families {
		for _, e := range j.table.Backends(s) {
			if p, ok := j.table.EndpointParty(int(e), f); ok {
				out = append(out, p)
			}
		}
		for _, a := range s.Backends {
			if o, ok := j.table.Owner[a]; netset.FamilyOf(a) == f && (!ok || o.Endpoint == verdict.None) {
				out = append(out, j.table.AddrParty(a))
			}
		}
	}
	return out
}

// distinct drops parties that no look-up can tell from two others. Two of a
// kind stay, since replicas of a workload reach each other too.
func (j *judge) distinct(ps []verdict.Party) []verdict.Party {
	if len(ps) <= 2 {
		return ps
	}
	type key struct {
		targets [2]verdict.TargetID
		peer    verdict.PeerID
		node    int32
		home    string
	}
	seen := map[key]int{}
	return slices.DeleteFunc(slices.Clone(ps), func(p verdict.Party) bool {
		k := key{peer: p.Peer, node: p.Node, targets: [2]verdict.TargetID{verdict.None, verdict.None}}
		if p.Endpoint != verdict.None {
			k.home = j.table.Snapshot.Endpoints[p.Endpoint].Node
			for d := range k.targets {
				k.targets[d] = j.table.TargetOf[d][p.Endpoint]
			}
		}
		seen[k]++
		return seen[k] > 2
	})
}

// decide judges all connections that the flow may stand for. They must agree.
func (j *judge) decide(src, dst *end, p port) (verdict.Decision, error) {
	var first verdict.Decision
	var firstSrc, firstDst verdict.Party
	found, many := false, several(src.parties) || several(dst.parties)
	for _, s := range src.parties {
		for _, d := range dst.parties {
			if s.Family != d.Family {
				continue
			}
			if many && s.Endpoint != verdict.None && s.Endpoint == d.Endpoint {
				continue // the replicas of a workload are meant to reach each other
			}
			key := p.in(s.Family)
			if dst.service != nil {
				var ok bool
				if key, ok = j.behindPort(dst.service, d, key); !ok {
					continue
				}
			}
			got, _ := j.table.Decide(j.table.Pair(s, d), key)
			switch {
			case !found:
				first, firstSrc, firstDst, found = got, s, d, true
			case got != first:
				return 0, fmt.Errorf("the flow stands for connections with different verdicts: %s → %s %s, %s → %s %s; name pods or addresses",
					j.name(firstSrc), j.name(firstDst), first, j.name(s), j.name(d), got)
			}
		}
	}
	if found {
		return first, nil
	}
	return 0, j.noConnection(src, dst, p)
}

// several reports whether ps are more than one pod.
func several(ps []verdict.Party) bool {
	return slices.ContainsFunc(ps, func(p verdict.Party) bool { return p.Endpoint != ps[0].Endpoint })
}

// behindPort translates the port of a Service to the port of one of its back
// ends. Other protocols than the Service's pass as they are.
func (j *judge) behindPort(s *model.Service, d verdict.Party, k netset.Key) (netset.Key, bool) {
	switch k.Proto() {
	case netset.TCP, netset.UDP, netset.SCTP:
	default:
		return k, true
	}
	none := &model.Endpoint{}
	if d.Endpoint != verdict.None {
		none = &j.table.Snapshot.Endpoints[d.Endpoint]
	}
	for _, sp := range s.Ports {
		if sp.Proto == k.Proto() && sp.Port == k.Port() {
			n, ok := verdict.TargetPort(sp, none)
			return netset.KeyOf(sp.Proto, n), ok
		}
	}
	return 0, false
}

// noConnection says why nothing was found to judge.
func (j *judge) noConnection(src, dst *end, p port) error {
	if s := dst.service; s != nil {
		if len(dst.parties) == 0 {
			return fmt.Errorf("service %s leads to no pod", s)
		}
		ports := make([]string, len(s.Ports))
		for i, sp := range s.Ports {
			ports[i] = netset.KeyOf(sp.Proto, sp.Port).String()
		}
		return fmt.Errorf("service %s leads nowhere at %s; its ports: %s", s, p.in(netset.V4), strings.Join(ports, ", "))
	}
	return fmt.Errorf("%q and %q have no addresses of one family", src.text, dst.text)
}

func (j *judge) name(p verdict.Party) string {
	switch {
	case p.Endpoint != verdict.None:
		e := &j.table.Snapshot.Endpoints[p.Endpoint]
		if len(e.Addrs) > 1 {
			return fmt.Sprintf("%s (%s)", e, p.Addr)
		}
		return e.String()
	case p.Node != verdict.None:
		return "node/" + j.table.Snapshot.Nodes[p.Node].Name
	case p.Addr.IsValid():
		return p.Addr.String()
	}
	return fmt.Sprintf("external (IPv%d)", p.Family)
}
