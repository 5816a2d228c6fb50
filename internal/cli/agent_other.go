//go:build !linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newAgent returns the command that stands for the agent where there can be
// none. It takes every flag: whoever follows a page or a script learns what is
// missing, and not that a flag is unknown.
func newAgent(*global) *cobra.Command {
	return &cobra.Command{
		Use:                "agent",
		Short:              "Enforce a cluster's policies on this node",
		Long:               "Enforce the policies of a cluster on one of its nodes. This needs Linux: on other\nsystems it does nothing. docs/cli/picket.md describes its flags.",
		Example:            "  # On a node\n  picket agent --node-name worker-1",
		Args:               noArgs,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE:               func(*cobra.Command, []string) error { return needsLinux("agent") },
		ValidArgsFunction:  cobra.NoFileCompletions,
	}
}

func needsLinux(command string) error {
	return fmt.Errorf("%s needs Linux: its network namespaces and its packet filter, nftables", command)
}
