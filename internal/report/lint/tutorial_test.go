package lint

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/source/manifest"
)

// tutorial lints the tutorial's pods with the policies of the steps, and with
// more objects.
func tutorial(t *testing.T, more string, steps ...int) *Report {
	t.Helper()
	paths := []string{"testdata/tutorial/pods.yaml"}
	for _, s := range steps {
		paths = append(paths, fmt.Sprintf("testdata/tutorial/step%d", s))
	}
	b := kube.NewBuilder(kube.Options{})
	if more != "" {
		paths = append(paths, "-")
	}
	if err := manifest.Read(b, paths, manifest.Options{Stdin: strings.NewReader(more)}); err != nil {
		t.Fatal(err)
	}
	res := b.Build()
	if len(res.Diagnostics) > 0 {
		t.Fatal(res.Diagnostics)
	}
	return Run(compile.Compile(res.Snapshot, model.Dialects[0]), Options{})
}

// lines returns "code object path" of each finding.
func lines(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimSpace(f.Code+" "+place(&f.Diagnostic)))
	}
	return out
}

// TestTutorial holds every finding on the tutorial's policies, in the order of
// files and lines: no more and no less than what is wrong with them.
func TestTutorial(t *testing.T) {
	const (
		devProd = "allow-traffic-from-dev-to-prod"
		prodQA  = "allow-traffic-from-prod-to-qa-on-tcp8888"
		dns     = "prod/allow-traffic-from-prod-to-coredns-on-tcp53"
	)
	first := []string{
		"HY702 default/deny-ingress", // claims the namespace, selects one pod
		"NP301 Namespace default",    // trouble1 has no DNS
		"NP313 Namespace default",
		"HY702 default/deny-egress",
		"NP310 Namespace default", // trouble2 is open
	}
	within := "HY702 prod/allow-traffic-within-prod-namespace"
	fifth := []string{
		"NP409 prod/" + devProd + " spec.ingress[0]",
		"NP101 prod/" + devProd + " spec.ingress[0].from[0]",
		"NP203 prod/" + devProd + " spec.ingress[0].from[1]",
		"NP115 dev/" + devProd,
		"NP409 dev/" + devProd + " spec.egress[0]",
		"NP101 dev/" + devProd + " spec.egress[0].to[0]",
		"NP203 dev/" + devProd + " spec.egress[0].to[1]",
	}
	sixth := []string{
		"NP409 qa/" + prodQA + " spec.ingress[0]",
		"NP101 qa/" + prodQA + " spec.ingress[0].from[0]",
		"NP203 qa/" + prodQA + " spec.ingress[0].from[1]",
		"NP115 prod/" + prodQA,
		"NP409 prod/" + prodQA + " spec.egress[0]",
		"NP101 prod/" + prodQA + " spec.egress[0].to[0]",
		"NP203 prod/" + prodQA + " spec.egress[0].to[1]",
	}
	seventh := []string{
		"HY702 " + dns, // the file says ingress
		"HY702 " + dns, // the name says tcp53
		"NP409 " + dns + " spec.egress[0]",
		"NP408 " + dns + " spec.egress[0]",
		"NP101 " + dns + " spec.egress[0].to[0]",
		"NP203 " + dns + " spec.egress[0].to[1]",
		"NP407 " + dns + " spec.egress[0].ports[2]",
	}
	join := func(lists ...[]string) []string {
		var out []string
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	noDNS := func(ns ...string) []string {
		var out []string
		for _, n := range ns {
			out = append(out, "NP301 Namespace "+n)
		}
		return out
	}
	for _, c := range []struct {
		steps []int
		want  []string
	}{
		{[]int{1}, join([]string{"NP313 Namespace prod", "NP313 Namespace dev", "NP313 Namespace qa"}, first)},
		{[]int{1, 3}, join(first, noDNS("prod", "dev", "qa"))},
		{[]int{1, 3, 4}, join(first, noDNS("prod", "dev", "qa"), []string{within})},
		{[]int{1, 3, 4, 5}, join(first, noDNS("prod", "dev", "qa"), []string{within}, fifth)},
		{[]int{1, 3, 4, 5, 6}, join(first, noDNS("prod", "dev", "qa"), []string{within}, fifth, sixth)},
		{[]int{1, 3, 4, 5, 6, 7}, join(first, noDNS("dev", "qa"), []string{within}, fifth, sixth, seventh)},
	} {
		if d := cmp.Diff(c.want, lines(tutorial(t, "", c.steps...))); d != "" {
			t.Errorf("steps %v (-want +got):\n%s", c.steps, d)
		}
	}
}

// TestTutorialMessages holds the sentences of the tutorial's central mistake.
func TestTutorialMessages(t *testing.T) {
	// A pod without the label, and a namespace that got the tutorial's label:
	// OR admits both, AND neither.
	const more = `
apiVersion: v1
kind: Pod
metadata: {name: scanner, namespace: dev}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: dev-tools, labels: {nsp: dev}}
---
apiVersion: v1
kind: Pod
metadata: {name: robot, namespace: dev-tools}
spec: {containers: [{name: c, image: i}]}
`
	got := map[string]Finding{}
	for _, f := range tutorial(t, more, 3, 5).Findings {
		if strings.HasPrefix(f.Object, "NetworkPolicy prod/allow") {
			got[f.Code] = f
		}
	}
	for code, want := range map[string]string{
		"NP101": "from[0] namespaceSelector nsp=dev and from[1] podSelector ns=dev are two list items, so OR: all pods of namespaces labelled nsp=dev, and besides pods labelled ns=dev in namespace prod; as one item they would mean AND: OR admits 4 pods today, AND 2, so 2 more",
		"NP203": "podSelector ns=dev matches 0 pods in namespace prod (the peer is limited to the policy's namespace); did you mean it together with from[0] (NP101)?",
		"NP409": "wider than its AND reading: it could additionally admit, as a source, any pod without ns=dev in a namespace labelled nsp=dev, also in one that gets the label later, and any pod labelled ns=dev in namespace prod (2 such today)",
	} {
		if got[code].Message != want {
			t.Errorf("%s:\n got %s\nwant %s", code, got[code].Message, want)
		}
	}
	const fix = `if both must hold, write one list item:
ingress:
- from:
  - namespaceSelector:
      matchLabels:
        nsp: dev
    podSelector:
      matchLabels:
        ns: dev
`
	if got["NP101"].Fix != fix {
		t.Errorf("fix of NP101:\n%s", cmp.Diff(fix, got["NP101"].Fix))
	}
}

// TestTutorialDeployment copies step 1 to where a Deployment makes the pods:
// they do not have the label run.
func TestTutorialDeployment(t *testing.T) {
	const more = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: trouble1, namespace: shop}
spec:
  selector: {matchLabels: {app: trouble1}}
  template:
    metadata: {labels: {app: trouble1}}
    spec: {containers: [{name: c, image: i}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-ingress, namespace: shop}
spec:
  podSelector: {matchLabels: {run: trouble1}}
  policyTypes: [Ingress]
`
	for _, f := range tutorial(t, more, 1).Findings {
		if f.Code == "NP200" {
			if f.Object != "NetworkPolicy shop/deny-ingress" || f.Path != "spec.podSelector" ||
				f.Message != "podSelector run=trouble1 matches 0 of 1 pod in namespace shop: no pod there has a label run; the policy does nothing" {
				t.Errorf("%+v", f)
			}
			return
		}
	}
	t.Error("no NP200")
}

// TestTutorialHalf applies one of step 5's two objects: half open.
func TestTutorialHalf(t *testing.T) {
	const half = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-dev, namespace: prod}
spec:
  podSelector: {matchLabels: {ns: prod}}
  policyTypes: [Ingress]
  ingress:
  - from: [{namespaceSelector: {matchLabels: {nsp: dev}}, podSelector: {matchLabels: {ns: dev}}}]
`
	for _, f := range tutorial(t, half, 3).Findings {
		if f.Code == "NP303" {
			const want = "half open: the rule lets 2 pods in, but egress rules of the sources deny it for each of the 4 pairs: nothing gets through"
			if f.Object != "NetworkPolicy prod/from-dev" || f.Path != "spec.ingress[0]" || f.Message != want {
				t.Errorf("%+v", f)
			}
			return
		}
	}
	t.Error("no NP303")
}
