package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"picket/internal/diag"
	"picket/internal/suite"
)

type testOptions struct {
	*global
	input
	format    format
	namespace string
	coverage  bool

	suites []string
}

const testLong = `Check assertions about who may reach whom. A suite is YAML:

  apiVersion: picket/v1
  kind: Suite
  tests:
  - name: dev does not reach the database
    from: {namespace: dev}
    to: {namespace: prod, podSelector: {matchLabels: {app: db}}}
    ports: [tcp/5432, icmp]
    expect: deny

from and to are an endpoint, external, an address, a CIDR, selectors as above
(namespace or namespaceSelector, and podSelector), or a list of these. ports
are tcp/80, tcp/8000-8100, tcp, icmp, 80 or all. expect is allow, deny or
undefined, and holds for every connection from one to the other except of a pod
to itself. A selector that matches nobody fails the test unless it says
allowEmpty: true.

The exit status is 1 if a test fails.`

const testExample = `  # One suite
  picket test suite.yaml -f manifests/

  # For the CI server
  picket test suites/*.yaml -f manifests/ -o junit > report.xml

  # What no assertion is about
  picket test suite.yaml -f manifests/ --coverage`

func newTest(g *global) *cobra.Command {
	o := &testOptions{global: g}
	cmd := &cobra.Command{
		Use:     "test SUITE... -f FILE",
		Short:   "Check assertions about who may reach whom",
		Long:    testLong,
		Example: testExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("test needs a suite: picket test SUITE.yaml -f FILE")
			}
			return nil
		},
		RunE: run(o),
	}
	o.input.bind(cmd)
	o.format.bind(cmd, "text", "json", "junit")
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "where endpoints without a namespace are looked for (default \"default\")")
	cmd.Flags().BoolVar(&o.coverage, "coverage", false, "report what no assertion is about (text and json)")
	completeWith(cmd, &o.input, "namespace", namespaceNames)
	return cmd
}

func (o *testOptions) Complete(args []string) error {
	o.input.complete()
	o.suites = args
	return nil
}

func (o *testOptions) Validate() error {
	n := count(o.suites, "-")
	if n > 0 && o.usesStdin() {
		return usagef("the suite and -f can't both be standard input")
	}
	if n > 1 {
		return usagef("only one suite can be standard input")
	}
	return firstError(o.input.validate(), o.format.validate())
}

// maxSuite bounds the size of a suite's file, in bytes.
const maxSuite = 16 << 20

// Run exits with 2 if a suite could not be read in full, but checks the tests
// that could.
func (o *testOptions) Run(ctx context.Context) error {
	var tests []suite.Test
	good := true
	for _, name := range o.suites {
		ts, diags, err := o.readSuite(name)
		if err != nil {
			fmt.Fprintf(o.Err, "picket: %s\n", clean(err.Error()))
			good = false
			continue
		}
		o.diagnostics(diags)
		good = good && !diags.HasErrors()
		tests = append(tests, ts...)
	}
	if len(tests) == 0 {
		return status(exitFailed)
	}
	t, ok, err := o.load(ctx, o.global, o.source)
	if err != nil {
		return err
	}
	r := suite.Run(t, tests, suite.Options{Namespace: o.namespace, Coverage: o.coverage})
	out := newOutput(o.Out, o.noColor)
	switch o.format.value {
	case "json":
		err = r.WriteJSON(out)
	case "junit":
		err = r.WriteJUnit(out)
	default:
		err = r.WriteText(out.term)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(ok && good, r.Failed > 0)
}

func (o *testOptions) readSuite(name string) ([]suite.Test, diag.List, error) {
	in, shown := o.In, "stdin"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		in, shown = f, name
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSuite+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("read %s: %w", shown, err)
	case len(data) > maxSuite:
		return nil, nil, fmt.Errorf("%s is larger than %d MiB, the most that a suite may have", shown, maxSuite>>20)
	}
	tests, diags := suite.Parse(shown, data)
	return tests, diags, nil
}
