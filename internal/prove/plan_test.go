//go:build linux

package prove

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/lab"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

// parse reads manifests of a test and places them.
func parse(t testing.TB, yaml string, nodes int) *verdict.Table {
	t.Helper()
	b := kube.NewBuilder(kube.Options{})
	if err := manifest.Read(b, []string{"-"}, manifest.Options{Stdin: strings.NewReader(yaml)}); err != nil {
		t.Fatal(err)
	}
	r := b.Build()
	if r.Diagnostics.HasErrors() {
		t.Fatal(r.Diagnostics)
	}
	return compile.Compile((&Placer{Nodes: nodes}).Place(r.Snapshot), model.Dialects[0])
}

func planOf(t testing.TB, table *verdict.Table, o Options) *plan {
	t.Helper()
	tables := []*verdict.Table{table}
	hosts := outsiders(tables)
	_, missing, err := labSpec(tables, hosts)
	if err != nil {
		t.Fatal(err)
	}
	named, listened := names(tables, o.Ports)
	return newPlan(table, named, listened, hosts, missing, o)
}

const three = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i, ports: [{name: sql, containerPort: 5432}, {containerPort: 5433, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web2, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: sql}, {port: 9000, endPort: 9100}]
  - from: [{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.7.0/24]}}]
`

// TestSlots writes out what is sent between two groups.
func TestSlots(t *testing.T) {
	p := planOf(t, parse(t, three, 2), Options{})
	end := func(name string) int32 {
		return int32(slices.IndexFunc(p.ends, func(e end) bool { return e.name == name }))
	}
	f := &p.faces[p.face(end("shop/web"), end("shop/db"))]
	got := map[string][]string{}
	for _, s := range f.slots {
		var keys []string
		for _, k := range s.keys {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		got[trafficName(s.traffic)+" "+s.decision.String()] = keys
	}
	beside := []string{"5432", "5433", "8080", "8999", "9000", "9100", "9101"} // the ports that somebody names, and their neighbours
	udp := []string{"udp/1", "udp/65535"}
	for _, n := range beside {
		udp = append(udp, "udp/"+n)
	}
	slices.Sort(udp)
	want := map[string][]string{
		"protocols 0,2-5 deny":               {"3/0"},
		"icmp deny":                          {"icmp"},
		"tcp/0-5431 deny":                    {"tcp/1", "tcp/5431"},
		"tcp/5432 allow":                     {"tcp/5432"},
		"tcp/5433-8999 deny":                 {"tcp/5433", "tcp/8080", "tcp/8999"},
		"tcp/9000-9100 allow":                {"tcp/9000", "tcp/9100"},
		"tcp/9101-65535 deny":                {"tcp/65535", "tcp/9101"},
		"protocols 7-16,18-131,133-255 deny": {"253/0"},
		"udp deny":                           udp,
		"sctp deny":                          {"sctp/1", "sctp/65535"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestOutsiders writes out which hosts stand for the address blocks.
func TestOutsiders(t *testing.T) {
	var got []string
	for _, a := range outsiders([]*verdict.Table{parse(t, three, 2)}) {
		got = append(got, a.String())
	}
	want := []string{
		"192.167.255.255", "192.168.0.0", "192.168.0.1", "192.168.6.255", // the border below, and the lower part
		"192.168.7.0", "192.168.7.1", "192.168.7.255", // the exception
		"192.168.8.0", "192.168.8.1", "192.168.255.255", // the upper part
		"192.169.0.0", "203.0.113.1", // the border above; the rest of the world, and below it
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("no host has the address %s: %v", w, got)
		}
	}
	if len(got) > len(want)+2 {
		t.Errorf("%d hosts: %v", len(got), got)
	}
}

// TestEveryCellHasAPacket holds the claim of completeness against the table
// itself: for each pair of classes and each range of the joint verdict there is
// a packet in the range, on one node and across.
func TestEveryCellHasAPacket(t *testing.T) {
	for _, o := range []Options{{}, {few: true}} {
		table := parse(t, three, 2)
		p := planOf(t, table, o)
		type sent struct {
			src, dst int32
			from     netset.Key
		}
		hit := map[sent]bool{}
		for _, s := range p.shots {
			src, dst := &p.ends[s.src], &p.ends[s.dst]
			from := netset.Key(0)
			for _, j := range table.Join(table.Pair(src.Party, dst.Party)) {
				if s.key >= from && s.key <= j.To {
					hit[sent{src.group, dst.group, from}] = true
				}
				from = j.To + 1
			}
		}
		cells := 0
		for i := range p.ends {
			for j := range p.ends {
				src, dst := &p.ends[i], &p.ends[j]
				pair := table.Pair(src.Party, dst.Party)
				if i == j || src.kind != pod && dst.kind != pod || pair.Bypass == verdict.Itself {
					continue
				}
				from := netset.Key(0)
				for _, joint := range table.Join(pair) {
					cells++
					if !hit[sent{src.group, dst.group, from}] {
						t.Errorf("few=%t: no packet from the group of %s to that of %s in %s to %s", o.few, src.name, dst.name, from, joint.To)
					}
					from = joint.To + 1
				}
			}
		}
		if cells < 100 {
			t.Errorf("only %d cells: the test shows little", cells)
		}
	}
}

// TestAbsent counts the cells of pods that cannot take part, and says why.
func TestAbsent(t *testing.T) {
	table := parse(t, three+`---
apiVersion: v1
kind: Pod
metadata: {name: odd, namespace: shop, labels: {app: db, odd: "yes"}}
spec: {containers: [{name: c, image: i, ports: [{name: sql, containerPort: 1}]}]}
status: {podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}]}
`, 2)
	p := &Proof{t: table, plan: planOf(t, table, Options{})}
	p.outcomes = slices.Repeat([]lab.Outcome{{Result: lab.NoAnswer}}, len(p.shots))
	p.settle()
	n := 0
	for _, u := range p.Unproved {
		if strings.Contains(u.Why, "127.0.0.9 is a loopback address") {
			n += u.Cells
		}
	}
	if n < 10 {
		t.Errorf("%d cells of the pod that takes no part: %v", n, p.Unproved)
	}
}

// TestPlacer checks that pods stay where they are, and that the snapshot does.
func TestPlacer(t *testing.T) {
	s := &model.Snapshot{
		Nodes: []model.Node{{Name: "b"}},
		Endpoints: []model.Endpoint{
			{Namespace: "n", Name: "p1", Addrs: []netip.Addr{netip.MustParseAddr("172.18.0.2")}},
			{Namespace: "n", Name: "p2", Node: "far", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}},
			{Namespace: "n", Name: "p3", Kind: model.HostPod},
		},
	}
	placer := &Placer{Nodes: 3}
	got := placer.Place(s)
	var nodes []string
	addrs := map[string]string{}
	for _, n := range got.Nodes {
		nodes = append(nodes, n.Name)
		addrs[n.Name] = n.Addrs[0].String()
	}
	if diff := cmp.Diff([]string{"b", "far", "node-1"}, nodes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"b": "172.18.0.3", "far": "172.18.0.4", "node-1": "172.18.0.5"}, addrs); diff != "" {
		t.Error(diff) // 172.18.0.2 is taken by a pod
	}
	where := func(s *model.Snapshot, name string) string {
		for i := range s.Endpoints {
			if s.Endpoints[i].Name == name {
				return s.Endpoints[i].Node
			}
		}
		return ""
	}
	if where(got, "p1") != "b" || where(got, "p2") != "far" || where(got, "p3") != "far" {
		t.Errorf("placed %s %s %s", where(got, "p1"), where(got, "p2"), where(got, "p3"))
	}
	if got.Endpoints[2].Addrs[0].String() != addrs["far"] {
		t.Error("a pod on the host network has not its node's address")
	}
	if s.Endpoints[0].Node != "" || len(s.Nodes) != 1 || len(s.Nodes[0].Addrs) != 0 {
		t.Error("the snapshot was changed")
	}
	more := *s
	more.Endpoints = append([]model.Endpoint{{Namespace: "a", Name: "p0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}}, s.Endpoints...)
	again := placer.Place(&more)
	if where(again, "p1") != "b" || where(again, "p3") != "far" || where(again, "p0") != "node-1" {
		t.Errorf("placed again %s %s %s", where(again, "p1"), where(again, "p3"), where(again, "p0"))
	}
}

// TestBundle makes few lines of many pairs.
func TestBundle(t *testing.T) {
	pairs := func(src, dst []int32) (out []pairTraffic) {
		for _, a := range src {
			for _, b := range dst {
				if a != b {
					out = append(out, pairTraffic{src: a, dst: b})
				}
			}
		}
		return out
	}
	for _, c := range []struct {
		name string
		in   []pairTraffic
		want []block
	}{
		{"among themselves", pairs([]int32{1, 2, 3}, []int32{1, 2, 3}), []block{{[]int32{1, 2, 3}, []int32{1, 2, 3}}}},
		{"all to one", pairs([]int32{1, 2, 3}, []int32{2}), []block{{[]int32{1, 3}, []int32{2}}}},
		{"one to all", pairs([]int32{2}, []int32{1, 2, 3}), []block{{[]int32{2}, []int32{1, 3}}}},
		{"two lots", append(pairs([]int32{1, 2}, []int32{5}), pairs([]int32{3}, []int32{5, 6})...), []block{{[]int32{1, 2}, []int32{5}}, {[]int32{3}, []int32{5, 6}}}},
	} {
		if diff := cmp.Diff(c.want, bundle(c.in, false), cmp.AllowUnexported(block{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}
