package components

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// frontProxyName is whom extension API servers believe about users.
const frontProxyName = "front-proxy-client"

const issuer = "https://kubernetes.default.svc.cluster.local"

type apiServer struct {
	options *options.ServerRunOptions
	flags   *pflag.FlagSet
	l       net.Listener
}

func newAPIServer(l net.Listener) (*apiServer, error) {
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return nil, fmt.Errorf("kube-apiserver: %s is not a loopback address", l.Addr())
	}
	o := options.NewServerRunOptions()
	return &apiServer{options: o, flags: flagSet("kube-apiserver", o.Flags()), l: l}, nil
}

func (a *apiServer) parse(c *credentials, etcd string, o Options) error {
	args := []string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1",
		"--secure-port=" + port(a.l),
		"--external-hostname=localhost",
		"--service-cluster-ip-range=" + o.ServiceCIDR,
		"--tls-cert-file=" + c.serving.CertFile,
		"--tls-private-key-file=" + c.serving.KeyFile,
		"--client-ca-file=" + c.ca.CertFile,
		"--kubelet-client-certificate=" + c.kubeletClient.CertFile,
		"--kubelet-client-key=" + c.kubeletClient.KeyFile,
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + c.serviceAccountPublic,
		"--service-account-signing-key-file=" + c.serviceAccountKey,
		"--requestheader-client-ca-file=" + c.frontProxyCA.CertFile,
		"--requestheader-allowed-names=" + frontProxyName,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.frontProxy.CertFile,
		"--proxy-client-key-file=" + c.frontProxy.KeyFile,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--anonymous-auth=false",
		"--allow-privileged=true",
		"--profiling=false",
		// Without it an open watch holds up the server's end for a minute.
		"--shutdown-watch-termination-grace-period=1s",
	}
	if o.Advertise == "" {
		// Endpoints can't have loopback addresses, and there is no other.
		args = append(args, "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
	} else {
		args = append(args, "--advertise-address="+o.Advertise, "--endpoint-reconciler-type=lease")
	}
	if o.FeatureGates != "" {
		args = append(args, "--feature-gates="+o.FeatureGates)
	}
	return parseFlags(a.flags, args, o.APIServer)
}

func (a *apiServer) start() (*Task, error) {
	a.options.SecureServing.Listener = a.l
	completed, err := a.options.Complete(context.Background())
	if err != nil {
		return nil, fmt.Errorf("kube-apiserver: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, usage{fmt.Errorf("kube-apiserver: %w", utilerrors.NewAggregate(errs))}
	}
	return Go("kube-apiserver", func(ctx context.Context) error { return app.Run(ctx, completed) }), nil
}

// waitReady returns when the API server says that it is ready: all hooks have
// run, so that the bootstrap roles and system namespaces are there.
func (cp *ControlPlane) waitReady(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(cp.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-cp.apiserver.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	var last error
	err = wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, last = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return last == nil, nil
	})
	if err == nil {
		return nil
	}
	select {
	case <-cp.apiserver.Done():
		return cp.apiserver.Err()
	default:
		return fmt.Errorf("kube-apiserver is not ready (%w): %w", context.Cause(ctx), last)
	}
}
