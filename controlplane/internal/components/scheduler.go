package components

import (
	"context"

	"github.com/spf13/pflag"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

type scheduler struct {
	options *options.Options
	flags   *pflag.FlagSet
}

func newScheduler() *scheduler {
	o := options.NewOptions()
	return &scheduler{options: o, flags: flagSet("kube-scheduler", *o.Flags)}
}

func (s *scheduler) parse(c *credentials, _ string, o Options) error {
	return parseFlags(s.flags, []string{
		"--kubeconfig=" + c.schedulerConfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}, o.Scheduler)
}

func (s *scheduler) run(ctx context.Context) error {
	cfg, sched, err := app.Setup(ctx, s.options)
	if err != nil {
		return err
	}
	return app.Run(ctx, cfg, sched)
}
