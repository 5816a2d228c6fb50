package lint

import (
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// services indexes what Services lead to.
type services struct {
	clusterIPs []netip.Addr // sorted
	backends   [][]int32    // by service; ascending
	of         map[int32][]int
	byPort     map[netset.Key][]int // services with a port that leads to another one
}

func (l *linter) svc() *services {
	if l.services != nil {
		return l.services
	}
	x := &services{of: map[int32][]int{}, byPort: map[netset.Key][]int{}, backends: make([][]int32, len(l.s.Services))}
	l.services = x
	for i := range l.s.Services {
		s := &l.s.Services[i]
		x.clusterIPs = append(x.clusterIPs, s.ClusterIPs...)
		if n := l.namespaces[s.Namespace]; n != nil {
			for e := n.from; e < n.to; e++ {
				if s.Selector.Matches(l.s.Endpoints[e].Labels) {
					x.backends[i] = append(x.backends[i], int32(e))
				}
			}
		}
		for _, a := range s.Backends {
			if o, ok := l.t.Owner[a]; ok && o.Endpoint != verdict.None {
				x.backends[i] = append(x.backends[i], o.Endpoint)
			}
		}
		slices.Sort(x.backends[i])
		x.backends[i] = slices.Compact(x.backends[i])
		for _, e := range x.backends[i] {
			x.of[e] = append(x.of[e], i)
		}
		for _, p := range s.Ports {
			k := netset.KeyOf(p.Proto, p.Port)
			if !slices.Contains(x.byPort[k], i) {
				x.byPort[k] = append(x.byPort[k], i)
			}
		}
	}
	slices.SortFunc(x.clusterIPs, netip.Addr.Compare)
	return x
}

// listens reports whether endpoint e declares that it listens on k: as a
// container port, or as the target of a Service.
func (l *linter) listens(e int32, k netset.Key) bool {
	for _, c := range l.s.Endpoints[e].Ports {
		if netset.KeyOf(c.Proto, c.Number) == k {
			return true
		}
	}
	for _, i := range l.svc().of[e] {
		for _, p := range l.s.Services[i].Ports {
			if n, ok := verdict.TargetPort(p, &l.s.Endpoints[e]); ok && netset.KeyOf(p.Proto, n) == k {
				return true
			}
		}
	}
	return false
}

// declares reports whether anything says which ports endpoint e listens on.
func (l *linter) declares(e int32) bool {
	return len(l.s.Endpoints[e].Ports) > 0
}

// sampler picks one endpoint of each workload.
type sampler struct {
	seen map[string]bool
}

// fresh reports whether no endpoint of the same workload was seen before: pods
// of one workload have equal ports.
func (s *sampler) fresh(e *model.Endpoint) bool {
	k := e.Namespace + "/" + e.Owner.Kind + "/" + e.Owner.Name
	if e.Owner.Name == "" {
		k += e.Name
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	if s.seen[k] {
		return false
	}
	s.seen[k] = true
	return true
}
