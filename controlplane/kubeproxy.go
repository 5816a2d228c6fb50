package main

import (
	"errors"

	"github.com/spf13/cobra"

	"picket/controlplane/internal/kubeproxy"
)

func newProxyCommand() *cobra.Command {
	var (
		o       kubeproxy.Options
		cleanUp bool
	)
	cmd := &cobra.Command{
		Use:   "kube-proxy --node NAME --kubeconfig FILE [--netns PATH]",
		Short: "Run kube-proxy in nftables mode for a node of a running control plane",
		Long: `Runs kube-proxy in nftables mode for a node of a running control plane, in the
foreground; the log goes to standard error. With --netns it programs that
network namespace, and reaches the API server from the one it was started in.
On SIGTERM and SIGINT it removes its rules.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if cleanUp {
				return kubeproxy.CleanUp()
			}
			if o.Node == "" || o.Kubeconfig == "" {
				return errors.New("--node and --kubeconfig are needed")
			}
			return kubeproxy.Run(o)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Node, "node", "", "name of the node")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig, such as kube-proxy.kubeconfig in the data folder")
	fs.StringVar(&o.NetNS, "netns", "", "path of the network namespace to program (default: the one it is in)")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", "", "addresses of pods")
	fs.StringVar(&o.FeatureGates, "feature-gates", "", "feature gates, as KEY=true,KEY=false")
	fs.StringArrayVar(&o.Args, "kube-proxy-arg", nil, "one more flag for kube-proxy; may be repeated")
	fs.IntVarP(&o.Verbosity, "v", "v", 0, "verbosity of the log")
	fs.BoolVar(&cleanUp, "cleanup", false, "only remove kube-proxy's rules from the network namespace that it is in")
	fs.IntVar(&o.Entered, "entered", 0, "")
	_ = fs.MarkHidden("entered")
	return cmd
}
