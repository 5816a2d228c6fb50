//go:build linux

package prove

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/term"
)

// TestOutputs writes a proof with a planted error in every form.
func TestOutputs(t *testing.T) {
	needsLab(t)
	steps := readFiles(t, []string{environments + "cluster", environments + "step1", environments + "step3"}, environments+"step6")
	proofs := run(t, steps, Options{edit: func(p *nft.Plan) {
		editPorts(p, netset.Ports(netset.TCP, 8888, 8888), func(netset.Traffic) netset.Traffic { return netset.Ports(netset.TCP, 8888, 8889) })
	}})
	if proofs[0].Agrees() != true || proofs[1].Agrees() {
		t.Fatalf("%s; %s", proofs[0].Summary(), proofs[1].Summary())
	}
	t.Run("text", func(t *testing.T) {
		var b bytes.Buffer
		if err := WriteText(term.Fixed(&b, false, 120), proofs); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"== start\n", "== ../../examples/environments/step6\n", "tcp/8888-8889 !", "prediction and kernel agree\n",
			"opened, by packets: 4 ordered pairs of pods\n  + prod/prod{1,2} → qa/qa{1,2}  tcp/8888-8889\n",
			"wrongly open: prod/prod1 → qa/qa1 (10.244.247.212)  tcp/8889: refused, predicted deny\n" +
				"  cell: prod/prod{1,2} → qa/qa{1,2}  tcp/8889-65535, 4 of ",
			"  egress at prod/prod1: denied: ", "NetworkPolicy prod/deny-all-traffic-prod (../../examples/environments/step3/deny-all-prod.yaml:2)\n",
			"refuted in 1 cell: 4 of ",
		} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, b.String())
			}
		}
	})
	t.Run("json", func(t *testing.T) {
		var b bytes.Buffer
		if err := WriteJSON(&b, proofs); err != nil {
			t.Fatal(err)
		}
		var got struct {
			APIVersion, Kind string
			Steps            []struct {
				Name   string
				Groups []struct{ Members []string }
				Cells  []struct {
					From, To                     int
					Traffic, Measured, Predicted string
					Proved                       bool
					Packets                      int
					Packet                       *struct{ From, To, Port, Result string }
				}
				Mismatches []struct {
					Kind, From, To, Port, Egress string
					Policies                     []string
				}
				Opened  []struct{ From, To []string }
				Summary struct {
					Agrees                 bool
					Cells, Proved, Refuted int
				}
			}
		}
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.APIVersion != "picket/v1" || got.Kind != "Proof" || len(got.Steps) != 2 {
			t.Fatalf("%s %s, %d steps", got.APIVersion, got.Kind, len(got.Steps))
		}
		for _, s := range got.Steps {
			proved, refuted := 0, 0
			for _, c := range s.Cells {
				if c.Packets == 0 || c.Packet == nil || c.From >= len(s.Groups) || c.To >= len(s.Groups) {
					t.Errorf("no packet stands for %+v", c)
				}
				if c.Proved {
					proved++
				} else {
					refuted++
				}
				if c.Proved && c.Measured != c.Predicted {
					t.Errorf("proved, but %+v", c)
				}
			}
			if len(s.Cells) != s.Summary.Cells || proved != s.Summary.Proved || refuted != s.Summary.Refuted {
				t.Errorf("%s: %d cells, %d proved, %d refuted; the summary says %+v", s.Name, len(s.Cells), proved, refuted, s.Summary)
			}
		}
		last := got.Steps[1]
		if len(last.Mismatches) != 4 || last.Summary.Agrees || len(last.Opened) != 1 {
			t.Fatalf("%+v %+v", last.Mismatches, last.Opened)
		}
		m := last.Mismatches[0]
		if m.Kind != "wrongly open" || m.Port != "tcp/8889" || m.Egress == "" || len(m.Policies) != 4 {
			t.Errorf("%+v", m)
		}
	})
	t.Run("junit", func(t *testing.T) {
		var b bytes.Buffer
		if err := WriteJUnit(&b, proofs); err != nil {
			t.Fatal(err)
		}
		var got junitSuites
		if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Failures != 1 || got.Tests != proofs[0].Cells+proofs[1].Cells || got.Skipped != 0 {
			t.Errorf("%d failures, %d tests, %d skipped", got.Failures, got.Tests, got.Skipped)
		}
		for _, c := range got.Suites[1].Cases {
			if c.Failure != nil && (c.Name != "tcp/8889-65535 is denied" || !strings.HasPrefix(c.Failure.Message, "wrongly open: prod/prod1 → qa/qa1")) {
				t.Errorf("%+v %+v", c, c.Failure)
			}
		}
	})
	t.Run("html", func(t *testing.T) {
		m, err := proofs[1].Matrix()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := m.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), `"wrong":["wrongly open: prod/prod1 → qa/qa1 (10.244.247.212)  tcp/8889: refused, predicted deny"`) {
			t.Error("the page does not tell the mismatch")
		}
	})
}
