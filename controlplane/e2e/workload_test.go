package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// fakeNode registers a node that is ready and has room, with no kubelet.
func fakeNode(ctx context.Context, t *testing.T, p *process, name, address string) *corev1.Node {
	t.Helper()
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("500"),
	}
	node, err := p.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if node, err = p.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		node.Status = corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
		}
		if node, err = p.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	return node
}

// TestDeploymentBecomesPods needs most controllers, and the scheduler: a
// Deployment's pods are made and bound, and, once they run, a Service's
// endpoints follow. When the Deployment goes, so do they.
func TestDeploymentBecomesPods(t *testing.T) {
	p, ctx := shared(t), testContext(t)
	ns := namespace(t, p)
	fakeNode(ctx, t, p, "worker", "192.0.2.1")
	labels := map[string]string{"app": "web"}
	three := int32(3)
	_, err := p.client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &three,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service(ctx, t, p, ns)
	var pods []corev1.Pod
	eventually(t, func() string {
		list, err := p.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err.Error()
		}
		bound := 0
		for _, pod := range list.Items {
			if pod.Spec.NodeName == "worker" {
				bound++
			}
		}
		if pods = list.Items; len(pods) != 3 || bound != 3 {
			return fmt.Sprintf("%d pods, %d of them bound to the node; want 3 and 3", len(pods), bound)
		}
		return ""
	})
	if pods[0].Spec.ServiceAccountName != "default" || len(pods[0].Spec.Volumes) != 1 {
		t.Errorf("service account %q and volumes %v, want the default one with its token", pods[0].Spec.ServiceAccountName, pods[0].Spec.Volumes)
	}
	for i, pod := range pods {
		run(ctx, t, p, &pod, fmt.Sprintf("10.1.0.%d", i+1))
	}
	eventually(t, func() string {
		if got := endpoints(ctx, p, ns); got != 3 {
			return fmt.Sprintf("%d endpoints, want 3", got)
		}
		return ""
	})
	background := metav1.DeletePropagationBackground
	if err := p.client.AppsV1().Deployments(ns).Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		list, err := p.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, pod := range list.Items {
			// There is no kubelet to finish what the controllers began.
			if pod.DeletionTimestamp == nil {
				return "pod " + pod.Name + " outlives its Deployment"
			}
		}
		return ""
	})
}

func service(ctx context.Context, t *testing.T, p *process, ns string) *corev1.Service {
	t.Helper()
	s, err := p.client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run says of a pod what its kubelet would.
func run(ctx context.Context, t *testing.T, p *process, pod *corev1.Pod, ip string) {
	t.Helper()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP, pod.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	if _, err := p.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// endpoints counts those that are ready.
func endpoints(ctx context.Context, p *process, ns string) int {
	slices, err := p.client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		return -1
	}
	n := 0
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				n++
			}
		}
	}
	return n
}

const gadgets = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gadgets.example.org
spec:
  group: example.org
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  scope: Cluster
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
`

// TestOptions starts a control plane that differs from the default one.
func TestOptions(t *testing.T) {
	ctx := testContext(t)
	crds := t.TempDir()
	if err := os.WriteFile(filepath.Join(crds, "gadgets.yaml"), []byte(gadgets), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--network-policy-api", "none", "--crds", crds,
		"--service-cidr", "10.77.0.0/24,fd00:77::/112", "--cluster-cidr", "10.78.0.0/16,fd00:78::/56",
		"--feature-gates", "HPAScaleToZero=true",
		"--advertise-address", "192.0.2.99", "--apiserver-arg", "--max-requests-inflight=123",
		"--controller-manager-arg", "--node-cidr-mask-size-ipv4=26")

	client, err := dynamic.NewForConfig(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resource(schema.GroupVersionResource{Group: "example.org", Version: "v1", Resource: "gadgets"}).List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("the CRD that was given: %v", err)
	}
	if _, err := client.Resource(clusterPolicies).List(ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("ClusterNetworkPolicy: %v, want that it is not served", err)
	}

	s := service(ctx, t, p, "default")
	if ip, err := netip.ParseAddr(s.Spec.ClusterIP); err != nil || !netip.MustParsePrefix("10.77.0.0/24").Contains(ip) {
		t.Errorf("Service at %s, want an address of --service-cidr", s.Spec.ClusterIP)
	}
	fakeNode(ctx, t, p, "worker", "192.0.2.1")
	eventually(t, func() string {
		node, err := p.client.CoreV1().Nodes().Get(ctx, "worker", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		pods, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if err != nil || pods.Bits() != 26 || !netip.MustParsePrefix("10.78.0.0/16").Overlaps(pods) || len(node.Spec.PodCIDRs) != 2 {
			return fmt.Sprintf("the node's pods have %v, want a /26 of --cluster-cidr, and one for IPv6", node.Spec.PodCIDRs)
		}
		return ""
	})
	metrics, err := p.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := `kubernetes_feature_enabled{name="HPAScaleToZero",stage="ALPHA"} 1`; !strings.Contains(string(metrics), want) {
		t.Errorf("metrics lack %s", want)
	}
	eventually(t, func() string {
		slices, err := p.client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
		if err != nil {
			return err.Error()
		}
		if len(slices.Items) != 1 || len(slices.Items[0].Endpoints) != 1 || slices.Items[0].Endpoints[0].Addresses[0] != "192.0.2.99" {
			return fmt.Sprintf("endpoints of Service kubernetes: %v, want 192.0.2.99", slices.Items)
		}
		return ""
	})
}
