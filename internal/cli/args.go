package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/source/cluster"
	"picket/internal/verdict"
)

// noArgs refuses arguments. The usual mistake is a file without -f.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if cmd.Flags().Lookup("filename") != nil {
		hint = "; files are given with -f"
	}
	return usagef("%s takes no arguments, got %q%s", cmd.Name(), args[0], hint)
}

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef("%s needs %s: %s, got %d", cmd.Name(), strings.Join(names, " "), plural(len(names), "argument"), len(args))
	}
}

// lister lists words for completion from a snapshot. The arguments before the
// word are given too.
type lister func(s *model.Snapshot, args []string) []string

// completeWith completes the values of a flag from the input that the command
// line names so far. Without an input it offers nothing.
func completeWith(cmd *cobra.Command, in *input, flag string, list lister) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return suggestions(cmd.Context(), in, args, prefix, list), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic("flag " + flag + " of " + cmd.Name() + ": " + err.Error()) // the flag does not exist
	}
}

// completeArgs completes each argument by its lister.
func completeArgs(in *input, lists ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return suggestions(cmd.Context(), in, args, prefix, lists[len(args)]), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeContexts completes the values of --context from the kubeconfig.
func completeContexts(cmd *cobra.Command, r *reading) {
	err := cmd.RegisterFlagCompletionFunc("context", func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		out := slices.DeleteFunc(cluster.Contexts(r.kubeconfig), func(s string) bool { return !strings.HasPrefix(s, prefix) })
		return out, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic("flag context of " + cmd.Name() + ": " + err.Error()) // the flag does not exist
	}
}

// suggestions reads the files of the command line, whatever is wrong with
// them. It leaves clusters and standard input alone: a key press must not wait
// for either.
func suggestions(ctx context.Context, in *input, args []string, prefix string, list lister) []string {
	if in == nil {
		return nil
	}
	in.complete()
	if in.validate() != nil || in.cluster || in.usesStdin() {
		return nil
	}
	res, err := in.read(ctx, &global{}, in.source)
	if err != nil || res.Snapshot == nil {
		return nil
	}
	return matching(res, args, prefix, list)
}

func matching(res kube.Result, args []string, prefix string, list lister) []string {
	var out []string
	for _, s := range list(res.Snapshot, args) {
		if strings.HasPrefix(s, prefix) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func namespaceNames(s *model.Snapshot, _ []string) []string {
	out := make([]string, len(s.Namespaces))
	for i := range out {
		out[i] = s.Namespaces[i].Name
	}
	return out
}

// sourceNames lists what can open connections.
func sourceNames(s *model.Snapshot, _ []string) []string {
	out := []string{"external"}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		out = append(out, e.String())
		if e.Owner.Name != "" {
			out = append(out, e.Namespace+"/"+e.Owner.Name)
		}
	}
	for i := range s.Nodes {
		out = append(out, "node/"+s.Nodes[i].Name)
	}
	return out
}

// destinationNames lists what connections can be opened to.
func destinationNames(s *model.Snapshot, args []string) []string {
	out := sourceNames(s, args)
	for i := range s.Services {
		out = append(out, s.Services[i].String())
	}
	return out
}

// portNames lists the ports that the destination, the argument before, is
// known to have.
func portNames(s *model.Snapshot, args []string) []string {
	out := []string{"icmp"}
	dst := args[len(args)-1]
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if dst == e.String() || dst == e.Namespace+"/"+e.Owner.Name {
			for _, p := range e.Ports {
				out = append(out, netset.KeyOf(p.Proto, p.Number).String())
			}
		}
	}
	for i := range s.Services {
		if v := &s.Services[i]; dst == v.String() {
			for _, p := range v.Ports {
				out = append(out, netset.KeyOf(p.Proto, p.Port).String())
			}
		}
	}
	return slices.DeleteFunc(out, func(p string) bool { _, err := verdict.ParsePort(p); return err != nil })
}
