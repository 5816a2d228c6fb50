package explain

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// policy writes a NetworkPolicy for the side's subject: with the one rule that
// allows the connections of the cell, or with none.
func (b *builder) policy(c cell, s side, allow bool) string {
	subjects, peers := c.src, c.dst
	if s.dir == model.Ingress {
		subjects, peers = peers, subjects
	}
	e := &b.t.Snapshot.Endpoints[s.target.Endpoint]
	name, kind, list := "deny-all-ingress", "Ingress", "from"
	if s.dir == model.Egress {
		name, kind, list = "deny-all-egress", "Egress", "to"
	}
	if allow {
		name = objectName(fmt.Sprintf("allow-%s-%s", list, b.name(peers[0])))
	}
	name = b.free(e.Namespace, name)
	var w strings.Builder
	fmt.Fprintf(&w, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: %s\n  namespace: %s\nspec:\n", name, scalar(e.Namespace))
	b.selector(&w, "  ", "podSelector", subjects)
	fmt.Fprintf(&w, "  policyTypes: [%s]\n", kind)
	if !allow {
		return w.String()
	}
	fmt.Fprintf(&w, "  %s:\n  - %s:\n", strings.ToLower(kind), list)
	b.peers(&w, peers, c.families)
	if ported(s.key) {
		fmt.Fprintf(&w, "    ports:\n    - protocol: %s\n      port: %d\n", strings.ToUpper(s.key.Proto().String()), s.key.Port())
	}
	return w.String()
}

// free returns a name like the given one that no policy of the namespace has:
// to apply the suggestion must not replace anything.
func (b *builder) free(namespace, name string) string {
	taken := map[string]bool{}
	for i := range b.t.Snapshot.Tiers {
		for j := range b.t.Snapshot.Tiers[i].Policies {
			if p := &b.t.Snapshot.Tiers[i].Policies[j]; p.Namespace == namespace {
				taken[p.Name] = true
			}
		}
	}
	out := name
	for n := 2; taken[out]; n++ {
		out = fmt.Sprintf("%s-%d", name, n)
	}
	return out
}

// peers writes the list items for the other ends: pods by namespace and
// labels, everything else by address.
func (b *builder) peers(w *strings.Builder, peers []verdict.Party, families []netset.Family) {
	pods := map[string][]verdict.Party{}
	var cidrs []string
	for _, p := range peers {
		switch {
		case p.Endpoint != verdict.None && b.t.Snapshot.Endpoints[p.Endpoint].Kind == model.Pod:
			ns := b.t.Snapshot.Endpoints[p.Endpoint].Namespace
			pods[ns] = append(pods[ns], p)
		case p.Addr.IsValid():
			cidrs = append(cidrs, fmt.Sprintf("%s/%d", p.Addr, p.Addr.BitLen()))
		}
	}
	for _, f := range families {
		if !peers[0].Addr.IsValid() && peers[0].Endpoint == verdict.None {
			cidrs = append(cidrs, map[netset.Family]string{netset.V4: "0.0.0.0/0", netset.V6: "::/0"}[f])
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(pods)) {
		fmt.Fprintf(w, "    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: %s\n", scalar(ns))
		b.selector(w, "      ", "podSelector", pods[ns])
	}
	for _, c := range cidrs {
		fmt.Fprintf(w, "    - ipBlock:\n        cidr: %q\n", c)
	}
}

// selector writes a label selector for the pods.
func (b *builder) selector(w *strings.Builder, indent, key string, ps []verdict.Party) {
	labels := b.identity(ps)
	if len(labels) == 0 {
		fmt.Fprintf(w, "%s%s: {} # no labels tell the pods apart: all pods of the namespace\n", indent, key)
		return
	}
	fmt.Fprintf(w, "%s%s:\n%s  matchLabels:\n", indent, key, indent)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(w, "%s    %s: %s\n", indent, scalar(k), scalar(labels[k]))
	}
}

// usual are the labels that by convention say what a pod is.
var usual = []string{
	"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component",
	"app", "k8s-app", "component", "run", "name",
}

// passing are labels that controllers set and that change with each rollout, or
// name one pod only.
var passing = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name",
	"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index",
}

// identity returns labels that all the pods share: the usual ones if they have
// any, else all that last.
func (b *builder) identity(ps []verdict.Party) map[string]string {
	var common map[string]string
	for _, p := range ps {
		if p.Endpoint == verdict.None {
			continue
		}
		labels := b.t.Snapshot.Endpoints[p.Endpoint].Labels
		if common == nil {
			common = maps.Clone(labels)
			continue
		}
		maps.DeleteFunc(common, func(k, v string) bool { got, ok := labels[k]; return !ok || got != v })
	}
	maps.DeleteFunc(common, func(k, _ string) bool { return slices.Contains(passing, k) })
	out := map[string]string{}
	for _, k := range usual {
		if v, ok := common[k]; ok {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return common
	}
	return out
}

// plain are the strings that YAML reads as strings without quotes.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*$`)

// scalar writes a string as YAML, quoted where it could be read as something
// else.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return fmt.Sprintf("%q", s)
	}
	if plain.MatchString(s) {
		return s
	}
	return fmt.Sprintf("%q", s)
}

var noName = regexp.MustCompile(`[^a-z0-9]+`)

// objectName turns s into a name that an object can have.
func objectName(s string) string {
	s = strings.Trim(noName.ReplaceAllString(strings.ToLower(s), "-"), "-")
	if len(s) > 63 {
		s = strings.TrimRight(s[:63], "-")
	}
	return s
}
