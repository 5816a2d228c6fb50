package explain

import (
	"net/netip"
	"strings"
	"testing"

	"picket/internal/clustergen/small"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// shop is a client and a Service whose port 80 is port 8080 of its pods; the
// policy names the Service's port.
func shop(rulePort string) *small.World {
	w := &small.World{}
	w.Namespace("shop", "")
	w.Pod("shop/client", "app=client", "10.1.0.1")
	w.Pod("shop/web-1", "app=web", "10.1.0.2", small.TCP("http", 8080))
	w.Pod("shop/web-2", "app=web", "10.1.0.3", small.TCP("http", 8080))
	w.Snap.Services = []model.Service{{
		Namespace: "shop", Name: "web", Selector: small.ByLabel("app=web"), Type: "ClusterIP",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
		Ports:      []model.ServicePort{{Name: "http", Proto: netset.TCP, Port: 80, TargetPort: 8080}},
	}}
	w.Policy("shop/web", "app=web", "i", []model.Rule{small.Allow(rulePort, small.Pods("shop", "", "app=client"))}, nil)
	return w
}

func TestServicePortIsThePods(t *testing.T) {
	r, text := ask(t, shop("tcp/8080").Table(t, "picket"), "shop/client", "shop/web", "tcp/80")
	if r.Decision() != verdict.Allow || len(r.Cases) != 1 || len(r.Cases[0].To) != 2 || r.Cases[0].Port != "tcp/8080" {
		t.Fatalf("%v, cases %+v", r.Decision(), r.Cases)
	}
	has(t, text, "port 80 of service shop/web is port 8080 of its pods; policies see the pod's port",
		"the same for 1 source and all 2 destinations")

	r, text = ask(t, shop("tcp/80").Table(t, "picket"), "shop/client", "10.96.0.7", "tcp/80")
	if r.Decision() != verdict.Deny {
		t.Fatal(r.Headline)
	}
	has(t, text, "10.96.0.7 is the cluster IP of service shop/web",
		"it names tcp/80, the port of service shop/web; policies see the pod's port, which is tcp/8080",
		"add tcp/8080 to NetworkPolicy shop/web spec.ingress[0]")
}

func TestServicePortThatIsNone(t *testing.T) {
	table := shop("tcp/8080").Table(t, "picket")
	r, text := ask(t, table, "shop/client", "shop/web", "tcp/8080")
	if r.Decision() != verdict.Allow {
		t.Fatal(r.Headline)
	}
	has(t, text, "tcp/8080 is no port of service shop/web but the port of its pods that tcp/80 leads to")
	_, text = ask(t, table, "shop/client", "shop/web", "tcp/9999")
	has(t, text, "tcp/9999 is no port of service shop/web (it has tcp/80): a connection to the Service goes nowhere")
	_, text = ask(t, table, "shop/client", "shop/web", "icmp")
	has(t, text, "a Service translates no ICMP")
}

func TestServiceNamedPortsDifferByPod(t *testing.T) {
	w := shop("tcp/8080")
	w.Pod("shop/web-3", "app=web", "10.1.0.4", small.TCP("http", 9090))
	w.Pod("shop/web-4", "app=web", "10.1.0.5")
	w.Snap.Services[0].Ports[0] = model.ServicePort{Proto: netset.TCP, Port: 80, TargetName: "http"}
	r, text := ask(t, w.Table(t, "picket"), "shop/client", "shop/web", "tcp/80")
	if r.Decision() != verdict.Deny || len(r.Cases) != 2 {
		t.Fatalf("%v, %d cases", r.Decision(), len(r.Cases))
	}
	has(t, text, "MIXED", "it depends on the ends: 1 allowed, 1 denied", "is port 8080 or 9090 of its pods",
		`no port named "http" on shop/web-4`)
	if a, d := r.Cases[0], r.Cases[1]; a.Verdict != verdict.Allow || len(a.To) != 2 || d.Verdict != verdict.Deny || d.To[0] != "shop/web-3" || d.Port != "tcp/9090" {
		t.Errorf("cases %+v %+v", a, d)
	}
}

func TestServicesThatLeadNowhereOrOutside(t *testing.T) {
	w := shop("tcp/8080")
	svc := func(name string) *model.Service {
		w.Snap.Services = append(w.Snap.Services, model.Service{Namespace: "shop", Name: name, Type: "ClusterIP",
			Ports: []model.ServicePort{{Proto: netset.TCP, Port: 5432, TargetPort: 5432}}})
		return &w.Snap.Services[len(w.Snap.Services)-1]
	}
	svc("db").Backends = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	svc("dead").Selector = small.ByLabel("app=gone")
	svc("elsewhere").Type = "ExternalName"
	svc("empty").Selector = selector.Selector{}
	table := w.Table(t, "picket")
	for _, c := range []struct {
		dst, port string
		want      verdict.Decision
		say       []string
	}{
		{"shop/db", "tcp/5432", verdict.Allow, []string{"leads to addresses that are no pods: 192.0.2.7", "not judged: it is outside the cluster"}},
		{"shop/dead", "tcp/5432", verdict.Deny, []string{"NOTHING TO REACH", "its selector app=gone matches no pod of namespace shop"}},
		{"shop/elsewhere", "tcp/5432", verdict.Undefined, []string{"ExternalName"}},
		{"shop/empty", "tcp/5432", verdict.Deny, []string{"it has no selector"}},
	} {
		r, text := ask(t, table, "shop/client", c.dst, c.port)
		if r.Decision() != c.want {
			t.Errorf("%s: %v, want %v", c.dst, r.Decision(), c.want)
		}
		has(t, text, c.say...)
	}
}

func TestPodToItsOwnService(t *testing.T) {
	r, text := ask(t, shop("tcp/8080").Table(t, "picket"), "shop/web-1", "shop/web", "tcp/80")
	if r.Decision() != verdict.Deny || len(r.Cases) != 1 {
		t.Fatalf("%v: %s", r.Decision(), r.Headline)
	}
	has(t, text, "a connection that the Service leads back to the pod that opened it")
}

func TestFamiliesApartOnlyIfTheyDiffer(t *testing.T) {
	w := &small.World{}
	w.Snap.DualStack = true
	w.Namespace("a", "")
	w.Pod("a/x", "app=x", "10.1.0.1,fd00::1")
	w.Pod("a/y", "app=y", "10.1.0.2,fd00::2")
	w.Policy("a/x", "app=x", "i", []model.Rule{small.Allow("", small.Pods("a", "", "app=y"))}, nil)
	w.Policy("a/y", "app=y", "i", []model.Rule{small.Allow("", small.Nets("10.0.0.0/8", true))}, nil)
	table := w.Table(t, "picket")
	for _, port := range []string{"tcp/80", "icmp"} {
		r, _ := ask(t, table, "a/y", "a/x", port)
		if len(r.Cases) != 1 || len(r.Cases[0].Families) != 2 || r.Cases[0].Port != port {
			t.Errorf("y → x %s: cases %+v", port, r.Cases)
		}
	}
	r, text := ask(t, table, "a/x", "a/y", "tcp/80")
	if len(r.Cases) != 2 || r.Cases[0].Verdict != verdict.Allow || r.Cases[1].Verdict != verdict.Deny {
		t.Fatalf("x → y: cases %+v", r.Cases)
	}
	has(t, text, "over IPv6", "over IPv4")
	if _, err := Build(table, verdict.Ref{Text: "a", Node: verdict.None, Addr: netip.MustParseAddr("2001:db8::1")},
		verdict.Ref{Text: "b", Node: verdict.None, Addr: netip.MustParseAddr("192.0.2.1")}, verdict.Port{}, Options{}); err == nil ||
		!strings.Contains(err.Error(), "same family") {
		t.Errorf("two families: %v", err)
	}
}

func TestWorkloadOfSeveralClasses(t *testing.T) {
	w := small.Tutorial(5)
	for i := range w.Snap.Endpoints {
		if e := &w.Snap.Endpoints[i]; e.Namespace == "dev" {
			e.Owner = model.Owner{Kind: "Deployment", Name: "web"}
		}
	}
	w.Policy("dev/more", "run=dev2", "e", nil, []model.Rule{small.Allow("", small.Pods("qa", "", ""))})
	w.Policy("qa/more", "", "i", []model.Rule{small.Allow("")}, nil)
	r, text := ask(t, w.Table(t, "picket"), "dev/web", "qa/qa1", "tcp/80")
	if len(r.Cases) != 2 || r.Decision() != verdict.Deny {
		t.Fatalf("cases %+v", r.Cases)
	}
	has(t, text, "dev/web is a workload of 2 pods", "DENIED  dev/dev1 → qa/qa1", "ALLOWED  dev/dev2 → qa/qa1")
}

// TestServiceOfTheSameName holds what a name that a workload and its Service
// share means as the destination of a port.
func TestServiceOfTheSameName(t *testing.T) {
	w := shop("tcp/8080")
	for i := 1; i <= 2; i++ {
		w.Snap.Endpoints[i].Owner = model.Owner{Kind: "Deployment", Name: "web"}
	}
	const service, workload = "shop/web is a deployment and a service; port 80 is the service's", "shop/web is a workload here, so tcp/80 is its own port"
	expect := func(dst, port string, want verdict.Decision, say, not string) {
		t.Helper()
		r, text := ask(t, w.Table(t, "picket"), "shop/client", dst, port)
		if r.Decision() != want {
			t.Errorf("%s %s: %s", dst, port, r.Headline)
		}
		has(t, text, say)
		if strings.Contains(text, not) {
			t.Errorf("%s %s: says %q", dst, port, not)
		}
	}
	expect("shop/web", "tcp/80", verdict.Allow, service, workload)
	expect("shop/service/web", "tcp/80", verdict.Allow, "port 80 of service shop/web is port 8080", service)
	expect("shop/deployment/web", "tcp/80", verdict.Deny, "workload of 2 pods", service)
	expect("shop/web", "tcp/8080", verdict.Allow, "workload of 2 pods", service)
	expect("shop/web", "udp/80", verdict.Deny, "workload of 2 pods", service)
	expect("shop/web", "icmp", verdict.Deny, "workload of 2 pods", service)
	w.Snap.Endpoints[1].Ports = append(w.Snap.Endpoints[1].Ports, small.TCP("admin", 80))
	expect("shop/web", "tcp/80", verdict.Deny, "leads its port 80 to port 8080 of the pods: ask for shop/service/web", service)
	w.Snap.Endpoints[1].Ports = w.Snap.Endpoints[1].Ports[:1]
	w.Snap.Services[0].Selector = small.ByLabel("app=client")
	expect("shop/web", "tcp/80", verdict.Deny, "workload of 2 pods", service)
}
