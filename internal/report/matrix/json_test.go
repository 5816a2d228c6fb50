package matrix

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// document is the JSON form as a stranger would read it.
type document struct {
	APIVersion, Kind, Dialect string
	Ports                     []string
	Groups                    []struct {
		ID        int
		Name      string
		Kind      string
		Pods      []string
		Nodes     []string
		Addresses []string
		External  bool
	}
	Rows, Columns []int
	Runs          [][][2]*int `json:"cells"`
	Cells         [][]*int    `json:"-"` // the runs, a cell each
	Verdicts      []struct {
		ID      int
		Text    string
		Level   string
		Traffic []struct {
			Family, Protocol, Decision string
			Ports                      [][2]int
			Ingress, Egress            *int
		}
	}
	Reasons []struct {
		ID   int
		Kind string
		Text string
		Rule *int
	}
	Rules []struct {
		ID, Policy int
		Direction  string
		Index      int
		File       string
		Line       int
	}
	Policies []struct {
		ID   int
		Kind string
		Name string
	}
	Summary struct {
		Pairs struct{ Total, Open, Partly, Undefined int }
	}
}

func decode(t testing.TB, r *Report) *document {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	d := &document{}
	if err := json.Unmarshal(b.Bytes(), d); err != nil {
		t.Fatalf("%v in %s", err, b.String())
	}
	d.expand(t)
	return d
}

// expand turns the runs into cells: they must cover each row, and no two that
// are neighbours may be the same.
func (d *document) expand(t testing.TB) {
	t.Helper()
	for i, row := range d.Runs {
		var cells []*int
		var last *int
		for j, run := range row {
			id, n := run[0], run[1]
			if n == nil || *n < 1 || j > 0 && (id == nil) == (last == nil) && (id == nil || *id == *last) {
				t.Fatalf("row %d, run %d: empty, or the same as before", i, j)
			}
			for range *n {
				cells = append(cells, id)
			}
			last = id
		}
		if len(cells) != len(d.Columns) {
			t.Fatalf("row %d has %d cells for %d columns", i, len(cells), len(d.Columns))
		}
		d.Cells = append(d.Cells, cells)
	}
}

// at finds the piece of the cell from row to column that holds k: decision and
// the reasons, -1 where there is none.
func (d *document) at(t testing.TB, row, column int, family string, k netset.Key) (decision string, reasons [2]int) {
	t.Helper()
	id := d.Cells[row][column]
	if id == nil {
		t.Fatalf("no cell %d, %d", row, column)
	}
	found := 0
	for _, p := range d.Verdicts[*id].Traffic {
		if p.Family != "" && p.Family != family {
			continue
		}
		proto := k.Proto()
		if p.Protocol != "all" && p.Protocol != proto.String() && (p.Protocol != "other" || !otherProtocols.Contains(k)) {
			continue
		}
		if len(p.Ports) > 0 && !slices.ContainsFunc(p.Ports, func(r [2]int) bool { return r[0] <= int(k.Port()) && int(k.Port()) <= r[1] }) {
			continue
		}
		found++
		decision, reasons = p.Decision, [2]int{-1, -1}
		for i, r := range []*int{p.Ingress, p.Egress} {
			if r != nil {
				reasons[i] = *r
			}
		}
	}
	if found != 1 {
		t.Fatalf("%s is in %d pieces of verdict %d: %+v", k, found, *id, d.Verdicts[*id])
	}
	return decision, reasons
}

// keys are points of the traffic space that tell the rules of the generated
// clusters apart.
func keys() []netset.Key {
	out := []netset.Key{netset.Echo(netset.V4), netset.Echo(netset.V6), netset.KeyOf(47, 0), 0, netset.KeyOf(255, 65535)}
	for _, p := range []netset.Proto{netset.TCP, netset.UDP, netset.SCTP} {
		for _, port := range []uint16{0, 53, 80, 81, 85, 443, 5432, 8080, 8081, 9090, 9999, 65535} {
			out = append(out, netset.KeyOf(p, port))
		}
	}
	return out
}

// The matrix says for every pair of pods, nodes and outside blocks what the
// table says, with the same reasons.
func TestJSONSaysWhatTheTableSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	compared, undefined, denied := 0, 0, 0
	points := keys()
	for range 60 {
		coin := func(string) bool { return rnd.IntN(2) == 0 }
		tab := compile.Compile(clustergen.Random(coin), clustergen.Dialect(coin))
		d := decode(t, build(t, tab, Options{External: true, Nodes: true}))
		parties := make([][]verdict.Party, len(d.Groups))
		for i := range parties {
			parties[i] = d.parties(tab, i)
		}
		texts := make([]string, len(tab.Reasons))
		for i := range texts {
			texts[i] = reasonText(tab, &tab.Reasons[i])
		}
		for row, from := range d.Rows {
			for column, to := range d.Columns {
				for _, src := range parties[from] {
					for _, dst := range parties[to] {
						if src.Family != dst.Family || src.Endpoint == verdict.None && dst.Endpoint == verdict.None {
							continue
						}
						if src.Endpoint == dst.Endpoint && len(d.Groups[from].Pods) > 1 {
							continue // the cell is about two different pods
						}
						pair := tab.Pair(src, dst)
						if pair.Bypass == verdict.FromNode {
							continue
						}
						for _, k := range points {
							want, pieces := tab.Decide(pair, k)
							got, reasons := d.at(t, row, column, [...]string{4: "IPv4", 6: "IPv6"}[src.Family], k)
							if got != want.String() {
								t.Fatalf("%s → %s %s: %s, want %s", d.Groups[from].Name, d.Groups[to].Name, k, got, want)
							}
							for dir, id := range pair.Sides {
								if (id == verdict.None) != (reasons[dir] < 0) {
									t.Fatalf("%s → %s %s: %s reason %d for side %d", d.Groups[from].Name, d.Groups[to].Name, k, model.Direction(dir), reasons[dir], id)
								}
								if id != verdict.None && d.Reasons[reasons[dir]].Text != texts[pieces[dir].Reason] {
									t.Fatalf("%s → %s %s: wrong reason", d.Groups[from].Name, d.Groups[to].Name, k)
								}
							}
							compared++
							switch want {
							case verdict.Undefined:
								undefined++
							case verdict.Deny:
								denied++
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d verdicts, %d undefined, %d denied", compared, undefined, denied)
	if compared < 100_000 || undefined < 1000 || denied < 10_000 {
		t.Error("the clusters have become too simple for this test")
	}
}

func (d *document) parties(tab *verdict.Table, id int) []verdict.Party {
	var out []verdict.Party
	g := &d.Groups[id]
	for _, f := range tab.Families() {
		for _, name := range g.Pods {
			ns, pod, _ := strings.Cut(name, "/")
			i, _ := tab.Endpoint(ns, pod)
			if p, ok := tab.EndpointParty(i, f); ok {
				out = append(out, p)
			}
		}
		for _, name := range g.Nodes {
			for i := range tab.Snapshot.Nodes {
				if p, ok := tab.NodeParty(i, f); ok && tab.Snapshot.Nodes[i].Name == name {
					out = append(out, p)
				}
			}
		}
		for b, block := range tab.Blocks.Blocks {
			if p, ok := tab.BlockParty(b, f); ok && slices.Contains(g.Addresses, block.Addrs.Only(f).Prefixes()[0].String()) {
				out = append(out, p)
			}
		}
	}
	return out
}

func TestJSONGroupsCoverEveryAddressOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		coin := func(string) bool { return rnd.IntN(2) == 0 }
		tab := compile.Compile(clustergen.Random(coin), model.Dialects[0])
		r := build(t, tab, Options{External: true})
		var addrs netset.Addrs
		seen := map[int32]bool{}
		for _, g := range r.groups {
			if !addrs.Intersect(g.addrs).Empty() {
				t.Fatalf("%s repeats addresses", g.name)
			}
			addrs = addrs.Union(g.addrs)
			for _, e := range g.endpoints {
				if seen[e] {
					t.Fatalf("%s repeats pods", g.name)
				}
				seen[e] = true
			}
		}
		var all netset.Addrs
		for _, f := range tab.Families() {
			all = all.Union(netset.AllAddrs(f))
		}
		if !addrs.Equal(all) {
			t.Fatalf("the groups cover %s", addrs)
		}
	}
}

func TestJSONOfTutorial(t *testing.T) {
	d := decode(t, build(t, tutorial().table(t, "picket"), Options{External: true}))
	if d.APIVersion != "picket/v1" || d.Kind != "Matrix" || d.Dialect != "picket" || len(d.Ports) != 0 {
		t.Errorf("head: %s %s %s %v", d.APIVersion, d.Kind, d.Dialect, d.Ports)
	}
	find := func(name string) int {
		return slices.IndexFunc(d.Rows, func(g int) bool { return d.Groups[g].Name == name })
	}
	prod, qa, dns, ext := find("prod/prod{1,2}"), find("qa/qa{1,2}"), find("kube-system/coredns"), find("external")
	got, reasons := d.at(t, prod, qa, "IPv4", netset.KeyOf(netset.TCP, 8888))
	if got != "allow" {
		t.Fatalf("prod → qa tcp/8888: %s", got)
	}
	rule := d.Rules[*d.Reasons[reasons[0]].Rule]
	if p := d.Policies[rule.Policy]; p.Kind != "NetworkPolicy" || p.Name != "qa/allow-traffic-from-prod-to-qa-on-tcp8888" ||
		rule.Direction != "ingress" || rule.Index != 0 || rule.File != "policies/qa.yaml" || rule.Line != 93 {
		t.Errorf("rule %+v of %+v", rule, p)
	}
	if got, reasons := d.at(t, prod, qa, "IPv4", netset.KeyOf(netset.TCP, 80)); got != "deny" || d.Reasons[reasons[0]].Kind != "isolated" {
		t.Errorf("prod → qa tcp/80: %s because %s", got, d.Reasons[reasons[0]].Kind)
	}
	if got, reasons := d.at(t, dns, ext, "IPv4", netset.KeyOf(netset.TCP, 80)); got != "allow" || reasons[0] != -1 || d.Reasons[reasons[1]].Kind != "notSelected" {
		t.Errorf("coredns → external: %s %v", got, reasons)
	}
	if d.Cells[ext][ext] != nil || d.Verdicts[*d.Cells[dns][dns]].Level != "self" {
		t.Error("external with itself, or a pod with itself, is judged")
	}
	if p := d.Summary.Pairs; p.Total != 72 || p.Open != 8 || p.Partly != 6 || p.Undefined != 0 {
		t.Errorf("pairs: %+v", p)
	}
}

func TestFromToCutGroupsDown(t *testing.T) {
	tab := tutorial().table(t, "picket")
	d := decode(t, build(t, tab, Options{From: refs(t, tab, "prod/prod1"), To: refs(t, tab, "prod/prod1", "prod/prod2", "8.8.8.8")}))
	if len(d.Rows) != 1 || len(d.Columns) != 2 {
		t.Fatalf("%d × %d", len(d.Rows), len(d.Columns))
	}
	names := []string{d.Groups[d.Rows[0]].Name, d.Groups[d.Columns[0]].Name, d.Groups[d.Columns[1]].Name}
	if !slices.Equal(names, []string{"prod/prod1", "prod/prod{1,2}", "8.8.8.8"}) {
		t.Errorf("names %q", names)
	}
	if p := d.Summary.Pairs; p.Total != 1 || p.Open != 1 {
		t.Errorf("pairs: %+v", p)
	}
	self := decode(t, build(t, tab, Options{From: refs(t, tab, "prod/prod1"), To: refs(t, tab, "prod/prod1")}))
	if self.Verdicts[*self.Cells[0][0]].Level != "self" {
		t.Error("one pod with itself is not self")
	}
}
