//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"picket/internal/kube"
	"picket/internal/source/cluster"
)

// Level is how an item of a check came out.
type Level uint8

// The levels. Only Fail means that something would not be enforced.
const (
	OK Level = iota
	Warn
	Fail
)

// String returns "ok", "warn" or "fail".
func (l Level) String() string { return [...]string{"ok", "warn", "fail"}[l] }

// MarshalText writes the level as String does.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Item is one thing that a node must have, or had better.
type Item struct {
	Name    string `json:"name"` // stable
	Level   Level  `json:"level"`
	Message string `json:"message"`       // what was found
	Fix     string `json:"fix,omitempty"` // what to do about it
}

// Report says whether a node can enforce.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // AgentCheck
	Node       string `json:"node"`
	Works      bool   `json:"works"` // nothing failed
	Items      []Item `json:"items"`
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes an item a line.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, i := range r.Items {
		fmt.Fprintf(&b, "%-5s %-18s %s\n", i.Level, i.Name, i.Message)
		if i.Fix != "" && i.Level != OK {
			fmt.Fprintf(&b, "%24s %s\n", "", i.Fix)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// CheckNode looks at the node, and changes nothing. An error means that it
// could not look.
func CheckNode(ctx context.Context, o Options) (*Report, error) {
	ns, err := openNetNS(o.NetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var f facts
	if err := ns.do(func() error { f = lookAround(); return nil }); err != nil {
		return nil, err
	}
	r := &Report{APIVersion: "picket/v1", Kind: "AgentCheck", Node: o.Node, Works: true}
	r.Items = append(r.Items, f.kernelItems(o.Table)...)
	ranges := o.PodCIDRs
	res, known, apiErr := o.look(ctx)
	r.Items = append(r.Items, apiItems(o.Node, res, known, apiErr, &ranges)...)
	r.Items = append(r.Items, f.pathItems(ranges)...)
	r.Items = append(r.Items, f.enforcerItems(o.Table)...)
	for _, i := range r.Items {
		r.Works = r.Works && i.Level != Fail
	}
	return r, nil
}

// look lists the cluster once.
func (o *Options) look(ctx context.Context) (kube.Result, []cluster.KindStatus, error) {
	w, err := cluster.NewWatcher(cluster.WatchOptions{Options: cluster.Options{Kubeconfig: o.Kubeconfig, Context: o.Context}})
	if err != nil {
		return kube.Result{}, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	res, err := once(ctx, w)
	return res, w.Status(), err
}

// apiItems are about the cluster. They add the node's own ranges to ranges.
func apiItems(node string, res kube.Result, known []cluster.KindStatus, err error, ranges *[]netip.Prefix) []Item {
	if err != nil {
		var why []string
		for _, k := range known {
			if !k.Synced {
				why = append(why, k.Error)
			}
		}
		if len(why) == 0 {
			why = []string{err.Error()}
		}
		slices.Sort(why)
		return []Item{{"api-server", Fail, "the cluster can't be read: " + strings.Join(slices.Compact(why), "; "),
			"give --kubeconfig, or run in a pod whose service account may list and watch what docs/agent.md says"}}
	}
	out := []Item{{"api-server", OK, "everything that bears on policy can be listed", ""}}
	for _, k := range known {
		if k.Kind == "ClusterNetworkPolicy" && !k.Served {
			out = append(out, Item{"cluster-policies", OK, "the cluster has no ClusterNetworkPolicy; the agent will notice when it gets it", ""})
		}
	}
	found := false
	for _, n := range res.Snapshot.Nodes {
		if n.Name == node {
			found = true
			*ranges = slices.Concat(n.PodCIDRs, *ranges)
		}
	}
	if !found {
		return append(out, Item{"node", Fail, fmt.Sprintf("the cluster has no node %q", node), "give --node-name as the Node object is called"})
	}
	if len(*ranges) == 0 {
		return append(out, Item{"pod-ranges", Warn, "the Node object has no podCIDRs: a pod is let through until the agent knows it",
			"give --pod-cidr with the ranges that this node's pods get addresses from"})
	}
	text := make([]string, len(*ranges))
	for i, r := range *ranges {
		text[i] = r.String()
	}
	return append(out, Item{"pod-ranges", OK, "pods that are not known yet are dropped in " + strings.Join(text, ", "), ""})
}

// facts are what was seen of a node's network namespace.
type facts struct {
	tables    []string // "inet picket"
	chains    []string // "ip filter cali-FORWARD"
	tablesErr error
	links     []link
	linksErr  error
	sysctl    map[string]string // what can be read
}

// sysctls that matter, below /proc/sys.
var sysctls = []string{
	"net/netfilter/nf_conntrack_max", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
	"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables", "net/netfilter/nf_conntrack_tcp_loose",
}

func lookAround() facts {
	f := facts{sysctl: map[string]string{}}
	f.tables, f.chains, f.tablesErr = listNFTables()
	f.links, f.linksErr = listLinks()
	for _, name := range sysctls {
		if b, err := os.ReadFile("/proc/sys/" + name); err == nil {
			f.sysctl[name] = strings.TrimSpace(string(b))
		}
	}
	return f
}

// kernelItems are about what the kernel offers.
func (f *facts) kernelItems(own string) []Item {
	out := []Item{}
	switch {
	case errors.Is(f.tablesErr, unix.EPERM):
		return append(out, Item{"privilege", Fail, "CAP_NET_ADMIN is missing", "add the capability NET_ADMIN to the container, or run as root"})
	case f.tablesErr != nil:
		return append(out, Item{"nf-tables", Fail, "the kernel has no nf_tables: " + f.tablesErr.Error(), "load the module nf_tables, or use a kernel of 5.10 or later with CONFIG_NF_TABLES_INET"})
	}
	out = append(out, Item{"privilege", OK, "CAP_NET_ADMIN is there", ""}, Item{"nf-tables", OK, "nf_tables answers", ""})
	if max, ok := f.sysctl["net/netfilter/nf_conntrack_max"]; ok {
		out = append(out, Item{"conntrack", OK, "connections are tracked, up to " + max, ""})
	} else {
		out = append(out, Item{"conntrack", Warn, "connection tracking is not loaded yet; it is when the table is", "if applying the first plan fails load the module nf_conntrack"})
	}
	if slices.Contains(f.tables, "inet "+own) {
		out = append(out, Item{"table", OK, "the table inet " + own + " is there: something is being enforced", ""})
	} else {
		out = append(out, Item{"table", OK, "there is no table inet " + own + " yet: nothing is being enforced", ""})
	}
	return out
}

// pathItems are about whether traffic of pods passes where it can be judged.
func (f *facts) pathItems(ranges []netip.Prefix) []Item {
	var out []Item
	if f.linksErr != nil {
		return append(out, Item{"bridges", Warn, "the network links can't be listed: " + f.linksErr.Error(), ""})
	}
	if f.sysctl["net/ipv4/ip_forward"] == "0" {
		out = append(out, Item{"forwarding", Warn, "the node does not forward IPv4", "set net.ipv4.ip_forward=1"})
	} else {
		out = append(out, Item{"forwarding", OK, "the node forwards", ""})
	}
	for _, l := range f.links {
		if l.kind != "bridge" {
			continue
		}
		pods := l.ports > 0 && slices.ContainsFunc(l.addrs, func(a netip.Addr) bool {
			return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) })
		})
		if !pods && l.ports == 0 {
			continue
		}
		off := []string{}
		for _, s := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
			if f.sysctl[s] != "1" {
				off = append(off, strings.ReplaceAll(s, "/", "."))
			}
		}
		item := Item{"bridges", OK, fmt.Sprintf("traffic between the ports of bridge %s passes the hooks", l.name), ""}
		if len(off) > 0 {
			item.Level = Warn
			item.Message = fmt.Sprintf("traffic between the %d ports of bridge %s does not pass the hooks: if they are pods, policies between them are not enforced", l.ports, l.name)
			item.Fix = "load the module br_netfilter and set " + strings.Join(off, "=1, ") + "=1"
			if pods {
				item.Level = Fail
				item.Message = fmt.Sprintf("pods on the bridge %s reach each other past the hooks: policies between them are not enforced", l.name)
			}
		}
		out = append(out, item)
	}
	if !slices.ContainsFunc(out, func(i Item) bool { return i.Name == "bridges" }) {
		out = append(out, Item{"bridges", OK, "no bridge joins pods: their traffic is routed, and passes the hooks", ""})
	}
	return out
}

// An enforcer is another program that enforces policies, and how it shows.
type enforcer struct {
	name   string
	tables []string // of nftables, without family
	chains []string // prefixes
	links  []string // prefixes of network links
}

var enforcers = []enforcer{
	{"Calico", []string{"calico"}, []string{"cali-", "filter-cali-"}, nil},
	{"Cilium", nil, []string{"CILIUM_", "OLD_CILIUM_"}, []string{"cilium_"}},
	{"kube-router", []string{"kube-router-filter", "kube-router-filter-ipv4", "kube-router-filter-ipv6"}, []string{"KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-"}, nil},
	{"kube-network-policies", []string{"kube-network-policies", "kindnet-network-policies"}, nil, nil},
	{"Antrea", nil, []string{"ANTREA-"}, []string{"antrea-"}},
	{"Weave", nil, []string{"WEAVE-NPC"}, nil},
	{"OVN-Kubernetes", nil, nil, []string{"ovn-k8s-"}},
}

// enforcerItems name the other enforcers that the node shows signs of. Beside
// another one a connection passes only if both let it.
func (f *facts) enforcerItems(own string) []Item {
	var out []Item
	for _, e := range enforcers {
		var signs []string
		for _, t := range f.tables {
			if _, name, _ := strings.Cut(t, " "); slices.Contains(e.tables, name) && name != own {
				signs = append(signs, "table "+t)
			}
		}
		for _, c := range f.chains {
			name := c[strings.LastIndexByte(c, ' ')+1:]
			if slices.ContainsFunc(e.chains, func(p string) bool { return strings.HasPrefix(name, p) }) {
				signs = append(signs, "chain "+c)
			}
		}
		for _, l := range f.links {
			if slices.ContainsFunc(e.links, func(p string) bool { return strings.HasPrefix(l.name, p) }) {
				signs = append(signs, "link "+l.name)
			}
		}
		if len(signs) == 0 {
			continue
		}
		slices.Sort(signs)
		more := ""
		if len(signs) > 3 {
			more = fmt.Sprintf(" and %d more", len(signs)-3)
			signs = signs[:3]
		}
		out = append(out, Item{"other-enforcer", Warn,
			fmt.Sprintf("%s is or was here (%s%s): a connection passes only if both let it", e.name, strings.Join(signs, ", "), more),
			"switch its policies off, or clean up what it left"})
	}
	if len(out) == 0 {
		out = append(out, Item{"other-enforcer", OK, "no sign of another enforcer", ""})
	}
	return out
}
