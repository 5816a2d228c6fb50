package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"picket/internal/report/matrix"
	"picket/internal/verdict"
)

// scope is which namespaces a report is about.
type scope struct {
	namespaces []string
	all        bool
}

func (s *scope) bind(cmd *cobra.Command, in *input) {
	cmd.Flags().StringSliceVarP(&s.namespaces, "namespace", "n", nil, "only what concerns these namespaces; the first is where bare names are looked for")
	cmd.Flags().BoolVarP(&s.all, "all-namespaces", "A", false, "all namespaces; this is the default")
	completeWith(cmd, in, "namespace", namespaceNames)
}

func (s *scope) validate() error {
	if s.all && len(s.namespaces) > 0 {
		return usagef("give either -n or -A, not both")
	}
	return nil
}

// home is the namespace of bare names.
func (s *scope) home() string {
	if len(s.namespaces) == 0 {
		return ""
	}
	return s.namespaces[0]
}

// check reports a namespace that does not exist.
func (s *scope) check(t *verdict.Table) error {
	for _, want := range s.namespaces {
		found := false
		for i := range t.Snapshot.Namespaces {
			found = found || t.Snapshot.Namespaces[i].Name == want
		}
		if !found {
			return fmt.Errorf("no namespace %q in the input", want)
		}
	}
	return nil
}

type matrixOptions struct {
	*global
	input
	scope
	format   format
	from, to []string
	ports    []string
	external bool
	nodes    bool

	parsed []verdict.Port
}

const matrixLong = `Show who may reach whom. Pods that no policy tells apart share a row; a cell
says the traffic that both sides allow.

-o json lists every pair with its ports and the rule that decides, csv is for
spreadsheets, dot for Graphviz, and html is one page, without anything from
elsewhere, to filter and to click.

--from and --to take endpoints, or NAMESPACE/* for all pods of a namespace.`

const matrixExample = `  # Everything
  picket matrix -f manifests/

  # Who reaches the database, at its port
  picket matrix -f manifests/ --to prod/db --port tcp/5432

  # From one namespace to another
  picket matrix -f manifests/ --from 'dev/*' --to 'prod/*'

  # A page to click through
  picket matrix -f manifests/ -o html > matrix.html

  # A live cluster
  picket matrix --context production -n shop`

func newMatrix(g *global) *cobra.Command {
	o := &matrixOptions{global: g}
	cmd := &cobra.Command{
		Use:               "matrix -f FILE",
		Short:             "Show who may reach whom",
		Long:              matrixLong,
		Example:           matrixExample,
		Args:              noArgs,
		RunE:              run(o),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.input.bind(cmd)
	o.scope.bind(cmd, &o.input)
	o.format.bind(cmd, "text", "json", "csv", "dot", "html")
	fs := cmd.Flags()
	fs.StringSliceVar(&o.from, "from", nil, "only rows for these endpoints")
	fs.StringSliceVar(&o.to, "to", nil, "only columns for these endpoints")
	fs.StringSliceVar(&o.ports, "port", nil, "only this traffic, such as tcp/80 or icmp")
	fs.BoolVar(&o.external, "external", true, "show addresses outside the cluster")
	fs.BoolVar(&o.nodes, "nodes", false, "show nodes")
	completeWith(cmd, &o.input, "from", sourceNames)
	completeWith(cmd, &o.input, "to", destinationNames)
	return cmd
}

func (o *matrixOptions) Complete([]string) error {
	o.input.complete()
	return nil
}

func (o *matrixOptions) Validate() (err error) {
	if o.parsed, err = parsePorts(o.ports); err != nil {
		return err
	}
	return firstError(o.input.validate(), o.scope.validate(), o.format.validate())
}

func (o *matrixOptions) Run(ctx context.Context) error {
	t, ok, err := o.load(ctx, o.global, o.source)
	if err != nil {
		return err
	}
	if err := o.scope.check(t); err != nil {
		return err
	}
	opts := matrix.Options{Namespaces: o.namespaces, Ports: o.parsed, External: o.external, Nodes: o.nodes}
	if opts.From, err = resolve(t, "--from", o.from, o.home()); err != nil {
		return err
	}
	if opts.To, err = resolve(t, "--to", o.to, o.home()); err != nil {
		return err
	}
	r, err := matrix.Build(t, opts)
	if err != nil {
		return err
	}
	out := newOutput(o.Out, o.noColor)
	switch o.format.value {
	case "json":
		err = r.WriteJSON(out)
	case "csv":
		err = r.WriteCSV(out)
	case "dot":
		err = r.WriteDOT(out)
	case "html":
		err = r.WriteHTML(out)
	default:
		err = r.WriteText(out.term)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(ok, false)
}

// parsePorts reads the values of --port.
func parsePorts(texts []string) ([]verdict.Port, error) {
	var out []verdict.Port
	for _, s := range texts {
		p, err := verdict.ParsePort(s)
		if err != nil {
			return nil, usagef("--port: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// resolve finds endpoints given by a flag; "namespace/*" is all pods of a
// namespace.
func resolve(t *verdict.Table, flag string, texts []string, home string) ([]verdict.Ref, error) {
	var out []verdict.Ref
	for _, s := range texts {
		ns, ok := strings.CutSuffix(s, "/*")
		if !ok {
			r, err := t.Resolve(s, home)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", flag, err)
			}
			out = append(out, r)
			continue
		}
		r := verdict.Ref{Text: s, Node: verdict.None}
		for i := range t.Snapshot.Endpoints {
			if t.Snapshot.Endpoints[i].Namespace == ns {
				r.Endpoints = append(r.Endpoints, int32(i))
			}
		}
		if len(r.Endpoints) == 0 {
			return nil, fmt.Errorf("%s: no pods in namespace %q", flag, ns)
		}
		out = append(out, r)
	}
	return out, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
