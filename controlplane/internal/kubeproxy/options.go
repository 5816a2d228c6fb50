// Package kubeproxy runs kube-proxy in nftables mode for one node, in a process
// and if need be a network namespace of its own.
//
// It can't be a part of another process: kube-proxy leaves its process when the
// node changes, never returns from its loop, and programs whatever network
// namespace its process is in.
package kubeproxy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say for which node, and how.
type Options struct {
	Node       string
	NetNS      string // path of a network namespace; "" for the one we are in
	Kubeconfig string // file
	// ClusterCIDR are the pods' addresses, FeatureGates and Args as of kube-proxy.
	ClusterCIDR, FeatureGates string
	Args                      []string
	Verbosity                 int
	// Entered is how a process that has moved to NetNS knows: the descriptor
	// of the namespace where the API server is, plus one.
	Entered int
}

// ParseNode reads NAME or NAME=NETNS.
func ParseNode(spec string) Options {
	node, ns, _ := strings.Cut(spec, "=")
	return Options{Node: node, NetNS: ns}
}

// Check says why kube-proxy can't work on this machine, if it can't.
func Check() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return errors.New("kube-proxy needs the program nft (package nftables) on the PATH")
	}
	var header unix.CapUserHeader
	var caps [2]unix.CapUserData
	header.Version = unix.LINUX_CAPABILITY_VERSION_3
	if err := unix.Capget(&header, &caps[0]); err == nil && caps[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("kube-proxy needs the capability NET_ADMIN (root) to program the kernel")
	}
	return nil
}

// arguments are those of this program's own subcommand for o.
func (o Options) arguments() []string {
	args := []string{"kube-proxy", "--node=" + o.Node, "--kubeconfig=" + o.Kubeconfig, "-v=" + strconv.Itoa(o.Verbosity)}
	for flag, value := range map[string]string{"--netns": o.NetNS, "--cluster-cidr": o.ClusterCIDR, "--feature-gates": o.FeatureGates} {
		if value != "" {
			args = append(args, flag+"="+value)
		}
	}
	for _, a := range o.Args {
		args = append(args, "--kube-proxy-arg="+a)
	}
	if o.Entered > 0 {
		args = append(args, fmt.Sprintf("--entered=%d", o.Entered))
	}
	return args
}

// self is the path of this program.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("kube-proxy: %w", err)
	}
	return path, nil
}
