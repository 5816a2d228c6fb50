package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// table is a cluster of four pods in namespace shop. Pod db accepts tcp/5432
// from pods labelled app=api and tcp/9100 from 192.0.2.0/24; nothing else is
// restricted.
func table(t testing.TB) *verdict.Table {
	t.Helper()
	pod := func(name, app, addr string, owner string) model.Endpoint {
		e := model.Endpoint{
			Namespace: "shop", Name: name, Labels: map[string]string{"app": app},
			Addrs: []netip.Addr{netip.MustParseAddr(addr)},
			Ports: []model.Port{{Name: "main", Proto: netset.TCP, Number: 5432}},
		}
		if owner != "" {
			e.Owner = model.Owner{Kind: "Deployment", Name: owner}
		}
		return e
	}
	tcp := func(n uint16) []model.PortMatch {
		return []model.PortMatch{{Traffic: netset.Ports(netset.TCP, n, n), Text: fmt.Sprintf("tcp/%d", n)}}
	}
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop"}},
		Endpoints: []model.Endpoint{
			pod("api", "api", "10.244.0.1", ""),
			pod("db", "db", "10.244.0.2", ""),
			pod("web-1", "web", "10.244.0.3", "web"),
			pod("web-2", "web", "10.244.0.4", "web"),
		},
		Services: []model.Service{
			{
				Namespace: "shop", Name: "db-svc", Selector: selector.FromLabels(map[string]string{"app": "db"}),
				ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
				Ports:      []model.ServicePort{{Proto: netset.TCP, Port: 80, TargetName: "main"}},
			},
			{Namespace: "shop", Name: "nobody", Selector: selector.FromLabels(map[string]string{"app": "none"})},
		},
		Tiers: []model.Tier{{
			Name: "NetworkPolicy", Union: true, Ports: true,
			Policies: []model.Policy{{
				Kind: "NetworkPolicy", Namespace: "shop", Name: "db",
				Subject: []model.Term{{Kind: model.PodTerm, Namespace: "shop", Pods: selector.FromLabels(map[string]string{"app": "db"})}},
				Applies: [2]bool{true, false},
				Rules: [2][]model.Rule{{
					{Action: model.Allow, Ports: tcp(5432), Peers: []model.Peer{{Terms: []model.Term{{Kind: model.PodTerm, Namespace: "shop", Pods: selector.FromLabels(map[string]string{"app": "api"})}}}}},
					{Action: model.Allow, Ports: tcp(9100), Peers: []model.Peer{{Terms: []model.Term{{Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix("192.0.2.0/24"))}}}}},
				}},
			}},
		}},
	}
	return compile.Compile(s, model.Dialects[0])
}

func replayText(t *testing.T, in string) (out string, wrong []string, sum Summary) {
	t.Helper()
	var b strings.Builder
	sum, err := Replay(table(t), strings.NewReader(in), &b, Options{
		File:  "flows",
		Wrong: func(d diag.Diagnostic) { wrong = append(wrong, d.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), wrong, sum
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct{ flow, want string }{
		{"shop/api\tshop/db\ttcp\t5432", "allow"},
		{"shop/api\tshop/db\tTCP\t5433", "deny"},
		{"shop/api\tshop/db\t6\t5432", "allow"},
		{"shop/api\tshop/db\tudp\t5432", "deny"},
		{"shop/web-1\tshop/db\ttcp\t5432", "deny"},
		{"shop/db\tshop/web-1\ttcp\t80", "allow"},
		{"shop/db\tshop/db\ttcp\t1", "allow"}, // itself
		{"shop/web-1\tshop/db\tICMP\t-", "deny"},
		{"shop/db\tshop/web-1\ticmp\t-", "allow"},
		{"shop/web-1\tshop/db\t47\t-", "deny"},
		{"ip:10.244.0.1\tip:10.244.0.2\ttcp\t5432", "allow"},
		{"10.244.0.1\t10.244.0.2\ttcp\t5432", "allow"},
		{"::ffff:10.244.0.1\tshop/db\ttcp\t5432", "allow"},
		{"192.0.2.7\tshop/db\ttcp\t9100", "allow"},
		{"ip:198.51.100.7\tshop/db\ttcp\t9100", "deny"},
		{"external\tshop/db\ttcp\t9100", "deny"},
		{"shop/db\texternal\ttcp\t443", "allow"},
		{"external\t198.51.100.7\ttcp\t443", "allow"},
		{"shop/api\tshop/db-svc\ttcp\t80", "allow"}, // port 80 is the pod's 5432
		{"shop/api\t10.96.0.10\ttcp\t80", "allow"},
		{"shop/web-1\tshop/db-svc\ttcp\t80", "deny"},
		{"shop/web\tshop/db\ttcp\t5432", "deny"}, // a workload whose pods agree
		{"shop/web\tshop/web\ttcp\t80", "allow"},
	} {
		out, wrong, _ := replayText(t, c.flow+"\n")
		if want := c.flow + "\t" + c.want + "\n"; out != want || wrong != nil {
			t.Errorf("got %q, %q, want %q", out, wrong, want)
		}
	}
}

func TestWrongLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine+1)
	for _, c := range []struct{ line, want string }{
		{"shop/api shop/db tcp 5432", "the fields must be separated by tabs, not by spaces"},
		{"shop/api\tshop/db\ttcp", "want 4 fields separated by tabs (source, destination, protocol, port), got 3"},
		{"a\tb\tc\td\te", "want 4 fields separated by tabs (source, destination, protocol, port), got 5"},
		{"\tshop/db\ttcp\t1", "the source is empty"},
		{"shop/api\tshop/db\ttcp\t", "the port is empty"},
		{"shop/apo\tshop/db\ttcp\t1", `no pod, workload or service "shop/apo" in the input; did you mean "shop/api"?`},
		{"shop/api\tshop/db\ttpc\t1", `unknown protocol "tpc": want TCP, UDP, SCTP, ICMP or a number from 0 to 255`},
		{"shop/api\tshop/db\t256\t1", `unknown protocol "256": want TCP, UDP, SCTP, ICMP or a number from 0 to 255`},
		{"shop/api\tshop/db\ttcp\t-", `"-" is no port of tcp: want a number from 1 to 65535`},
		{"shop/api\tshop/db\ttcp\t0", `"0" is no port of tcp: want a number from 1 to 65535`},
		{"shop/api\tshop/db\ttcp\t65536", `"65536" is no port of tcp: want a number from 1 to 65535`},
		{"shop/api\tshop/db\ttcp\t+80", `"+80" is no port of tcp: want a number from 1 to 65535`},
		{"shop/api\tshop/db\ticmp\t8", `icmp has no ports: the port must be "-", not "8"`},
		{"ip:10.0.0\tshop/db\ttcp\t1", `"10.0.0" is no address`},
		{"2001:db8::1\tshop/db\ttcp\t1", `"2001:db8::1" and "shop/db" have no addresses of one family`},
		{"shop/api\tshop/nobody\ttcp\t1", "service shop/nobody leads to no pod"},
		{"shop/api\tshop/db-svc\ttcp\t81", "service shop/db-svc leads nowhere at tcp/81; its ports: tcp/80"},
		{long, "the line is longer than 65536 bytes"},
		{long + long + long, "the line is longer than 65536 bytes"},
	} {
		// The good lines around it are still answered.
		good := "shop/api\tshop/db\ttcp\t5432"
		out, wrong, sum := replayText(t, good+"\n"+c.line+"\n"+good+"\n")
		if want := good + "\tallow\n" + good + "\tallow\n"; out != want {
			t.Errorf("%.60q: got %.200q, want %q", c.line, out, want)
		}
		if diff := cmp.Diff([]string{"flows:2: " + c.want}, wrong); diff != "" {
			t.Errorf("%.60q: (-want +got)\n%s", c.line, diff)
		}
		if sum.Flows != 2 || sum.Wrong != 1 || sum.Decisions[verdict.Allow] != 2 {
			t.Errorf("%.60q: summary %+v", c.line, sum)
		}
	}
}

func TestDifferentVerdictsBehindOneName(t *testing.T) {
	tab := table(t)
	s := *tab.Snapshot
	s.Endpoints[3].Labels = map[string]string{"app": "api"} // one replica may, one may not
	tab = compile.Compile(&s, model.Dialects[0])
	var wrong string
	_, err := Replay(tab, strings.NewReader("shop/web\tshop/db\ttcp\t5432\n"), io.Discard, Options{Wrong: func(d diag.Diagnostic) { wrong = d.Message }})
	if err != nil {
		t.Fatal(err)
	}
	want := "the flow stands for connections with different verdicts: shop/web-1 → shop/db deny, shop/web-2 → shop/db allow; name pods or addresses"
	if wrong != want {
		t.Errorf("got %q\nwant %q", wrong, want)
	}
}

func TestCommentsAndEmptyLinesAreCopied(t *testing.T) {
	longComment := "# " + strings.Repeat("x", 3*MaxLine)
	in := "# head\r\n\n \t\n" + longComment + "\nshop/api\tshop/db\ttcp\t5432\r\n#end"
	want := "# head\r\n\n \t\n" + longComment + "\nshop/api\tshop/db\ttcp\t5432\tallow\n#end"
	out, wrong, _ := replayText(t, in)
	if out != want || wrong != nil {
		t.Errorf("got %d bytes, %q, want %d bytes", len(out), wrong, len(want))
	}
}

func TestLastLineWithoutEnd(t *testing.T) {
	out, wrong, _ := replayText(t, "shop/api\tshop/db\ttcp\t5432")
	if out != "shop/api\tshop/db\ttcp\t5432\tallow\n" || wrong != nil {
		t.Errorf("got %q, %q", out, wrong)
	}
}

func TestLongestLine(t *testing.T) {
	line := strings.Repeat("a", MaxLine)
	_, wrong, _ := replayText(t, line+"\r\n")
	if len(wrong) != 1 || strings.Contains(wrong[0], "longer") {
		t.Errorf("a line of %d bytes: %.100q", MaxLine, wrong)
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestWriteErrorEndsTheReplay(t *testing.T) {
	in := &counting{r: strings.NewReader(strings.Repeat("shop/api\tshop/db\ttcp\t5432\n", 100_000))}
	_, err := Replay(table(t), in, &failing{after: 100_000}, Options{})
	if err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if in.n > 1<<20 {
		t.Errorf("read %d bytes after the output was gone", in.n)
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func TestManyWrongNamesAreStillNamed(t *testing.T) {
	var in strings.Builder
	for i := range 3 * maxSuggestions {
		fmt.Fprintf(&in, "shop/x%d\tshop/db\ttcp\t1\n", i)
	}
	in.WriteString("shop/web\tshop/db\ttcp\t5432\nweb-1\tshop/db\ttcp\t1\n")
	out, wrong, sum := replayText(t, in.String())
	if sum.Wrong != 3*maxSuggestions+1 || len(wrong) != sum.Wrong || out != "shop/web\tshop/db\ttcp\t5432\tdeny\n" {
		t.Errorf("summary %+v, output %q", sum, out)
	}
	if want := `no pod, workload or service "default/web-1" in the input`; !strings.HasSuffix(wrong[len(wrong)-1], want) {
		t.Errorf("got %q, want %q at the end", wrong[len(wrong)-1], want)
	}
}

// FuzzReplay checks that every line is answered, copied or reported, and that
// what is answered is the line with its verdict.
func FuzzReplay(f *testing.F) {
	for _, s := range []string{"shop/api\tshop/db\ttcp\t5432\n", "# x\n\n", "external\tip:1.2.3.4\tICMP\t-", "a\tb\tc\r\n\t\t\t\n", "shop/pod/api\tshop/svc/db-svc\t132\t80"} {
		f.Add([]byte(s))
	}
	tab := table(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		wrong := 0
		sum, err := Replay(tab, bytes.NewReader(in), &out, Options{Wrong: func(diag.Diagnostic) { wrong++ }})
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(in, []byte("\n"))
		if len(in) > 0 && in[len(in)-1] != '\n' {
			lines++
		}
		written := bytes.Count(out.Bytes(), []byte("\n"))
		if out.Len() > 0 && out.Bytes()[out.Len()-1] != '\n' {
			written++
		}
		if written+wrong != lines || wrong != sum.Wrong {
			t.Fatalf("%d lines: %d written, %d wrong, summary %+v", lines, written, wrong, sum)
		}
		for line := range bytes.Lines(out.Bytes()) {
			line = trimEnd(line)
			if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
				continue
			}
			rest, word, _ := cutLast(line)
			if !bytes.Contains(in, rest) || word != "allow" && word != "deny" && word != "undefined" {
				t.Fatalf("unexpected line %q", line)
			}
		}
	})
}

func cutLast(line []byte) ([]byte, string, bool) {
	i := bytes.LastIndexByte(line, '\t')
	if i < 0 {
		return nil, "", false
	}
	return line[:i], string(line[i+1:]), true
}

func BenchmarkReplay(b *testing.B) {
	tab := table(b)
	in := strings.Repeat("shop/api\tshop/db\ttcp\t5432\nshop/web-1\tshop/db\tudp\t53\n198.51.100.7\tshop/api\ttcp\t443\nshop/db\texternal\ticmp\t-\n", 250)
	b.Run("lines=1000", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			if _, err := Replay(tab, strings.NewReader(in), io.Discard, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
