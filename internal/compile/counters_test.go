package compile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
)

// TestCounters holds how much work compiling is: a change that does more of it
// fails here without a clock. GOLDEN_UPDATE=1 rewrites the file; look at the
// difference before believing it.
func TestCounters(t *testing.T) {
	const path = "testdata/counters.txt"
	var b strings.Builder
	for _, c := range []clustergen.Config{
		{Pods: 100, Namespaces: 6, Policies: 40},
		{Pods: 1_000, Namespaces: 30, Policies: 300},
		{Pods: 10_000, Namespaces: 30, Policies: 300}, // ten times the pods, the same classes
		{Pods: 10_000, Namespaces: 100, Policies: 1_000},
		{Pods: 1_000, Namespaces: 30, Policies: 300, Distinct: true},
	} {
		for _, d := range model.Dialects[:2] {
			table := compile.Compile(clustergen.Sized(c), d)
			if err := table.Validate(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%+v %s\n", c, d.Name)
			for field := range strings.FieldsSeq(strings.Trim(fmt.Sprintf("%+v", table.Counters), "{}")) {
				name, n, _ := strings.Cut(field, ":")
				fmt.Fprintf(&b, "  %-10s %8s\n", name, n)
			}
		}
	}
	if os.Getenv("GOLDEN_UPDATE") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the work has changed (-want +got; GOLDEN_UPDATE=1 rewrites %s):\n%s", path, diff)
	}
}
