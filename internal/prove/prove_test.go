//go:build linux

package prove

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"picket/internal/compile"
	"picket/internal/kube"
	"picket/internal/lab"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

// TestMain runs the tests where network namespaces can be made: an ordinary
// user's in a user namespace, if the kernel allows.
func TestMain(m *testing.M) {
	if need, err := lab.NeedsReexec(); err == nil && need {
		code, err := lab.Enter(context.Background())
		if err == nil {
			os.Exit(code)
		}
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(m.Run())
}

// needsLab skips the test where the kernel lets us make no network namespaces,
// and says so.
func needsLab(t testing.TB) {
	t.Helper()
	if need, err := lab.NeedsReexec(); err != nil || need {
		t.Skipf("SKIPPED: needs the right to make network namespaces (root, or unshare -rn): %v", err)
	}
}

// readFiles makes snapshots of manifests: files for the first, files and more
// for each further one, as --step does.
func readFiles(t testing.TB, files []string, more ...string) []Step {
	t.Helper()
	placer := &Placer{Nodes: 2}
	var out []Step
	for i := 0; i <= len(more); i++ {
		b := kube.NewBuilder(kube.Options{})
		if err := manifest.Read(b, append(files[:len(files):len(files)], more[:i]...), manifest.Options{Recursive: true}); err != nil {
			t.Fatal(err)
		}
		name := ""
		if len(more) > 0 {
			name = append([]string{"start"}, more...)[i]
		}
		out = append(out, Step{name, compile.Compile(placer.Place(b.Build().Snapshot), model.Dialects[0])})
	}
	return out
}

func run(t testing.TB, steps []Step, o Options) []*Proof {
	t.Helper()
	out, err := Run(context.Background(), steps, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const environments = "../../examples/environments/"

// TestTutorial proves the seven steps of the tutorial, and holds what each of
// them opened and closed against what is known of it.
func TestTutorial(t *testing.T) {
	needsLab(t)
	var more []string
	for _, n := range []int{1, 3, 4, 5, 6, 7} {
		more = append(more, fmt.Sprintf("%sstep%d", environments, n))
	}
	proofs := run(t, readFiles(t, []string{environments + "cluster"}, more...), Options{})
	want := [][2]int{{}, {0, 18}, {0, 66}, {2, 0}, {4, 0}, {4, 0}, {4, 0}} // ordered pairs of pods opened and closed
	for i, p := range proofs {
		if !p.Agrees() || len(p.Unproved) > 0 || p.Cells == 0 || p.Proved != p.Cells {
			t.Errorf("%s: %s; %v", p.Name, p.Summary(), p.Unproved)
			for _, m := range p.Mismatches[:min(5, len(p.Mismatches))] {
				t.Log(m.String())
			}
		}
		if i > 0 && p.Changes.Pairs != want[i] {
			t.Errorf("%s opened and closed %v pairs of pods, want %v", p.Name, p.Changes.Pairs, want[i])
		}
		if !p.all {
			t.Errorf("%s: not every pair was tried, though there are few", p.Name)
		}
	}
	if t.Failed() {
		return
	}
	c := proofs[5].Changes.Opened
	if len(c) != 1 || c[0].From != "prod/prod{1,2}" || c[0].To != "qa/qa{1,2}" || c[0].Traffic.String() != "tcp/8888" {
		t.Errorf("step 6 opened %+v", c)
	}
	t.Log(sum(proofs...).line())
}

// TestPlantedErrors loads dataplanes that are wrong in one element and expects
// the proof to find it, to say which way it is wrong, and to blame nothing else.
func TestPlantedErrors(t *testing.T) {
	needsLab(t)
	files := []string{environments}
	prod1, qa1 := netip.Addr{}, netip.Addr{}
	tcp8888, tcp9153 := netset.Ports(netset.TCP, 8888, 8888), netset.Ports(netset.TCP, 9153, 9153)
	s := readFiles(t, files)[0].Table.Snapshot
	for i := range s.Endpoints {
		switch s.Endpoints[i].String() {
		case "prod/prod1":
			prod1 = s.Endpoints[i].Addrs[0]
		case "qa/qa1":
			qa1 = s.Endpoints[i].Addrs[0]
		}
	}
	for _, c := range []struct {
		name  string
		plant func(*nft.Plan) bool // reports whether there was something to change
		kind  string
		want  func(m *Mismatch) bool // holds for each mismatch
	}{
		{"a port too many", func(p *nft.Plan) bool {
			return editPorts(p, tcp8888, func(now netset.Traffic) netset.Traffic { return now.Union(tcp9153) })
		}, "wrongly open", func(m *Mismatch) bool { return m.Key == netset.KeyOf(netset.TCP, 9153) && m.To[:2] == "qa" }},
		{"a range one too long", func(p *nft.Plan) bool {
			return editPorts(p, tcp8888, func(netset.Traffic) netset.Traffic { return netset.Ports(netset.TCP, 8888, 8889) })
		}, "wrongly open", func(m *Mismatch) bool { return m.Key == netset.KeyOf(netset.TCP, 8889) }},
		{"the wrong protocol too", func(p *nft.Plan) bool {
			return editPorts(p, tcp8888, func(now netset.Traffic) netset.Traffic { return now.Union(netset.Ports(netset.UDP, 8888, 8888)) })
		}, "wrongly open", func(m *Mismatch) bool { return m.Key == netset.KeyOf(netset.UDP, 8888) }},
		{"a port too few", func(p *nft.Plan) bool {
			return editPorts(p, tcp9153, func(now netset.Traffic) netset.Traffic { return now.Subtract(tcp9153) })
		}, "wrongly closed", func(m *Mismatch) bool { return m.Key == netset.KeyOf(netset.TCP, 9153) && m.From[:4] == "prod" }},
		{"a pair too few", func(p *nft.Plan) bool {
			return editPorts(p, tcp8888, func(netset.Traffic) netset.Traffic { return netset.Traffic{} })
		}, "wrongly closed", func(m *Mismatch) bool {
			return m.Key == netset.KeyOf(netset.TCP, 8888) && m.From[:4] == "prod" && m.To[:2] == "qa"
		}},
		{"a pair too many", func(p *nft.Plan) bool {
			return editPorts(p, tcp8888, func(netset.Traffic) netset.Traffic { return netset.AllTraffic() })
		}, "wrongly open", func(m *Mismatch) bool { return m.From[:4] == "prod" && m.To[:2] == "qa" }},
		{"a pod that is not isolated", func(p *nft.Plan) bool {
			n := len(p.Isolated[model.Ingress])
			p.Isolated[model.Ingress] = slices.DeleteFunc(slices.Clone(p.Isolated[model.Ingress]), func(l nft.Local) bool { return l.Addr == qa1 })
			return len(p.Isolated[model.Ingress]) < n
		}, "wrongly open", func(m *Mismatch) bool { return m.To == "qa/qa1" }},
		{"a peer without its class", func(p *nft.Plan) bool {
			n := len(p.Peers)
			p.Peers = slices.DeleteFunc(slices.Clone(p.Peers), func(x nft.Peer) bool { return x.Addr == prod1 })
			return len(p.Peers) < n
		}, "wrongly closed", func(m *Mismatch) bool { return m.From == "prod/prod1" || m.To == "prod/prod1" }},
		{"a pod that is not known", func(p *nft.Plan) bool {
			n := len(p.Pods)
			p.Pods = slices.DeleteFunc(slices.Clone(p.Pods), func(a netip.Addr) bool { return a == prod1 })
			return len(p.Pods) < n
		}, "wrongly closed", func(m *Mismatch) bool { return m.From == "prod/prod1" || m.To == "prod/prod1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			planted := false
			p := run(t, readFiles(t, files), Options{edit: func(p *nft.Plan) { planted = c.plant(p) || planted }})[0]
			if !planted {
				t.Fatal("there was nothing to change: the test is out of date")
			}
			if p.Agrees() {
				t.Fatal("the proof did not find it")
			}
			for i := range p.Mismatches {
				m := &p.Mismatches[i]
				if m.Kind() != c.kind || !c.want(m) {
					t.Errorf("blamed for nothing: %s", m)
				}
				reasons := strings.Join(append(m.Policies, m.Reasons[:]...), " ")
				if m.Reasons == [2]string{} && m.Bypass == "" || m.Predict != verdict.Allow && !strings.Contains(reasons, "(../../examples/environments/step") {
					t.Errorf("no reason for %s: %q", m, reasons)
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%s; such as %s", p.Summary(), &p.Mismatches[0])
		})
	}
}

// editPorts changes the ports of all sets that allow some ports only, those of k
// among them.
func editPorts(p *nft.Plan, k netset.Traffic, f func(netset.Traffic) netset.Traffic) (found bool) {
	p.PortSets = slices.Clone(p.PortSets)
	for i, s := range p.PortSets {
		if k.Subtract(s.Allowed).Empty() && !s.Allowed.All() {
			found = true
			p.PortSets[i].Allowed = f(s.Allowed)
		}
	}
	return found
}
