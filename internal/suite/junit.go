package suite

import (
	"encoding/xml"
	"io"
	"strings"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit XML, a testsuite for each file. It
// holds no times, so that equal inputs give equal bytes.
func (r *Report) WriteJUnit(w io.Writer) error {
	out := junitSuites{Name: "picket", Tests: len(r.Tests), Failures: r.Failed}
	at := map[string]int{}
	for i := range r.Tests {
		t := &r.Tests[i]
		file := t.Position.File
		k, ok := at[file]
		if !ok {
			k = len(out.Suites)
			at[file] = k
			out.Suites = append(out.Suites, junitSuite{Name: file})
		}
		s := &out.Suites[k]
		c := junitCase{Name: t.Name, Class: strings.TrimSuffix(file, ".yaml"), File: file, Line: t.Position.Line}
		if !t.Passed {
			s.Failures++
			c.Failure = &junitFailure{Message: t.Message(), Type: "mismatch", Text: t.detail()}
			if t.Problem != "" {
				c.Failure.Type = "empty"
			}
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
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

// detail says all failures, for a place where lines cost nothing.
func (r *Result) detail() string {
	var b strings.Builder
	if r.Problem != "" {
		b.WriteString(r.Problem + "\n")
	}
	for i := range r.Failures {
		f := &r.Failures[i]
		b.WriteString("want " + r.Expect.String() + ", got " + f.Got.String() + ": " + f.ends() + "\n")
		for _, l := range f.lines() {
			b.WriteString("  " + l + "\n")
		}
	}
	return b.String()
}
