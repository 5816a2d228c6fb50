// Package small builds snapshots for tests in a few words.
package small

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
	"picket/internal/verdict"
)

// World is a snapshot in the making; the zero value is empty. Each pod and policy gets its own place
// in the file world.yaml.
type World struct {
	Snap model.Snapshot // so far; to be changed freely before Table
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

func (w *World) origin(path string) model.Origin {
	w.line++
	return model.Origin{Position: diag.Position{File: "world.yaml", Line: w.line}, Path: path}
}

// Namespace adds a namespace with its own label and more, such as "a=b,c=d".
func (w *World) Namespace(name, more string) {
	l := labels(more)
	l["kubernetes.io/metadata.name"] = name
	w.Snap.Namespaces = append(w.Snap.Namespaces, model.Namespace{Name: name, Labels: l, Origin: w.origin("")})
}

// Pod adds the pod namespace/name with labels such as "a=b,c=d" and addresses
// joined by commas. The result is valid until the next pod is added.
func (w *World) Pod(name, label string, addr string, ports ...model.Port) *model.Endpoint {
	ns, name, _ := strings.Cut(name, "/")
	e := model.Endpoint{Namespace: ns, Name: name, Labels: labels(label), Ports: ports, Origin: w.origin("")}
	for a := range strings.SplitSeq(addr, ",") {
		e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
	}
	w.Snap.Endpoints = append(w.Snap.Endpoints, e)
	return &w.Snap.Endpoints[len(w.Snap.Endpoints)-1]
}

// TCP is a container port.
func TCP(name string, n uint16) model.Port {
	return model.Port{Name: name, Proto: netset.TCP, Number: n}
}

// ByLabel selects by labels such as "a=b,c=d".
func ByLabel(s string) selector.Selector { return selector.FromLabels(labels(s)) }

// Pods describes pods: in the namespace, or with "" in the namespaces with the
// labels.
func Pods(namespace, nsLabels, podLabels string) model.Peer {
	t := model.Term{Kind: model.PodTerm, Namespace: namespace, Pods: ByLabel(podLabels)}
	if namespace == "" {
		t.Namespaces = ByLabel(nsLabels)
	}
	return model.Peer{Terms: []model.Term{t}}
}

// Nets describes addresses; open leaves it to the dialect whether they are also
// those of pods.
func Nets(cidr string, open bool) model.Peer {
	return model.Peer{Terms: []model.Term{{
		Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix(cidr)), NetText: cidr, PodsOpen: open,
	}}}
}

// Allow is a rule for a protocol and port range such as "tcp/80", "" for all.
func Allow(port string, peers ...model.Peer) model.Rule {
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

// Deny is a rule for all traffic.
func Deny(peers ...model.Peer) model.Rule {
	r := Allow("", peers...)
	r.Action = model.Deny
	return r
}

// Policy adds a NetworkPolicy for the directions in types, such as "ie".
func (w *World) Policy(name, subject, types string, ingress, egress []model.Rule) {
	ns, short, _ := strings.Cut(name, "/")
	p := model.Policy{
		Kind: "NetworkPolicy", Namespace: ns, Name: short, Origin: w.origin(""),
		Subject: Pods(ns, "", subject).Terms,
		Applies: [2]bool{strings.Contains(types, "i"), strings.Contains(types, "e")},
		Rules:   [2][]model.Rule{w.rules("ingress", ingress), w.rules("egress", egress)},
	}
	w.tier("NetworkPolicy").Policies = append(w.tier("NetworkPolicy").Policies, p)
}

// Cluster adds a ClusterNetworkPolicy for all pods of namespace.
func (w *World) Cluster(tier, name string, order float64, namespace string, ingress, egress []model.Rule) {
	p := model.Policy{
		Kind: "ClusterNetworkPolicy", Name: name, Order: order, Origin: w.origin(""),
		Subject: Pods("", "kubernetes.io/metadata.name="+namespace, "").Terms,
		Applies: [2]bool{len(ingress) > 0, len(egress) > 0},
		Rules:   [2][]model.Rule{w.rules("ingress", ingress), w.rules("egress", egress)},
	}
	w.tier(tier).Policies = append(w.tier(tier).Policies, p)
}

func (w *World) rules(dir string, rules []model.Rule) []model.Rule {
	out := slices.Clone(rules)
	for i := range out {
		out[i].Origin = w.origin(fmt.Sprintf("spec.%s[%d]", dir, i))
	}
	return out
}

func (w *World) tier(name string) *model.Tier {
	if w.Snap.Tiers == nil {
		w.Snap.Tiers = []model.Tier{
			{Name: "Admin", Continue: true},
			{Name: "NetworkPolicy", Union: true, Ports: true},
			{Name: "Baseline", Continue: true},
		}
	}
	for i := range w.Snap.Tiers {
		if w.Snap.Tiers[i].Name == name {
			return &w.Snap.Tiers[i]
		}
	}
	panic("no tier " + name)
}

// Table sorts what has to be and compiles.
func (w *World) Table(t *testing.T, dialect string) *verdict.Table {
	t.Helper()
	d, err := model.DialectByName(dialect)
	if err != nil {
		t.Fatal(err)
	}
	w.tier("Admin")
	s := w.Snap
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
