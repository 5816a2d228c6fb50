package kube

import (
	"fmt"
	"net/netip"
	"strings"

	networking "k8s.io/api/networking/v1"

	"picket/internal/diag"
	"picket/internal/model"
)

// shape reports what a NetworkPolicy says otherwise than it looks, where only
// the way it is written shows it.
func (o *object) shape(spec *networking.NetworkPolicySpec) {
	if o.noNS {
		o.finding("NP115", diag.Info, "metadata", "write metadata.namespace",
			"metadata.namespace is missing: the policy lands in namespace %s", o.ns)
	}
	o.shapeTypes(spec)
	for i, r := range spec.Ingress {
		o.shapeRule(fmt.Sprintf("spec.ingress[%d]", i), "from", "source", r.From, r.Ports)
	}
	for i, r := range spec.Egress {
		o.shapeRule(fmt.Sprintf("spec.egress[%d]", i), "to", "destination", r.To, r.Ports)
	}
}

func (o *object) shapeTypes(spec *networking.NetworkPolicySpec) {
	if len(spec.PolicyTypes) == 0 {
		types := "Ingress"
		if len(spec.Egress) > 0 {
			types = "Ingress, Egress"
		}
		o.finding("NP108", diag.Info, "spec", "policyTypes: ["+types+"]",
			"policyTypes is missing: the policy isolates its pods for %s", strings.ToLower(strings.Replace(types, ",", " and", 1)))
		if spec.Egress != nil && len(spec.Egress) == 0 {
			o.finding("NP105", diag.Warning, "spec.egress", "policyTypes: [Ingress, Egress]",
				"egress: [] without policyTypes does not deny egress: all egress of the pods stays open")
		}
		return
	}
	var has [2]bool
	for _, t := range spec.PolicyTypes {
		has[model.Ingress] = has[model.Ingress] || t == networking.PolicyTypeIngress
		has[model.Egress] = has[model.Egress] || t == networking.PolicyTypeEgress
	}
	for _, d := range model.Directions {
		n, name := len(spec.Ingress), "Ingress"
		if d == model.Egress {
			n, name = len(spec.Egress), "Egress"
		}
		if n > 0 && !has[d] {
			o.finding("NP107", diag.Warning, "spec."+d.String(), "add "+name+" to policyTypes, or remove the rules",
				"policyTypes lacks %s: %s here %s ignored, and %s stays as open as it was", name, count(n, "rule"), isAre(n), d)
		}
	}
}

func (o *object) shapeRule(at, peers, peer string, from []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) {
	if from != nil && len(from) == 0 {
		o.finding("NP103", diag.Warning, at+"."+peers, "leave "+peers+" out if every "+peer+" is meant; otherwise list the peers",
			"%s: [] allows every %s, inside and outside the cluster", peers, peer)
	}
	if ports != nil && len(ports) == 0 {
		o.finding("NP104", diag.Warning, at+".ports", "leave ports out if all are meant; otherwise list them",
			"ports: [] allows all ports of all protocols")
	}
	for i, p := range ports {
		if p.Protocol != nil {
			continue
		}
		what := "without protocol and port, this means every TCP port"
		if p.Port != nil {
			what = "port " + p.Port.String() + " without protocol means TCP only"
		}
		o.finding("NP109", diag.Info, fmt.Sprintf("%s.ports[%d]", at, i), "protocol: TCP", "%s", what)
	}
}

// hostBits reports a block of addresses that begins in its middle.
func (o *object) hostBits(written string, p netip.Prefix, at string) {
	one := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
	o.finding("NP111", diag.Warning, at, fmt.Sprintf("write %s, or %s for the one address", p.Masked(), one),
		"%s has bits set beyond its length: it means all of %s, and new API servers reject it", written, p.Masked())
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// addPolicy enters a policy. One of the same name that came before is replaced,
// as the API server would replace it.
func (o *object) addPolicy(tier int, p model.Policy) {
	k := o.kindKey()
	if old, ok := o.b.policies[k]; ok {
		o.finding("NP114", diag.Warning, "metadata.name", "give one of them another name, or remove it",
			"the name is taken already: this policy replaces the one of %s, which has no effect", old.Origin.Position)
	}
	o.b.policies[k] = policy{tier, p}
}

// ignores reads which findings about the policy are accepted: from the
// annotation picket/ignore and from comments.
func (o *object) ignores(annotations map[string]string) []model.Ignore {
	var out []model.Ignore
	add := func(text string, at model.Origin) {
		ig, ok := parseIgnore(text)
		if !ok {
			d := diag.Diagnostic{
				Code: "KB002", Severity: diag.Warning, Position: at.Position, Path: at.Path, Object: o.ref(),
				Message: fmt.Sprintf("%q does not say which finding to ignore and why", shorten(text)),
				Fix:     "write a code and a reason: NP301 reason=the pods resolve no names",
			}
			o.b.Report(d)
			return
		}
		ig.Origin = at
		out = append(out, ig)
	}
	const name = "picket/ignore"
	if text, ok := annotations[name]; ok {
		at := o.origin("metadata.annotations[" + name + "]")
		for part := range strings.SplitSeq(text, ";") {
			if part = strings.TrimSpace(part); part != "" {
				add(part, at)
			}
		}
	}
	if src, ok := o.src.(CommentSource); ok {
		for _, c := range src.Comments() {
			text := strings.TrimSpace(strings.TrimPrefix(c.Text, "picket:"))
			add(strings.TrimPrefix(text, "ignore="), model.Origin{Position: c.Position})
		}
	}
	return out
}

// parseIgnore reads "NP301 reason=why".
func parseIgnore(text string) (model.Ignore, bool) {
	code, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	reason, ok := strings.CutPrefix(strings.TrimSpace(rest), "reason=")
	reason = strings.Trim(strings.TrimSpace(reason), `"`)
	if !ok || reason == "" || len(code) != 5 || strings.Trim(code[:2], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" ||
		strings.Trim(code[2:], "0123456789") != "" {
		return model.Ignore{}, false
	}
	return model.Ignore{Code: code, Reason: reason}, true
}
