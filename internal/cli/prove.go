package cli

import (
	"github.com/spf13/cobra"

	"picket/internal/verdict"
)

type proveOptions struct {
	*global
	input
	format format
	steps  []string
	nodes  int
	ports  []string
	all    bool

	parsed []verdict.Port
}

const proveLong = `Build the pods as network namespaces on this machine, enforce the policies in
its kernel, send real packets, and compare what they show with what the
policies say.

What the policies say of a group of pods, another group and a range of ports is
a cell. There are finitely many, and a packet is sent in each of them: to both
ends of each range of ports, on every port that a policy, a container or a
Service names, in TCP and UDP, with ICMP echo, and with SCTP where it is named;
between pods on one node and across nodes, with nodes, and with hosts outside
the cluster, one in each block of addresses that the policies tell apart. Every
pair of pods gets a packet that should pass and one that should not. --all, and
any small cluster, sends everything for every pair.

--step adds manifests to what was before, in the running lab: after each step
the matrix is shown as measured, and what the step opened and closed.

This needs Linux, but not root where the kernel allows user namespaces. Nothing
of this machine's network is changed, and nothing is left behind. Images are not
run: a responder answers on the ports that the containers declare.

The exit status is 1 if a packet did not do what the policies say.`

const proveExample = `  # Does the kernel do what these policies say?
  picket prove -f manifests/

  # One step after the other, and what each of them changes
  picket prove -f cluster/ --step step1/ --step step2/

  # For the CI server
  picket prove -f manifests/ -o junit > report.xml

  # A page with what was measured
  picket prove -f manifests/ -o html > proof.html`

func newProve(g *global) *cobra.Command {
	o := &proveOptions{global: g}
	cmd := &cobra.Command{
		Use:               "prove -f FILE",
		Short:             "Prove with real packets that the kernel does what the policies say",
		Long:              proveLong,
		Example:           proveExample,
		Args:              noArgs,
		RunE:              run(o),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.input.bind(cmd)
	o.format.bind(cmd, "text", "json", "html", "junit")
	fs := cmd.Flags()
	fs.StringArrayVar(&o.steps, "step", nil, "manifests to add, as a step of its own; may be repeated")
	fs.IntVar(&o.nodes, "nodes", 2, "at least so many nodes; those of the manifests come first")
	fs.StringSliceVar(&o.ports, "port", nil, "try these ports too, such as tcp/8080")
	fs.BoolVar(&o.all, "all", false, "send everything for every pair of pods")
	return cmd
}

func (o *proveOptions) Complete([]string) error {
	o.input.complete()
	return nil
}

func (o *proveOptions) Validate() (err error) {
	if o.parsed, err = parsePorts(o.ports); err != nil {
		return err
	}
	if o.nodes < 1 || o.nodes > 1000 {
		return usagef("--nodes: %d is no number of nodes: want 1 to 1000", o.nodes)
	}
	if o.cluster && len(o.steps) > 0 {
		return usagef("--step needs -f: steps are manifests")
	}
	for _, s := range o.steps {
		if s == "" || s == "-" {
			return usagef("--step wants a file or a folder")
		}
	}
	return firstError(o.input.validate(), o.format.validate())
}
