package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"picket/internal/diag"
)

const rootLong = `Picket says what Kubernetes network policies really allow, before they are
applied: who may reach whom, why, what a change opens and closes, and what is
wrong with the policies. It reads manifests or a live cluster, and changes
neither.

An endpoint is namespace/pod; namespace/name or namespace/kind/name of a
workload or Service; node/NAME; an address; or external, the rest of the
world. A port is tcp/80, udp/53, sctp/9, icmp, or 80 for tcp/80.

Exit status: 0 nothing found; 1 findings, differences or failures; 2 could not
do it. Data goes to standard output, everything about it to standard error.`

// newRoot returns the whole command tree. name is how the user calls it.
func newRoot(name string, s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "picket",
		Short:         "Say what Kubernetes network policies really allow",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if name != "picket" {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: name}
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: "ask", Title: "Ask:"},
		&cobra.Group{ID: "check", Title: "Check:"},
		&cobra.Group{ID: "enforce", Title: "Enforce:"},
	)
	g := &global{Streams: s}
	g.bind(root.PersistentFlags())
	for _, c := range []*cobra.Command{newMatrix(g), newExplain(g), newReplay(g)} {
		c.GroupID = "ask"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newLint(g), newDiff(g), newTest(g), newProve(g)} {
		c.GroupID = "check"
		root.AddCommand(c)
	}
	enforcer := newAgent(g)
	enforcer.GroupID = "enforce"
	root.AddCommand(enforcer, newVersion(g), newReference(g))
	if name != "picket" {
		for _, c := range append(root.Commands(), root) {
			c.Example = strings.ReplaceAll(c.Example, "  picket ", "  "+name+" ")
			c.Example = strings.ReplaceAll(c.Example, "| picket ", "| "+name+" ")
		}
	}
	return root
}

const rootExample = `  # Who may reach whom
  picket matrix -f manifests/

  # Why a pod can't be reached
  picket explain dev/web prod/db tcp/5432 -f manifests/

  # What a change opens and closes
  picket diff old/ new/

  # What a chart would allow
  helm template shop | picket matrix -f -`

// global are the flags of every command, and the streams.
type global struct {
	Streams
	quiet   bool
	verbose bool
	noColor bool

	said map[diag.Diagnostic]bool // diagnostics that were printed
}

func (g *global) bind(fs *pflag.FlagSet) {
	fs.BoolVarP(&g.quiet, "quiet", "q", false, "no warnings on standard error")
	fs.BoolVarP(&g.verbose, "verbose", "v", false, "say on standard error what was read and passed over")
	fs.BoolVar(&g.noColor, "no-color", false, "no colour, also on a terminal (as with NO_COLOR set)")
}

// format is the value of -o.
type format struct {
	value string
	known []string
}

// bind adds -o with the known formats, the first of which is the default.
func (f *format) bind(cmd *cobra.Command, known ...string) {
	f.known = known
	cmd.Flags().StringVarP(&f.value, "output", "o", known[0], "format of the output: "+strings.Join(known, ", "))
	complete(cmd, "output", known...)
}

func (f *format) validate() error {
	if f.value == "" || slices.Contains(f.known, f.value) {
		return nil
	}
	return usagef("unknown output format %q: want %s", f.value, either(f.known))
}

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(fmt.Sprintf("flag %s of %s: %v", flag, cmd.Name(), err)) // the flag does not exist
	}
}

// either lists words as a sentence does: "text, json or dot".
func either(words []string) string {
	n := len(words) - 1
	if n < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// command is what every command's options can do.
type command interface {
	// Complete takes the arguments and fills in what follows from them.
	Complete(args []string) error
	// Validate reports a command line that makes no sense. It reads nothing.
	Validate() error
	// Run does the work.
	Run(ctx context.Context) error
}

// run takes a command through its three steps.
func run(c command) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := c.Complete(args); err != nil {
			return err
		}
		if err := c.Validate(); err != nil {
			return err
		}
		return c.Run(cmd.Context())
	}
}
