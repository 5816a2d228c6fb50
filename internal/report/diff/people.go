package diff

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// Set is a set of ends of connections, said in words.
type Set struct {
	Text  string   `json:"text"`  // at most maxParts of the parts: "dev (2 pods), shop/web (3 pods)"
	Parts []string `json:"parts"` // all of it
	Pods  int      `json:"pods"`
}

// maxParts is how many parts the text of a set names.
const maxParts = 6

// maxNames is how many pods of a namespace are named before they are counted.
const maxNames = 4

// people counts the pods of each namespace and workload, so that a set can be
// named by them.
type people struct {
	t       *verdict.Table
	members []member
	pods    int
	inSpace map[string]int
	inWork  map[workload]int
	works   map[string][]workload // by namespace
}

func newPeople(t *verdict.Table, members []member) *people {
	p := &people{t: t, members: members, inSpace: map[string]int{}, inWork: map[workload]int{}, works: map[string][]workload{}}
	for _, m := range members {
		if e := p.endpoint(m); e.Kind == model.Pod {
			p.pods++
			p.inSpace[e.Namespace]++
			w := workloadOf(e)
			if p.inWork[w]++; p.inWork[w] == 1 {
				p.works[e.Namespace] = append(p.works[e.Namespace], w)
			}
		}
	}
	return p
}

func (p *people) endpoint(m member) *model.Endpoint { return &p.t.Snapshot.Endpoints[m.at[1]] }

// set names the endpoints and addresses of joint groups.
func (c *comparer) set(groups []int32, fi int) Set {
	var members []int32
	in := make(map[int32]bool, len(groups))
	for _, g := range groups {
		members = append(members, c.groups[g].members...)
		in[g] = true
	}
	var named, missing []string
	external := false
	for _, g := range c.outside[fi] {
		j := &c.groups[g]
		switch {
		case !in[g]:
			missing = append(missing, j.text)
		case j.external:
			external = true
		default:
			named = append(named, "external "+j.text)
		}
	}
	slices.Sort(members)
	s := c.people.set(members)
	switch {
	case external && len(missing) > maxNames:
		s.Parts = append(s.Parts, fmt.Sprintf("external (except %s and %d blocks more)", strings.Join(missing[:maxNames], ", "), len(missing)-maxNames))
	case external && len(missing) > 0:
		s.Parts = append(s.Parts, fmt.Sprintf("external (except %s)", strings.Join(missing, ", ")))
	case external:
		s.Parts = append(s.Parts, "external")
	default:
		s.Parts = append(s.Parts, named...)
	}
	s.Text = joinParts(s.Parts)
	return s
}

func addrsText(a netset.Addrs) string {
	ps := a.Prefixes()
	out := make([]string, 0, 3)
	for _, p := range ps[:min(3, len(ps))] {
		out = append(out, p.String())
	}
	s := strings.Join(out, " ")
	if n := len(ps) - 3; n > 0 {
		s += fmt.Sprintf(" and %d prefixes more", n)
	}
	return s
}

func joinParts(parts []string) string {
	if n := len(parts) - maxParts; n > 1 {
		return strings.Join(parts[:maxParts], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(parts, ", ")
}

// set names members, which are ascending.
func (p *people) set(members []int32) Set {
	s := Set{Parts: []string{}, Pods: len(members)}
	var pods []int32
	hosts := map[string]int{}
	spaces := map[string]int{}
	for _, m := range members {
		e := p.endpoint(p.members[m])
		if e.Kind == model.HostPod {
			hosts[e.Namespace]++
			continue
		}
		pods = append(pods, m)
		spaces[e.Namespace]++
	}
	if len(pods) == p.pods && len(p.inSpace) > 1 {
		s.Parts = append(s.Parts, fmt.Sprintf("all %d pods", len(pods)))
		pods = nil
	}
	for len(pods) > 0 {
		ns := p.endpoint(p.members[pods[0]]).Namespace
		n := spaces[ns]
		s.Parts = append(s.Parts, p.space(ns, pods[:n])...)
		pods = pods[n:]
	}
	for _, ns := range sortedKeys(hosts) {
		s.Parts = append(s.Parts, fmt.Sprintf("%s on the host network (%s)", ns, count(hosts[ns])))
	}
	s.Text = joinParts(s.Parts)
	return s
}

// space names pods of one namespace.
func (p *people) space(ns string, pods []int32) []string {
	if len(pods) == p.inSpace[ns] {
		if len(pods) == 1 {
			return []string{p.endpoint(p.members[pods[0]]).String()}
		}
		return []string{fmt.Sprintf("%s (%s)", ns, count(len(pods)))}
	}
	works := map[workload]int{}
	var order []workload
	for _, m := range pods {
		w := workloadOf(p.endpoint(p.members[m]))
		if works[w] == 0 {
			order = append(order, w)
		}
		works[w]++
	}
	if without := p.without(ns, works); len(without) > 0 && len(without) < len(order) && len(without) < maxNames {
		return []string{fmt.Sprintf("%s except %s (%s)", ns, strings.Join(without, ", "), count(len(pods)))}
	}
	if len(order) > maxNames {
		return []string{fmt.Sprintf("%d of the %s of %s (%s and others)", len(pods), count(p.inSpace[ns]), ns, order[0].name)}
	}
	var out []string
	for _, w := range order {
		name := w.namespace + "/" + w.name
		switch n, of := works[w], p.inWork[w]; {
		case of == 1:
			out = append(out, name)
		case n == of:
			out = append(out, fmt.Sprintf("%s (%s)", name, count(n)))
		default:
			out = append(out, fmt.Sprintf("%s (%d of %s)", name, n, count(of)))
		}
	}
	return out
}

// without lists the workloads of a namespace that works leaves out, sorted;
// nil if it holds only some pods of one.
func (p *people) without(ns string, works map[workload]int) []string {
	var out []string
	for _, w := range p.works[ns] {
		switch got := works[w]; {
		case got == p.inWork[w]:
		case got > 0:
			return nil
		default:
			out = append(out, w.name)
		}
	}
	slices.Sort(out)
	return out
}

func count(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}

func sortedKeys(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
