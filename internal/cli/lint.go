package cli

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"picket/internal/diag"
	"picket/internal/report/lint"
)

type lintOptions struct {
	*global
	input
	scope
	format  format
	disable []string
	only    []string
	failOn  string
	list    bool
	explain string
}

const lintLong = `Find what is wrong, dead, wider or narrower than meant in the policies. Each
finding has a stable code, a place, its effect and a fix.

A finding is accepted by an annotation or a comment of the policy, with a
reason:

  metadata:
    annotations:
      picket/ignore: NP301 reason=these pods resolve no names

The exit status is 1 if there is a warning or an error among the findings;
--fail-on moves the line.`

const lintExample = `  # Everything
  picket lint -f manifests/ -R

  # For code scanning
  picket lint -f manifests/ -o sarif > picket.sarif

  # Without one check and one family of checks
  picket lint -f manifests/ --disable NP106,NP3

  # What a code means
  picket lint --explain NP101`

// failLevels are the values of --fail-on, from strict to lenient.
var failLevels = []string{"info", "warning", "error", "never"}

func newLint(g *global) *cobra.Command {
	o := &lintOptions{global: g}
	cmd := &cobra.Command{
		Use:               "lint -f FILE",
		Short:             "Find mistakes in policies",
		Long:              lintLong,
		Example:           lintExample,
		Args:              noArgs,
		RunE:              run(o),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.input.bind(cmd)
	o.scope.bind(cmd, &o.input)
	o.format.bind(cmd, "text", "json", "sarif")
	fs := cmd.Flags()
	fs.StringSliceVar(&o.disable, "disable", nil, "codes, or families such as NP3, that are not reported")
	fs.StringSliceVar(&o.only, "only", nil, "report only these codes or families")
	fs.StringVar(&o.failOn, "fail-on", "warning", "least severity that makes the exit status 1: "+either(failLevels))
	fs.BoolVar(&o.list, "list", false, "list all checks and read nothing")
	fs.StringVar(&o.explain, "explain", "", "say what a code means and read nothing")
	codes := lintCodes()
	for _, f := range []string{"disable", "only", "explain"} {
		complete(cmd, f, codes...)
	}
	complete(cmd, "fail-on", failLevels...)
	return cmd
}

func (o *lintOptions) Complete([]string) error {
	o.input.complete()
	for _, codes := range [][]string{o.disable, o.only} {
		for i := range codes {
			codes[i] = strings.ToUpper(codes[i])
		}
	}
	return nil
}

func (o *lintOptions) Validate() error {
	if err := o.format.validate(); err != nil {
		return err
	}
	if o.list || o.explain != "" {
		return nil
	}
	if !slices.Contains(failLevels, o.failOn) {
		return usagef("--fail-on: unknown severity %q: want %s", o.failOn, either(failLevels))
	}
	return firstError(checkCodes("--disable", o.disable), checkCodes("--only", o.only), o.input.validate(), o.scope.validate())
}

func (o *lintOptions) Run(ctx context.Context) error {
	if o.list || o.explain != "" {
		return o.catalogue()
	}
	t, ok, err := o.load(ctx, o.global, o.source)
	if err != nil {
		return err
	}
	if err := o.scope.check(t); err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		root = "" // absolute names stay as they are
	}
	r := lint.Run(t, lint.Options{Disable: o.disable, Only: o.only, Namespaces: o.namespaces, Root: root})
	out := newOutput(o.Out, o.noColor)
	switch o.format.value {
	case "json":
		err = r.WriteJSON(out)
	case "sarif":
		err = r.WriteSARIF(out)
	default:
		err = r.WriteText(out.term)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(ok, o.fails(r))
}

// fails reports whether a finding is as bad as --fail-on says.
func (o *lintOptions) fails(r *lint.Report) bool {
	for _, s := range []diag.Severity{diag.Error, diag.Warning, diag.Info} {
		if o.failOn == "never" {
			return false
		}
		if r.Count(s) > 0 {
			return true
		}
		if o.failOn == s.String() {
			return false
		}
	}
	return false
}
