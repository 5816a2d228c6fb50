package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"picket":         func() { os.Exit(Main()) },
		"kubectl-picket": func() { os.Exit(Main()) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			return os.CopyFS(filepath.Join(e.WorkDir, "fixture"), os.DirFS(filepath.Join("testdata", "fixture")))
		},
		UpdateScripts: os.Getenv("GOLDEN_UPDATE") == "1",
		Condition: func(cond string) (bool, error) {
			if cond != "lab" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return canLab(), nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits runs "exits STATUS command...": the command must end with just that
// status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS command...")
	}
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var ee interface{ ExitCode() int }
	if errors.As(err, &ee) {
		got = string(rune('0' + ee.ExitCode()))
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %s, want %s", strings.Join(args[1:], " "), got, want)
	}
}

// TestReferenceIsCurrent compares docs/cli/picket.md with the commands.
func TestReferenceIsCurrent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: without Linux the agent has no flags to document")
	}
	path := filepath.Join("..", "..", "docs", "cli", "picket.md")
	got := markdown(newRoot("picket", Streams{Out: io.Discard, Err: io.Discard}))
	if os.Getenv("GOLDEN_UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is out of date; GOLDEN_UPDATE=1 rewrites it (-file +commands)\n%s", path, diff)
	}
}

// TestEveryCommandIsHelpful wants help with an example, a short line of one
// form, and completion that never falls back to file names by accident.
func TestEveryCommandIsHelpful(t *testing.T) {
	root := newRoot("picket", Streams{Out: io.Discard, Err: io.Discard})
	n := 0
	for _, c := range root.Commands() {
		n++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help is %q", c.Name(), c.Short)
		}
		if c.Long == "" || !strings.Contains(c.Example, "picket "+c.Name()) {
			t.Errorf("%s: no long help, or no example of itself", c.Name())
		}
		if c.Args == nil {
			t.Errorf("%s: takes any arguments", c.Name())
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(strings.TrimRight(line, "\n")) > 84 {
				t.Errorf("%s: help line is too long: %q", c.Name(), line)
			}
		}
	}
	want := []string{"agent", "diff", "explain", "lint", "matrix", "prove", "reference", "replay", "test", "version"}
	var got []string
	for _, c := range root.Commands() {
		got = append(got, c.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" || n != len(want) {
		t.Errorf("commands (-want +got)\n%s", diff)
	}
}

// TestExamplesParse runs the flags of every example through its command.
func TestExamplesParse(t *testing.T) {
	root := newRoot("picket", Streams{Out: io.Discard, Err: io.Discard})
	for _, c := range append(root.Commands(), root) {
		for line := range strings.Lines(c.Example) {
			_, args, ok := strings.Cut(line, "picket ")
			if !ok || strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			args, _, _ = strings.Cut(args, " > ")
			args, _, _ = strings.Cut(args, " | ")
			words := strings.Fields(strings.ReplaceAll(args, "'", ""))
			fresh := newRoot("picket", Streams{Out: io.Discard, Err: io.Discard})
			sub, rest, err := fresh.Find(words)
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := sub.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := sub.ValidateArgs(sub.Flags().Args()); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

func TestMan(t *testing.T) {
	got := man(newRoot("picket", Streams{Out: io.Discard, Err: io.Discard}))
	for _, want := range []string{".TH PICKET 1\n", ".SS picket explain SRC DST PROTO/PORT \\-f FILE\n", ".B \\-f, \\-\\-filename LIST\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the man page", want)
		}
	}
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, ".S") && !strings.HasPrefix(line, ".TH") &&
			!strings.HasPrefix(line, ".TP") && !strings.HasPrefix(line, ".B ") && !strings.HasPrefix(line, ".PP") &&
			line != ".nf\n" && line != ".fi\n" {
			t.Errorf("text became a request: %q", line)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"": 0, "1": 1, "64Mi": 64 << 20, "64MiB": 64 << 20, "2k": 2000, "2Ki": 2048, "1G": 1e9, "1gi": 1 << 30, "5B": 5,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"0", "-1", "x", "1T", "Mi", "1.5Mi", "9999999999Gi", " 1"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: got %d, want an error", in, got)
		}
	}
}

func TestPluginName(t *testing.T) {
	for arg, want := range map[string]string{
		"/usr/bin/picket": "\n  picket matrix -f", "kubectl-picket": "\n  kubectl picket matrix -f", "/x/kubectl-picket.exe": "\n  kubectl picket matrix -f",
	} {
		var out bytes.Buffer
		if code := Run(context.Background(), []string{arg, "matrix", "--help"}, Streams{Out: &out, Err: io.Discard}); code != 0 {
			t.Errorf("%s: status %d", arg, code)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: help without %q:\n%s", arg, want, out.String())
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestOutputThatCannotBeWritten wants status 2 and a message, whatever the
// report says.
func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, args := range [][]string{
		{"version"}, {"version", "-o", "json"}, {"reference"}, {"lint", "--list"}, {"lint", "--explain", "NP101"},
		{"matrix", "-f", "testdata/tiny.yaml"}, {"matrix", "-f", "testdata/tiny.yaml", "-o", "json"}, {"matrix", "-f", "testdata/tiny.yaml", "-o", "html"},
		{"explain", "a/x", "a/z", "80", "-f", "testdata/tiny.yaml"}, {"diff", "testdata/tiny.yaml", "testdata/tiny.yaml"},
		{"lint", "-f", "testdata/tiny.yaml", "-o", "sarif"}, {"test", "testdata/tiny-suite.yaml", "-f", "testdata/tiny.yaml", "-o", "junit"},
	} {
		var errs bytes.Buffer
		code := Run(context.Background(), append([]string{"picket"}, args...), Streams{In: strings.NewReader(""), Out: broken{}, Err: &errs})
		if code != exitFailed || !strings.Contains(errs.String(), "disk full") {
			t.Errorf("%q: status %d, %q", args, code, errs.String())
		}
	}
}

// TestOptionsWithoutCobra uses a command's options as a library would.
func TestOptionsWithoutCobra(t *testing.T) {
	var out, errs bytes.Buffer
	g := &global{Streams: Streams{Out: &out, Err: &errs}}
	o := &explainOptions{global: g, input: input{reading: reading{dialect: "picket"}, source: source{files: []string{"testdata/tiny.yaml"}}}}
	if err := o.Complete([]string{"a/x", "a/z", "tcp/80"}); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := o.Run(context.Background()); err != nil {
		t.Fatal(err, errs.String())
	}
	if !strings.Contains(out.String(), "a/x → a/z") {
		t.Errorf("got %q", out.String())
	}
}

// TestCompletionKeepsOffClusters wants no look at a cluster or standard input
// when a key is pressed.
func TestCompletionKeepsOffClusters(t *testing.T) {
	for _, in := range []*input{
		{reading: reading{dialect: "picket"}, source: source{context: "x"}},
		{reading: reading{dialect: "picket"}, source: source{files: []string{"-"}}},
		{reading: reading{dialect: "picket"}},
	} {
		if got := suggestions(context.Background(), in, nil, "", sourceNames); got != nil {
			t.Errorf("got %q", got)
		}
	}
}
