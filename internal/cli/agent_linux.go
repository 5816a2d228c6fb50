package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"picket/internal/agent"
)

type agentOptions struct {
	*global
	config  agent.Config
	file    string
	dryRun  bool
	check   bool
	cleanup bool
	format  format

	flags *pflag.FlagSet
}

const agentLong = `Enforce the policies of a cluster on one of its nodes: follow the API server
and keep the node's kernel at what the policies say. Run it on every node, as
root or with the capability NET_ADMIN, in the node's network namespace.

Before the whole cluster is known nothing in the kernel is touched, and when the
agent ends its table stays in force: connections are judged as before while it
is restarted or upgraded. --cleanup takes the table away.

Every flag but those of the other modes can be set in a file, given by --config;
a flag wins. docs/agent.md describes the file, the metrics and what is logged.

The exit status of --check is 1 if something would not be enforced, and 2 if it
could not look.`

const agentExample = `  # On a node
  picket agent --node-name worker-1 --kubeconfig /etc/picket/kubeconfig

  # Would it work here?
  picket agent --check

  # What would be put into the kernel?
  picket agent --dry-run --node-name worker-1

  # Take everything away
  picket agent --cleanup`

func newAgent(g *global) *cobra.Command {
	o := &agentOptions{global: g, config: agent.Defaults()}
	cmd := &cobra.Command{
		Use:               "agent",
		Short:             "Enforce a cluster's policies on this node",
		Long:              agentLong,
		Example:           agentExample,
		Args:              noArgs,
		RunE:              run(o),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	for _, s := range o.config.Settings() {
		f := fs.VarPF(s, s.Name, "", s.Usage)
		if s.Kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	fs.StringVar(&o.file, "config", "", "file with any of these settings")
	fs.BoolVar(&o.dryRun, "dry-run", false, "print what would be put into the kernel, and touch nothing")
	fs.BoolVar(&o.check, "check", false, "say whether the agent would work on this node, item by item")
	fs.BoolVar(&o.cleanup, "cleanup", false, "take away what an agent has put into the kernel")
	o.format.bind(cmd, "text", "json")
	complete(cmd, "log-format", "text", "json")
	complete(cmd, "log-level", "debug", "info", "warn", "error")
	for _, name := range []string{"node-name", "context", "pod-cidr", "table", "mark-mask", "log-group", "check-every", "max-delay", "crd-poll", "listen", "flow-rate"} {
		complete(cmd, name)
	}
	o.flags = fs
	return cmd
}

// Complete reads the configuration file and finds the node's name.
func (o *agentOptions) Complete([]string) error {
	if o.file != "" {
		data, err := os.ReadFile(o.file)
		if err != nil {
			return fmt.Errorf("--config: %w", err)
		}
		if list := agent.ReadConfig(o.file, data, &o.config, o.flags.Changed); len(list) > 0 {
			o.diagnostics(list)
			return status(exitFailed)
		}
	}
	if o.config.Node == "" {
		o.config.Node = os.Getenv("NODE_NAME")
	}
	if o.config.Node == "" {
		if name, err := os.Hostname(); err == nil {
			o.config.Node = strings.ToLower(name)
		}
	}
	return nil
}

func (o *agentOptions) Validate() error {
	modes := 0
	for _, m := range []bool{o.dryRun, o.check, o.cleanup} {
		if m {
			modes++
		}
	}
	if modes > 1 {
		return usagef("give only one of --dry-run, --check and --cleanup")
	}
	if o.format.value == "json" && !o.check {
		return usagef("-o json is for --check; for the log it is --log-format json")
	}
	if err := o.config.Validate(); err != nil {
		return usageError{err}
	}
	return o.format.validate()
}

// lookFor is how long --dry-run waits for the cluster.
const lookFor = 2 * time.Minute

func (o *agentOptions) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := agent.Options{Config: o.config, Version: readBuild().Version, Log: o.logger(o.Err), Out: o.Out}
	switch {
	case o.check:
		return o.checkNode(ctx, a)
	case o.cleanup:
		return agent.Cleanup(a)
	case o.dryRun:
		ctx, cancel := context.WithTimeout(ctx, lookFor)
		defer cancel()
		out := newOutput(o.Out, true)
		if err := agent.DryRun(ctx, a, out); err != nil {
			return err
		}
		return out.finish(nil)
	}
	return agent.Run(ctx, a)
}

func (o *agentOptions) checkNode(ctx context.Context, a agent.Options) error {
	r, err := agent.CheckNode(ctx, a)
	if err != nil {
		return err
	}
	out := newOutput(o.Out, o.noColor)
	if o.format.value == "json" {
		err = r.WriteJSON(out)
	} else {
		err = r.WriteText(out)
	}
	if err := out.finish(err); err != nil {
		return err
	}
	return done(true, !r.Works)
}

func (o *agentOptions) logger(w io.Writer) *slog.Logger {
	h := &slog.HandlerOptions{Level: o.config.LogLevel}
	if o.quiet {
		h.Level = max(o.config.LogLevel, slog.LevelError)
	}
	if o.config.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, h))
	}
	return slog.New(slog.NewTextHandler(w, h))
}
