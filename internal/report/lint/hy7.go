package lint

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
)

// hy7Checks compare what policies are called with what they do.
var hy7Checks = []check{{"HY702", false, hy702}}

var (
	words    = regexp.MustCompile(`[a-z]+|[0-9]+`)
	portWord = regexp.MustCompile(`(?:^|[^a-z])(tcp|udp|sctp|port)-?([0-9]{1,5})(?:[^0-9]|$)`)
)

// hy702 is cautious: a name is a claim only where its words leave no doubt.
func hy702(l *linter) {
	files := map[string][]*policy{}
	for i := range l.policies {
		p := &l.policies[i]
		if !p.v1() || !p.live() {
			continue
		}
		if p.Origin.File != "" {
			files[p.Origin.File] = append(files[p.Origin.File], p)
		}
		var claims []string
		for _, f := range []func(*policy, []string) string{l.claimDirection, l.claimPorts, l.claimNamespaces, l.claimAll} {
			if s := f(p, words.FindAllString(strings.ToLower(p.Name), -1)); s != "" {
				claims = append(claims, s)
			}
		}
		if len(claims) > 0 {
			l.info(p, p.Origin, "rename the policy, or correct it", "the name says otherwise: %s", strings.Join(claims, "; "))
		}
	}
	for _, f := range sortedKeys(files) {
		ps := files[f]
		base := strings.TrimSuffix(path.Base(f), path.Ext(f))
		if len(ps) != 1 {
			continue
		}
		p := ps[0]
		ws := words.FindAllString(strings.ToLower(base), -1)
		if s := l.claimDirection(p, ws); s != "" && l.claimDirection(p, words.FindAllString(strings.ToLower(p.Name), -1)) == "" {
			l.info(p, p.Origin, "rename the file, or correct the policy", "the file's name %s says otherwise: %s", path.Base(f), s)
		}
	}
}

// claimDirection compares the words ingress and egress. "ingress" may also be
// the name of a controller.
func (l *linter) claimDirection(p *policy, ws []string) string {
	says := [2]bool{slices.Contains(ws, "ingress"), slices.Contains(ws, "egress")}
	if i := slices.Index(ws, "ingress"); i >= 0 {
		next := ""
		if i+1 < len(ws) {
			next = ws[i+1]
		}
		if i > 0 && (ws[i-1] == "to" || ws[i-1] == "from") || slices.Contains([]string{"nginx", "controller", "gateway", "traefik", "haproxy", "ns", "namespace"}, next) {
			return ""
		}
	}
	if says[0] == says[1] {
		return ""
	}
	for _, d := range model.Directions {
		if says[d] && !p.Applies[d] && p.Applies[1-d] {
			return fmt.Sprintf("%q, but the policy judges only %s", d.String(), (1 - d).String())
		}
	}
	return ""
}

// claimPorts compares words such as tcp53 with the ports of the rules.
func (l *linter) claimPorts(p *policy, _ []string) string {
	var claim netset.Traffic
	var said []string
	for name := strings.ToLower(p.Name); ; {
		m := portWord.FindStringSubmatchIndex(name)
		if m == nil {
			break
		}
		proto, num := name[m[2]:m[3]], name[m[4]:m[5]]
		name = name[m[5]:]
		n, err := strconv.ParseUint(num, 10, 16)
		if err != nil {
			continue
		}
		said = append(said, proto+num)
		if proto == "port" {
			claim = claim.Union(netset.Ports(netset.TCP, uint16(n), uint16(n))).Union(netset.Ports(netset.UDP, uint16(n), uint16(n)))
			continue
		}
		pr, _ := netset.ParseProto(proto)
		claim = claim.Union(netset.Ports(pr, uint16(n), uint16(n)))
	}
	if claim.Empty() {
		return ""
	}
	var all netset.Traffic
	rules := 0
	for _, d := range model.Directions {
		for i := range p.Rules[d] {
			if !p.Applies[d] {
				continue
			}
			t, named := numbers(&p.Rules[d][i])
			if named {
				return ""
			}
			all, rules = all.Union(t), rules+1
		}
	}
	if rules == 0 {
		return ""
	}
	var parts []string
	if more := all.Subtract(claim); !more.Empty() {
		parts = append(parts, "the rules also allow "+more.String())
	}
	if claim.Intersect(all).Empty() {
		parts = append(parts, "no rule allows it")
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%q, but %s", strings.Join(said, ", "), strings.Join(parts, " and "))
}

// claimNamespaces compares from-X and to-Y with where the policy is and whom it
// lets through, if X and Y are namespaces.
func (l *linter) claimNamespaces(p *policy, ws []string) string {
	for i, w := range ws {
		if w != "from" && w != "to" || i+1 == len(ws) || l.namespaces[ws[i+1]] == nil {
			continue
		}
		ns, d := ws[i+1], model.Ingress // whose peers the namespace would be
		if w == "to" {
			d = model.Egress
		}
		if ns == p.Namespace {
			// The pods themselves are the sources, or the destinations.
			if !p.Applies[1-d] {
				return fmt.Sprintf("%q, but the policy is in %s and judges only %s", w+" "+ns, ns, d)
			}
			continue
		}
		if !p.Applies[d] || len(p.Rules[d]) == 0 {
			if p.Applies[1-d] && len(p.Rules[1-d]) > 0 && l.reaches(p, 1-d, ns) {
				return fmt.Sprintf("%q, but the policy is in %s and judges %s, so it lets through the opposite", w+" "+ns, p.Namespace, (1 - d).String())
			}
			continue
		}
		if !l.reaches(p, d, ns) {
			return fmt.Sprintf("%q, but no peer of its %s rules can be in namespace %s", w+" "+ns, d, ns)
		}
	}
	return ""
}

// reaches reports whether some peer of a direction can be in namespace ns.
func (l *linter) reaches(p *policy, d model.Direction, ns string) bool {
	for _, r := range p.Rules[d] {
		if r.AnyPeer {
			return true
		}
		for _, x := range r.Peers {
			for _, t := range x.Terms {
				if t.Kind != model.PodTerm || t.Not || t.Namespace == ns || t.Namespace == "" && t.Namespaces.Matches(l.labelsOf(ns)) {
					return true
				}
			}
		}
	}
	return false
}

// plain are words that say nothing about which pods a policy is for.
var plain = []string{
	"default", "deny", "block", "isolate", "all", "any", "every", "everything", "ingress", "egress", "traffic",
	"in", "inside", "within", "namespace", "ns", "and", "policy", "np", "netpol", "network", "the", "pods", "allow",
}

// claimAll compares names that speak of a whole namespace, such as deny-ingress
// or allow-within-namespace, with a subject that is a part of it.
func (l *linter) claimAll(p *policy, ws []string) string {
	t, ok := subject(p)
	rules := len(p.Rules[0]) + len(p.Rules[1])
	if !ok {
		return ""
	}
	denies := slices.Contains(ws, "deny") || slices.Contains(ws, "block") || slices.Contains(ws, "isolate")
	general := !slices.ContainsFunc(ws, func(w string) bool { return !slices.Contains(plain, w) && w != p.Namespace })
	inside := (slices.Contains(ws, "within") || slices.Contains(ws, "inside")) && (slices.Contains(ws, "namespace") || slices.Contains(ws, p.Namespace))
	if ws != nil && ws[0] == "allow" && rules == 0 && !denies && p.Applies != [2]bool{} {
		return "\"allow\", but the policy has no rules and denies everything"
	}
	if denies && slices.Contains(ws, "all") && rules > 0 && general {
		return fmt.Sprintf("\"deny all\", but the policy has %s", plural(rules, "allow rule"))
	}
	if t.Pods.IsEverything() || !(denies && general && rules == 0 || inside) {
		return ""
	}
	s := fmt.Sprintf("the whole namespace, but the policy selects only pods labelled %s", t.Pods)
	if n := l.namespaces[p.Namespace]; n != nil && n.pods > 0 {
		s += fmt.Sprintf(" (%d of %s)", p.selects(), plural(n.pods, "pod"))
	}
	return s
}
