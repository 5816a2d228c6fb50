package lint

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"picket/internal/diag"
)

// Check describes a code for people. A code may be reported with a lower
// severity than the one here; the explanation says when.
type Check struct {
	Code        string        `json:"code"`
	Severity    diag.Severity `json:"severity"`
	Title       string        `json:"title"`
	Explanation string        `json:"explanation"` // paragraphs of wrapped lines
	Bad         string        `json:"bad"`         // YAML that has the finding, in the cluster that the tests lint it in
	Good        string        `json:"good"`        // YAML that has not

	world string // the cluster; "" for the common one
}

// Each file is a check: severity and title, an empty line, the explanation, and
// the parts world.yaml (the common one if missing), bad.yaml and good.yaml.
//
//go:embed catalogue
var files embed.FS

// Catalogue returns all checks, in the order of families and codes.
func Catalogue() []Check { return slices.Clone(catalogue()) }

// Lookup returns the check of a code, in any case.
func Lookup(code string) (Check, bool) {
	code = strings.ToUpper(code)
	for _, c := range catalogue() {
		if c.Code == code {
			return c, true
		}
	}
	return Check{}, false
}

var catalogue = sync.OnceValue(func() []Check {
	entries, err := files.ReadDir("catalogue")
	if err != nil {
		panic(err) // it is compiled in
	}
	var out []Check
	for _, e := range entries {
		code, ok := strings.CutSuffix(e.Name(), ".txt")
		if !ok {
			continue
		}
		data, err := files.ReadFile("catalogue/" + e.Name())
		if err != nil {
			panic(err)
		}
		out = append(out, parseCheck(code, string(data)))
	}
	slices.SortFunc(out, func(a, b Check) int { return strings.Compare(family(a.Code)+a.Code, family(b.Code)+b.Code) })
	return out
})

// families are in the order in which they are listed.
var families = []struct{ prefix, title string }{
	{"NP1", "The shape of NetworkPolicies"},
	{"NP2", "Dead or wrong selectors"},
	{"NP3", "Reachability and lifelines"},
	{"NP4", "Exposure"},
	{"CN5", "ClusterNetworkPolicy"},
	{"HY7", "Hygiene"},
	{"LT0", "Suppressions"},
}

// family returns a key that sorts codes by family.
func family(code string) string {
	for i, f := range families {
		if strings.HasPrefix(code, f.prefix) {
			return string(rune('0' + i))
		}
	}
	return "~"
}

func parseCheck(code, text string) Check {
	c := Check{Code: code}
	head, parts, _ := strings.Cut(text, "\n-- ")
	first, rest, _ := strings.Cut(head, "\n")
	severity, title, _ := strings.Cut(first, " ")
	c.Title, c.Explanation = title, strings.TrimSpace(rest)
	switch severity {
	case "warning":
		c.Severity = diag.Warning
	case "info":
		c.Severity = diag.Info
	}
	for _, part := range strings.Split("-- "+parts, "\n-- ") {
		name, body, _ := strings.Cut(strings.TrimPrefix(part, "-- "), " --\n")
		if !strings.HasSuffix(body, "\n") {
			body += "\n"
		}
		switch name {
		case "bad.yaml":
			c.Bad = body
		case "good.yaml":
			c.Good = body
		case "world.yaml":
			c.world = body
		}
	}
	return c
}

// WriteCatalogue writes all checks as a Markdown page.
func WriteCatalogue(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Lint findings

Generated from the checks that ` + "`picket lint`" + ` runs; each example is linted by a test, the first of a pair with the
finding, the second without. ` + "`picket lint --explain CODE`" + ` prints the same.

A finding is accepted by an annotation or a comment of the policy, with a reason:

    metadata:
      annotations:
        picket/ignore: NP301 reason=these pods resolve no names

`)
	at := ""
	for _, c := range catalogue() {
		if f := family(c.Code); f != at {
			at = f
			for _, x := range families {
				if strings.HasPrefix(c.Code, x.prefix) {
					fmt.Fprintf(&b, "## %sxx: %s\n\n", x.prefix, x.title)
				}
			}
		}
		fmt.Fprintf(&b, "### %s %s\n\n%s. %s\n", c.Code, c.Title, upper(c.Severity.String()), c.Explanation)
		if c.Bad != "" {
			fmt.Fprintf(&b, "\n```yaml\n%s```\n", c.Bad)
		}
		if c.Good != "" {
			fmt.Fprintf(&b, "\nWithout the finding:\n\n```yaml\n%s```\n", c.Good)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, strings.TrimSuffix(b.String(), "\n"))
	return err
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
