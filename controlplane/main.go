// Command controlplane runs a Kubernetes control plane on loopback, for tests
// and for the lab: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler in one process, and kube-proxy for the nodes that are named.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/component-base/version"
)

// exitFailure is the status when the control plane could not be run.
const exitFailure = 2

func main() {
	// Packages of Kubernetes put flags of their own there, which cobra would
	// take for ours.
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
	cmd := newCommand()
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(messages, "controlplane:", err)
		os.Exit(exitFailure)
	}
}

func newCommand() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "controlplane [flags]",
		Short: "Run a Kubernetes control plane on loopback",
		Long: `Runs a Kubernetes control plane on loopback, for tests: etcd, kube-apiserver,
kube-controller-manager and kube-scheduler in one process, and kube-proxy in
nftables mode for the nodes that are named. When it is ready it prints one line
of JSON; it stops cleanly on SIGTERM and SIGINT.`,
		Version:       version.Get().GitVersion,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.OutOrStdout(), &f) },
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return errors.New(err.Error() + "; see --help")
	})
	f.add(cmd.Flags())
	cmd.AddCommand(newProxyCommand())
	return cmd
}
