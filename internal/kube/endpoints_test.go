package kube_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/kube"
	"picket/internal/model"
)

func obj(apiVersion, kind, name, rest string) string {
	return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata:\n  namespace: shop\n  name: %s\n%s\n", apiVersion, kind, name, strings.TrimLeft(rest, "\n"))
}

const template = `
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c}]}`

// show writes an endpoint in a line.
func show(e model.Endpoint) string {
	s := e.String()
	if e.Owner.Name != "" {
		s += " of " + e.Owner.Kind + " " + e.Owner.Name
	}
	if e.Node != "" {
		s += " on " + e.Node
	}
	return s
}

func endpoints(s *model.Snapshot) []string {
	var out []string
	for _, e := range s.Endpoints {
		out = append(out, show(e))
	}
	return out
}

func TestWorkloads(t *testing.T) {
	deployment := obj("apps/v1", "Deployment", "web", "spec:\n  replicas: 2"+template)
	ownedBy := func(kind, name string) string {
		return fmt.Sprintf("  labels: {app: web, pod-template-hash: 5d4f}\n  ownerReferences: [{kind: %s, name: %s, controller: true}]", kind, name)
	}
	node := func(name string) string {
		return "---\napiVersion: v1\nkind: Node\nmetadata: {name: " + name + "}\n"
	}
	for _, tt := range []struct {
		name, yaml string
		want       []string
	}{
		{"deployment", deployment, []string{"shop/web-1 of Deployment web", "shop/web-2 of Deployment web"}},
		{"replicas default to 1", obj("apps/v1", "ReplicaSet", "web", "spec:"+template), []string{"shop/web-1 of ReplicaSet web"}},
		{"no replicas count as one", obj("v1", "ReplicationController", "web", "spec:\n  replicas: 0"+template), []string{"shop/web-1 of ReplicationController web"}},
		{"stateful set", obj("apps/v1", "StatefulSet", "db", "spec:\n  replicas: 2"+template), []string{"shop/db-0 of StatefulSet db", "shop/db-1 of StatefulSet db"}},
		{"daemon set without nodes", obj("apps/v1", "DaemonSet", "ds", "spec:"+template), []string{"shop/ds-1 of DaemonSet ds"}},
		{"daemon set", obj("apps/v1", "DaemonSet", "ds", "spec:"+template) + node("n2") + node("n1"), []string{"shop/ds-n1 of DaemonSet ds on n1", "shop/ds-n2 of DaemonSet ds on n2"}},
		{"job", obj("batch/v1", "Job", "j", "spec:\n  parallelism: 3\n  completions: 2"+template), []string{"shop/j-1 of Job j", "shop/j-2 of Job j"}},
		{"finished job", obj("batch/v1", "Job", "j", "spec:"+template+"\nstatus: {conditions: [{type: Complete, status: 'True'}]}"), nil},
		{"cron job", obj("batch/v1", "CronJob", "c", "spec:\n  jobTemplate:\n    spec:\n      template: {spec: {containers: []}}"), []string{"shop/c-1 of CronJob c"}},
		{"name collision", deployment + obj("apps/v1", "StatefulSet", "web", "spec:"+template) + obj("v1", "Pod", "web-0", ""),
			[]string{"shop/web-0", "shop/web-1 of Deployment web", "shop/web-2 of Deployment web", "shop/web-statefulset-0 of StatefulSet web"}},
		{"pods are there", deployment + obj("apps/v1", "ReplicaSet", "web-5d4f", ownedBy("Deployment", "web")+"\nspec:"+template) + obj("v1", "Pod", "web-x", ownedBy("ReplicaSet", "web-5d4f")),
			[]string{"shop/web-x of Deployment web"}},
		{"pods are there, the replica set is not", deployment + obj("v1", "Pod", "web-x", ownedBy("ReplicaSet", "web-5d4f")), []string{"shop/web-x of Deployment web"}},
		{"a replica set alone", obj("v1", "Pod", "web-x", ownedBy("ReplicaSet", "web-other")), []string{"shop/web-x of ReplicaSet web-other"}},
		{"no pods, but the replica set", deployment + obj("apps/v1", "ReplicaSet", "web-5d4f", ownedBy("Deployment", "web")+"\nspec:"+template),
			[]string{"shop/web-1 of Deployment web", "shop/web-2 of Deployment web"}},
		{"pod of a job of a cron job", obj("batch/v1", "CronJob", "c", "spec: {}") + obj("batch/v1", "Job", "c-1", ownedBy("CronJob", "c")) + obj("v1", "Pod", "c-1-x", ownedBy("Job", "c-1")),
			[]string{"shop/c-1-x of CronJob c"}},
		{"completed pods have no effect", obj("v1", "Pod", "a", "status: {phase: Succeeded}") + obj("v1", "Pod", "b", "status: {phase: Failed}") + obj("v1", "Pod", "c", "status: {phase: Pending}"),
			[]string{"shop/c"}},
		{"a completed pod is its job's", obj("batch/v1", "Job", "j", "spec:"+template) + obj("v1", "Pod", "j-x", ownedBy("Job", "j")+"\nstatus: {phase: Succeeded}"), nil},
		{"a workload that owns itself", obj("apps/v1", "ReplicaSet", "r", ownedBy("ReplicaSet", "r")+"\nspec:"+template) + obj("v1", "Pod", "p", ownedBy("ReplicaSet", "r")),
			[]string{"shop/p of ReplicaSet r"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, endpoints(clean(t, tt.yaml))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWorkloadLabels(t *testing.T) {
	s := clean(t, obj("apps/v1", "StatefulSet", "db", "spec:\n  replicas: 2\n  ordinals: {start: 5}"+template))
	want := map[string]string{"app": "web", "apps.kubernetes.io/pod-index": "6", "statefulset.kubernetes.io/pod-name": "db-6"}
	if diff := cmp.Diff(want, s.Endpoints[1].Labels); diff != "" {
		t.Error(diff)
	}
}

func TestPod(t *testing.T) {
	s := clean(t, `apiVersion: v1
kind: Pod
metadata:
  name: a
  namespace: shop
  labels: {app: a}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9090"}
spec:
  nodeName: n1
  serviceAccountName: robot
  automountServiceAccountToken: false
  containers:
  - ports: [{containerPort: 80, name: web}, {containerPort: 53, protocol: UDP}]
  - ports: [{containerPort: 9090, name: metrics}]
  initContainers:
  - ports: [{containerPort: 1}]
  - {restartPolicy: Always, ports: [{containerPort: 7, protocol: SCTP}]}
status: {podIP: 10.1.1.1, podIPs: [{ip: 10.1.1.1}, {ip: "fd00::1"}]}
`)
	e := s.Endpoints[0]
	want := []model.Port{{Name: "web", Proto: 6, Number: 80}, {Proto: 17, Number: 53}, {Name: "metrics", Proto: 6, Number: 9090}, {Proto: 132, Number: 7}}
	if diff := cmp.Diff(want, e.Ports); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]model.Port{want[2]}, e.Scrape); diff != "" {
		t.Error(diff)
	}
	if e.Node != "n1" || e.ServiceAccount != "robot" || e.MountsToken || e.Assigned || !s.DualStack ||
		fmt.Sprint(e.Addrs) != "[10.1.1.1 fd00::1]" {
		t.Errorf("%+v", e)
	}
	if s.PodCIDRs != nil {
		t.Error("no address was assigned, so no range was used")
	}
}

func TestHostPods(t *testing.T) {
	s := clean(t, obj("v1", "Pod", "a", "spec: {hostNetwork: true, nodeName: n1}\nstatus: {podIP: 192.0.2.9}")+
		obj("v1", "Pod", "b", "spec: {hostNetwork: true}\nstatus: {hostIP: 192.0.2.7}")+
		obj("v1", "Pod", "c", "spec: {hostNetwork: true}")+
		"---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {node-role.kubernetes.io/control-plane: ''}}\nstatus: {addresses: [{type: Hostname, address: n1}, {type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 192.0.2.1}]}\n")
	var got []string
	for _, e := range s.Endpoints {
		got = append(got, fmt.Sprint(e.Kind, e.Addrs))
	}
	if diff := cmp.Diff([]string{"1 [192.0.2.1]", "1 [192.0.2.7]", "1 []"}, got); diff != "" {
		t.Error(diff)
	}
	if n := s.Nodes[0]; !n.ControlPlane || fmt.Sprint(n.Addrs) != "[192.0.2.1 203.0.113.1]" {
		t.Errorf("%+v", n)
	}
}

func TestBroken(t *testing.T) {
	r := read(t, kube.Options{}, obj("v1", "Pod", "a", "  labels: {a: 1}")+obj("v1", "Pod", "b", "spec: {containers: [{ports: [{containerPort: 0}]}]}")+
		obj("apps/v1", "Deployment", "d", "spec:\n  selector: {matchLabels: {app: other}}"+template)+
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: nn, labels: {a: [b]}}\n")
	const want = `stdin:7:12: metadata.labels[a]: want a string, found the number 1 (Pod shop/a)
stdin:14:31: spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive (Pod shop/b)
stdin:24:16: spec.template.metadata.labels: Invalid value: ` + "`selector` does not match template `labels`" + ` (Deployment shop/d)
stdin:29:31: metadata.labels[a]: want a string, found a list (Namespace nn)
`
	if diff := cmp.Diff(want, lines(r.Diagnostics)); diff != "" {
		t.Error(diff)
	}
	for _, e := range r.Snapshot.Endpoints {
		if e.Broken == "" {
			t.Errorf("%s is not broken", e.String())
		}
	}
	if len(r.Snapshot.Endpoints) != 3 || r.Snapshot.Namespaces[0].Broken == "" || r.Unusable != "" {
		t.Errorf("%+v", r)
	}
}

func TestNamespaces(t *testing.T) {
	s := clean(t, np("{}")+obj("v1", "Pod", "a", "")+"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {kubernetes.io/metadata.name: lie, x: y1}}\n")
	var got []string
	for _, n := range s.Namespaces {
		got = append(got, fmt.Sprint(n.Name, n.Implied, n.Labels))
	}
	want := []string{"prod false map[kubernetes.io/metadata.name:prod x:y1]", "shop true map[kubernetes.io/metadata.name:shop]"}
	for i := range want {
		want[i] = strings.Replace(want[i], " ", "", 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func pods(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(obj("v1", "Pod", fmt.Sprintf("p%d", i), ""))
	}
	return b.String()
}

func TestAddresses(t *testing.T) {
	cidr := netip.MustParsePrefix("10.9.0.0/28")
	o := kube.Options{PodCIDRs: []netip.Prefix{cidr}}
	taken := obj("v1", "Pod", "given", "status: {podIP: 10.9.0.5}")
	s := read(t, o, pods(13)+taken).Snapshot
	seen := map[netip.Addr]bool{}
	for _, e := range s.Endpoints {
		a := e.Addrs[0]
		if !cidr.Contains(a) || a == netip.MustParseAddr("10.9.0.0") || a == netip.MustParseAddr("10.9.0.15") || seen[a] {
			t.Errorf("%s has %s", e.String(), a)
		}
		seen[a] = true
		if e.Assigned == (e.Name == "given") {
			t.Errorf("%s: assigned %v", e.String(), e.Assigned)
		}
	}
	if len(seen) != 14 || !slices.Equal(s.PodCIDRs, o.PodCIDRs) {
		t.Errorf("%d addresses from %v", len(seen), s.PodCIDRs)
	}

	r := read(t, o, pods(15))
	const want = "the pod range 10.9.0.0/28 is too small for 15 pods without an address\n"
	if lines(r.Diagnostics) != want || r.Diagnostics[0].Fix != "give a wider range: --pod-cidr 10.9.0.0/27" || r.Unusable == "" {
		t.Errorf("%v, unusable %q", r.Diagnostics, r.Unusable)
	}

	few, more := read(t, kube.Options{DualStack: true}, pods(200)).Snapshot, read(t, kube.Options{DualStack: true}, pods(201)).Snapshot
	if !few.DualStack || fmt.Sprint(few.PodCIDRs) != "[10.244.0.0/16 fd00:10:244::/56]" {
		t.Errorf("%v %v", few.DualStack, few.PodCIDRs)
	}
	moved := 0
	at := map[string]string{}
	for _, e := range few.Endpoints {
		at[e.Name] = fmt.Sprint(e.Addrs)
		if len(e.Addrs) != 2 || !e.Addrs[0].Is4() || !e.Addrs[1].Is6() {
			t.Fatalf("%v", e.Addrs)
		}
	}
	for _, e := range more.Endpoints {
		if was, ok := at[e.Name]; ok && was != fmt.Sprint(e.Addrs) {
			moved++
		}
	}
	if moved > 1 {
		t.Errorf("one more pod moved %d of 200", moved)
	}
}

func TestTooManyPods(t *testing.T) {
	r := read(t, kube.Options{}, obj("apps/v1", "Deployment", "big", "spec:\n  replicas: 2000000000"+template))
	if !r.Diagnostics.HasErrors() || r.Unusable == "" || len(r.Snapshot.Endpoints) > 0 {
		t.Errorf("%v", r.Diagnostics)
	}
}

func TestServices(t *testing.T) {
	s := clean(t, obj("v1", "Service", "web", "spec: {type: NodePort, clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}, {name: alt, port: 81, targetPort: http}, {port: 53, targetPort: 5353, protocol: UDP}]}")+
		obj("v1", "Service", "headless", "spec: {clusterIP: None, clusterIPs: [None]}")+
		obj("v1", "Endpoints", "headless", "subsets: [{addresses: [{ip: 192.0.2.2}, {ip: 192.0.2.1}], ports: [{port: 1}]}]")+
		obj("v1", "Endpoints", "web", "subsets: [{addresses: [{ip: 192.0.2.3}]}]")+
		`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes-x, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
endpoints: [{addresses: [192.0.2.10]}, {addresses: [192.0.2.11], conditions: {ready: false}}]
ports: [{port: 6443}]
`)
	head, web := s.Services[0], s.Services[1]
	if len(head.ClusterIPs) > 0 || !head.Selector.IsNothing() || fmt.Sprint(head.Backends) != "[192.0.2.1 192.0.2.2]" || head.Type != "ClusterIP" || head.ExternalCluster {
		t.Errorf("%+v", head)
	}
	want := []model.ServicePort{{Proto: 6, Port: 80, TargetPort: 80}, {Name: "alt", Proto: 6, Port: 81, TargetName: "http"}, {Proto: 17, Port: 53, TargetPort: 5353}}
	if diff := cmp.Diff(want, web.Ports); diff != "" {
		t.Error(diff)
	}
	if fmt.Sprint(web.ClusterIPs) != "[10.96.0.1]" || len(web.Backends) > 0 || !web.ExternalCluster || web.Selector.String() != "app=web" {
		t.Errorf("%+v", web)
	}
	if fmt.Sprint(s.APIServer) != "[192.0.2.10:6443]" {
		t.Errorf("API server %v", s.APIServer)
	}
}

func TestLifelines(t *testing.T) {
	s := clean(t, obj("v1", "Pod", "web", "  labels: {app: web}\nspec: {containers: [{ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]}]}")+
		obj("v1", "Pod", "db", "  labels: {app: db}\nspec: {containers: [{ports: [{name: metrics, containerPort: 9187}]}]}")+
		obj("v1", "Pod", "ann", "  labels: {app: ann}\nspec: {containers: [{ports: [{containerPort: 7000}]}]}")+
		obj("v1", "Service", "web", "  labels: {mon: a}\nspec: {selector: {app: web}, ports: [{name: m, port: 90, targetPort: metrics}]}")+
		obj("v1", "Service", "ann", "  annotations: {prometheus.io/scrape: 'true'}\nspec: {selector: {app: ann}, ports: [{port: 80, targetPort: 7000}]}")+
		obj("monitoring.coreos.com/v1", "ServiceMonitor", "sm", "spec: {selector: {matchLabels: {mon: a}}, endpoints: [{port: m}]}")+
		obj("monitoring.coreos.com/v1", "PodMonitor", "pm", "spec: {selector: {matchLabels: {app: db}}, podMetricsEndpoints: [{port: metrics}]}")+
		obj("networking.k8s.io/v1", "Ingress", "in", "spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}, rules: [{http: {paths: [{backend: {service: {name: web, port: {name: m}}}}]}}]}")+
		"---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: hooks}\nwebhooks: [{name: a.b.c, clientConfig: {service: {namespace: shop, name: web}}}, {name: url, clientConfig: {url: https://x}}]\n")
	scrape := map[string]string{}
	for _, e := range s.Endpoints {
		scrape[e.Name] = fmt.Sprint(e.Scrape)
	}
	if diff := cmp.Diff(map[string]string{"web": "[{metrics tcp 9090}]", "db": "[{metrics tcp 9187}]", "ann": "[{ tcp 7000}]"}, scrape); diff != "" {
		t.Error(diff)
	}
	if len(s.Routes) != 2 || s.Routes[0].Port != 80 || s.Routes[1].PortName != "m" || s.Routes[0].Class != "nginx" || s.Routes[1].Origin.Line == 0 {
		t.Errorf("%+v", s.Routes)
	}
	if len(s.Webhooks) != 1 || s.Webhooks[0].Name != "hooks/a.b.c" || s.Webhooks[0].Port != 443 {
		t.Errorf("%+v", s.Webhooks)
	}
}
