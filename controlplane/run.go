package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"k8s.io/component-base/version"

	"picket/controlplane/crds"
	"picket/controlplane/internal/components"
	"picket/controlplane/internal/crd"
	"picket/controlplane/internal/datadir"
	"picket/controlplane/internal/kubeproxy"
)

// startLimit is how long all may take until ready, on a busy machine.
const startLimit = 3 * time.Minute

// ready is what is printed when the control plane is up.
type ready struct {
	Kubeconfig string  `json:"kubeconfig"` // file
	Server     string  `json:"server"`     // URL
	CA         string  `json:"ca"`         // file, PEM
	Data       string  `json:"data"`       // folder
	Log        string  `json:"log"`        // file, or "-"
	Version    string  `json:"version"`
	PID        int     `json:"pid"`
	Seconds    float64 `json:"seconds"` // from start to ready
}

var errStopped = errors.New("stopped before it was ready")

// run is a control plane's life. It returns nil after a clean stop.
func run(out io.Writer, f *flags) (err error) {
	begin := time.Now()
	if err := f.check(); err != nil {
		return err
	}
	manifests, err := readManifests(f)
	if err != nil {
		return err
	}
	ctx, stop := stopContext(f.exitWithParent)
	defer stop(nil)

	dir, err := datadir.Open(f.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	l, err := listen(f.port, dir.Number("port"))
	if err != nil {
		return err
	}
	if err := dir.SetNumber("port", l.Addr().(*net.TCPAddr).Port); err != nil {
		return errors.Join(err, l.Close())
	}
	log, err := openLog(f, dir)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer log.Close()

	starting, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %s", startLimit))
	defer cancel()
	cp, err := components.Start(starting, dir, l, options(f, log))
	if err != nil {
		return log.explain(starting, err)
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	if err := crd.Apply(starting, cp.Config, manifests); err != nil {
		return log.explain(starting, err)
	}
	if err := cp.WaitControllers(starting); err != nil {
		return log.explain(starting, err)
	}
	proxies := startProxies(cp, f, log)
	defer func() { err = errors.Join(err, components.Stop(10*time.Second, proxies...)) }()

	if err := announce(out, cp, f, dir, log, begin); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-cp.Failed():
		return log.explain(ctx, err)
	}
}

// stopContext ends on SIGINT and SIGTERM, and with standard input if asked.
// A second signal ends the process at once.
func stopContext(stdin bool) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(context.Background())
	// A reader of the ready line that has gone is an error, not the end.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop(errStopped)
		<-signals
		fmt.Fprintln(messages, "controlplane: stopped the hard way")
		os.Exit(exitFailure)
	}()
	if stdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop(errStopped)
		}()
	}
	return ctx, stop
}

func options(f *flags, log *logFile) components.Options {
	o := components.Options{
		Name:              f.name,
		ServiceCIDR:       f.serviceCIDR,
		ClusterCIDR:       f.clusterCIDR,
		FeatureGates:      f.featureGates,
		Advertise:         f.advertise,
		Names:             f.certNames,
		Sync:              f.sync,
		LogFile:           log.name,
		APIServer:         f.apiserver,
		ControllerManager: f.controllerManager,
		Scheduler:         f.scheduler,
	}
	if log.name == "-" {
		o.LogFile = "stderr"
	}
	return o
}

// readManifests returns the CustomResourceDefinitions that are asked for.
func readManifests(f *flags) ([]crd.Manifest, error) {
	var all []crd.Manifest
	if f.policyAPI != "none" {
		var err error
		if all, err = crd.Read(crds.NetworkPolicyAPI, f.policyAPI); err != nil {
			return nil, fmt.Errorf("--network-policy-api: %w", err)
		}
	}
	for _, dir := range f.crds {
		found, err := crd.Read(os.DirFS(dir), ".")
		if err != nil {
			return nil, fmt.Errorf("--crds %s: %w", dir, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func startProxies(cp *components.ControlPlane, f *flags, log *logFile) []*components.Task {
	var all []*components.Task
	for _, spec := range f.proxyNodes {
		o := kubeproxy.ParseNode(spec)
		o.Kubeconfig, o.ClusterCIDR, o.FeatureGates, o.Args = cp.ProxyKubeconfig, f.clusterCIDR, f.featureGates, f.proxy
		o.Verbosity = f.verbosity
		all = append(all, components.Go("kube-proxy for "+o.Node, func(ctx context.Context) error {
			return kubeproxy.Keep(ctx, o, log.File)
		}))
	}
	return all
}

// announce says that all is up: the kubeconfig's copy first, then the line.
func announce(out io.Writer, cp *components.ControlPlane, f *flags, dir *datadir.Dir, log *logFile, begin time.Time) error {
	r := ready{
		Kubeconfig: cp.Kubeconfig,
		Server:     cp.Server,
		CA:         cp.CA,
		Data:       dir.Path,
		Log:        log.name,
		Version:    version.Get().GitVersion,
		PID:        os.Getpid(),
		Seconds:    float64(time.Since(begin).Milliseconds()) / 1000,
	}
	if f.kubeconfigOut != "" {
		var err error
		if r.Kubeconfig, err = copyKubeconfig(cp.Kubeconfig, f.kubeconfigOut); err != nil {
			return fmt.Errorf("--kubeconfig-out: %w", err)
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

// copyKubeconfig replaces the file to in one step: whoever waits for it finds
// it whole.
func copyKubeconfig(from, to string) (string, error) {
	to, err := filepath.Abs(to)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	tmp := to + ".new-" + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return "", err
	}
	return to, os.Rename(tmp, to)
}
