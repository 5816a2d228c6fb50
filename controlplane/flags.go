package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"picket/controlplane/internal/kubeproxy"
)

// flags are those of the control plane.
type flags struct {
	data           string
	port           int
	kubeconfigOut  string
	name           string
	serviceCIDR    string
	clusterCIDR    string
	featureGates   string
	advertise      string
	certNames      []string
	crds           []string
	policyAPI      string
	proxyNodes     []string
	exitWithParent bool
	sync           bool
	log            string
	verbosity      int

	apiserver, controllerManager, scheduler, proxy []string
}

func (f *flags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.data, "data", "", "folder for all data, made if missing; a second start finds the cluster as it was (default: a temporary folder, removed at the end)")
	fs.IntVar(&f.port, "port", 0, "TCP port of the API server on 127.0.0.1; 0 takes the one that the data folder had last, or any that is free")
	fs.StringVar(&f.kubeconfigOut, "kubeconfig-out", "", "also write the administrator's kubeconfig to this file, over what is there")
	fs.StringVar(&f.name, "name", "picket", "name of cluster, user and context in the kubeconfig")
	fs.StringVar(&f.serviceCIDR, "service-cidr", "10.96.0.0/16", "addresses of Services: a CIDR, or two of different families with a comma between")
	fs.StringVar(&f.clusterCIDR, "cluster-cidr", "", "addresses of pods, to be divided among the nodes: a CIDR, or two (default: nodes get none)")
	fs.StringVar(&f.featureGates, "feature-gates", "", "feature gates of all components, as KEY=true,KEY=false")
	fs.StringVar(&f.advertise, "advertise-address", "", "address to publish as the endpoint of Service default/kubernetes; forwarding it to the server is the caller's (default: no endpoint)")
	fs.StringSliceVar(&f.certNames, "cert-name", nil, "further names and addresses in the API server's certificate")
	fs.StringArrayVar(&f.crds, "crds", nil, "folder of CustomResourceDefinition manifests to apply before ready; may be repeated")
	fs.StringVar(&f.policyAPI, "network-policy-api", "standard", "channel of the ClusterNetworkPolicy CRD to install: standard, experimental or none")
	fs.StringArrayVar(&f.proxyNodes, "kube-proxy-node", nil, "run kube-proxy for this node, as NAME or NAME=NETNS with the path of a network namespace; may be repeated")
	fs.BoolVar(&f.exitWithParent, "exit-with-parent", false, "stop when standard input is closed")
	fs.BoolVar(&f.sync, "fsync", false, "force etcd's writes to disk; without it data outlives the process but perhaps not the machine")
	fs.StringVar(&f.log, "log", "", `file for the log of all components, "-" for standard error (default: controlplane.log in the data folder)`)
	fs.IntVarP(&f.verbosity, "v", "v", 0, "verbosity of the log")
	fs.StringArrayVar(&f.apiserver, "apiserver-arg", nil, "one more flag for kube-apiserver, as --FLAG=VALUE; may be repeated")
	fs.StringArrayVar(&f.controllerManager, "controller-manager-arg", nil, "one more flag for kube-controller-manager")
	fs.StringArrayVar(&f.scheduler, "scheduler-arg", nil, "one more flag for kube-scheduler")
	fs.StringArrayVar(&f.proxy, "kube-proxy-arg", nil, "one more flag for kube-proxy")
}

// check finds what the components would find late, or say badly.
func (f *flags) check() error {
	if f.port < 0 || f.port > 65535 {
		return fmt.Errorf("--port %d is not a port", f.port)
	}
	if err := checkCIDRs("--service-cidr", f.serviceCIDR); err != nil {
		return err
	}
	if f.clusterCIDR != "" {
		if err := checkCIDRs("--cluster-cidr", f.clusterCIDR); err != nil {
			return err
		}
	}
	if f.advertise != "" {
		a, err := netip.ParseAddr(f.advertise)
		if err != nil {
			return fmt.Errorf("--advertise-address: %w", err)
		}
		if a.IsLoopback() || a.IsUnspecified() {
			return fmt.Errorf("--advertise-address: the API refuses %s as an endpoint", a)
		}
	}
	switch f.policyAPI {
	case "standard", "experimental", "none":
	default:
		return fmt.Errorf("--network-policy-api %q: want standard, experimental or none", f.policyAPI)
	}
	if f.name == "" {
		return errors.New("--name is empty")
	}
	if len(f.proxyNodes) > 0 {
		return kubeproxy.Check()
	}
	return nil
}

func checkCIDRs(flag, text string) error {
	list := strings.Split(text, ",")
	if len(list) > 2 {
		return fmt.Errorf("%s: %d CIDRs, want one, or one of each family", flag, len(list))
	}
	var families [2]bool
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		families[i] = p.Addr().Is4()
	}
	if len(list) == 2 && families[0] == families[1] {
		return fmt.Errorf("%s: both CIDRs are of one family", flag)
	}
	return nil
}

// listen opens the API server's listener. Port 0 means last if that is free,
// and else any: clients of a control plane that comes back find it again.
func listen(port, last int) (net.Listener, error) {
	if port == 0 && last != 0 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", last)); err == nil {
			return l, nil
		}
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("--port %d: %w", port, err)
	}
	return l, nil
}
