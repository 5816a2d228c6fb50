package lint

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// np204 finds named ports that no pod they are looked up at has.
func np204(l *linter) {
	l.eachRule(func(p *policy, d model.Direction, ri int, r *model.Rule) {
		for _, m := range r.Ports {
			if m.Name == "" {
				continue
			}
			o := m.Origin
			if o.Path == "" {
				o = r.Origin
			}
			at, some := l.responders(p, d, ri)
			if !some {
				continue
			}
			var wrong []string // protocols under which the name exists
			found := false
			have := l.withPort(m.Name)
			if n := l.namespaces[p.Namespace]; d == model.Ingress && n != nil {
				from, _ := slices.BinarySearch(have, int32(n.from))
				to, _ := slices.BinarySearch(have, int32(n.to))
				have = have[from:to]
			}
			for _, e := range have {
				if !at(e) {
					continue
				}
				for _, c := range l.s.Endpoints[e].Ports {
					if c.Name == m.Name && (len(m.Protos) == 0 || slices.Contains(m.Protos, c.Proto)) {
						found = true
					} else if c.Name == m.Name {
						wrong = append(wrong, c.Proto.String())
					}
				}
				if found {
					break
				}
			}
			if found {
				continue
			}
			who := "the pods that the policy selects"
			if d == model.Egress {
				who = "the pods that the rule's peers match"
			}
			msg := fmt.Sprintf("none of %s has a container port named %s: the rule allows nothing by it", who, m.Name)
			if len(wrong) > 0 {
				slices.Sort(wrong)
				msg = fmt.Sprintf("the port named %s is %s on %s, not %s: the rule allows nothing by it", m.Name, slices.Compact(wrong)[0], who, protoWords(m.Protos))
			}
			l.warn(p, o, "name the containerPort (ports[].name of the container), or write its number", "%s", msg)
		}
	})
}

func protoWords(ps []netset.Proto) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, " or ")
}

// withPort returns the endpoints with a container port of that name, ascending.
func (l *linter) withPort(name string) []int32 {
	if l.portNames == nil {
		l.portNames = map[string][]int32{}
		for i := range l.s.Endpoints {
			for _, c := range l.s.Endpoints[i].Ports {
				if es := l.portNames[c.Name]; c.Name != "" && (len(es) == 0 || es[len(es)-1] != int32(i)) {
					l.portNames[c.Name] = append(es, int32(i))
				}
			}
		}
	}
	return l.portNames[name]
}

// responders returns a test for the endpoints that a rule's ports are ports of
// (the subject for ingress, the peers for egress), and whether there are any.
func (l *linter) responders(p *policy, d model.Direction, ri int) (at func(int32) bool, some bool) {
	if d == model.Ingress {
		return func(e int32) bool {
			_, ok := slices.BinarySearch(p.targets[d], l.t.TargetOf[d][e])
			return ok
		}, len(p.targets[d]) > 0
	}
	r := &p.Rules[d][ri]
	if r.AnyPeer {
		return func(int32) bool { return true }, l.podCount > 0
	}
	ref := p.rule(d, ri)
	for i, peer := range r.Peers {
		if len(peer.Terms) == 1 && peer.Terms[0].Kind == model.PodTerm && !l.dead(ref, i) {
			some = true
		}
	}
	return func(e int32) bool {
		for i, peer := range r.Peers {
			if len(peer.Terms) == 1 && peer.Terms[0].Kind == model.PodTerm && l.matches(ref, i, e) {
				return true
			}
		}
		return false
	}, some
}

// matches reports whether peer i of rule r matches endpoint e for certain.
func (l *linter) matches(r verdict.RuleRef, i int, e int32) bool {
	a := l.atom(r, i)
	for f := range l.t.PeerOf {
		if id := l.t.PeerOf[f][e]; id != verdict.None {
			if _, ok := slices.BinarySearch(a.Yes, id); ok {
				return true
			}
		}
	}
	return false
}
