package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"picket/internal/kube"
)

// server is an API server that serves the lists it is given, one object a page.
type server struct {
	lists map[string][]string // path → items
	docs  map[string]string   // path → any other answer
	kind  map[string]string   // path → kind of the list
	fail  map[string]int      // path → status
	gone  map[string]int      // path → how many continue requests are answered with 410

	mu    sync.Mutex
	asked []string
}

const secret = "s3cr3t-t0ken"

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.Trim(r.URL.Path, "/")
	s.asked = append(s.asked, path)
	refuse := func(status int) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","message":"no, %s"}`, secret)
	}
	if r.Header.Get("Authorization") != "Bearer "+secret {
		refuse(http.StatusUnauthorized)
		return
	}
	if status := s.fail[path]; status != 0 {
		refuse(status)
		return
	}
	if doc, ok := s.docs[path]; ok {
		fmt.Fprint(w, doc)
		return
	}
	items, ok := s.lists[path]
	if !ok {
		refuse(http.StatusNotFound)
		return
	}
	from, next := 0, ""
	if c := r.URL.Query().Get("continue"); c != "" {
		if s.gone[path] > 0 {
			s.gone[path]--
			refuse(http.StatusGone)
			return
		}
		fmt.Sscanf(c, secret+"%d", &from)
	}
	to := len(items)
	if r.URL.Query().Get("limit") != "" && to > from+1 {
		to, next = from+1, fmt.Sprint(secret, from+1)
	}
	kind := s.kind[path]
	if kind == "" {
		kind = "PodList"
	}
	fmt.Fprintf(w, `{"kind":%q,"apiVersion":"v1","metadata":{"continue":%q},"items":[%s]}`, kind, next, strings.Join(items[from:to], ","))
}

// run lists s through a kubeconfig.
func run(ctx context.Context, t *testing.T, h http.Handler) (kube.Result, error) {
	t.Helper()
	srv := httptest.NewTLSServer(h) // without TLS no credentials are sent
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "config")
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: here
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
`, srv.URL, secret)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b := kube.NewBuilder(kube.Options{})
	err := List(ctx, b, Options{Kubeconfig: file})
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows what the server sent: %v", err)
	}
	return b.Build(), err
}

func pods(names ...string) []string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"shop"}}`, n))
	}
	return out
}

func endpoints(r kube.Result) []string {
	var out []string
	for _, e := range r.Snapshot.Endpoints {
		out = append(out, e.String())
	}
	return out
}

func TestPages(t *testing.T) {
	s := &server{lists: map[string][]string{"api/v1/pods": pods("a", "b", "c")}}
	r, err := run(t.Context(), t, s)
	if err != nil || len(r.Diagnostics) > 0 {
		t.Fatal(err, r.Diagnostics)
	}
	if diff := cmp.Diff([]string{"shop/a", "shop/b", "shop/c"}, endpoints(r)); diff != "" {
		t.Error(diff)
	}
	if f := r.Snapshot.Endpoints[0].Origin.Position.String(); f != "here" {
		t.Errorf("origin %q", f)
	}
}

// TestGone holds that a list whose token expires is read again from the start,
// and in the end in one page.
func TestGone(t *testing.T) {
	for _, times := range []int{1, 2, 1000} {
		s := &server{lists: map[string][]string{"api/v1/pods": pods("a", "b", "c")}, gone: map[string]int{"api/v1/pods": times}}
		r, err := run(t.Context(), t, s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"shop/a", "shop/b", "shop/c"}, endpoints(r)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"api/v1/pods", 403, `cannot list pods: forbidden: the account needs the verb "list" on resource "pods" in API group "", for the whole cluster`},
		{"apis/networking.k8s.io/v1/networkpolicies", 403, `cannot list networkpolicies: forbidden: the account needs the verb "list" on resource "networkpolicies" in API group "networking.k8s.io", for the whole cluster`},
		{"api/v1/nodes", 500, "cannot list nodes: the server answers 500 Internal Server Error"},
		{"api/v1/nodes", 401, "cannot list nodes: unauthorized: the server does not accept the credentials of the kubeconfig"},
		{"apis/cilium.io", 503, "cannot ask the server for apis/cilium.io: the server answers 503 Service Unavailable"},
	} {
		_, err := run(t.Context(), t, &server{fail: map[string]int{tt.path: tt.status}})
		if fmt.Sprint(err) != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	_, err := run(t.Context(), t, &server{docs: map[string]string{"api/v1/pods": "<html>" + secret}})
	if fmt.Sprint(err) != "cannot list pods: the server's answer is no list of objects in JSON" {
		t.Error(err)
	}
}

// TestPolicyKinds holds that policies of every API are found, once each.
func TestPolicyKinds(t *testing.T) {
	item := func(group, kind string) []string {
		return []string{fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"x"}}`, group, kind)}
	}
	s := &server{
		docs: map[string]string{
			"apis/projectcalico.org":                 `{"versions":[{"version":"v3"}]}`,
			"apis/projectcalico.org/v3":              `{"resources":[{"name":"globalnetworkpolicies","kind":"GlobalNetworkPolicy","verbs":["list"]},{"name":"ippools","kind":"IPPool","verbs":["list"]}]}`,
			"apis/crd.projectcalico.org":             `{"versions":[{"version":"v1"}]}`,
			"apis/policy.networking.k8s.io":          `{"versions":[{"version":"v1alpha1"},{"version":"v1alpha2"}]}`,
			"apis/policy.networking.k8s.io/v1alpha1": `{"resources":[{"name":"adminnetworkpolicies","kind":"AdminNetworkPolicy","verbs":["list"]},{"name":"clusternetworkpolicies","kind":"ClusterNetworkPolicy","verbs":["list"]}]}`,
			"apis/policy.networking.k8s.io/v1alpha2": `{"resources":[{"name":"clusternetworkpolicies","kind":"ClusterNetworkPolicy","verbs":["list"]},{"name":"clusternetworkpolicies/status","kind":"ClusterNetworkPolicy","verbs":["get"]}]}`,
		},
		lists: map[string][]string{
			"apis/projectcalico.org/v3/globalnetworkpolicies":               item("projectcalico.org/v3", "GlobalNetworkPolicy"),
			"apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies":   item("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
			"apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies": {`{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"c"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}}}}`},
		},
		kind: map[string]string{},
	}
	for p := range s.lists {
		s.kind[p] = "List"
	}
	r, err := run(t.Context(), t, s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.Diagnostics {
		got = append(got, d.Code+" "+d.Object)
	}
	if diff := cmp.Diff([]string{"KB001 AdminNetworkPolicy x", "KB001 GlobalNetworkPolicy x"}, got); diff != "" {
		t.Error(diff)
	}
	if len(r.Snapshot.Tiers[0].Policies) != 1 {
		t.Errorf("%+v", r.Snapshot.Tiers[0])
	}
	for _, p := range s.asked {
		if strings.Contains(p, "crd.projectcalico.org") || strings.Contains(p, "ippools") || strings.HasSuffix(p, "status") {
			t.Errorf("asked for %s", p)
		}
	}
}

func TestTimeout(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := run(ctx, t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	err := List(t.Context(), kube.NewBuilder(kube.Options{}), Options{Kubeconfig: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.HasPrefix(err.Error(), "cannot use the kubeconfig: ") {
		t.Error(err)
	}
}
