package verdict

import (
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
)

// Lifeline is traffic that the cluster, or an endpoint in it, needs to work
// whatever its applications do: name resolution, the API server, admission
// webhooks, monitoring, and traffic that an Ingress leads in.
//
// Lifelines are recognised by the conventions that clusters follow (names and
// labels, see Lifelines); one that follows none is not seen.
type Lifeline struct {
	Kind string // "dns", "apiserver", "webhook", "scrape" or "ingress"
	Name string // what it is, for people: "DNS (kube-system/kube-dns)"

	// Needs tells who needs the lifeline. Egress: each of From must reach at
	// least one of To. Ingress: each of To must be reached from at least one of
	// From, or from all of them if Every is set.
	Needs model.Direction
	Every bool

	From   []Party
	To     []LifelineEnd
	Origin model.Origin // of the object that asks for it; zero if none does
}

// LifelineEnd is the responder of a lifeline and what it must be reached on.
// The keys are ports of the pod, after Service translation.
type LifelineEnd struct {
	Party
	Keys []netset.Key // ascending; all are needed
}

// The kinds of lifeline.
const (
	LifelineDNS       = "dns"
	LifelineAPIServer = "apiserver"
	LifelineWebhook   = "webhook"
	LifelineScrape    = "scrape"
	LifelineIngress   = "ingress"
)

// Lifelines finds the lifelines of the snapshot, in the order of the kinds
// above, and by name within a kind:
//
//   - dns: every pod but the DNS pods themselves to the back ends of Service
//     kube-dns or coredns in kube-system (dns-default in openshift-dns), or to
//     the pods in kube-system that are labelled k8s-app=kube-dns, k8s-app=coredns
//     or app.kubernetes.io/name=coredns; UDP and TCP of the target port;
//   - apiserver: every pod that mounts a token to Snapshot.APIServer, or to the
//     back ends of Service default/kubernetes;
//   - webhook: the control-plane nodes, or an outside host if the snapshot has
//     no such node, to each back end of the webhook;
//   - scrape: pods labelled app.kubernetes.io/name=prometheus or app=prometheus
//     to the ports that endpoints ask to have scraped;
//   - ingress: the pods of a known ingress controller to each route's back ends.
//
// A lifeline one end of which is not in the snapshot is left out: nothing is
// known of it. Pods on the host network need nothing, since policies do not
// guard them.
func (t *Table) Lifelines() []Lifeline {
	var out []Lifeline
	for _, find := range []func() []Lifeline{t.dnsLine, t.apiServerLine, t.webhookLines, t.scrapeLine, t.ingressLines} {
		for _, l := range find() {
			if len(l.From) > 0 && len(l.To) > 0 {
				out = append(out, l)
			}
		}
	}
	return out
}

// LifelineCut returns the endpoints for which the lifeline is cut, ascending.
// An endpoint is cut if for some key there is no other end that it works with.
// What is undefined does not work. A path that works to one of several back
// ends counts as working, although a Service would lead some connections to
// the others; and it is enough that one address family works.
func (t *Table) LifelineCut(l Lifeline) []int32 {
	var out []int32
	for _, e := range t.LifelineNeeds(l) {
		if len(t.LifelineMissing(l, e)) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// LifelineNeeds returns the endpoints that need the lifeline, ascending.
func (t *Table) LifelineNeeds(l Lifeline) []int32 {
	var out []int32
	if l.Needs == model.Egress {
		for _, p := range l.From {
			out = append(out, p.Endpoint)
		}
	} else {
		for _, p := range l.To {
			out = append(out, p.Endpoint)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) > 0 && out[0] == None {
		out = out[1:]
	}
	return out
}

// LifelineMissing returns the keys of the lifeline for which endpoint e has no
// working path, ascending; none if e does not need the lifeline.
func (t *Table) LifelineMissing(l Lifeline, e int32) []netset.Key {
	var all []netset.Key
	works := map[netset.Key]bool{}
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		if l.Needs == model.Egress {
			src, ok := t.EndpointParty(int(e), f)
			for _, to := range l.To {
				all = append(all, to.Keys...)
				if !ok || to.Family != f {
					continue
				}
				pair := t.Pair(src, to.Party)
				for _, k := range to.Keys {
					if d, _ := t.Decide(pair, k); d == Allow {
						works[k] = true
					}
				}
			}
			continue
		}
		for _, to := range l.To {
			if to.Endpoint == e && to.Family == f {
				all = append(all, to.Keys...)
				for _, k := range to.Keys {
					if t.lineWorks(l, to.Party, k) {
						works[k] = true
					}
				}
			}
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(k netset.Key) bool { return works[k] })
}

// lineWorks reports whether dst is reached on k from one of the lifeline's
// other ends of the same family, or from all if it must be.
func (t *Table) lineWorks(l Lifeline, dst Party, k netset.Key) bool {
	any, all := false, true
	for _, src := range l.From {
		if src.Family != dst.Family {
			continue
		}
		if d, _ := t.Decide(t.Pair(src, dst), k); d == Allow {
			any = true
		} else {
			all = false
		}
	}
	if l.Every {
		return any && all
	}
	return any
}

func (t *Table) dnsLine() []Lifeline {
	l := Lifeline{Kind: LifelineDNS, Needs: model.Egress}
	servers := map[int32]bool{}
	for i := range t.Snapshot.Services {
		s := &t.Snapshot.Services[i]
		switch s.String() {
		case "kube-system/kube-dns", "kube-system/coredns", "openshift-dns/dns-default":
		default:
			continue
		}
		dns := *s
		dns.Ports = slices.DeleteFunc(slices.Clone(s.Ports), func(p model.ServicePort) bool { return p.Port != 53 })
		if ends := t.serviceEnds(&dns, nil); len(ends) > 0 && l.Name == "" {
			l.Name, l.To, l.Origin = "DNS ("+s.String()+")", ends, s.Origin
		}
	}
	if l.Name == "" {
		l.Name = "DNS (pods of kube-system)"
		keys := []netset.Key{netset.KeyOf(netset.TCP, 53), netset.KeyOf(netset.UDP, 53)}
		for i := range t.Snapshot.Endpoints {
			e := &t.Snapshot.Endpoints[i]
			app := e.Labels["k8s-app"]
			if e.Namespace == "kube-system" && (app == "kube-dns" || app == "coredns" || e.Labels["app.kubernetes.io/name"] == "coredns") {
				l.To = append(l.To, t.ends(int32(i), keys)...)
			}
		}
	}
	for _, to := range l.To {
		servers[to.Endpoint] = true
	}
	l.From = t.podParties(func(i int, _ *model.Endpoint) bool { return !servers[int32(i)] })
	return []Lifeline{l}
}

func (t *Table) apiServerLine() []Lifeline {
	l := Lifeline{Kind: LifelineAPIServer, Name: "API server", Needs: model.Egress}
	for _, a := range t.Snapshot.APIServer {
		l.To = append(l.To, LifelineEnd{t.AddrParty(a.Addr()), []netset.Key{netset.KeyOf(netset.TCP, a.Port())}})
	}
	if len(l.To) == 0 {
		if s := t.service("default", "kubernetes"); s != nil {
			l.To, l.Origin = t.serviceEnds(s, nil), s.Origin
		}
	}
	l.From = t.podParties(func(_ int, e *model.Endpoint) bool { return e.MountsToken })
	return []Lifeline{l}
}

func (t *Table) webhookLines() []Lifeline {
	if len(t.Snapshot.Webhooks) == 0 {
		return nil
	}
	var from []Party
	for i := range t.Snapshot.Nodes {
		for _, f := range t.Families() {
			if p, ok := t.NodeParty(i, f); ok && t.Snapshot.Nodes[i].ControlPlane {
				from = append(from, p)
			}
		}
	}
	if len(from) == 0 {
		for _, f := range t.Families() {
			from = append(from, t.External(f))
		}
	}
	var out []Lifeline
	for _, w := range t.Snapshot.Webhooks {
		s := t.service(w.Namespace, w.Service)
		if s == nil {
			continue
		}
		out = append(out, Lifeline{
			Kind: LifelineWebhook, Name: "admission webhook " + w.Name, Needs: model.Ingress, Every: true,
			From: from, To: t.serviceEnds(s, func(p model.ServicePort) bool { return p.Port == w.Port }), Origin: w.Origin,
		})
	}
	return out
}

func (t *Table) scrapeLine() []Lifeline {
	l := Lifeline{Kind: LifelineScrape, Name: "Prometheus scrape", Needs: model.Ingress}
	l.From = t.parties(func(_ int, e *model.Endpoint) bool {
		return e.Labels["app.kubernetes.io/name"] == "prometheus" || e.Labels["app"] == "prometheus"
	})
	for i := range t.Snapshot.Endpoints {
		e := &t.Snapshot.Endpoints[i]
		if e.Kind != model.Pod || len(e.Scrape) == 0 {
			continue
		}
		var keys []netset.Key
		for _, p := range e.Scrape {
			keys = append(keys, netset.KeyOf(p.Proto, p.Number))
		}
		l.To = append(l.To, t.ends(int32(i), keys)...)
	}
	return []Lifeline{l}
}

// controllers are the values of app.kubernetes.io/name that ingress
// controllers have in their charts.
var controllers = []string{"ingress-nginx", "traefik", "haproxy-ingress", "contour"}

func (t *Table) ingressLines() []Lifeline {
	from := t.parties(func(_ int, e *model.Endpoint) bool {
		return e.Namespace == "ingress-nginx" || slices.Contains(controllers, e.Labels["app.kubernetes.io/name"])
	})
	var out []Lifeline
	for _, r := range t.Snapshot.Routes {
		s := t.service(r.Namespace, r.Service)
		if s == nil {
			continue
		}
		out = append(out, Lifeline{
			Kind: LifelineIngress, Name: "Ingress " + r.Namespace + "/" + r.Name + " to service " + r.Service, Needs: model.Ingress,
			From: from, Origin: r.Origin,
			To: t.serviceEnds(s, func(p model.ServicePort) bool {
				return r.PortName != "" && p.Name == r.PortName || r.PortName == "" && p.Port == r.Port
			}),
		})
	}
	slices.SortStableFunc(out, func(a, b Lifeline) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (t *Table) service(namespace, name string) *model.Service {
	for i := range t.Snapshot.Services {
		if s := &t.Snapshot.Services[i]; s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}

// serviceEnds returns the back ends of s with the pod ports that those of its
// ports lead to for which ok returns true; a nil ok takes every port.
func (t *Table) serviceEnds(s *model.Service, ok func(model.ServicePort) bool) []LifelineEnd {
	var out []LifelineEnd
	for _, i := range t.Backends(s) {
		var keys []netset.Key
		for _, p := range s.Ports {
			if n, found := TargetPort(p, &t.Snapshot.Endpoints[i]); found && (ok == nil || ok(p)) {
				keys = append(keys, netset.KeyOf(p.Proto, n))
			}
		}
		out = append(out, t.ends(i, keys)...)
	}
	for _, a := range s.Backends {
		if o, owned := t.Owner[a]; owned && o.Endpoint != None {
			continue
		}
		var keys []netset.Key
		for _, p := range s.Ports {
			if p.TargetName == "" && (ok == nil || ok(p)) {
				keys = append(keys, netset.KeyOf(p.Proto, p.TargetPort))
			}
		}
		out = append(out, t.end(t.AddrParty(a), keys)...)
	}
	return out
}

// ends returns endpoint i by its addresses; nothing if there is no key.
func (t *Table) ends(i int32, keys []netset.Key) []LifelineEnd {
	var out []LifelineEnd
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		if p, ok := t.EndpointParty(int(i), f); ok {
			out = append(out, t.end(p, keys)...)
		}
	}
	return out
}

func (t *Table) end(p Party, keys []netset.Key) []LifelineEnd {
	if len(keys) == 0 {
		return nil
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return []LifelineEnd{{p, slices.Compact(keys)}}
}

// podParties returns the parties of the pods that want picks and that policies
// can guard.
func (t *Table) podParties(want func(int, *model.Endpoint) bool) []Party {
	return t.parties(func(i int, e *model.Endpoint) bool { return e.Kind == model.Pod && want(i, e) })
}

// parties returns the parties of the endpoints that want picks, by endpoint
// and family.
func (t *Table) parties(want func(int, *model.Endpoint) bool) []Party {
	var out []Party
	for i := range t.Snapshot.Endpoints {
		if !want(i, &t.Snapshot.Endpoints[i]) {
			continue
		}
		for _, f := range []netset.Family{netset.V4, netset.V6} {
			if p, ok := t.EndpointParty(i, f); ok {
				out = append(out, p)
			}
		}
	}
	return out
}
