//go:build linux

package prove

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"picket/internal/lab"
	"picket/internal/report/matrix"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *junitSkipped `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes proofs as JUnit XML: a testsuite for each, with a testcase
// for each cell. A cell that could not be proved is skipped. It holds no times,
// so that equal results give equal bytes.
func WriteJUnit(w io.Writer, proofs []*Proof) error {
	out := junitSuites{Name: "picket prove"}
	for _, p := range proofs {
		s := p.junit()
		out.Tests += s.Tests
		out.Failures += s.Failures
		out.Skipped += s.Skipped
		out.Suites = append(out.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (p *Proof) junit() junitSuite {
	suite := junitSuite{Name: p.Name}
	if suite.Name == "" {
		suite.Name = "proof"
	}
	names := matrix.NewNames(p.t)
	byGroup := make([]string, len(p.groups))
	for i := range p.groups {
		byGroup[i] = p.groupName(names, int32(i))
	}
	for i := range p.faces {
		f := &p.faces[i]
		for s := range f.slots {
			slot, r := &f.slots[s], &f.results[s]
			c := junitCase{Name: fmt.Sprintf("%s is %s", p.cellName(f, slot), past[slot.decision]), Class: byGroup[f.src] + " → " + byGroup[f.dst]}
			switch {
			case r.wrong > 0:
				suite.Failures++
				c.Failure = p.junitFailure(int32(i), int32(s))
			case r.sent == 0:
				suite.Skipped++
				c.Skipped = &junitSkipped{p.unprovedWhy(f, s)}
			}
			suite.Tests++
			suite.Cases = append(suite.Cases, c)
		}
	}
	return suite
}

var past = [...]string{"denied", "allowed", "undefined"}

func (p *Proof) junitFailure(f, s int32) *junitFailure {
	out := &junitFailure{}
	var b strings.Builder
	for _, n := range p.wrongOf[f] {
		m := &p.Mismatches[n]
		if p.shots[m.shot].slot != s {
			continue
		}
		if out.Message == "" {
			out.Message, out.Type = m.String(), m.Kind()
		}
		b.WriteString(m.String() + "\n")
		for _, l := range p.why(m) {
			b.WriteString("  " + l + "\n")
		}
	}
	out.Text = b.String()
	return out
}

func resultName(r int) string { return lab.Result(r).String() }
