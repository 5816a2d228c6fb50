package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"picket/internal/diag"
	"picket/internal/flow"
)

type replayOptions struct {
	*global
	input
	namespace string

	flows string
}

const replayLong = `Judge flows that were observed: read them one a line, write each with its
verdict. A line is "source destination protocol port", separated by tabs; the
verdict is added as fifth column: allow, deny or undefined.

Source and destination are endpoints; an address may be written ip:ADDRESS. The
protocol is TCP, UDP, SCTP, ICMP or a number; the port of ICMP is "-". Empty
lines and lines that begin with # are copied. A line that is no flow is left
out and reported with its number, and the exit status is 2. Otherwise it is 0
whatever the verdicts are.

Any number of lines takes the same memory.`

const replayExample = `  # A file of flows
  picket replay flows.tsv -f manifests/

  # What a change would have blocked yesterday
  zcat flows.tsv.gz | picket replay - -f new/ | awk -F'\t' '$5 == "deny"'`

func newReplay(g *global) *cobra.Command {
	o := &replayOptions{global: g}
	cmd := &cobra.Command{
		Use:     "replay FLOWS -f FILE",
		Short:   "Judge observed flows",
		Long:    replayLong,
		Example: replayExample,
		Args:    exactArgs("FLOWS"),
		RunE:    run(o),
	}
	o.input.bind(cmd)
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "where endpoints without a namespace are looked for (default \"default\")")
	completeWith(cmd, &o.input, "namespace", namespaceNames)
	return cmd
}

func (o *replayOptions) Complete(args []string) error {
	o.input.complete()
	o.flows = args[0]
	return nil
}

func (o *replayOptions) Validate() error {
	if o.flows == "" {
		return usagef("FLOWS is empty: want a file, or - for standard input")
	}
	if o.flows == "-" && o.usesStdin() {
		return usagef("FLOWS and -f can't both be standard input")
	}
	return o.input.validate()
}

func (o *replayOptions) Run(ctx context.Context) error {
	var in io.Reader = o.In
	name := "stdin"
	if o.flows != "-" {
		f, err := os.Open(o.flows) // before anything slow
		if err != nil {
			return err
		}
		defer f.Close()
		in, name = f, o.flows
	}
	t, ok, err := o.load(ctx, o.global, o.source)
	if err != nil {
		return err
	}
	sum, err := flow.Replay(t, in, o.Out, flow.Options{
		File: name, Namespace: o.namespace,
		Wrong: func(d diag.Diagnostic) { fmt.Fprintln(o.Err, clean(d.String())) },
	})
	if err != nil {
		return err
	}
	if o.verbose {
		fmt.Fprintf(o.Err, "info: %d flows: %d allow, %d deny, %d undefined; %d wrong lines\n",
			sum.Flows, sum.Decisions[1], sum.Decisions[0], sum.Decisions[2], sum.Wrong)
	}
	return done(ok && sum.Wrong == 0, false)
}
