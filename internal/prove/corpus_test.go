//go:build linux

package prove

import (
	"bufio"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/lab"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

const corpus = "../../testdata/corpus"

var wantLine = regexp.MustCompile(`^(allow|deny|undefined)\s+(\S+) -> (\S+) (\S+)$`)

// tried counts what a run over the corpus did.
type tried struct {
	cases, skipped      int
	expectations, other int // sent as packets, and not, for a reason that is printed
	packets, cells      int
}

// TestProveCorpus runs the semantics corpus, and the conformance corpus of
// ClusterNetworkPolicy, as packets: what a person expects of each case, and
// each cell of its table. In short mode every tenth case is run; with
// PICKET_SOAK every key is sent for every pair.
func TestProveCorpus(t *testing.T) {
	needsLab(t)
	shared, err := os.ReadFile(filepath.Join(corpus, "clusternetworkpolicy", "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var n tried
	start := time.Now()
	for _, c := range []struct{ glob, cluster, policies string }{
		{"*.txtar", "", "cluster.yaml"},
		{"clusternetworkpolicy/*.txtar", string(shared) + "---\n", "policies.yaml"},
	} {
		paths, err := filepath.Glob(filepath.Join(corpus, c.glob))
		if err != nil || len(paths) < 40 {
			t.Fatalf("%d cases: %v", len(paths), err)
		}
		for i, path := range paths {
			if testing.Short() && i%10 != 0 {
				n.skipped++
				continue
			}
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
				n.corpusCase(t, c.cluster+section(ar, c.policies), section(ar, "want"))
			})
		}
	}
	t.Logf("%d cases as packets, %d left out by -short; %d expectations sent, %d not; %d cells, %d packets, %s",
		n.cases, n.skipped, n.expectations, n.other, n.cells, n.packets, time.Since(start).Round(time.Millisecond))
	if n.expectations == 0 || n.cells == 0 {
		t.Error("nothing was tried")
	}
}

func section(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// corpusCase proves the cluster and sends what its lines expect.
func (n *tried) corpusCase(t *testing.T, yaml, want string) {
	b := kube.NewBuilder(kube.Options{})
	if err := manifest.Read(b, []string{"-"}, manifest.Options{Stdin: strings.NewReader(yaml)}); err != nil {
		t.Fatal(err)
	}
	s := (&Placer{Nodes: 2}).Place(b.Build().Snapshot)
	if len(s.Endpoints) == 0 {
		t.Skip("SKIPPED: the case has no pods")
	}
	table := compile.Compile(s, model.Dialects[0])
	steps := []Step{{Table: table}}
	var more []netip.Addr
	lines := n.read(t, table, want, &more)
	r, _, err := prepare(steps, Options{All: soak() > 0, few: true, Progress: func(string, int, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	r.spec.Externals = nil
	r.hosts = append(r.hosts, missingFrom(r.hosts, more)...)
	for _, a := range r.hosts {
		r.spec.Externals = append(r.spec.Externals, lab.ExternalSpec{Name: a.String(), Addrs: []netip.Addr{a}})
	}
	if len(r.spec.Pods) == 0 {
		t.Skip("SKIPPED: no pod of the case can be in a lab")
	}
	r.after = func(ctx context.Context) error { return n.send(ctx, t, r, lines) }
	proofs, err := r.run(context.Background(), steps)
	if err != nil {
		t.Fatal(err)
	}
	p := proofs[0]
	n.cases++
	n.cells += p.Proved
	n.packets += p.Sent
	for i := range p.Mismatches {
		if i < 5 {
			t.Errorf("%s %v", &p.Mismatches[i], p.why(&p.Mismatches[i]))
		}
	}
	for _, u := range p.Unproved {
		t.Logf("not proved: %d cells: %s", u.Cells, u.Why)
	}
	for _, note := range p.Notes {
		t.Log(note)
	}
}

func missingFrom(have, want []netip.Addr) (out []netip.Addr) {
	seen := map[netip.Addr]bool{}
	for _, a := range have {
		seen[a] = true
	}
	for _, a := range want {
		if !seen[a] {
			out = append(out, a)
		}
		seen[a] = true
	}
	return out
}

// expectation is a line of a case as a packet.
type expectation struct {
	text  string
	allow bool
	probe lab.Probe
}

// read turns the lines of a case into packets. Those that no packet can show
// are counted, and why is printed. hosts are the addresses outside that they
// need.
func (n *tried) read(t *testing.T, table *verdict.Table, want string, hosts *[]netip.Addr) (out []expectation) {
	sc := bufio.NewScanner(strings.NewReader(want))
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := wantLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is no expectation", line)
		}
		port, err := verdict.ParsePort(m[4])
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range parties(t, table, m[2]) {
			for _, dst := range parties(t, table, m[3]) {
				if src.Family != dst.Family {
					continue
				}
				from, why := labName(table, &src, hosts)
				_, also := labName(table, &dst, hosts)
				k := port.In(src.Family)
				pair := table.Pair(src, dst)
				switch {
				case why != "" || also != "":
					why += also
				case pair.Bypass == verdict.Itself:
					why = "a pod to itself"
				case pair.Bypass == verdict.Unguarded:
					why = "no pod is at either end"
				case hasPorts(k.Proto()) && k.Port() == 0:
					why = "port 0"
				case !hasPorts(k.Proto()) && k != netset.Echo(src.Family) && meddled[k.Proto()]:
					why = "the lab cannot send protocol " + k.Proto().String()
				case m[1] == "undefined":
					why = "undefined"
				}
				if why != "" {
					n.other++
					t.Logf("not sent: %s: %s", line, why)
					continue
				}
				out = append(out, expectation{line, m[1] == "allow", lab.Probe{From: from, Src: src.Addr, To: dst.Addr, Proto: k.Proto(), Port: k.Port()}})
			}
		}
	}
	return out
}

// labName is what the lab calls the party; an outside one gets an address.
func labName(t *verdict.Table, p *verdict.Party, hosts *[]netip.Addr) (name, why string) {
	switch {
	case p.Endpoint != verdict.None:
		return t.Snapshot.Endpoints[p.Endpoint].String(), ""
	case p.Node != verdict.None:
		return t.Snapshot.Nodes[p.Node].Name, ""
	}
	if !p.Addr.IsValid() {
		taken := map[netip.Addr]bool{}
		for a := range t.Owner {
			taken[a] = true
		}
		for _, r := range t.Blocks.Blocks[t.ExternalBlock(p.Family)].Addrs.Only(p.Family).Ranges() {
			for _, a := range addressesOf(r, nil, taken) {
				p.Addr = a
			}
		}
	}
	if err := lab.Usable(p.Addr); err != nil {
		return "", err.Error()
	}
	*hosts = append(*hosts, p.Addr)
	return p.Addr.String(), ""
}

func parties(t *testing.T, table *verdict.Table, name string) []verdict.Party {
	t.Helper()
	r, err := table.Resolve(name, "default")
	if err != nil {
		t.Fatal(err)
	}
	return table.Parties(r)
}

// send sends what a person expects, and compares: the table has no part in it.
// Protocols without ports go one by one, since to a kernel all their packets
// between two hosts are one connection.
func (n *tried) send(ctx context.Context, t *testing.T, r *runner, lines []expectation) error {
	var salvos [][]expectation
	var together []expectation
	for _, x := range lines {
		if hasPorts(x.probe.Proto) || x.probe.Proto == netset.ICMP || x.probe.Proto == netset.ICMPv6 {
			together = append(together, x)
		} else {
			salvos = append(salvos, []expectation{x})
		}
	}
	for _, salvo := range append(salvos, together) {
		if err := r.lab.Forget(ctx); err != nil {
			return err
		}
		probes := make([]lab.Probe, len(salvo))
		for i, x := range salvo {
			probes[i] = x.probe
		}
		out, err := r.lab.ProbeAll(ctx, probes, nil)
		if err != nil {
			return err
		}
		for i, o := range out {
			if o.Err != nil || o.Result.Reached() != salvo[i].allow {
				t.Errorf("want %s: %s: %s %v", salvo[i].text, salvo[i].probe, o.Result, o.Err)
			}
			n.expectations++
			n.packets++
		}
	}
	return nil
}
