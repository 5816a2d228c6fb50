package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// namespace makes one for the test alone and returns its name.
func namespace(t *testing.T, p *process) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	ns, err := p.client.CoreV1().Namespaces().Create(testContext(t), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// TestAccess walks through authentication and authorization: nobody, somebody
// without rights, the same with rights; by certificate and by token.
func TestAccess(t *testing.T) {
	p, ctx := shared(t), testContext(t)
	ns := namespace(t, p)
	list := func(c kubernetes.Interface) error {
		_, err := c.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err
	}
	nobody, err := kubernetes.NewForConfig(rest.AnonymousClientConfig(p.config))
	if err != nil {
		t.Fatal(err)
	}
	if err := list(nobody); !apierrors.IsUnauthorized(err) {
		t.Errorf("without credentials: %v, want 401", err)
	}

	jane := certified(ctx, t, p, "jane")
	want := `pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "` + ns + `"`
	if err := list(jane); !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("without rights: %v, want %s", err, want)
	}
	robot := token(ctx, t, p, ns)
	if err := list(robot); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:serviceaccount:"+ns+":default") {
		t.Errorf("as service account: %v, want forbidden", err)
	}

	_, err = p.client.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{
			{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "jane"},
			{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "default"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for who, c := range map[string]kubernetes.Interface{"jane": jane, "the service account": robot} {
		eventually(t, func() string {
			if err := list(c); err != nil {
				return who + " with rights: " + err.Error()
			}
			return ""
		})
		if _, err := c.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s reads secrets: %v, want forbidden", who, err)
		}
	}
}

// certified returns a client whose certificate the cluster has signed.
func certified(ctx context.Context, t *testing.T, p *process, user string) kubernetes.Interface {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user}}, key)
	if err != nil {
		t.Fatal(err)
	}
	requests := p.client.CertificatesV1().CertificateSigningRequests()
	csr, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: user + "-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificatesv1.KubeAPIServerClientSignerName,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test", Message: "by the test",
	}}
	if csr, err = requests.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if csr, err = requests.Get(ctx, csr.Name, metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		if len(csr.Status.Certificate) == 0 {
			return "the request is not signed"
		}
		return ""
	})
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(p.config)
	cfg.CertData = csr.Status.Certificate
	cfg.KeyData = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return clientFor(t, cfg)
}

// token returns a client that is the default service account of ns.
func token(ctx context.Context, t *testing.T, p *process, ns string) kubernetes.Interface {
	t.Helper()
	cfg := rest.AnonymousClientConfig(p.config)
	eventually(t, func() string {
		r, err := p.client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			return err.Error()
		}
		cfg.BearerToken = r.Status.Token
		return ""
	})
	return clientFor(t, cfg)
}

func clientFor(t *testing.T, cfg *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestInvalidNetworkPolicyIsRefused(t *testing.T) {
	p, ctx := shared(t), testContext(t)
	policies := p.client.NetworkingV1().NetworkPolicies(namespace(t, p))
	policy := func(cidr string) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"},
			Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}},
			}}},
		}
	}
	_, err := policies.Create(ctx, policy("10.0.0.0/33"), metav1.CreateOptions{})
	const want = `spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/33"`
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	valid, err := policies.Create(ctx, policy("10.0.0.0/8"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(valid.Spec.PolicyTypes) != 1 || valid.Spec.PolicyTypes[0] != networkingv1.PolicyTypeIngress {
		t.Errorf("defaulted policyTypes %v", valid.Spec.PolicyTypes)
	}
}

var clusterPolicies = schema.GroupVersionResource{Group: "policy.networking.k8s.io", Version: "v1alpha2", Resource: "clusternetworkpolicies"}

func clusterPolicy(name, tier string, priority int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy.networking.k8s.io/v1alpha2",
		"kind":       "ClusterNetworkPolicy",
		"metadata":   map[string]any{"name": name},
		"spec": map[string]any{
			"tier": tier, "priority": priority,
			"subject": map[string]any{"namespaces": map[string]any{}},
			"ingress": []any{map[string]any{
				"action": "Deny",
				"from":   []any{map[string]any{"namespaces": map[string]any{}}},
			}},
		},
	}}
}

func TestClusterNetworkPolicyIsServed(t *testing.T) {
	p, ctx := shared(t), testContext(t)
	client, err := dynamic.NewForConfig(p.config)
	if err != nil {
		t.Fatal(err)
	}
	policies := client.Resource(clusterPolicies)
	if _, err := policies.Create(ctx, clusterPolicy("good", "Admin", 1000), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := policies.Create(ctx, clusterPolicy("high", "Admin", 1001), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.priority") {
		t.Errorf("priority 1001: %v, want it refused", err)
	}
	if _, err := policies.Create(ctx, clusterPolicy("tier", "Middle", 1), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.tier") {
		t.Errorf("tier Middle: %v, want it refused", err)
	}
	if list, err := policies.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := policies.Delete(ctx, "good", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func TestWatchSeesEveryChange(t *testing.T) {
	p, ctx := shared(t), testContext(t)
	maps := p.client.CoreV1().ConfigMaps(namespace(t, p))
	// The controllers put a map of their own into each namespace.
	only := metav1.ListOptions{FieldSelector: "metadata.name=m"}
	w, err := maps.Watch(ctx, only)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
	if m, err = maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Data = map[string]string{"k": "v"}
	if _, err = maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err = maps.Delete(ctx, "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ADDED", "MODIFIED", "DELETED"} {
		select {
		case e, open := <-w.ResultChan():
			if !open || string(e.Type) != want {
				t.Fatalf("got %q (open %v), want %s", e.Type, open, want)
			}
		case <-ctx.Done():
			t.Fatalf("no event, want %s", want)
		}
	}
}
