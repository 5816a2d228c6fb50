package verdict_test

import (
	"testing"

	"picket/internal/clustergen/small"
	"picket/internal/model"
	"picket/internal/verdict"
)

// TestResolve holds what the words of the command line stand for.
func TestResolve(t *testing.T) {
	w := &small.World{}
	w.Namespace("shop", "")
	for _, name := range []string{"shop/web-1", "shop/web-2"} {
		w.Pod(name, "app=web", map[string]string{"shop/web-1": "10.1.0.1", "shop/web-2": "10.1.0.2"}[name]).Owner = model.Owner{Kind: "Deployment", Name: "web"}
	}
	w.Snap.Services = []model.Service{{Namespace: "shop", Name: "web", Selector: small.ByLabel("app=web"), Type: "ClusterIP"}}
	table := w.Table(t, "picket")
	for _, c := range []struct {
		text      string
		endpoints int
		service   bool
		err       string
	}{
		{text: "shop/web-1", endpoints: 1},
		{text: "shop/web", endpoints: 2},
		{text: "web", endpoints: 2},
		{text: "shop/deploy/web", endpoints: 2},
		{text: "shop/svc/web", endpoints: 2, service: true},
		{text: "10.1.0.2", endpoints: 1},
		{text: "external"},
		{text: "192.0.2.7"},
		{text: "shop/wbe", err: `no pod, workload or service "shop/wbe" in the input; did you mean "shop/web"?`},
		{text: "shop/nothing-like-it", err: `no pod, workload or service "shop/nothing-like-it" in the input`},
		{text: "192.0.2.0/24", err: "192.0.2.0/24 is a block of addresses: name one address of it, such as 192.0.2.0, or external"},
		{text: "node/n1", err: `no node "n1"`},
		{text: "a//b", err: `"a//b" is no endpoint: want namespace/pod, namespace/kind/name, node/name, an address or external`},
	} {
		r, err := table.Resolve(c.text, "shop")
		if got := message(err); got != c.err {
			t.Errorf("%s: error %q, want %q", c.text, got, c.err)
			continue
		}
		if err == nil && (len(r.Endpoints) != c.endpoints || (r.Service != nil) != c.service || r.Node != verdict.None) {
			t.Errorf("%s: %+v", c.text, r)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
