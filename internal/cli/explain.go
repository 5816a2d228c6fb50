package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"picket/internal/report/explain"
	"picket/internal/verdict"
)

type explainOptions struct {
	*global
	input
	format    format
	namespace string
	all       bool

	src, dst string
	port     verdict.Port
}

const explainLong = `Say whether SRC may open a connection to DST, and why: both sides, every tier,
every policy that selects the endpoint, the rule that decides with its file and
line, and what would have to change to turn the verdict round.

DST may be a Service; its port is resolved to the ports of its pods, since that
is what policies see. A name that a workload and a Service share means the
workload, unless the port is the Service's and no declared port of the pods; say
namespace/service/name or namespace/deployment/name to be exact.

The exit status is 0 whatever the verdict is.`

const explainExample = `  # Why a pod can't be reached
  picket explain dev/web prod/db tcp/5432 -f manifests/

  # Through a Service, from outside
  picket explain external shop/frontend 80 -f manifests/

  # Ping, to an address, as JSON
  picket explain prod/web 10.0.0.7 icmp -f manifests/ -o json`

func newExplain(g *global) *cobra.Command {
	o := &explainOptions{global: g}
	cmd := &cobra.Command{
		Use:               "explain SRC DST PROTO/PORT -f FILE",
		Short:             "Say why a connection is allowed or denied",
		Long:              explainLong,
		Example:           explainExample,
		Args:              exactArgs("SRC", "DST", "PROTO/PORT"),
		RunE:              run(o),
		ValidArgsFunction: completeArgs(&o.input, sourceNames, destinationNames, portNames),
	}
	o.input.bind(cmd)
	o.format.bind(cmd, "text", "json")
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "where endpoints without a namespace are looked for (default \"default\")")
	cmd.Flags().BoolVar(&o.all, "all", false, "list also the rules that have nothing to do with the connection")
	completeWith(cmd, &o.input, "namespace", namespaceNames)
	return cmd
}

func (o *explainOptions) Complete(args []string) (err error) {
	o.input.complete()
	o.src, o.dst = args[0], args[1]
	if o.port, err = verdict.ParsePort(args[2]); err != nil {
		return usageError{err}
	}
	return nil
}

func (o *explainOptions) Validate() error {
	return firstError(o.input.validate(), o.format.validate())
}

func (o *explainOptions) Run(ctx context.Context) error {
	t, ok, err := o.load(ctx, o.global, o.source)
	if err != nil {
		return err
	}
	src, err := t.Resolve(o.src, o.namespace)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	dst, err := t.Resolve(o.dst, o.namespace)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	r, err := explain.Build(t, src, dst, o.port, explain.Options{All: o.all})
	if err != nil {
		return err
	}
	out := newOutput(o.Out, o.noColor)
	if o.format.value == "json" {
		err = r.WriteJSON(out)
	} else {
		err = r.WriteText(out.term)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(ok, false)
}
