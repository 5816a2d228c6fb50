package components

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

type controllerManager struct {
	options *options.KubeControllerManagerOptions
	flags   *pflag.FlagSet
}

func newControllerManager() (*controllerManager, error) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	named := o.Flags(app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	return &controllerManager{options: o, flags: flagSet("kube-controller-manager", named)}, nil
}

func (m *controllerManager) parse(c *credentials, _ string, o Options) error {
	args := []string{
		"--kubeconfig=" + c.controllerManagerConfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.serviceAccountKey,
		"--root-ca-file=" + c.ca.CertFile,
		"--cluster-signing-cert-file=" + c.ca.CertFile,
		"--cluster-signing-key-file=" + c.ca.KeyFile,
		"--service-cluster-ip-range=" + o.ServiceCIDR,
		"--profiling=false",
		// The default of 20 a second is meant for machines far apart.
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
	if o.ClusterCIDR != "" {
		args = append(args, "--allocate-node-cidrs=true", "--cluster-cidr="+o.ClusterCIDR)
	}
	return parseFlags(m.flags, args, o.ControllerManager)
}

func (m *controllerManager) run(ctx context.Context) error {
	// Events outlive the controllers, as in the program itself: the broadcaster
	// gets a context that does not end with them.
	cfg, err := m.options.Config(context.WithoutCancel(ctx), app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err != nil {
		return err
	}
	return app.Run(ctx, cfg.Complete())
}

// WaitControllers returns when the controllers have given the namespace default
// its service account, without which no pod can be created.
func (cp *ControlPlane) WaitControllers(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(cp.Config)
	if err != nil {
		return err
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, 25*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		for _, t := range cp.others {
			select {
			case <-t.Done():
				return false, t.Err()
			default:
			}
		}
		_, last = client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return last == nil, nil
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("the controllers have not made a service account (%w): %w", context.Cause(ctx), last)
	}
	return err
}
