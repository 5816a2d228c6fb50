package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/cli"
)

// picket runs a command line in this process and returns what it printed.
func picket(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Run(context.Background(), append([]string{"picket"}, args...), cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return stdout.String(), stderr.String(), code
}

// steps returns the flags that make step n of the tutorial: its policies and
// those of all steps before.
func steps(n int) []string {
	flags := []string{"-f", "environments/cluster"}
	for i := 1; i <= n; i++ {
		if i != 2 { // adds pods and no policy
			flags = append(flags, "-f", "environments/step"+string(rune('0'+i)))
		}
	}
	return flags
}

var fixed = []string{"-f", "environments/cluster", "-f", "environments-fixed/policies"}

// TestSuites runs every suite of the examples on the manifests that it is for.
func TestSuites(t *testing.T) {
	runs := map[string][]string{
		"environments-fixed/suite.yaml": fixed,
		"shop/suite.yaml":               {"-R", "-f", "shop"},
	}
	for i := 1; i <= 7; i++ {
		runs["environments/suites/step"+string(rune('0'+i))+".yaml"] = steps(i)
	}
	for suite, flags := range runs {
		t.Run(suite, func(t *testing.T) {
			if out, errs, code := picket(t, append([]string{"test", suite}, flags...)...); code != 0 || errs != "" {
				t.Errorf("exit status %d\n%s%s", code, out, errs)
			}
		})
	}
	found, err := filepath.Glob("*/suites/*.yaml")
	more, err2 := filepath.Glob("*/suite.yaml")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, suite := range append(found, more...) {
		if runs[filepath.ToSlash(suite)] == nil {
			t.Errorf("%s is never run", suite)
		}
	}
}

// TestSuitesCanFail runs each step's suite on the step before, which it must
// not pass.
func TestSuitesCanFail(t *testing.T) {
	for i := 3; i <= 7; i++ {
		suite := "environments/suites/step" + string(rune('0'+i)) + ".yaml"
		if _, errs, code := picket(t, append([]string{"test", suite}, steps(i-1)...)...); code != 1 {
			t.Errorf("%s on step %d: exit status %d, want 1\n%s", suite, i-1, code, errs)
		}
	}
}

// lint returns the codes found, with how often.
func lint(t *testing.T, flags ...string) map[string]int {
	t.Helper()
	out, errs, code := picket(t, append([]string{"lint", "-o", "json"}, flags...)...)
	if code == 2 {
		t.Fatal(errs)
	}
	codes := map[string]int{}
	for _, m := range regexp.MustCompile(`"code": "([A-Z]+[0-9]+)"`).FindAllStringSubmatch(out, -1) {
		codes[m[1]]++
	}
	if !json.Valid([]byte(out)) {
		t.Fatalf("lint prints no JSON: %s", out)
	}
	return codes
}

// TestLintFindsTheTutorialsDefects holds what the README says of the policies.
func TestLintFindsTheTutorialsDefects(t *testing.T) {
	got := lint(t, steps(7)...)
	for _, code := range []string{"NP101", "NP203", "NP301", "NP310", "NP407", "NP409"} {
		if got[code] == 0 {
			t.Errorf("%s is not found", code)
		}
	}
	if got["NP101"] != 5 || got["NP203"] != 5 {
		t.Errorf("NP101 is found %d times, NP203 %d times; want 5 each", got["NP101"], got["NP203"])
	}
	clean := lint(t, fixed...)
	for _, code := range []string{"NP101", "NP203", "NP301", "NP407", "NP409"} {
		if clean[code] > 0 {
			t.Errorf("%s is found in the corrected policies", code)
		}
	}
}

// TestLosingAPolicyIsSeen takes the policies of monitoring away from the shop,
// as its README does.
func TestLosingAPolicyIsSeen(t *testing.T) {
	changed := t.TempDir()
	if err := os.CopyFS(changed, os.DirFS("shop")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(changed, "policies", "monitoring.yaml")); err != nil {
		t.Fatal(err)
	}
	out, errs, code := picket(t, "diff", "-R", "shop", changed)
	if code != 1 || !strings.Contains(out, "scrape lost for shop-data/queue") || !strings.Contains(out, "removed NetworkPolicy monitoring/prometheus") {
		t.Errorf("exit status %d\n%s%s", code, out, errs)
	}
}

// TestReadmes runs the commands that the READMEs show, from the folder that
// each README is in, and compares the output where the README has some. A line
// "…" stands for what is left out. GOLDEN_UPDATE=1 rewrites the outputs.
func TestReadmes(t *testing.T) {
	for _, path := range []string{"../README.md", "environments/README.md", "shop/README.md"} {
		t.Run(filepath.ToSlash(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Dir(path))
			updated := replay(t, strings.SplitAfter(string(text), "\n"))
			if os.Getenv("GOLDEN_UPDATE") == "1" && updated != string(text) {
				if err := os.WriteFile(filepath.Base(path), []byte(updated), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

const indent = "    "

// replay runs the commands in lines and returns the lines with the outputs as
// they are.
func replay(t *testing.T, lines []string) string {
	t.Helper()
	var out strings.Builder
	ran := 0
	for i := 0; i < len(lines); {
		line := lines[i]
		out.WriteString(line)
		i++
		command, ok := strings.CutPrefix(line, indent+"$ picket ")
		if !ok {
			continue
		}
		start := i
		for i < len(lines) && !strings.HasPrefix(lines[i], indent+"$ ") && (strings.HasPrefix(lines[i], indent) || blankInside(lines, i)) {
			i++
		}
		want := strings.Join(lines[start:i], "")
		args := strings.Fields(command)
		for i := range args {
			args[i] = strings.Trim(args[i], "'")
		}
		stdout, errs, code := picket(t, args...)
		ran++
		got := abridge(want, indented(stdout))
		switch {
		case code == 2:
			t.Errorf("$ picket %s: %s", strings.TrimSpace(command), errs)
		case want == "" || want == got:
		case os.Getenv("GOLDEN_UPDATE") == "1":
			want = got
		default:
			t.Errorf("$ picket %s (-README +output):\n%s", strings.TrimSpace(command), cmp.Diff(want, got))
		}
		out.WriteString(want)
	}
	if ran == 0 {
		t.Error("no command found")
	}
	return out.String()
}

// blankInside reports whether the empty line i is followed by more of the
// same block.
func blankInside(lines []string, i int) bool {
	for i < len(lines) && strings.TrimSpace(lines[i]) == "" {
		i++
	}
	return i < len(lines) && strings.HasPrefix(lines[i], indent) && !strings.HasPrefix(lines[i], indent+"$ ")
}

func indented(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(s, "\n") + "\n") {
		if line = strings.TrimRight(line, " \n"); line != "" {
			b.WriteString(indent + line)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// abridge returns got as want shows it: whole, or with the middle replaced by
// a line "…" that has as many lines before and after it as in want.
func abridge(want, got string) string {
	head, tail, ok := strings.Cut(want, indent+"…\n")
	if !ok {
		return got
	}
	lines := strings.SplitAfter(got, "\n")
	lines = lines[:len(lines)-1]
	from, to := strings.Count(head, "\n"), len(lines)-strings.Count(tail, "\n")
	if from > to {
		return got
	}
	return strings.Join(lines[:from], "") + indent + "…\n" + strings.Join(lines[to:], "")
}
