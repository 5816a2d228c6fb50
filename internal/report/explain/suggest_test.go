package explain

import (
	"path/filepath"
	"strings"
	"testing"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

// read compiles manifests.
func read(t *testing.T, yaml string, paths ...string) *verdict.Table {
	t.Helper()
	b := kube.NewBuilder(kube.Options{})
	if yaml != "" {
		paths = append(paths, "-")
	}
	if err := manifest.Read(b, paths, manifest.Options{Stdin: strings.NewReader(yaml)}); err != nil {
		t.Fatal(err)
	}
	r := b.Build()
	if r.Diagnostics.HasErrors() {
		t.Fatalf("%v", r.Diagnostics)
	}
	return compile.Compile(r.Snapshot, model.Dialects[0])
}

// TestSuggestionsTurnTheVerdictRound applies what the report suggests and asks
// again.
func TestSuggestionsTurnTheVerdictRound(t *testing.T) {
	path := filepath.Join("testdata", "shop.yaml")
	for _, c := range []struct {
		src, dst, port string
		was            verdict.Decision
	}{
		{"shop/client", "shop/web", "tcp/80", verdict.Deny}, // the Service's port is another one
		{"ops/prober", "shop/web-0", "tcp/8080", verdict.Deny},
		{"shop/web-0", "8.8.8.8", "udp/53", verdict.Deny},
		{"shop/web-0", "external", "tcp/443", verdict.Deny},
		{"external", "shop/web-0", "sctp/7", verdict.Deny},
		{"shop/odd", "shop/web-0", "icmp", verdict.Deny},
		{"shop/client", "shop/odd", "tcp/1", verdict.Allow}, // nothing guards either
		{"shop/client", "8.8.8.8", "icmp", verdict.Allow},
	} {
		r, text := ask(t, read(t, "", path), c.src, c.dst, c.port)
		if r.Decision() != c.was {
			t.Fatalf("%s → %s: %v before\n%s", c.src, c.dst, r.Decision(), text)
		}
		var docs []string
		for _, s := range r.Cases[0].Change.Steps {
			if s.YAML == "" {
				t.Errorf("%s → %s: a step without a policy: %+v", c.src, c.dst, s)
			}
			docs = append(docs, s.YAML)
		}
		after, text2 := ask(t, read(t, strings.Join(docs, "---\n"), path), c.src, c.dst, c.port)
		if after.Decision() != r.Cases[0].Change.To {
			t.Errorf("%s → %s %s: %v after the change, want %v\n%s\n%s", c.src, c.dst, c.port, after.Decision(), r.Cases[0].Change.To, text, text2)
		}
	}
}

func TestPlacesInRealFiles(t *testing.T) {
	_, text := ask(t, read(t, "", filepath.Join("testdata", "shop.yaml")), "shop/client", "shop/web", "tcp/80")
	has(t, text, "NetworkPolicy shop/web spec.ingress[0] ("+filepath.Join("testdata", "shop.yaml")+":",
		"either  pods labelled app=client in namespaces labelled team=shop: none today",
		"or      pods labelled app=client in namespace shop: 1 pod today, shop/client",
		"it names tcp/80, the port of service shop/web; policies see the pod's port, which is tcp/8080")
}
