package clustergen

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/selector"
)

// Manifests writes the cluster of Sized as YAML, for programs that read files:
// namespaces, nodes, pods with their addresses and owners, and policies.
func Manifests(c Config, w io.Writer) error {
	s := Sized(c)
	b := bufio.NewWriter(w)
	for _, n := range s.Namespaces {
		fmt.Fprintf(b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: %s}\n---\n", n.Name, labelsYAML(n.Labels))
	}
	for _, n := range s.Nodes {
		labels := maps.Clone(n.Labels)
		if n.ControlPlane {
			labels["node-role.kubernetes.io/control-plane"] = ""
		}
		fmt.Fprintf(b, "apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: %s}\n", n.Name, labelsYAML(labels))
		fmt.Fprintf(b, "status: {addresses: [{type: InternalIP, address: %s}]}\n---\n", n.Addrs[0])
	}
	for i := range s.Endpoints {
		writePod(b, &s.Endpoints[i])
	}
	for _, t := range s.Tiers {
		for i := range t.Policies {
			if t.Union {
				writeNetworkPolicy(b, &t.Policies[i])
			} else {
				writeClusterNetworkPolicy(b, t.Name, &t.Policies[i])
			}
		}
	}
	return b.Flush()
}

func writePod(b *bufio.Writer, e *model.Endpoint) {
	fmt.Fprintf(b, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n  labels: %s\n", e.Name, e.Namespace, labelsYAML(e.Labels))
	fmt.Fprintf(b, "  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: %s, uid: u, controller: true}]\n", e.Owner.Name)
	fmt.Fprintf(b, "spec:\n  nodeName: %s\n  containers:\n  - name: main\n    image: registry.example.org/main:1\n", e.Node)
	if len(e.Ports) > 0 {
		b.WriteString("    ports:\n")
	}
	for _, p := range e.Ports {
		fmt.Fprintf(b, "    - {name: %s, containerPort: %d, protocol: %s}\n", p.Name, p.Number, strings.ToUpper(p.Proto.String()))
	}
	fmt.Fprintf(b, "status: {phase: Running, podIP: %s, podIPs: [{ip: %[1]s}]}\n---\n", e.Addrs[0])
}

func writeNetworkPolicy(b *bufio.Writer, p *model.Policy) {
	fmt.Fprintf(b, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\n", p.Name, p.Namespace)
	var types []string
	for _, d := range model.Directions {
		if p.Applies[d] {
			types = append(types, map[model.Direction]string{model.Ingress: "Ingress", model.Egress: "Egress"}[d])
		}
	}
	fmt.Fprintf(b, "spec:\n  podSelector: %s\n  policyTypes: [%s]\n", selectorYAML(p.Subject[0].Pods), strings.Join(types, ", "))
	for _, d := range model.Directions {
		if len(p.Rules[d]) == 0 {
			continue
		}
		fmt.Fprintf(b, "  %s:\n", d)
		for _, r := range p.Rules[d] {
			var peers, ports []string
			for _, peer := range r.Peers {
				peers = append(peers, peerYAML(peer.Terms[0]))
			}
			for _, m := range r.Ports {
				ports = append(ports, portYAML(m))
			}
			fmt.Fprintf(b, "  - %s: [%s]\n    ports: [%s]\n", peersField(d), strings.Join(peers, ", "), strings.Join(ports, ", "))
		}
	}
	b.WriteString("---\n")
}

func peersField(d model.Direction) string {
	if d == model.Ingress {
		return "from"
	}
	return "to"
}

// peerYAML writes a peer of a NetworkPolicy.
func peerYAML(t model.Term) string {
	if t.Kind == model.NetTerm {
		cidr, except, _ := strings.Cut(t.NetText, " except ")
		return fmt.Sprintf("{ipBlock: {cidr: %s, except: [%s]}}", cidr, except)
	}
	pods := "podSelector: " + selectorYAML(t.Pods)
	if t.Namespace != "" {
		return "{" + pods + "}"
	}
	return fmt.Sprintf("{namespaceSelector: %s, %s}", selectorYAML(t.Namespaces), pods)
}

// portYAML writes a port of a NetworkPolicy: a name, or one range.
func portYAML(m model.PortMatch) string {
	if m.Name != "" {
		return fmt.Sprintf("{protocol: TCP, port: %s}", m.Name)
	}
	r := m.Traffic.PortRanges()[0]
	return fmt.Sprintf("{protocol: %s, port: %d, endPort: %d}", strings.ToUpper(r.Proto.String()), r.From, r.To)
}

func writeClusterNetworkPolicy(b *bufio.Writer, tier string, p *model.Policy) {
	fmt.Fprintf(b, "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: %s}\n", p.Name)
	fmt.Fprintf(b, "spec:\n  tier: %s\n  priority: %g\n  subject: %s\n", tier, p.Order, podsYAML(p.Subject[0]))
	for _, d := range model.Directions {
		if len(p.Rules[d]) == 0 {
			continue
		}
		fmt.Fprintf(b, "  %s:\n", d)
		for _, r := range p.Rules[d] {
			action := map[model.Action]string{model.Allow: "Accept", model.Deny: "Deny", model.Pass: "Pass"}[r.Action]
			fmt.Fprintf(b, "  - name: %s\n    action: %s\n    %s:\n", r.Name, action, peersField(d))
			for _, peer := range r.Peers {
				fmt.Fprintf(b, "    - %s\n", podsYAML(peer.Terms[0]))
			}
			if len(r.Ports) > 0 {
				b.WriteString("    protocols:\n")
			}
			for _, m := range r.Ports {
				pr := m.Traffic.PortRanges()[0]
				fmt.Fprintf(b, "    - %s: {destinationPort: {number: %d}}\n", pr.Proto, pr.From)
			}
		}
	}
	b.WriteString("---\n")
}

// podsYAML writes a subject or a peer of a ClusterNetworkPolicy.
func podsYAML(t model.Term) string {
	if t.Kind == model.NetTerm {
		return fmt.Sprintf("{networks: [%q]}", t.NetText)
	}
	return fmt.Sprintf("{pods: {namespaceSelector: %s, podSelector: %s}}", selectorYAML(t.Namespaces), selectorYAML(t.Pods))
}

func labelsYAML(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s: %q", k, m[k]))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func selectorYAML(s selector.Selector) string {
	var out []string
	for _, r := range s.Requirements() {
		op := map[selector.Op]string{selector.In: "In", selector.NotIn: "NotIn", selector.Exists: "Exists", selector.NotExists: "DoesNotExist"}[r.Op]
		item := fmt.Sprintf("{key: %s, operator: %s", r.Key, op)
		if len(r.Values) > 0 {
			item += fmt.Sprintf(`, values: ["%s"]`, strings.Join(r.Values, `", "`))
		}
		out = append(out, item+"}")
	}
	if len(out) == 0 {
		return "{}"
	}
	return "{matchExpressions: [" + strings.Join(out, ", ") + "]}"
}
