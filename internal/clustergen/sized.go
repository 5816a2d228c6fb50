package clustergen

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// Config says how large a cluster is.
type Config struct {
	Pods, Namespaces, Policies int

	// Distinct gives every pod a label of its own and a policy that names it, so
	// that no two pods are of one class. There are at least as many policies as
	// are needed for that.
	Distinct bool
}

// perPolicy is how many pods one policy of a distinct cluster names.
const perPolicy = 10

// sizes of the workloads, in pods, taken in turn.
var replicas = []int{3, 2, 5, 1, 10, 2, 3, 1, 4, 20}

// app is a kind of workload that many namespaces run.
type app struct {
	name, tier string
	ports      []model.Port
}

var apps = []app{
	{"frontend", "web", []model.Port{{Name: "http", Proto: netset.TCP, Number: 8080}, {Name: "metrics", Proto: netset.TCP, Number: 9090}}},
	{"api", "backend", []model.Port{{Name: "http", Proto: netset.TCP, Number: 8000}, {Name: "grpc", Proto: netset.TCP, Number: 9000}, {Name: "metrics", Proto: netset.TCP, Number: 9100}}},
	{"worker", "backend", []model.Port{{Name: "metrics", Proto: netset.TCP, Number: 9100}}},
	{"postgres", "data", []model.Port{{Name: "postgres", Proto: netset.TCP, Number: 5432}, {Name: "metrics", Proto: netset.TCP, Number: 9187}}},
	{"redis", "data", []model.Port{{Name: "redis", Proto: netset.TCP, Number: 6379}}},
	{"queue", "data", []model.Port{{Name: "amqp", Proto: netset.TCP, Number: 5672}}},
	{"search", "data", []model.Port{{Name: "http", Proto: netset.TCP, Number: 9200}}},
	{"mailer", "backend", nil},
}

var (
	teams = []string{"payments", "search", "identity", "shop", "data", "platform", "mobile", "risk", "growth", "ops"}
	envs  = []string{"prod", "staging", "dev"}
)

// Sized returns a cluster that looks like a real one: namespaces of teams and
// environments that run the same kinds of workload, most closed by a
// default-deny policy and opened by policies for their own traffic, the DNS, the
// monitoring, other teams and outside networks; and a few policies for the
// whole cluster. Equal configurations give equal clusters.
func Sized(c Config) *model.Snapshot {
	z := &sizer{c: c, rnd: rand.New(rand.NewPCG(uint64(c.Pods), uint64(c.Namespaces)<<32|uint64(c.Policies))), s: &model.Snapshot{}}
	z.namespaces()
	z.nodes()
	z.pods()
	z.cluster()
	z.policies()
	Sort(z.s)
	return z.s
}

// sizer builds one Sized cluster.
type sizer struct {
	c   Config
	rnd *rand.Rand
	s   *model.Snapshot

	byNamespace [][]string // names of the workloads of each namespace
}

// system namespaces come first; teams' follow.
const system = 3

func (z *sizer) namespaces() {
	for i := range max(z.c.Namespaces, system+1) {
		labels := map[string]string{}
		var name string
		switch i {
		case 0:
			name = "kube-system"
		case 1:
			name = "monitoring"
			labels["purpose"] = "monitoring"
		case 2:
			name = "ingress"
			labels["purpose"] = "ingress"
		default:
			team, env := teams[i%len(teams)], envs[i%len(envs)]
			name = fmt.Sprintf("%s-%s-%04d", team, env, i)
			labels["team"], labels["env"] = team, env
			if i%7 == 0 {
				labels["pci"] = "true"
			}
		}
		labels["kubernetes.io/metadata.name"] = name
		z.s.Namespaces = append(z.s.Namespaces, model.Namespace{Name: name, Labels: labels})
	}
	z.byNamespace = make([][]string, len(z.s.Namespaces))
}

// perNode is how many pods a node runs.
const perNode = 50

func (z *sizer) nodes() {
	for i := range z.c.Pods/perNode + 1 {
		z.s.Nodes = append(z.s.Nodes, model.Node{
			Name:         fmt.Sprintf("node-%05d", i),
			Labels:       map[string]string{"kubernetes.io/hostname": fmt.Sprintf("node-%05d", i), "zone": fmt.Sprintf("z%d", i%3)},
			Addrs:        []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})},
			ControlPlane: i == 0,
		})
	}
}

// podAddr returns the address of pod i, from 10.0.0.0/8, blocks of a node
// together.
func podAddr(i int) netip.Addr {
	i += 1 << 8
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func (z *sizer) pods() {
	n := 0
	for w := 0; n < z.c.Pods; w++ {
		ns := w % len(z.s.Namespaces)
		round := w / len(z.s.Namespaces)
		a := apps[(ns+round)%len(apps)]
		name := a.name
		if round >= len(apps) {
			name = fmt.Sprintf("%s-%d", a.name, round/len(apps))
		}
		labels := map[string]string{"app": a.name, "tier": a.tier, "instance": name}
		switch {
		case ns == 0 && round == 0:
			a, name = app{ports: []model.Port{{Name: "dns", Proto: netset.UDP, Number: 53}, {Name: "dns-tcp", Proto: netset.TCP, Number: 53}}}, "coredns"
			labels = map[string]string{"k8s-app": "kube-dns"}
		case ns == 1 && round == 0:
			a, name = app{ports: []model.Port{{Name: "web", Proto: netset.TCP, Number: 9090}}}, "prometheus"
			labels = map[string]string{"app": "prometheus"}
		case ns == 2 && round == 0:
			a, name = app{ports: []model.Port{{Name: "https", Proto: netset.TCP, Number: 8443}}}, "controller"
			labels = map[string]string{"app": "ingress-controller"}
		}
		z.byNamespace[ns] = append(z.byNamespace[ns], name)
		for r := range replicas[w%len(replicas)] {
			if n == z.c.Pods {
				break
			}
			z.pod(n, r, ns, name, labels, a.ports)
			n++
		}
	}
}

func (z *sizer) pod(n, replica, ns int, workload string, labels map[string]string, ports []model.Port) {
	e := model.Endpoint{
		Namespace: z.s.Namespaces[ns].Name,
		Name:      fmt.Sprintf("%s-%d", workload, replica),
		Labels:    labels,
		Addrs:     []netip.Addr{podAddr(n)},
		Node:      z.s.Nodes[n/perNode].Name,
		Owner:     model.Owner{Kind: "StatefulSet", Name: workload},
		Ports:     ports,
	}
	if z.c.Distinct {
		e.Labels = map[string]string{"pod": fmt.Sprintf("p%06d", n)}
		for k, v := range labels {
			e.Labels[k] = v
		}
	}
	z.s.Endpoints = append(z.s.Endpoints, e)
}

func in(key string, values ...string) selector.Selector {
	return selector.New(selector.Requirement{Key: key, Op: selector.In, Values: values})
}

// cluster adds the policies for the whole cluster: the platform may reach
// everything, nobody reaches the metadata service, and what nothing selects is
// closed to other environments.
func (z *sizer) cluster() {
	all := []model.Term{{Kind: model.PodTerm, Namespaces: selector.Everything(), Pods: selector.Everything()}}
	peer := func(t model.Term) []model.Peer { return []model.Peer{{Terms: []model.Term{t}}} }
	policy := func(name string, order float64, subject []model.Term, rules [2][]model.Rule) model.Policy {
		return model.Policy{
			Kind: "ClusterNetworkPolicy", Name: name, Order: order, Subject: subject,
			Applies: [2]bool{len(rules[0]) > 0, len(rules[1]) > 0}, Rules: rules,
		}
	}
	nets := func(text string) model.Term {
		return model.Term{Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix(text)), NetText: text}
	}
	admin := model.Tier{Name: "Admin", Continue: true, Policies: []model.Policy{
		policy("dns", 10, all, [2][]model.Rule{model.Egress: {{
			Name: "dns", Action: model.Allow,
			Peers: peer(model.Term{Kind: model.PodTerm, Namespaces: in("kubernetes.io/metadata.name", "kube-system"), Pods: in("k8s-app", "kube-dns")}),
			Ports: []model.PortMatch{number(netset.UDP, 53), number(netset.TCP, 53)},
		}}}),
		policy("metadata", 20, all, [2][]model.Rule{model.Egress: {{
			Name: "metadata", Action: model.Deny, Peers: peer(nets("169.254.169.254/32")), AnyPort: true,
		}}}),
		policy("pci", 30, []model.Term{{Kind: model.PodTerm, Namespaces: in("pci", "true"), Pods: selector.Everything()}},
			[2][]model.Rule{model.Ingress: {
				{Name: "pci", Action: model.Pass, Peers: peer(model.Term{Kind: model.PodTerm, Namespaces: in("pci", "true"), Pods: selector.Everything()}), AnyPort: true},
				{Name: "others", Action: model.Deny, Peers: peer(model.Term{Kind: model.PodTerm, Namespaces: in("env", "dev"), Pods: selector.Everything()}), AnyPort: true},
			}}),
	}}
	baseline := model.Tier{Name: "Baseline", Continue: true, Policies: []model.Policy{
		policy("prod", 100, []model.Term{{Kind: model.PodTerm, Namespaces: in("env", "prod"), Pods: selector.Everything()}},
			[2][]model.Rule{model.Ingress: {{
				Name: "not-from-dev", Action: model.Deny, Peers: peer(model.Term{Kind: model.PodTerm, Namespaces: in("env", "dev", "staging"), Pods: selector.Everything()}), AnyPort: true,
			}}}),
	}}
	z.s.Tiers = []model.Tier{admin, {Name: "NetworkPolicy", Union: true, Ports: true}, baseline}
}

func number(p netset.Proto, n uint16) model.PortMatch {
	return model.PortMatch{Traffic: netset.Ports(p, n, n), Text: netset.KeyOf(p, n).String()}
}

func named(name string) model.PortMatch {
	return model.PortMatch{Name: name, Protos: []netset.Proto{netset.TCP}, Text: "tcp/" + name}
}
