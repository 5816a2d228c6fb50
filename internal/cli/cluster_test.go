package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kubeconfig writes a kubeconfig whose context "lab" is the server at url.
func kubeconfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
contexts: [{name: lab, context: {cluster: c, user: u}}]
`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInterrupt wants an interrupted read of a cluster to end at once, without
// a report.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	var out, errs bytes.Buffer
	code := Run(ctx, []string{"picket", "matrix", "--context", "lab", "--kubeconfig", kubeconfig(t, srv.URL)}, Streams{Out: &out, Err: &errs})
	if code != exitFailed || out.Len() > 0 || errs.String() != "picket: interrupted while reading the cluster\n" {
		t.Errorf("status %d, output %q, errors %q", code, out.String(), errs.String())
	}
}

// TestDiffAgainstCluster compares a cluster with one pod more to files.
func TestDiffAgainstCluster(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/api/v1/pods") {
			fmt.Fprint(w, `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[
				{"metadata":{"name":"x","namespace":"a","labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"i"}]},"status":{"podIP":"10.244.0.9"}}]}`)
			return
		}
		parts := strings.Split(r.URL.Path, "/")
		if last := parts[len(parts)-1]; last == "namespaces" || last == "nodes" {
			fmt.Fprint(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	}))
	defer srv.Close()
	var out, errs bytes.Buffer
	code := Run(context.Background(), []string{"picket", "diff", "cluster:lab", "testdata/tiny.yaml", "--kubeconfig", kubeconfig(t, srv.URL)}, Streams{Out: &out, Err: &errs})
	if code != exitFindings || !strings.Contains(out.String(), "added a/z") || strings.Contains(out.String(), "a/x:") {
		t.Errorf("status %d, output:\n%s\nerrors:\n%s", code, out.String(), errs.String())
	}
}

// TestContextCompletion completes --context from the kubeconfig, and offers
// nothing where there is none.
func TestContextCompletion(t *testing.T) {
	for _, c := range []struct{ config, prefix, want string }{
		{kubeconfig(t, "https://127.0.0.1:1"), "", "lab\n:4\n"},
		{kubeconfig(t, "https://127.0.0.1:1"), "x", ":4\n"},
		{"testdata/no-such-file", "", ":4\n"},
	} {
		var out, errs bytes.Buffer
		Run(context.Background(), []string{"picket", "__complete", "matrix", "--kubeconfig", c.config, "--context", c.prefix}, Streams{Out: &out, Err: &errs})
		if out.String() != c.want {
			t.Errorf("%s %q: %q, want %q", c.config, c.prefix, out.String(), c.want)
		}
	}
}
