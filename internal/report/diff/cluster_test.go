package diff

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/term"
	"picket/internal/verdict"
)

// world builds snapshots in a few words. Each pod and policy gets its own place
// in the file world.yaml.
type world struct {
	snap model.Snapshot
	line int
}

func labels(s string) map[string]string {
	out := map[string]string{}
	for kv := range strings.SplitSeq(s, ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			out[k] = v
		}
	}
	return out
}

func (w *world) origin(path string) model.Origin {
	w.line++
	return model.Origin{Position: diag.Position{File: "world.yaml", Line: w.line}, Path: path}
}

func (w *world) namespace(name, more string) {
	l := labels(more)
	l["kubernetes.io/metadata.name"] = name
	w.snap.Namespaces = append(w.snap.Namespaces, model.Namespace{Name: name, Labels: l, Origin: w.origin("")})
}

func (w *world) pod(name, label string, addr string, ports ...model.Port) *model.Endpoint {
	ns, name, _ := strings.Cut(name, "/")
	e := model.Endpoint{Namespace: ns, Name: name, Labels: labels(label), Ports: ports, Origin: w.origin("")}
	for a := range strings.SplitSeq(addr, ",") {
		e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
	}
	w.snap.Endpoints = append(w.snap.Endpoints, e)
	return &w.snap.Endpoints[len(w.snap.Endpoints)-1]
}

func tcp(name string, n uint16) model.Port {
	return model.Port{Name: name, Proto: netset.TCP, Number: n}
}

func byLabel(s string) selector.Selector { return selector.FromLabels(labels(s)) }

// pods describes pods: in the namespace, or with "" in the namespaces with the
// labels.
func pods(namespace, nsLabels, podLabels string) model.Peer {
	t := model.Term{Kind: model.PodTerm, Namespace: namespace, Pods: byLabel(podLabels)}
	if namespace == "" {
		t.Namespaces = byLabel(nsLabels)
	}
	return model.Peer{Terms: []model.Term{t}}
}

func nets(cidr string, open bool) model.Peer {
	return model.Peer{Terms: []model.Term{{
		Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix(cidr)), NetText: cidr, PodsOpen: open,
	}}}
}

// allow is a rule for a protocol and port range such as "tcp/80", "" for all.
func allow(port string, peers ...model.Peer) model.Rule {
	r := model.Rule{Action: model.Allow, Peers: peers, AnyPeer: len(peers) == 0, AnyPort: port == ""}
	if port != "" {
		p, err := verdict.ParsePort(port)
		if err != nil {
			panic(err)
		}
		k := p.In(netset.V4)
		r.Ports = []model.PortMatch{{Traffic: netset.Span(k, k), Text: port}}
	}
	return r
}

func deny(peers ...model.Peer) model.Rule {
	r := allow("", peers...)
	r.Action = model.Deny
	return r
}

// policy adds a NetworkPolicy for the directions in types, such as "ie".
func (w *world) policy(name, subject, types string, ingress, egress []model.Rule) {
	ns, short, _ := strings.Cut(name, "/")
	p := model.Policy{
		Kind: "NetworkPolicy", Namespace: ns, Name: short, Origin: w.origin(""),
		Subject: pods(ns, "", subject).Terms,
		Applies: [2]bool{strings.Contains(types, "i"), strings.Contains(types, "e")},
		Rules:   [2][]model.Rule{w.rules("ingress", ingress), w.rules("egress", egress)},
	}
	w.tier("NetworkPolicy").Policies = append(w.tier("NetworkPolicy").Policies, p)
}

// cluster adds a ClusterNetworkPolicy for all pods of namespace.
func (w *world) cluster(tier, name string, order float64, namespace string, ingress, egress []model.Rule) {
	p := model.Policy{
		Kind: "ClusterNetworkPolicy", Name: name, Order: order, Origin: w.origin(""),
		Subject: pods("", "kubernetes.io/metadata.name="+namespace, "").Terms,
		Applies: [2]bool{len(ingress) > 0, len(egress) > 0},
		Rules:   [2][]model.Rule{w.rules("ingress", ingress), w.rules("egress", egress)},
	}
	w.tier(tier).Policies = append(w.tier(tier).Policies, p)
}

func (w *world) rules(dir string, rules []model.Rule) []model.Rule {
	out := slices.Clone(rules)
	for i := range out {
		out[i].Origin = w.origin(fmt.Sprintf("spec.%s[%d]", dir, i))
	}
	return out
}

func (w *world) tier(name string) *model.Tier {
	if w.snap.Tiers == nil {
		w.snap.Tiers = []model.Tier{
			{Name: "Admin", Continue: true},
			{Name: "NetworkPolicy", Union: true, Ports: true},
			{Name: "Baseline", Continue: true},
		}
	}
	for i := range w.snap.Tiers {
		if w.snap.Tiers[i].Name == name {
			return &w.snap.Tiers[i]
		}
	}
	panic("no tier " + name)
}

// table sorts what has to be and compiles.
func (w *world) table(t *testing.T, dialect string) *verdict.Table {
	t.Helper()
	d, err := model.DialectByName(dialect)
	if err != nil {
		t.Fatal(err)
	}
	w.tier("Admin")
	s := w.snap
	slices.SortFunc(s.Namespaces, func(a, b model.Namespace) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Endpoints, func(a, b model.Endpoint) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	table := compile.Compile(&s, d)
	if err := table.Validate(); err != nil {
		t.Fatal(err)
	}
	return table
}

// compare compares two worlds and returns the report and its text.
func compare(t *testing.T, before, after *world, o Options) (*Report, string) {
	t.Helper()
	r, err := Build(before.table(t, "picket"), after.table(t, "picket"), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteText(term.Fixed(&b, false, 0)); err != nil {
		t.Fatal(err)
	}
	return r, b.String()
}

// has fails for each piece that the text does not hold.
func has(t *testing.T, text string, pieces ...string) {
	t.Helper()
	for _, p := range pieces {
		if !strings.Contains(text, p) {
			t.Errorf("the text lacks %q", p)
		}
	}
	if t.Failed() {
		t.Logf("text:\n%s", text)
	}
}
