package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
)

// maxEndpoints bounds what replicas can ask for in all.
const maxEndpoints = 1_000_000

// Build makes the snapshot. The Builder must not be used after it.
func (b *Builder) Build() Result {
	s := &model.Snapshot{Tiers: newTiers(), Ignored: b.ignored}
	s.Nodes = sortedValues(b.nodes, func(n model.Node) string { return n.Name })
	var unusable []string
	if b.unreadable > 0 {
		unusable = append(unusable, b.unreadableText())
	}
	if why := b.endpoints(s); why != "" {
		unusable = append(unusable, why)
	}
	b.buildServices(s)
	if b.opts.Live {
		b.settleAddrs(s)
	} else if why := b.assignAddrs(s); why != "" {
		unusable = append(unusable, why)
	}
	b.buildPolicies(s)
	s.Webhooks = sortedValues(b.webhooks, func(w model.Webhook) string { return w.Name })
	for _, k := range sortedKeyList(b.routes) {
		s.Routes = append(s.Routes, b.routes[k]...)
	}
	b.scrape(s)
	b.buildNamespaces(s)
	s.DualStack = b.dualStack(s)

	b.findings.Sort()
	s.Findings = b.findings
	for i, n := range b.dropped {
		if n > 0 {
			b.diags = append(b.diags, diag.Diagnostic{
				Severity: []diag.Severity{diag.Error, diag.Warning}[i], Message: fmt.Sprintf("%d more are not shown", n),
			})
		}
	}
	b.diags.Sort()
	return Result{Snapshot: s, Diagnostics: b.diags, Unusable: strings.Join(unusable, "; ")}
}

func (b *Builder) unreadableText() string {
	text := b.first.Message
	if p := b.first.Position.String(); p != "" {
		text = p + ": " + text
	}
	if b.unreadable > 1 {
		text += fmt.Sprintf(" (and %d more)", b.unreadable-1)
	}
	return "something that may be a policy could not be read: " + text
}

func sortedValues[V any](m map[string]V, name func(V) string) []V {
	if len(m) == 0 {
		return nil
	}
	out := make([]V, 0, len(m))
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	slices.SortStableFunc(out, func(a, b V) int { return strings.Compare(name(a), name(b)) })
	return slices.Clip(out)
}

func (k key) compare(o key) int {
	return cmp.Or(strings.Compare(k.ns, o.ns), strings.Compare(k.name, o.name))
}

func (k kindKey) compare(o kindKey) int {
	return cmp.Or(k.key.compare(o.key), strings.Compare(k.kind, o.kind))
}

func sortedKeyList[V any](m map[key]V) []key {
	return slices.SortedFunc(maps.Keys(m), key.compare)
}

// endpoints fills in the pods of the input and those that workloads make.
func (b *Builder) endpoints(s *model.Snapshot) (unusable string) {
	controlled := map[kindKey]bool{} // workloads whose pods are in the input
	names := map[key]bool{}          // of pods, for those that workloads make
	if len(b.pods) > 0 {
		s.Endpoints = make([]model.Endpoint, 0, len(b.pods))
	}
	for _, k := range sortedKeyList(b.pods) { // keys are cheaper to sort than endpoints
		p := b.pods[k]
		if len(b.workloads) > 0 {
			names[k] = true
		}
		if p.done {
			b.topOwner(k.ns, p, controlled)
			continue
		}
		e := p.endpoint
		e.Owner = b.topOwner(k.ns, p, controlled)
		if e.Kind == model.HostPod {
			e.Addrs = p.hostIPs
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	var nodes []string
	for _, n := range s.Nodes {
		nodes = append(nodes, n.Name)
	}
	for _, k := range slices.SortedFunc(maps.Keys(b.workloads), kindKey.compare) {
		w := b.workloads[k]
		if controlled[k] || w.finished || b.hasParent(k.ns, w.owner) {
			continue
		}
		n := w.copies
		if k.kind == "DaemonSet" {
			n = max(1, len(nodes))
		}
		if len(s.Endpoints)+n > maxEndpoints {
			return b.tooMany(&w)
		}
		made := w.expand(k.name, nodes)
		for i := 0; slices.ContainsFunc(made, func(e model.Endpoint) bool { return names[key{e.Namespace, e.Name}] }); i++ {
			base := k.name + "-" + strings.ToLower(k.kind)
			if i > 0 {
				base += fmt.Sprintf("-%d", i)
			}
			made = w.expand(base, nodes)
		}
		owner := b.rise(k.ns, model.Owner{Kind: k.kind, Name: k.name}, w.owner)
		for _, e := range made {
			names[key{e.Namespace, e.Name}] = true
			e.Owner = owner
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if n, ok := b.nodes[e.Node]; ok && e.Kind == model.HostPod {
			e.Addrs = onePerFamily(n.Addrs)
		}
	}
	slices.SortFunc(s.Endpoints, func(x, y model.Endpoint) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
	})
	return ""
}

func (b *Builder) tooMany(w *workload) string {
	d := diag.Diagnostic{
		Position: w.o.src.Position("spec.replicas"), Object: w.o.ref(), Path: "spec.replicas",
		Message: fmt.Sprintf("the cluster would have more than %d pods", maxEndpoints),
		Fix:     "lower the number of replicas: one pod of a workload is as good as a million for its policies",
	}
	b.Report(d)
	return d.Message
}

// topOwner returns the workload that a pod belongs to in the end, and marks the
// workloads on the way as having pods.
func (b *Builder) topOwner(ns string, p *pod, controlled map[kindKey]bool) model.Owner {
	r := p.owner
	if r.Name == "" {
		return model.Owner{}
	}
	own := model.Owner{Kind: r.Kind, Name: r.Name}
	k := kindKey{r.Kind, key{ns, r.Name}}
	mark := func(k kindKey) {
		if len(b.workloads) > 0 { // nobody asks otherwise
			controlled[k] = true
		}
	}
	mark(k)
	if w, ok := b.workloads[k]; ok {
		own = b.rise(ns, own, w.owner)
	} else if base, ok := strings.CutSuffix(r.Name, "-"+p.hash); ok && p.hash != "" && r.Kind == "ReplicaSet" {
		own = model.Owner{Kind: "Deployment", Name: base}
	}
	mark(kindKey{own.Kind, key{ns, own.Name}})
	return own
}

// rise goes from a workload to its own controller, if it has one.
func (b *Builder) rise(ns string, own model.Owner, up ownerRef) model.Owner {
	for range 4 { // an owner that owns itself would have no top
		if up.Name == "" {
			break
		}
		own = model.Owner{Kind: up.Kind, Name: up.Name}
		up = b.workloads[kindKey{up.Kind, key{ns, up.Name}}].owner
	}
	return own
}

// hasParent reports whether the workload that r names is in the input: it
// makes the pods then.
func (b *Builder) hasParent(ns string, r ownerRef) bool {
	if r.Name == "" {
		return false
	}
	_, ok := b.workloads[kindKey{r.Kind, key{ns, r.Name}}]
	return ok
}

func (b *Builder) buildServices(s *model.Snapshot) {
	for _, k := range sortedKeyList(b.services) {
		sv := b.services[k].Service
		if !b.services[k].hasSelector {
			sv.Backends = b.backendAddrs(k)
		}
		s.Services = append(s.Services, sv)
	}
	var api []netip.AddrPort
	for _, be := range b.backends[key{"default", "kubernetes"}] {
		for _, p := range be.ports {
			api = append(api, netip.AddrPortFrom(be.addr, p))
		}
	}
	slices.SortFunc(api, netip.AddrPort.Compare)
	s.APIServer = slices.Compact(api)
}

func (b *Builder) backendAddrs(k key) []netip.Addr {
	var out []netip.Addr
	for _, be := range b.backends[k] {
		out = append(out, be.addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func (b *Builder) buildPolicies(s *model.Snapshot) {
	for _, k := range slices.SortedFunc(maps.Keys(b.policies), kindKey.compare) {
		p := b.policies[k]
		t := &s.Tiers[p.tier]
		t.Policies = append(t.Policies, p.Policy)
	}
	for i := range s.Tiers {
		if !s.Tiers[i].Union {
			slices.SortStableFunc(s.Tiers[i].Policies, func(x, y model.Policy) int {
				return cmp.Or(cmp.Compare(x.Order, y.Order), strings.Compare(x.Name, y.Name))
			})
		}
	}
}

// buildNamespaces fills in the namespaces, those that are only used too.
func (b *Builder) buildNamespaces(s *model.Snapshot) {
	use := func(ns string, at model.Origin) {
		if old, ok := b.used[ns]; ns != "" && (!ok || at.Compare(old.Position) < 0) {
			b.used[ns] = at
		}
	}
	for _, e := range s.Endpoints {
		use(e.Namespace, e.Origin)
	}
	for k, p := range b.pods {
		use(k.ns, p.endpoint.Origin)
	}
	for k, w := range b.workloads {
		use(k.ns, w.pattern.endpoint.Origin)
	}
	for _, sv := range s.Services {
		use(sv.Namespace, sv.Origin)
	}
	for _, p := range b.policies {
		use(p.Namespace, p.Origin)
	}
	for _, r := range s.Routes {
		use(r.Namespace, r.Origin)
	}
	all := maps.Clone(b.namespaces)
	for ns, at := range b.used {
		if _, ok := all[ns]; !ok {
			all[ns] = model.Namespace{Name: ns, Labels: map[string]string{metadataName: ns}, Implied: true, Origin: at}
		}
	}
	s.Namespaces = sortedValues(all, func(n model.Namespace) string { return n.Name })
}

// dualStack reports whether the cluster uses both families.
func (b *Builder) dualStack(s *model.Snapshot) bool {
	both := func(addrs []netip.Addr) bool {
		var f [2]bool
		for _, a := range addrs {
			f[netset.FamilyOf(a)/netset.V6] = true // V4/V6 is 0
		}
		return f[0] && f[1]
	}
	if b.opts.DualStack {
		return true
	}
	for _, e := range s.Endpoints {
		if both(e.Addrs) {
			return true
		}
	}
	for _, n := range s.Nodes {
		if both(n.Addrs) {
			return true
		}
	}
	return slices.ContainsFunc(s.Services, func(sv model.Service) bool { return both(sv.ClusterIPs) })
}

// scrape adds the ports that Services' annotations and monitors ask to scrape.
func (b *Builder) scrape(s *model.Snapshot) {
	if len(b.services)+len(b.monitors) == 0 {
		return
	}
	byNS := map[string][]int{}
	for i, e := range s.Endpoints {
		byNS[e.Namespace] = append(byNS[e.Namespace], i)
	}
	add := func(i int, ports []model.Port) {
		e := &s.Endpoints[i]
		e.Scrape = append(slices.Clone(e.Scrape), ports...)
		slices.SortFunc(e.Scrape, comparePorts)
		e.Scrape = slices.Compact(e.Scrape)
	}
	for _, k := range sortedKeyList(b.services) {
		sv := b.services[k]
		if sv.hasSelector && sv.annotations["prometheus.io/scrape"] == "true" {
			for _, i := range byNS[k.ns] {
				if sv.Selector.Matches(s.Endpoints[i].Labels) {
					add(i, sv.annotated(s.Endpoints[i].Ports))
				}
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(b.monitors), kindKey.compare) {
		b.scrapeMonitor(s, b.monitors[k], byNS, add)
	}
}

func (b *Builder) scrapeMonitor(s *model.Snapshot, m monitor, byNS map[string][]int, add func(int, []model.Port)) {
	in := func(ns string) bool { return len(m.namespaces) == 0 || slices.Contains(m.namespaces, ns) }
	if !m.service {
		for i, e := range s.Endpoints {
			if in(e.Namespace) && m.sel.Matches(e.Labels) {
				for _, p := range m.ports {
					add(i, p.resolve(e.Ports, nil))
				}
			}
		}
		return
	}
	for _, k := range sortedKeyList(b.services) {
		sv := b.services[k]
		if !in(k.ns) || !sv.hasSelector || !m.sel.Matches(sv.labels) {
			continue
		}
		for _, i := range byNS[k.ns] {
			if sv.Selector.Matches(s.Endpoints[i].Labels) {
				for _, p := range m.ports {
					add(i, p.resolve(s.Endpoints[i].Ports, &sv.Service))
				}
			}
		}
	}
}

// annotated returns the ports that the Service's annotations ask to scrape.
func (sv *service) annotated(pod []model.Port) []model.Port {
	var targets []model.Port
	for _, sp := range sv.Ports {
		target := intstr.FromString(sp.TargetName)
		if sp.TargetName == "" {
			target = intstr.FromInt32(int32(sp.TargetPort))
		}
		targets = append(targets, monitorPort{target: target}.resolve(pod, nil)...)
	}
	if _, ok := sv.annotations["prometheus.io/port"]; ok {
		targets = pod
	}
	return scrapePorts(sv.annotations, targets)
}

func comparePorts(a, b model.Port) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Number, b.Number), strings.Compare(a.Name, b.Name))
}
