package compile_test

import (
	"fmt"
	"net/netip"

	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// Two pods, and a policy that lets the web reach the database on its port.
func ExampleCompile() {
	labelled := func(v string) selector.Selector { return selector.FromLabels(map[string]string{"app": v}) }
	port, _ := verdict.ParsePort("tcp/5432")
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop"}},
		Endpoints: []model.Endpoint{
			{Namespace: "shop", Name: "db", Labels: map[string]string{"app": "db"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
			{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}},
		},
		Tiers: []model.Tier{{Name: "NetworkPolicy", Union: true, Policies: []model.Policy{{
			Namespace: "shop", Name: "db",
			Subject: []model.Term{{Kind: model.PodTerm, Namespace: "shop", Pods: labelled("db")}},
			Applies: [2]bool{model.Ingress: true},
			Rules: [2][]model.Rule{model.Ingress: {{
				Action: model.Allow,
				Peers:  []model.Peer{{Terms: []model.Term{{Kind: model.PodTerm, Namespace: "shop", Pods: labelled("web")}}}},
				Ports:  []model.PortMatch{{Traffic: portTraffic(port)}},
			}}},
		}}}},
	}
	t := compile.Compile(s, model.Dialects[0])
	for _, dst := range []string{"shop/db", "shop/web"} {
		for _, src := range []string{"shop/db", "shop/web", "external"} {
			from, _ := t.Resolve(src, "")
			to, _ := t.Resolve(dst, "")
			pair := t.Pair(t.Parties(from)[0], t.Parties(to)[0])
			fmt.Println(src, "to", dst, verdict.JointTraffic(t.Join(pair), verdict.Allow))
		}
	}
	// Output:
	// shop/db to shop/db all
	// shop/web to shop/db tcp/5432
	// external to shop/db none
	// shop/db to shop/web all
	// shop/web to shop/web all
	// external to shop/web all
}
