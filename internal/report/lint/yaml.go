package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// yamlRule writes rule r of a NetworkPolicy as a list item, its peers given as
// terms: several of one item are the AND of a peer's selectors.
func yamlRule(p *policy, d model.Direction, peers []model.Term, ports []model.PortMatch) string {
	var b strings.Builder
	field := "from"
	if d == model.Egress {
		field = "to"
	}
	lead := "- "
	if len(peers) > 0 {
		b.WriteString(lead + field + ":\n")
		lead = "  "
		for _, t := range peers {
			b.WriteString(indent(yamlPeer(p, t), "  "))
		}
	}
	if len(ports) > 0 {
		b.WriteString(lead + "ports:\n")
		lead = "  "
		for _, m := range ports {
			b.WriteString(indent(yamlPort(m), "  "))
		}
	}
	if lead == "- " {
		return "- {}\n"
	}
	return b.String()
}

// yamlPeer writes a term as an item of a NetworkPolicy's from or to.
func yamlPeer(p *policy, t model.Term) string {
	if t.Kind == model.NetTerm {
		cidr, except, _ := strings.Cut(t.NetText, " except ")
		s := "- ipBlock:\n    cidr: " + quote(cidr) + "\n"
		if except != "" {
			s += "    except:\n"
			for _, e := range strings.FieldsFunc(except, func(r rune) bool { return r == ',' || r == ' ' }) {
				s += "    - " + quote(e) + "\n"
			}
		}
		return s
	}
	var parts []string
	if t.Namespace == "" {
		parts = append(parts, yamlSelector("namespaceSelector", t.Namespaces))
	}
	if t.Namespace != "" || !t.Pods.IsEverything() {
		parts = append(parts, yamlSelector("podSelector", t.Pods))
	}
	s := indent(strings.Join(parts, ""), "  ")
	return "- " + strings.TrimPrefix(s, "  ")
}

func yamlSelector(field string, s selector.Selector) string {
	reqs := s.Requirements()
	if len(reqs) == 0 {
		return field + ": {}\n"
	}
	var ls, es strings.Builder
	for _, r := range reqs {
		if r.Op == selector.In && len(r.Values) == 1 {
			ls.WriteString("    " + r.Key + ": " + quote(r.Values[0]) + "\n")
			continue
		}
		op := [...]string{"In", "NotIn", "Exists", "DoesNotExist"}[r.Op]
		fmt.Fprintf(&es, "  - key: %s\n    operator: %s\n", r.Key, op)
		if len(r.Values) > 0 {
			vs := make([]string, len(r.Values))
			for i, v := range r.Values {
				vs[i] = quote(v)
			}
			es.WriteString("    values: [" + strings.Join(vs, ", ") + "]\n")
		}
	}
	out := field + ":\n"
	if ls.Len() > 0 {
		out += "  matchLabels:\n" + ls.String()
	}
	if es.Len() > 0 {
		out += "  matchExpressions:\n" + es.String()
	}
	return out
}

// yamlPort writes a port match as items of ports.
func yamlPort(m model.PortMatch) string {
	if m.Name != "" {
		if len(m.Protos) == 0 {
			return "- port: " + m.Name + "\n"
		}
		return fmt.Sprintf("- protocol: %s\n  port: %s\n", strings.ToUpper(m.Protos[0].String()), m.Name)
	}
	var b strings.Builder
	for _, r := range m.Traffic.PortRanges() {
		fmt.Fprintf(&b, "- protocol: %s\n", strings.ToUpper(r.Proto.String()))
		if r.Whole() {
			continue
		}
		fmt.Fprintf(&b, "  port: %d\n", r.From)
		if r.To != r.From {
			fmt.Fprintf(&b, "  endPort: %d\n", r.To)
		}
	}
	return b.String()
}

// quote writes a scalar so that YAML reads it back as a string.
func quote(s string) string {
	plain := s != "" && !strings.ContainsAny(s, ":#'\"{}[],&*!|>%@` \t") && !strings.ContainsRune("-?.0123456789", rune(s[0]))
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "~":
		plain = false
	}
	if plain {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func indent(s, by string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(by + line)
	}
	return b.String()
}

// dnsPolicy is a NetworkPolicy that lets every pod of a namespace ask the
// cluster's DNS servers: those that peer selects, on the given keys.
func dnsPolicy(ns, peerNamespace string, peer selector.Selector, keys []netset.Key) string {
	var ports []model.PortMatch
	for _, k := range slices.Backward(keys) { // UDP first, as people write it
		ports = append(ports, model.PortMatch{Traffic: netset.Span(k, k)})
	}
	to := model.Term{Kind: model.PodTerm, Pods: peer,
		Namespaces: selector.FromLabels(map[string]string{nameLabel: peerNamespace})}
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: allow-dns\n  namespace: " + ns +
		"\nspec:\n  podSelector: {}\n  policyTypes: [Egress]\n  egress:\n" +
		indent(yamlRule(nil, model.Egress, []model.Term{to}, ports), "  ")
}
