package compile

import (
	"net/netip"
	"strings"
	"testing"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// TestTermKeys: terms that mean different things have different keys. "All but
// every node" and "no node" once had one.
func TestTermKeys(t *testing.T) {
	all, none := selector.Everything(), selector.Selector{}
	app := selector.FromLabels(map[string]string{"app": "a"})
	nets := netset.FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))
	var terms []model.Term
	for _, not := range []bool{false, true} {
		for _, s := range []selector.Selector{all, none, app} {
			terms = append(terms,
				model.Term{Kind: model.NodeTerm, Not: not, Nodes: s},
				model.Term{Kind: model.PodTerm, Not: not, Namespace: "a", Pods: s},
				model.Term{Kind: model.PodTerm, Not: not, Namespaces: s, Pods: all},
				model.Term{Kind: model.PodTerm, Not: not, Namespaces: s, Pods: app},
			)
		}
		terms = append(terms,
			model.Term{Kind: model.NoTerm, Not: not},
			model.Term{Kind: model.NetTerm, Not: not},
			model.Term{Kind: model.NetTerm, Not: not, Nets: nets},
			model.Term{Kind: model.NetTerm, Not: not, Nets: nets, PodsOpen: true},
			model.Term{Kind: model.NameTerm, Not: not, Names: []string{"a", "b"}},
			model.Term{Kind: model.NameTerm, Not: not, Names: []string{"a,b"}},
		)
	}
	seen := map[string]int{}
	for i := range terms {
		var b strings.Builder
		writeTermKey(&b, &terms[i])
		if j, ok := seen[b.String()]; ok {
			t.Errorf("%+v and %+v have one key %q", terms[i], terms[j], b.String())
		}
		seen[b.String()] = i
	}
}
