package matrix

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

// cluster collects what a test's snapshot is made of.
type cluster struct {
	s   model.Snapshot
	seq byte
}

func newCluster() *cluster {
	return &cluster{s: model.Snapshot{Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Ports: true}}}}
}

func labels(s string) map[string]string {
	out := map[string]string{}
	for _, kv := range strings.Fields(s) {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

func (c *cluster) namespace(name, lbls string) {
	l := labels(lbls)
	l["kubernetes.io/metadata.name"] = name
	c.s.Namespaces = append(c.s.Namespaces, model.Namespace{Name: name, Labels: l})
}

// pod adds namespace/name with labels, and an owner "Kind/name" or "".
func (c *cluster) pod(namespace, name, lbls, owner string) *model.Endpoint {
	c.seq++
	e := model.Endpoint{Namespace: namespace, Name: name, Labels: labels(lbls), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, c.seq})}}
	e.Owner.Kind, e.Owner.Name, _ = strings.Cut(owner, "/")
	c.s.Endpoints = append(c.s.Endpoints, e)
	return &c.s.Endpoints[len(c.s.Endpoints)-1]
}

func podsIn(namespace, lbls string) model.Term {
	return model.Term{Kind: model.PodTerm, Namespace: namespace, Pods: selector.FromLabels(labels(lbls))}
}

func namespacesWith(lbls string) model.Term {
	return model.Term{Kind: model.PodTerm, Namespaces: selector.FromLabels(labels(lbls)), Pods: selector.Everything()}
}

func nets(cidr string, except ...string) model.Term {
	t := model.Term{Kind: model.NetTerm, PodsOpen: true, Nets: netset.FromPrefix(netip.MustParsePrefix(cidr)), NetText: cidr}
	for _, e := range except {
		t.Nets = t.Nets.Subtract(netset.FromPrefix(netip.MustParsePrefix(e)))
		t.NetText += " except " + e
	}
	return t
}

// allow is a rule for peers, each a single term, and ports such as "tcp/80";
// no peers or no ports means any.
func allow(ports string, peers ...model.Term) model.Rule {
	r := model.Rule{Action: model.Allow, AnyPeer: len(peers) == 0, AnyPort: ports == ""}
	for _, p := range peers {
		r.Peers = append(r.Peers, model.Peer{Terms: []model.Term{p}})
	}
	for _, p := range strings.Fields(ports) {
		v, err := verdict.ParsePort(p)
		if err != nil {
			panic(err)
		}
		k := v.In(netset.V4)
		r.Ports = append(r.Ports, model.PortMatch{Traffic: netset.Span(k, k), Text: p})
	}
	return r
}

// policy adds a NetworkPolicy. nil rules of a direction leave it alone, empty
// ones isolate.
func (c *cluster) policy(namespace, name, subject string, ingress, egress []model.Rule) {
	p := model.Policy{Kind: "NetworkPolicy", Namespace: namespace, Name: name, Subject: []model.Term{podsIn(namespace, subject)}}
	p.Applies = [2]bool{model.Ingress: ingress != nil, model.Egress: egress != nil}
	p.Rules = [2][]model.Rule{model.Ingress: ingress, model.Egress: egress}
	p.Origin.Position = diag.Position{File: "policies/" + namespace + ".yaml", Line: 10 * (1 + len(c.s.Tiers[0].Policies)), Col: 1}
	for d := range p.Rules {
		for i := range p.Rules[d] {
			p.Rules[d][i].Origin = model.Origin{
				Position: diag.Position{File: p.Origin.File, Line: p.Origin.Line + 3 + i, Col: 5},
				Path:     fmt.Sprintf("spec.%s[%d]", model.Direction(d), i),
			}
		}
	}
	c.s.Tiers[0].Policies = append(c.s.Tiers[0].Policies, p)
}

// table sorts and compiles.
func (c *cluster) table(t testing.TB, dialect string) *verdict.Table {
	t.Helper()
	d, err := model.DialectByName(dialect)
	if err != nil {
		t.Fatal(err)
	}
	s := c.s
	slices.SortFunc(s.Namespaces, func(a, b model.Namespace) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Nodes, func(a, b model.Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Endpoints, func(a, b model.Endpoint) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	for i := range s.Tiers {
		slices.SortStableFunc(s.Tiers[i].Policies, func(a, b model.Policy) int {
			return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
		})
	}
	tab := compile.Compile(&s, d)
	if err := tab.Validate(); err != nil {
		t.Fatal(err)
	}
	return tab
}

var none = []model.Rule{}

// tutorial is the cluster after the tutorial's last step.
func tutorial() *cluster {
	c := newCluster()
	c.namespace("default", "")
	c.namespace("kube-system", "")
	c.pod("default", "trouble1", "run=trouble1", "")
	c.pod("default", "trouble2", "run=trouble2", "")
	c.pod("kube-system", "coredns", "k8s-app=kube-dns", "")
	for _, ns := range []string{"dev", "qa", "prod"} {
		c.namespace(ns, "nsp="+ns)
		c.pod(ns, ns+"1", "ns="+ns, "")
		c.pod(ns, ns+"2", "ns="+ns, "")
		c.policy(ns, "deny-all-traffic-"+ns, "", none, none)
	}
	c.policy("default", "deny-ingress", "run=trouble1", none, nil)
	c.policy("default", "deny-egress", "run=trouble1", nil, none)
	c.policy("prod", "allow-traffic-within-prod-namespace", "ns=prod",
		[]model.Rule{allow("", podsIn("prod", "ns=prod"))}, []model.Rule{allow("", podsIn("prod", "ns=prod"))})
	c.policy("prod", "allow-traffic-from-dev-to-prod", "ns=prod",
		[]model.Rule{allow("", namespacesWith("nsp=dev"), podsIn("prod", "ns=dev"))}, nil)
	c.policy("dev", "allow-traffic-from-dev-to-prod", "ns=dev",
		nil, []model.Rule{allow("", namespacesWith("nsp=prod"), podsIn("dev", "ns=prod"))})
	c.policy("qa", "allow-traffic-from-prod-to-qa-on-tcp8888", "ns=qa",
		[]model.Rule{allow("tcp/8888", namespacesWith("nsp=prod"), podsIn("qa", "ns=prod"))}, nil)
	c.policy("prod", "allow-traffic-from-prod-to-qa-on-tcp8888", "ns=prod",
		nil, []model.Rule{allow("tcp/8888", namespacesWith("nsp=qa"), podsIn("prod", "ns=qa"))})
	c.policy("prod", "allow-egress-to-coredns-tcp53", "ns=prod",
		nil, []model.Rule{allow("udp/53 tcp/53 tcp/9153", namespacesWith("kubernetes.io/metadata.name=kube-system"), podsIn("prod", "k8s-app=kube-dns"))})
	return c
}

func build(t testing.TB, tab *verdict.Table, o Options) *Report {
	t.Helper()
	r, err := Build(tab, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refs(t testing.TB, tab *verdict.Table, names ...string) []verdict.Ref {
	t.Helper()
	var out []verdict.Ref
	for _, n := range names {
		r, err := tab.Resolve(n, "")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func portsOf(t testing.TB, names ...string) []verdict.Port {
	t.Helper()
	var out []verdict.Port
	for _, n := range names {
		p, err := verdict.ParsePort(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// hostile is a cluster of names that try to leave their place. The API server
// allows none of them, but files are read before it sees them.
func hostile() *cluster {
	c := newCluster()
	evil := `</script><script>document.title='owned'</script>`
	c.namespace(`"><img src=x onerror=document.title='owned'>`, "")
	c.pod(`"><img src=x onerror=document.title='owned'>`, evil, "app=web", "")
	c.pod(`"><img src=x onerror=document.title='owned'>`, "a\\\"b\n'$(reboot)'\x1b[2J\u2028<!--", "app=db", "Deployment/"+evil)
	c.policy(`"><img src=x onerror=document.title='owned'>`, evil+"<!--", "app=db", []model.Rule{allow("tcp/5432", podsIn(`"><img src=x onerror=document.title='owned'>`, "app=web"))}, none)
	c.s.Tiers[0].Policies[0].Rules[0][0].Name = "<b>" + evil
	return c
}
