package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// apiServer serves the objects of a folder of manifests as an API server does:
// in lists, whose items have neither kind nor apiVersion.
func apiServer(t *testing.T, folder string) *httptest.Server {
	t.Helper()
	lists := map[string][]any{}
	kinds := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".yaml") || filepath.Base(path) == "suite.yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, doc := range strings.Split(string(data), "\n---\n") {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				return err
			}
			version, kind := o["apiVersion"].(string), o["kind"].(string)
			delete(o, "apiVersion")
			delete(o, "kind")
			resource := strings.ToLower(kind) + "s"
			if strings.HasSuffix(kind, "s") { // Ingress
				resource = strings.ToLower(kind) + "es"
			} else if stem, ok := strings.CutSuffix(resource, "ys"); ok {
				resource = stem + "ies"
			}
			root := "/apis/"
			if !strings.Contains(version, "/") {
				root = "/api/"
			}
			at := root + version + "/" + resource
			lists[at] = append(lists[at], o)
			kinds[at] = kind
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(v any) {
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		}
		const policies = "/apis/policy.networking.k8s.io"
		switch path := r.URL.Path; {
		case path == policies:
			answer(map[string]any{"kind": "APIGroup", "versions": []any{map[string]any{"version": "v1alpha2"}}})
		case path == policies+"/v1alpha2":
			answer(map[string]any{"kind": "APIResourceList", "resources": []any{
				map[string]any{"name": "clusternetworkpolicies", "kind": "ClusterNetworkPolicy", "verbs": []string{"list"}}}})
		case lists[path] != nil:
			version, _ := strings.CutPrefix(path[:strings.LastIndex(path, "/")], "/apis/")
			version, _ = strings.CutPrefix(version, "/api/")
			answer(map[string]any{"kind": kinds[path] + "List", "apiVersion": version, "metadata": map[string]any{}, "items": lists[path]})
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestClusterEqualsFiles holds that a cluster gives the same matrix as the
// files that made it, but for the places of the objects.
func TestClusterEqualsFiles(t *testing.T) {
	const shop = "../../examples/shop"
	matrix := func(flags ...string) any {
		t.Helper()
		var out, errs bytes.Buffer
		if code := Run(context.Background(), append([]string{"picket", "matrix", "-o", "json"}, flags...), Streams{Out: &out, Err: &errs}); code != 0 {
			t.Fatalf("status %d: %s", code, errs.String())
		}
		var v any
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		return placeless(v)
	}
	files := matrix("-R", "-f", shop)
	cluster := matrix("--context", "lab", "--kubeconfig", kubeconfig(t, apiServer(t, shop).URL))
	if d := cmp.Diff(files, cluster); d != "" {
		t.Errorf("(-files +cluster):\n%s", d)
	}
}

// placeless drops the fields that say where an object stands.
func placeless(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "file")
		delete(v, "line")
		for k := range v {
			v[k] = placeless(v[k])
		}
	case []any:
		for i := range v {
			v[i] = placeless(v[i])
		}
	}
	return v
}
