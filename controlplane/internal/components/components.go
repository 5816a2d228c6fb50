// Package components starts and stops the parts of a Kubernetes control plane
// within this process: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler, as their own programs would with the same flags.
//
// Feature gates, metrics and logging are global in Kubernetes, so that a
// process can hold one control plane in its life.
package components

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"

	"picket/controlplane/internal/datadir"
	"picket/controlplane/internal/pki"
)

// Options say what kind of control plane is wanted.
type Options struct {
	Name         string // of cluster, user and context in the kubeconfig
	ServiceCIDR  string // one, or two of different families
	ClusterCIDR  string // of pods; "" if nobody assigns them to nodes
	FeatureGates string // as of --feature-gates; for all components
	// Advertise is the address of the endpoint of Service default/kubernetes,
	// "" for none. Who sets it also forwards that address to the listener.
	Advertise string
	// Names are more host names and addresses in the serving certificate.
	Names   []string
	Sync    bool   // etcd forces writes to disk
	LogFile string // for etcd; a path or "stderr"
	// Further flags of the programs; where one is given twice the user's holds.
	APIServer, ControllerManager, Scheduler []string
}

// ErrUsage is in the chain of an error that is about what the user asked for.
// The log has nothing on it.
var ErrUsage = errors.New("usage")

// usage is such an error.
type usage struct{ error }

func (u usage) Unwrap() []error { return []error{u.error, ErrUsage} }

// patience is how long one component may take to stop. The API server needs
// most when a client keeps a request open.
const patience = 20 * time.Second

// ControlPlane is one that has been started.
type ControlPlane struct {
	Server     string // URL
	Kubeconfig string // file, of an administrator
	CA         string // file, PEM
	// ProxyKubeconfig is the file for kube-proxy.
	ProxyKubeconfig string
	Config          *rest.Config

	etcd      *Etcd
	apiserver *Task
	others    []*Task
}

// Start brings a control plane up on l, a TCP listener on loopback that is the
// control plane's from now on. It returns when the API server is ready and the
// controllers and the scheduler have been started. Its data is in dir.
func Start(ctx context.Context, dir *datadir.Dir, l net.Listener, o Options) (_ *ControlPlane, err error) {
	cp := &ControlPlane{Server: "https://" + l.Addr().String(), Kubeconfig: dir.File("kubeconfig")}
	defer func() {
		if err != nil {
			err = errors.Join(err, cp.Stop())
			l.Close()
		}
	}()
	hosts, err := servingNames(o)
	if err != nil {
		return nil, err
	}
	creds, err := issue(dir, cp.Server, hosts)
	if err != nil {
		return nil, err
	}
	cp.CA, cp.ProxyKubeconfig = creds.ca.CertFile, creds.proxyConf
	if err := pki.Kubeconfig(cp.Kubeconfig, o.Name, cp.Server, creds.ca, creds.admin); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	if cp.Config, err = clientcmd.BuildConfigFromFlags("", cp.Kubeconfig); err != nil {
		return nil, err
	}
	cp.Config.QPS = -1
	if cp.etcd, err = StartEtcd(ctx, dir, o.LogFile, o.Sync); err != nil {
		return nil, err
	}
	return cp, cp.start(ctx, l, creds, o)
}

// start brings up what needs a store.
func (cp *ControlPlane) start(ctx context.Context, l net.Listener, creds *credentials, o Options) error {
	// All flags are known before any is set, since --feature-gates means one
	// global place for each of them.
	api, err := newAPIServer(l)
	if err != nil {
		return err
	}
	cm, err := newControllerManager()
	if err != nil {
		return err
	}
	sched := newScheduler()
	for _, p := range []interface {
		parse(*credentials, string, Options) error
	}{api, cm, sched} {
		if err := p.parse(creds, cp.etcd.Endpoint, o); err != nil {
			return err
		}
	}
	if err := compatibility.DefaultComponentGlobalsRegistry.Set(); err != nil {
		return usage{fmt.Errorf("--feature-gates: %w", err)}
	}
	utilfeature.DefaultMutableFeatureGate.AddMetrics()
	compatibility.DefaultComponentGlobalsRegistry.AddMetrics()
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	if cp.apiserver, err = api.start(); err != nil {
		return err
	}
	if err := cp.waitReady(ctx); err != nil {
		return err
	}
	cp.others = append(cp.others, Go("kube-controller-manager", cm.run), Go("kube-scheduler", sched.run))
	return nil
}

// Failed delivers an error if a component ends by itself. It is to be called
// once.
func (cp *ControlPlane) Failed() <-chan error {
	failed := make(chan error, 1)
	report := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	for _, t := range append([]*Task{cp.apiserver}, cp.others...) {
		go func() {
			<-t.Done()
			report(t.Err())
		}()
	}
	go func() {
		if err := <-cp.etcd.Failed(); err != nil {
			report(fmt.Errorf("etcd: %w", err))
		}
	}()
	return failed
}

// Stop ends all components, those that need others first.
func (cp *ControlPlane) Stop() error {
	var errs []error
	errs = append(errs, Stop(patience, cp.others...))
	if cp.apiserver != nil {
		errs = append(errs, Stop(patience, cp.apiserver))
	}
	if cp.etcd != nil {
		errs = append(errs, cp.etcd.Stop(patience))
	}
	cp.others, cp.apiserver, cp.etcd = nil, nil, nil
	return errors.Join(errs...)
}

// servingNames are what clients may call the API server.
func servingNames(o Options) ([]string, error) {
	names := sets.New("localhost", "127.0.0.1", "::1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	names.Insert(o.Names...)
	if o.Advertise != "" {
		names.Insert(o.Advertise)
	}
	for _, cidr := range strings.Split(o.ServiceCIDR, ",") {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf("--service-cidr: %w", err)
		}
		// The first address is that of Service default/kubernetes.
		names.Insert(prefix.Masked().Addr().Next().String())
	}
	return sets.List(names), nil
}

// flagSet is the union of a program's flag sets.
func flagSet(program string, named cliflag.NamedFlagSets) *pflag.FlagSet {
	fs := pflag.NewFlagSet(program, pflag.ContinueOnError)
	fs.Usage = func() {}
	for _, f := range named.FlagSets {
		fs.AddFlagSet(f)
	}
	return fs
}

// parseFlags sets ours, and then those that the user gave.
func parseFlags(fs *pflag.FlagSet, ours, users []string) error {
	if err := fs.Parse(append(ours, users...)); err != nil {
		return usage{fmt.Errorf("%s: %w", fs.Name(), err)}
	}
	if fs.NArg() > 0 {
		return usage{fmt.Errorf("%s: %q is no flag", fs.Name(), fs.Arg(0))}
	}
	return nil
}

func port(l net.Listener) string {
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
