package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
	"k8s.io/kubernetes/pkg/proxy/nftables"
)

// Run is kube-proxy in this process. On SIGTERM and SIGINT it removes its rules
// from the kernel and ends the process; otherwise it returns only when it fails.
func Run(o Options) error {
	if err := Check(); err != nil {
		return err
	}
	if o.NetNS != "" && o.Entered == 0 {
		return enter(o)
	}
	args := []string{
		"--hostname-override=" + o.Node,
		"--kubeconfig=" + o.Kubeconfig,
		"--proxy-mode=nftables",
		"--healthz-port=0",
		// What concerns the whole machine stays as it is.
		"--oom-score-adj=0",
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--v=" + strconv.Itoa(o.Verbosity),
	}
	if o.ClusterCIDR != "" {
		args = append(args, "--cluster-cidr="+o.ClusterCIDR)
	}
	if o.FeatureGates != "" {
		args = append(args, "--feature-gates="+o.FeatureGates)
	}
	if o.Entered > 0 {
		master, err := forward(o.Kubeconfig, o.Entered-1)
		if err != nil {
			return err
		}
		args = append(args, "--master="+master)
	}
	cleanUpWhenTold()
	cmd := app.NewProxyCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, o.Args...))
	return cmd.Execute()
}

// enter replaces this process by one in the network namespace of o: a running
// Go program can't move there with all its threads.
func enter(o Options) error {
	path, err := self()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	// Both descriptors are opened without close-on-exec where they must last.
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	target, err := unix.Open(o.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", o.NetNS, err)
	}
	if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering network namespace %s: %w", o.NetNS, err)
	}
	o.Entered = home + 1
	return unix.Exec(path, append([]string{path}, o.arguments()...), os.Environ())
}

// cleanUpWhenTold replaces this process, on a signal, by one that only removes
// the rules: kube-proxy's loop has no other end, and could bring them back.
func cleanUpWhenTold() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		path, err := self()
		if err == nil {
			err = unix.Exec(path, []string{path, "kube-proxy", "--cleanup"}, os.Environ())
		}
		fmt.Fprintln(os.Stderr, "kube-proxy: removing rules:", err)
		os.Exit(1)
	}()
}

// CleanUp removes what kube-proxy has put into the kernel. It waits for the
// children of this process first, which may be about to write there.
func CleanUp() error {
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if nftables.CleanupLeftovers(context.Background()) {
		return errors.New("kube-proxy: not all rules could be removed; the log says why")
	}
	return nil
}

// forward makes the server of a kubeconfig reachable from this process's
// network namespace, and returns its URL there. The connections are made in the
// namespace of the descriptor home.
func forward(kubeconfig string, home int) (string, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	server, err := url.Parse(cfg.Host)
	if err != nil {
		return "", err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return "", fmt.Errorf("loopback: %w", err)
	}
	if lo.Flags&net.FlagUp == 0 {
		return "", errors.New("the loopback interface of the network namespace is down")
	}
	unix.CloseOnExec(home)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, "kube-proxy: forwarding to the API server:", err)
				os.Exit(1)
			}
			go relay(conn.(*net.TCPConn), server.Host, home)
		}
	}()
	return "https://" + l.Addr().String(), nil
}
