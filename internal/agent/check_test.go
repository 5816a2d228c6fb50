//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/source/cluster"
)

// said writes items as "level name: message" lines.
func said(items []Item) string {
	var b strings.Builder
	for _, i := range items {
		b.WriteString(i.Level.String() + " " + i.Name + ": " + i.Message + "\n")
	}
	return b.String()
}

func TestKernelItems(t *testing.T) {
	for _, tt := range []struct {
		f    facts
		want string
	}{
		{facts{tablesErr: unix.EPERM}, "fail privilege: CAP_NET_ADMIN is missing\n"},
		{facts{tablesErr: unix.EOPNOTSUPP}, "fail nf-tables: the kernel has no nf_tables: operation not supported\n"},
		{
			facts{sysctl: map[string]string{"net/netfilter/nf_conntrack_max": "9"}, tables: []string{"inet picket"}},
			"ok privilege: CAP_NET_ADMIN is there\nok nf-tables: nf_tables answers\nok conntrack: connections are tracked, up to 9\nok table: the table inet picket is there: something is being enforced\n",
		},
		{
			facts{tables: []string{"ip picket"}},
			"ok privilege: CAP_NET_ADMIN is there\nok nf-tables: nf_tables answers\nwarn conntrack: connection tracking is not loaded yet; it is when the table is\nok table: there is no table inet picket yet: nothing is being enforced\n",
		},
	} {
		want(t, "items", said(tt.f.kernelItems("picket")), tt.want)
	}
}

func TestPathItems(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}
	pods := link{name: "cni0", kind: "bridge", ports: 3, addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}
	other := link{name: "docker0", kind: "bridge", ports: 1, addrs: []netip.Addr{netip.MustParseAddr("172.17.0.1")}}
	on := map[string]string{"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1"}
	for _, tt := range []struct {
		name string
		f    facts
		want []string // beginnings
	}{
		{"routed", facts{sysctl: map[string]string{"net/ipv4/ip_forward": "1"}, links: []link{{name: "veth1", kind: "veth"}}}, []string{"ok forwarding", "ok bridges: no bridge joins pods"}},
		{"not forwarding", facts{sysctl: map[string]string{"net/ipv4/ip_forward": "0"}}, []string{"warn forwarding", "ok bridges"}},
		{"bridge of pods", facts{links: []link{pods}}, []string{"ok forwarding", "fail bridges: pods on the bridge cni0 reach each other past the hooks"}},
		{"bridge of pods, filtered", facts{links: []link{pods}, sysctl: on}, []string{"ok forwarding", "ok bridges: traffic between the ports of bridge cni0 passes"}},
		{"another bridge", facts{links: []link{other}}, []string{"ok forwarding", "warn bridges: traffic between the 1 ports of bridge docker0 does not pass"}},
		{"empty bridge", facts{links: []link{{name: "br0", kind: "bridge"}}}, []string{"ok forwarding", "ok bridges: no bridge joins pods"}},
		{"unreadable", facts{linksErr: errors.New("no")}, []string{"warn bridges: the network links can't be listed"}},
	} {
		lines := strings.Split(strings.TrimSpace(said(tt.f.pathItems(ranges))), "\n")
		if len(lines) != len(tt.want) {
			t.Errorf("%s: %q", tt.name, lines)
			continue
		}
		for i := range lines {
			if !strings.HasPrefix(lines[i], tt.want[i]) {
				t.Errorf("%s: got %q, want %q", tt.name, lines[i], tt.want[i])
			}
		}
	}
}

func TestOtherEnforcers(t *testing.T) {
	for _, tt := range []struct {
		f    facts
		want string
	}{
		{facts{tables: []string{"inet picket", "ip kube-proxy"}, chains: []string{"ip filter KUBE-SERVICES", "inet picket forwarded4"}}, "ok other-enforcer: no sign"},
		{facts{chains: []string{"ip filter cali-FORWARD"}}, "warn other-enforcer: Calico is or was here (chain ip filter cali-FORWARD): "},
		{facts{tables: []string{"ip calico", "ip6 calico"}}, "warn other-enforcer: Calico is or was here (table ip calico, table ip6 calico): "},
		{facts{chains: []string{"ip filter KUBE-ROUTER-FORWARD", "ip filter KUBE-POD-FW-A", "ip filter KUBE-POD-FW-B", "ip filter KUBE-NWPLCY-C"}}, "warn other-enforcer: kube-router is or was here (chain ip filter KUBE-NWPLCY-C, chain ip filter KUBE-POD-FW-A, chain ip filter KUBE-POD-FW-B and 1 more): "},
		{facts{tables: []string{"inet kube-network-policies"}}, "warn other-enforcer: kube-network-policies is"},
		{facts{links: []link{{name: "cilium_host"}}}, "warn other-enforcer: Cilium is or was here (link cilium_host)"},
	} {
		if got := said(tt.f.enforcerItems("picket")); !strings.HasPrefix(got, tt.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestAPIItems(t *testing.T) {
	at := func(ranges ...string) kube.Result {
		n := model.Node{Name: "n1"}
		for _, r := range ranges {
			n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(r))
		}
		return kube.Result{Snapshot: &model.Snapshot{Nodes: []model.Node{n}}}
	}
	for _, tt := range []struct {
		node  string
		res   kube.Result
		known []cluster.KindStatus
		err   error
		want  string
	}{
		{"n1", at("10.1.0.0/24"), nil, nil, "ok api-server: everything that bears on policy can be listed\nok pod-ranges: pods that are not known yet are dropped in 10.1.0.0/24\n"},
		{"n1", at(), []cluster.KindStatus{{Kind: "ClusterNetworkPolicy", Synced: true}}, nil, "ok api-server: everything that bears on policy can be listed\nok cluster-policies: the cluster has no ClusterNetworkPolicy; the agent will notice when it gets it\nwarn pod-ranges: the Node object has no podCIDRs: a pod is let through until the agent knows it\n"},
		{"n2", at(), nil, nil, "ok api-server: everything that bears on policy can be listed\nfail node: the cluster has no node \"n2\"\n"},
		{"n1", kube.Result{}, []cluster.KindStatus{{Kind: "Pod", Error: "forbidden"}, {Kind: "Node", Synced: true, Error: "fine"}}, errors.New("x"), "fail api-server: the cluster can't be read: forbidden\n"},
		{"n1", kube.Result{}, nil, errors.New("no kubeconfig"), "fail api-server: the cluster can't be read: no kubeconfig\n"},
	} {
		var ranges []netip.Prefix
		want(t, "items", said(apiItems(tt.node, tt.res, tt.known, tt.err, &ranges)), tt.want)
	}
}

// TestLookAround looks at a fresh network namespace.
func TestLookAround(t *testing.T) {
	ns := &netNS{testNetNS(t)}
	var f facts
	if err := ns.do(func() error { f = lookAround(); return nil }); err != nil {
		t.Fatal(err)
	}
	if f.tablesErr != nil || f.linksErr != nil || len(f.tables) > 0 {
		t.Errorf("%+v", f)
	}
	if len(f.links) == 0 || f.links[len(f.links)-1].name == "" {
		t.Errorf("links: %+v", f.links)
	}
}

func TestCheckText(t *testing.T) {
	r := &Report{Items: []Item{{"a", OK, "fine", "not shown"}, {"b", Fail, "broken", "mend it"}}}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want(t, "text", b.String(), "ok    a                  fine\nfail  b                  broken\n                         mend it\n")
}

func TestNetNS(t *testing.T) {
	for name, want := range map[string]string{
		"/no/such": "network namespace: open /no/such: no such file or directory", "/dev/null": "network namespace: /dev/null is none",
		"99999": "network namespace: no file descriptor 99999: bad file descriptor",
	} {
		if _, err := openNetNS(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServe holds what each path answers over the life of an agent.
func TestServe(t *testing.T) {
	o := Options{Config: Defaults()}
	o.Node = "n1"
	l := newLoop(o, newFakeSource(), &fakeKernel{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go l.run(ctx) // answers for the counters
	h := handler(l)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	status := func(path string, want int) string {
		t.Helper()
		got, body := get(path)
		if got != want {
			t.Errorf("%s: %d %s", path, got, body)
		}
		return body
	}
	status("/healthz", 200)
	status("/readyz", 503)
	status("/debug/pprof/", 404)
	status("/", 404)
	l.mu.Lock()
	l.st.Applied, l.st.NodeKnown = time.Now(), true
	l.mu.Unlock()
	status("/readyz", 200)
	if body := status("/metrics", 200); !strings.Contains(body, "\npicket_agent_ready 1\n") || !strings.Contains(body, `picket_agent_info{go=`) {
		t.Error(body)
	}
	l.mu.Lock()
	l.st.Problem, l.st.Turn = "the kernel says no", time.Now().Add(-time.Hour)
	l.mu.Unlock()
	want(t, "readyz", status("/readyz", 503), "the kernel says no\n")
	status("/healthz", 500)
	l.o.Pprof = true
	h = handler(l)
	status("/debug/pprof/", 200)
}
