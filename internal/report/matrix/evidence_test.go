package matrix

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"picket/internal/netset"
	"picket/internal/verdict"
)

// found is evidence in which packets found the table right, except from one
// group of pods to another, and in which nothing was sent to a third.
type found struct {
	t                 *verdict.Table
	from, to, skipped string // a pod of each
	passed            netset.Traffic
}

func (f *found) Summary() string { return "found by a test" }

func (f *found) Between(src, dst verdict.Party) (Measured, bool) {
	of := func(p verdict.Party, name string) bool {
		return p.Endpoint != verdict.None && f.t.Snapshot.Endpoints[p.Endpoint].String() == name
	}
	if of(dst, f.skipped) {
		return Measured{}, false
	}
	m := Measured{Cells: 5, Proved: 5, Packets: 50, Passed: verdict.JointTraffic(f.t.Join(f.t.Pair(src, dst)), verdict.Allow), Detail: []string{"tcp: 50 packets"}}
	if of(src, f.from) && of(dst, f.to) {
		m.Passed, m.Proved, m.Wrong = f.passed, 4, []string{"wrongly open: a packet of a test"}
	}
	return m, true
}

func evident(t *testing.T) (*verdict.Table, *found) {
	tab := tutorial().table(t, "picket")
	return tab, &found{t: tab, from: "prod/prod1", to: "qa/qa1", skipped: "default/trouble1", passed: netset.Ports(netset.TCP, 8888, 8889)}
}

func TestEvidenceInText(t *testing.T) {
	tab, f := evident(t)
	got := text(t, build(t, tab, Options{External: true, Evidence: f}), 120)
	plain := text(t, build(t, tab, Options{External: true}), 120)
	for _, want := range []string{"tcp/8888-8889 !", "!  not what the policies say; see below", "?  no packet could be sent", "as measured"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
		if strings.Contains(plain, want) {
			t.Errorf("%q without evidence", want)
		}
	}
	if n := strings.Count(got, " !"); n != 1 {
		t.Errorf("%d cells are marked, want 1:\n%s", n, got)
	}
}

func TestEvidenceInJSON(t *testing.T) {
	tab, f := evident(t)
	var b bytes.Buffer
	if err := build(t, tab, Options{External: true, Evidence: f}).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Groups []struct {
			ID   int
			Pods []string
		}
		Rows, Columns []int
		Cells         [][][2]*int
		Verdicts      []struct{ Text string }
		Evidence      struct {
			Summary string
			Cells   [][][2]*int
			Results []struct {
				Cells, Proved, Packets int
				Wrong, Detail          []string
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	at := func(cells [][][2]*int, from, to string) *int {
		index := func(axis []int, pod string) int {
			return slices.IndexFunc(axis, func(g int) bool { return slices.Contains(got.Groups[g].Pods, pod) })
		}
		n := index(got.Columns, to)
		for _, run := range cells[index(got.Rows, from)] {
			if n -= *run[1]; n < 0 {
				return run[0]
			}
		}
		t.Fatalf("no cell from %s to %s", from, to)
		return nil
	}
	if r := at(got.Evidence.Cells, "prod/prod1", "default/trouble1"); r != nil {
		t.Error("a result where nothing was sent")
	}
	r := at(got.Evidence.Cells, "prod/prod1", "qa/qa1")
	if r == nil || len(got.Evidence.Results[*r].Wrong) != 1 || got.Evidence.Results[*r].Proved != 4 {
		t.Errorf("result %v of %+v", r, got.Evidence.Results)
	}
	if v := got.Verdicts[*at(got.Cells, "prod/prod1", "qa/qa1")].Text; v != "tcp/8888-8889 !" {
		t.Errorf("the cell says %q", v)
	}
	if v := got.Verdicts[*at(got.Cells, "dev/dev1", "prod/prod1")].Text; v != "all" {
		t.Errorf("another cell says %q", v)
	}
	if got.Evidence.Summary != f.Summary() {
		t.Errorf("summary %q", got.Evidence.Summary)
	}
}

func TestEvidenceInPage(t *testing.T) {
	t.Parallel()
	tab, f := evident(t)
	dom := chromium(t, page(t, tab, Options{External: true, Evidence: f}), "#cell=4,5")
	got := words(part(t, dom, `<aside id="panel"`, "</aside>"))
	for _, want := range []string{"Predicted: tcp/8888. Packets found otherwise.", "50 packets in 4 of 5 cells did what the policies say; 1 packet did not", "wrongly open: a packet of a test", "tcp: 50 packets"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if n := strings.Count(part(t, dom, "<table", "</table>"), "refuted"); n != 1 {
		t.Errorf("%d cells are marked, want 1", n)
	}
	if !strings.Contains(words(dom), "found by a test") {
		t.Error("the page has no summary of the proof")
	}
}
