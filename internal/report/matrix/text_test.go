package matrix

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/term"
)

func text(t testing.TB, r *Report, width int) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(term.Fixed(&b, false, width)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// body returns what follows the summary.
func body(s string) string {
	_, after, _ := strings.Cut(s, "\n\n")
	return "\n" + after
}

func diff(t *testing.T, want, got string) {
	t.Helper()
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("(-want +got):\n%s\nwhole:\n%s", d, got)
	}
}

const tutorialSummary = `9 pods in 5 namespaces, 6 groups, 11 policies (dialect picket)
14 of 72 ordered pairs of pods may connect (19%), 6 on some ports only
isolated pods: 7 for ingress, 7 for egress
selected by no policy: default/trouble2, kube-system/coredns
`

func TestTutorialGrid(t *testing.T) {
	tab := tutorial().table(t, "picket")
	diff(t, tutorialSummary+`
                     default   default   dev       kube-system  prod       qa
from ↓  to →         trouble1  trouble2  dev{1,2}  coredns      prod{1,2}  qa{1,2}   external
default/trouble1     self      -         -         -            -          -         -
default/trouble2     -         self      -         all          -          -         all
dev/dev{1,2}         -         -         -         -            all        -         -
kube-system/coredns  -         all       -         self         -          -         all
prod/prod{1,2}       -         -         -         A            all        tcp/8888  -
qa/qa{1,2}           -         -         -         -            -          -         -
external             -         all       -         all          -          -

A  tcp/53,9153 udp/53
`, text(t, build(t, tab, Options{External: true}), 0))
}

func TestTutorialNarrowTerminals(t *testing.T) {
	tab := tutorial().table(t, "picket")
	diff(t, `
from ↓  to →           1     2     3  4     5    6         7
1 default/trouble1     self  -     -  -     -    -         -
2 default/trouble2     -     self  -  all   -    -         all
3 dev/dev{1,2}         -     -     -  -     all  -         -
4 kube-system/coredns  -     all   -  self  -    -         all
5 prod/prod{1,2}       -     -     -  A     all  tcp/8888  -
6 qa/qa{1,2}           -     -     -  -     -    -         -
7 external             -     all   -  all   -    -

A  tcp/53,9153 udp/53
`, body(text(t, build(t, tab, Options{External: true}), 70)))
	diff(t, `
default/trouble2, kube-system/coredns
  all → default/trouble2, kube-system/coredns; external
dev/dev{1,2}
  all → prod/prod{1,2}
prod/prod{1,2}
  all                → prod/prod{1,2}
  tcp/8888           → qa/qa{1,2}
  tcp/53,9153 udp/53 → kube-system/coredns
external
  all → default/trouble2, kube-system/coredns
nothing may be reached from default/trouble1, qa/qa{1,2}
`, body(text(t, build(t, tab, Options{External: true}), 40)))
}

func TestTutorialPorts(t *testing.T) {
	tab := tutorial().table(t, "picket")
	got := text(t, build(t, tab, Options{Ports: portsOf(t, "tcp/8888")}), 0)
	if !strings.Contains(got, "\n12 of 72 ordered pairs of pods may connect on tcp/8888 (17%)\n") {
		t.Errorf("summary: %s", got)
	}
	diff(t, `
                     default   default   dev       kube-system  prod       qa
from ↓  to →         trouble1  trouble2  dev{1,2}  coredns      prod{1,2}  qa{1,2}
default/trouble1     self      no        no        no           no         no
default/trouble2     no        self      no        yes          no         no
dev/dev{1,2}         no        no        no        no           yes        no
kube-system/coredns  no        yes       no        self         no         no
prod/prod{1,2}       no        no        no        no           yes        yes
qa/qa{1,2}           no        no        no        no           no         no
`, body(got))

	diff(t, `
              default   default   dev       kube-system  prod       qa
from ↓  to →  trouble1  trouble2  dev{1,2}  coredns      prod{1,2}  qa{1,2}
prod/prod1    no        no        no        udp/53       yes        no
external      no        yes       no        yes          no         no
`, body(text(t, build(t, tab, Options{Ports: portsOf(t, "udp/53", "icmp"), From: refs(t, tab, "prod/prod1", "external")}), 0)))
}

func TestKubernetesDialectMarksWhatIsUndefined(t *testing.T) {
	tab := tutorial().table(t, "kubernetes")
	diff(t, `
                prod            qa
from ↓  to →    prod{1,2}       qa{1,2}     external
dev/dev{1,2}    tcp udp sctp ?  - ?         - ?
prod/prod{1,2}  tcp udp sctp ?  tcp/8888 ?  - ?

?  undefined: NetworkPolicy says nothing about protocols other than TCP, UDP and SCTP
`, body(text(t, build(t, tab, Options{
		From: refs(t, tab, "dev/dev1", "dev/dev2", "prod/prod1", "prod/prod2"),
		To:   refs(t, tab, "prod/prod1", "prod/prod2", "qa/qa1", "qa/qa2", "external"),
	}), 0)))
	// ICMP alone, asked for by name, is undefined and not merely marked.
	diff(t, `
              qa
from ↓  to →  qa1
prod/prod1    ?

?  undefined: NetworkPolicy says nothing about protocols other than TCP, UDP and SCTP
`, body(text(t, build(t, tab, Options{Ports: portsOf(t, "icmp"), From: refs(t, tab, "prod/prod1"), To: refs(t, tab, "qa/qa1")}), 0)))
}

func TestNamespaceShowsWhatItTalksTo(t *testing.T) {
	tab := tutorial().table(t, "picket")
	// Only dev reaches prod, which reaches CoreDNS and qa. What these may do
	// among themselves was not asked.
	diff(t, `
                kube-system  prod       qa
from ↓  to →    coredns      prod{1,2}  qa{1,2}
dev/dev{1,2}                 all
prod/prod{1,2}  A            all        tcp/8888

A  tcp/53,9153 udp/53
`, body(text(t, build(t, tab, Options{Namespaces: []string{"prod"}, External: true}), 0)))
}

func TestBlocksAreNamed(t *testing.T) {
	c := newCluster()
	c.namespace("shop", "")
	c.pod("shop", "web-1", "app=web", "Deployment/web")
	c.pod("shop", "web-2", "app=web", "Deployment/web")
	c.pod("shop", "web-3", "app=web", "Deployment/web")
	c.policy("shop", "web", "app=web", []model.Rule{allow("tcp/80", nets("192.168.0.0/16", "192.168.7.0/24"))},
		[]model.Rule{allow("", nets("203.0.113.9/32")), allow("tcp/443", nets("0.0.0.0/0"))})
	diff(t, `
                                      shop
                                      web       192.168.0.0/16
from ↓  to →                          (3 pods)  except 192.168.7.0/24  203.0.113.9  external
shop/web (3 pods)                     -         tcp/443                all          tcp/443
192.168.0.0/16 except 192.168.7.0/24  tcp/80
203.0.113.9                           -
external                              -
`, body(text(t, build(t, c.table(t, "picket"), Options{External: true}), 0)))
}

func TestLargeClustersStayShort(t *testing.T) {
	for _, c := range []clustergen.Config{{Pods: 1000, Namespaces: 30, Policies: 300}, {Pods: 1500, Namespaces: 20, Policies: 300, Distinct: true}} {
		for _, d := range model.Dialects {
			tab := compile.Compile(clustergen.Sized(c), d)
			got := text(t, build(t, tab, Options{External: true, Nodes: true}), 0)
			lines := strings.Split(got, "\n")
			if len(lines) > 1400 {
				t.Errorf("%+v, %s: %d lines", c, d.Name, len(lines))
			}
			if !strings.Contains(got, "pods in ") || !strings.Contains(got, " → ") {
				t.Errorf("%+v, %s: no grid, no lines:\n%s", c, d.Name, got)
			}
			for _, l := range lines {
				if term.Columns(l) > 400 {
					t.Errorf("%+v, %s: a line of %d columns: %.120s…", c, d.Name, term.Columns(l), l)
				}
			}
		}
	}
}

func TestColourChangesNoColumn(t *testing.T) {
	r := build(t, tutorial().table(t, "picket"), Options{External: true})
	var b bytes.Buffer
	if err := r.WriteText(term.Fixed(&b, true, 100)); err != nil {
		t.Fatal(err)
	}
	coloured := b.String()
	if !strings.Contains(coloured, "\x1b[32mall\x1b[0m") {
		t.Error("what is allowed is not green")
	}
	for _, code := range []string{"0", "1", "2", "31", "32", "33", "36"} {
		coloured = strings.ReplaceAll(coloured, "\x1b["+code+"m", "")
	}
	diff(t, text(t, r, 100), coloured)
}

func TestHostileNamesStayInTheirLine(t *testing.T) {
	got := text(t, build(t, hostile().table(t, "picket"), Options{External: true}), 0)
	if strings.ContainsAny(got, "\x1b\x07\r") {
		t.Errorf("control characters reach the terminal: %q", got)
	}
}

func TestNamesAreUnique(t *testing.T) {
	c := newCluster()
	for _, ns := range []string{"a", "b"} {
		c.namespace(ns, "")
		c.pod(ns, "web", "app=x", "") // a bare pod called as the workloads
		c.pod(ns, "web-1", "app=y", "Deployment/web")
		c.pod(ns, "web-2", "app=y", "Deployment/web")
		c.pod(ns, "web-0", "app=z", "StatefulSet/web")
	}
	for _, app := range []string{"app=x", "app=y", "app=z"} {
		c.policy("a", app, app, none, nil)
	}
	c.policy("b", "x", "app=x", none, nil)
	r := build(t, c.table(t, "picket"), Options{})
	var got []string
	for _, g := range r.groups {
		got = append(got, g.name)
	}
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != len(r.groups) {
		t.Errorf("names repeat: %q", got)
	}
	for _, n := range got {
		if strings.Contains(n, "#") {
			t.Errorf("name %q needs a number", n)
		}
	}
}

func TestBraces(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"web"}, "web"},
		{[]string{"prod1", "prod2"}, "prod{1,2}"},
		{[]string{"web-7d9f-abcde", "web-7d9f-fghij"}, "web-7d9f-{abcde,fghij}"},
		{[]string{"frontend", "ftp"}, "{frontend,ftp}"},
		{[]string{"web", "web-canary"}, "{web,web-canary}"},
		{[]string{"db-0", "db-1", "db-2"}, "db-{0,1,2}"},
	} {
		if got := braces(c.names); got != c.want {
			t.Errorf("braces(%q) = %q, want %q", c.names, got, c.want)
		}
	}
}
