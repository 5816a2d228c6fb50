package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"picket/internal/report/diff"
	"picket/internal/verdict"
)

type diffOptions struct {
	*global
	reading
	scope
	format format
	common []string // read for both sides
	ports  []string

	sides  [2]source // old, new
	parsed []verdict.Port
}

const diffLong = `Show what a change opens and closes: the flows that NEW allows and OLD does not
and the other way round, and the lifelines that are lost (name resolution, API
server, webhooks, monitoring).

OLD and NEW are each a file, a folder, - for standard input, or cluster:CONTEXT
for a live cluster; cluster: alone is the current context. What -f names is read
for both sides, such as the pods when only policies change. The exit status is
1 if anything differs.`

const diffExample = `  # Two folders
  picket diff main/manifests branch/manifests

  # Policies change, the pods stay
  picket diff old-policies/ new-policies/ -f pods/

  # What applying these files would change in the cluster
  picket diff cluster:production manifests/ -R

  # A comment for a pull request
  picket diff old/ new/ -o markdown

  # What a chart's next version opens
  helm template shop --version 2 | picket diff shop-1.yaml -`

func newDiff(g *global) *cobra.Command {
	o := &diffOptions{global: g}
	cmd := &cobra.Command{
		Use:     "diff OLD NEW",
		Short:   "Show what a change opens and closes",
		Long:    diffLong,
		Example: diffExample,
		Args:    exactArgs("OLD", "NEW"),
		RunE:    run(o),
	}
	o.reading.bind(cmd)
	o.scope.bind(cmd, nil)
	o.format.bind(cmd, "text", "json", "markdown")
	cmd.Flags().StringSliceVarP(&o.common, "filename", "f", nil, "file or folder that is read for both sides; may be repeated")
	cmd.Flags().StringSliceVar(&o.ports, "port", nil, "only this traffic, such as tcp/80 or icmp")
	return cmd
}

func (o *diffOptions) Complete(args []string) error {
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "cluster:"); ok {
			o.sides[i] = source{cluster: true, context: name}
		} else {
			o.sides[i] = source{files: append(slices.Clone(o.common), a)}
		}
	}
	return nil
}

func (o *diffOptions) Validate() (err error) {
	if o.parsed, err = parsePorts(o.ports); err != nil {
		return err
	}
	for i, name := range []string{"OLD", "NEW"} {
		switch s := o.sides[i]; {
		case s.cluster && len(o.common) > 0:
			return usagef("%s is a cluster, to which -f can add nothing", name)
		case slices.Contains(s.files, ""):
			return usagef("%s, or a -f, is empty: want a file, a folder, - or cluster:CONTEXT", name)
		case slices.Contains(o.common, "-"):
			return usagef("-f - can't be read for both sides")
		}
	}
	if o.sides[0].usesStdin() && o.sides[1].usesStdin() {
		return usagef("only one of OLD and NEW can be standard input")
	}
	return firstError(o.reading.validate(), o.scope.validate(), o.format.validate())
}

func (o *diffOptions) Run(ctx context.Context) error {
	before, ok1, err := o.load(ctx, o.global, o.sides[0])
	if err != nil {
		return err
	}
	after, ok2, err := o.load(ctx, o.global, o.sides[1])
	if err != nil {
		return err
	}
	if o.scope.check(before) != nil {
		if err := o.scope.check(after); err != nil {
			return err
		}
	}
	r, err := diff.Build(before, after, diff.Options{Ports: o.parsed, Namespaces: o.namespaces})
	if err != nil {
		return err
	}
	out := newOutput(o.Out, o.noColor)
	switch o.format.value {
	case "json":
		err = r.WriteJSON(out)
	case "markdown":
		err = r.WriteMarkdown(out)
	default:
		err = r.WriteText(out.term)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(ok1 && ok2, !r.Empty())
}
