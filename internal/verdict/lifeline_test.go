package verdict_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

func label(k, v string) selector.Selector { return selector.FromLabels(map[string]string{k: v}) }

func pod(namespace, name, app, addr string) model.Endpoint {
	return model.Endpoint{
		Namespace: namespace, Name: name, Labels: map[string]string{"app": app}, Node: "n2",
		Addrs: []netip.Addr{netip.MustParseAddr(addr)}, MountsToken: true,
	}
}

// closed isolates the pods of an app, but for rules.
func closed(namespace, name, app string, ingress, egress []model.Rule) model.Policy {
	return model.Policy{
		Kind: "NetworkPolicy", Namespace: namespace, Name: name,
		Subject: []model.Term{{Kind: model.PodTerm, Namespace: namespace, Pods: label("app", app)}},
		Applies: [2]bool{true, true}, Rules: [2][]model.Rule{ingress, egress},
	}
}

func anyone(k netset.Key) []model.Rule {
	return []model.Rule{{Action: model.Allow, AnyPeer: true, Ports: []model.PortMatch{{Traffic: netset.Span(k, k)}}}}
}

func service(namespace, name, app string, ports ...model.ServicePort) model.Service {
	return model.Service{Namespace: namespace, Name: name, Selector: label("app", app), Ports: ports, Type: "ClusterIP"}
}

// lines is a cluster with every kind of lifeline. The pods of shop are
// isolated: web may ask DNS over UDP and is open on 8080, db is shut off.
func lines() *model.Snapshot {
	dns := pod("kube-system", "dns", "dns", "10.0.0.1")
	dns.Labels["k8s-app"] = "kube-dns"
	db := pod("shop", "db", "db", "10.0.1.1")
	db.Scrape = []model.Port{{Proto: netset.TCP, Number: 9187}}
	web := pod("shop", "web", "web", "10.0.1.2")
	web.Ports = []model.Port{{Name: "http", Proto: netset.TCP, Number: 8080}}
	host := pod("shop", "xhost", "host", "192.168.0.2")
	host.Kind = model.HostPod
	udp := netset.KeyOf(netset.UDP, 5353)
	return &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "ingress-nginx"}, {Name: "kube-system"}, {Name: "monitoring"}, {Name: "shop"}},
		Nodes: []model.Node{
			{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}, ControlPlane: true},
			{Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.2")}},
		},
		Endpoints: []model.Endpoint{
			pod("ingress-nginx", "controller", "nginx", "10.0.3.1"), dns,
			pod("monitoring", "prometheus", "prometheus", "10.0.2.1"), db, web, host,
		},
		Services: []model.Service{
			service("kube-system", "kube-dns", "dns",
				model.ServicePort{Proto: netset.UDP, Port: 53, TargetPort: 5353}, model.ServicePort{Proto: netset.TCP, Port: 53, TargetPort: 5353},
				model.ServicePort{Proto: netset.TCP, Port: 9153, TargetPort: 9153}),
			service("shop", "web", "web", model.ServicePort{Name: "web", Proto: netset.TCP, Port: 80, TargetName: "http"}),
		},
		Webhooks: []model.Webhook{
			{Name: "policy/check", Namespace: "shop", Service: "web", Port: 80},
			{Name: "policy/gone", Namespace: "shop", Service: "gone", Port: 80},
		},
		Routes:    []model.Route{{Namespace: "shop", Name: "site", Service: "web", PortName: "web"}},
		APIServer: []netip.AddrPort{netip.MustParseAddrPort("192.168.0.1:6443")},
		Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Ports: true, Policies: []model.Policy{
			closed("shop", "db", "db", nil, nil),
			closed("shop", "web", "web", anyone(netset.KeyOf(netset.TCP, 8080)), anyone(udp)),
		}}},
	}
}

// report says each lifeline and for whom it is cut.
func report(t *verdict.Table) []string {
	name := func(p verdict.Party) string {
		switch {
		case p.Endpoint != verdict.None:
			return t.Snapshot.Endpoints[p.Endpoint].Name
		case p.Node != verdict.None:
			return "node " + t.Snapshot.Nodes[p.Node].Name
		}
		return "outside"
	}
	var out []string
	for _, l := range t.Lifelines() {
		var from, to, cut []string
		for _, p := range l.From {
			from = append(from, name(p))
		}
		for _, p := range l.To {
			to = append(to, fmt.Sprint(name(p.Party), p.Keys))
		}
		for _, e := range t.LifelineCut(l) {
			cut = append(cut, fmt.Sprint(t.Snapshot.Endpoints[e].Name, t.LifelineMissing(l, e)))
		}
		out = append(out, fmt.Sprintf("%s: %s: %s > %s, cut: %s", l.Kind, l.Name, strings.Join(from, " "), strings.Join(to, " "), strings.Join(cut, " ")))
	}
	return out
}

func TestLifelines(t *testing.T) {
	got := report(compile.Compile(lines(), model.Dialects[0]))
	want := []string{
		"dns: DNS (kube-system/kube-dns): controller prometheus db web > dns[tcp/5353 udp/5353], cut: db[tcp/5353 udp/5353] web[tcp/5353]",
		"apiserver: API server: controller dns prometheus db web > node n1[tcp/6443], cut: db[tcp/6443] web[tcp/6443]",
		"webhook: admission webhook policy/check: node n1 > web[tcp/8080], cut: ",
		"scrape: Prometheus scrape: prometheus > db[tcp/9187], cut: db[tcp/9187]",
		"ingress: Ingress shop/site to service web: controller > web[tcp/8080], cut: ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestLifelinesWithoutServiceOrNodes(t *testing.T) {
	s := lines()
	s.Services = s.Services[1:] // no kube-dns: its pods are known by their label
	s.Nodes = nil
	s.Tiers[0].Policies[1].Rules[model.Ingress] = nil
	got := report(compile.Compile(s, model.Dialects[0]))
	for _, want := range []string{
		"dns: DNS (pods of kube-system): controller prometheus db web > dns[tcp/53 udp/53], cut: db[tcp/53 udp/53] web[tcp/53 udp/53]",
		"webhook: admission webhook policy/check: outside > web[tcp/8080], cut: web[tcp/8080]",
		"ingress: Ingress shop/site to service web: controller > web[tcp/8080], cut: web[tcp/8080]",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%q is not in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestWebhookNeedsEveryControlPlaneNode holds that one node that gets through,
// because the back end runs on it, does not hide that the others do not.
func TestWebhookNeedsEveryControlPlaneNode(t *testing.T) {
	s := lines()
	s.Tiers[0].Policies[1].Rules[model.Ingress] = nil
	s.Nodes[1].ControlPlane = true // n2, where web runs
	table := compile.Compile(s, model.Dialects[0])
	for _, l := range table.Lifelines() {
		if l.Kind == verdict.LifelineWebhook && len(table.LifelineCut(l)) != 1 {
			t.Errorf("webhook %s: cut for %v", l.Name, table.LifelineCut(l))
		}
	}
}

func TestSentence(t *testing.T) {
	s := lines()
	s.Tiers[0].Policies[1].Rules[model.Egress][0].Origin = model.Origin{Path: "spec.egress[0]"}
	s.Tiers[0].Policies[1].Rules[model.Egress][0].Origin.File = "web.yaml"
	s.Tiers[0].Policies[1].Rules[model.Egress][0].Origin.Line = 12
	s.Tiers[0].Policies[0].Origin.File = "db.yaml"
	s.Tiers[0].Policies = append(s.Tiers[0].Policies, closed("shop", "web2", "web", nil, nil))
	table := compile.Compile(s, model.Dialects[0])
	for _, c := range []struct{ src, dst, port, egress, ingress string }{
		{"shop/web", "kube-system/dns", "udp/5353",
			"allowed by NetworkPolicy shop/web spec.egress[0] (web.yaml:12)", "open: no policy selects it for ingress"},
		{"shop/web", "shop/db", "tcp/5432",
			"denied: shop/web and shop/web2 isolate it for egress and no rule of its 2 policies matches",
			"denied: NetworkPolicy shop/db (db.yaml) isolates it for ingress and has no rules"},
	} {
		src, _ := table.Resolve(c.src, "")
		dst, _ := table.Resolve(c.dst, "")
		port, _ := verdict.ParsePort(c.port)
		from, to := table.Parties(src)[0], table.Parties(dst)[0]
		_, pieces := table.Decide(table.Pair(from, to), port.In(netset.V4))
		if got := table.SideSentence(model.Egress, table.TargetOf[model.Egress][from.Endpoint], pieces[model.Egress]); got != c.egress {
			t.Errorf("%s → %s egress: %q, want %q", c.src, c.dst, got, c.egress)
		}
		if got := table.SideSentence(model.Ingress, table.TargetOf[model.Ingress][to.Endpoint], pieces[model.Ingress]); got != c.ingress {
			t.Errorf("%s → %s ingress: %q, want %q", c.src, c.dst, got, c.ingress)
		}
	}
	if got := table.Sentence(verdict.None, verdict.Allow); !strings.HasPrefix(got, "not judged") {
		t.Error(got)
	}
}
