//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"picket/internal/flow"
	"picket/internal/kube"
	"picket/internal/nft"
	"picket/internal/source/cluster"
)

// Source follows a cluster; see cluster.Watcher.
type Source interface {
	// Run follows until ctx ends. It calls changed, which does not block, when
	// all has been listed and whenever a Snapshot would differ.
	Run(ctx context.Context, changed func())
	// Snapshot makes the cluster as it is known now.
	Snapshot() kube.Result
	// Status tells how following each kind goes.
	Status() []cluster.KindStatus
}

// Kernel holds a plan and enforces it; see nft.Kernel. One goroutine uses it.
type Kernel interface {
	Apply(*nft.Plan) error
	Check() ([]string, error)
	Repair(*nft.Plan) error
	Counts() (map[string]uint64, error)
	Remove() error
	Close() error
}

// Options are what an agent is run with.
type Options struct {
	Config
	Version string // of the program, for the metrics
	Log     *slog.Logger
	Out     io.Writer // for a flow log called "-"
	// Listening, if not nil, is called with the address that the HTTP server
	// listens on.
	Listening func(net.Addr)
}

// Run follows the cluster and enforces its policies until ctx ends, which is
// no error. The table stays in the kernel. An error means that the agent could
// not begin; what happens later is logged, counted and tried again.
func Run(ctx context.Context, o Options) error {
	ns, err := openNetNS(o.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	source, err := cluster.NewWatcher(cluster.WatchOptions{
		Options: cluster.Options{Kubeconfig: o.Kubeconfig, Context: o.Context}, Poll: o.CRDPoll, Log: o.Log,
	})
	if err != nil {
		return err
	}
	kernel, err := nft.Open(ns.fd(), o.tableOptions())
	if err != nil {
		return fmt.Errorf("cannot enforce on this node: %w", err)
	}
	defer kernel.Close()
	l := newLoop(o, source, kernel)
	log, closeLog, err := openFlowLog(&o, &l.shown)
	if err != nil {
		return err
	}
	defer func() { _ = closeLog() }()
	l.flows = log
	listener, err := o.listen()
	if err != nil {
		return err
	}
	watch := func(ctx context.Context, changed func()) error { return nft.Watch(ctx, ns.fd(), o.Table, changed) }
	read := func(ctx context.Context) error {
		return flow.ReadDenied(ctx, ns.fd(), o.tableOptions().LogGroup, log.report, func() { log.lost.Add(1) })
	}
	return l.runAll(ctx, listener, watch, read)
}

// runAll runs the loop and all that works for it until ctx ends: a server if
// there is a listener, a watch on what others do to the kernel's tables, and if
// there is a flow log what reads denied packets for it.
func (l *loop) runAll(ctx context.Context, listener net.Listener, watchKernel func(context.Context, func()) error, readDenied func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		l.log.Info("serving metrics and health", "address", listener.Addr().String())
		if l.o.Listening != nil {
			l.o.Listening(listener.Addr())
		}
		g.Go(func() error { return serve(ctx, listener, l) })
	}
	l.log.Info("following the cluster; the kernel is not touched before all of it is known", "node", l.o.Node, "table", l.o.Table, "audit", l.o.Audit)
	g.Go(func() error { l.source.Run(ctx, l.changed); return nil })
	g.Go(func() error { l.watchKernel(ctx, watchKernel); return nil })
	g.Go(func() error { l.run(ctx); return nil })
	if l.flows != nil {
		g.Go(func() error { l.keep(ctx, "the flow log is not written", l.flows.run); return nil })
		g.Go(func() error { l.keep(ctx, "denied packets are not read", readDenied); return nil })
	}
	err := g.Wait()
	if l.state().Applied.IsZero() {
		l.log.Info("stopped; the kernel was not touched")
	} else {
		l.log.Info("stopped; the table stays in force", "table", l.o.Table)
	}
	return err
}

// DryRun waits until the whole cluster has been listed, and writes the plan
// that would be applied. It touches nothing.
func DryRun(ctx context.Context, o Options, w io.Writer) error {
	source, err := cluster.NewWatcher(cluster.WatchOptions{
		Options: cluster.Options{Kubeconfig: o.Kubeconfig, Context: o.Context}, Poll: o.CRDPoll, Log: o.Log,
	})
	if err != nil {
		return err
	}
	res, err := once(ctx, source)
	if err != nil {
		return err
	}
	p, err := makePlan(res, o.Config, nil)
	if err != nil {
		return err
	}
	for _, d := range res.Diagnostics {
		o.Log.Warn(d.Message, "object", d.Object)
	}
	if !p.nodeKnown {
		o.Log.Warn("the cluster has no node of this name", "node", o.Node)
	}
	return p.WriteText(w)
}

// once returns the first snapshot of all of a cluster.
func once(ctx context.Context, source Source) (kube.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		source.Run(ctx, func() {
			select {
			case ready <- struct{}{}:
			default:
			}
		})
	}()
	var res kube.Result
	var err error
	select {
	case <-ready:
		res = source.Snapshot()
	case <-ctx.Done():
		err = errors.New("the cluster could not be read")
		for _, k := range source.Status() {
			if !k.Synced && k.Error != "" {
				err = errors.Join(err, fmt.Errorf("%s: %s", k.Kind, k.Error))
			}
		}
	}
	cancel()
	<-done
	return res, err
}

// Cleanup deletes the table, and with it everything that the agent has put
// into the kernel.
func Cleanup(o Options) error {
	ns, err := openNetNS(o.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	kernel, err := nft.Open(ns.fd(), o.tableOptions())
	if err != nil {
		return err
	}
	defer kernel.Close()
	if err := kernel.Remove(); err != nil {
		return fmt.Errorf("delete the table %s: %w", o.Table, err)
	}
	o.Log.Info("nothing is enforced any more: the table is deleted", "table", o.Table)
	return nil
}

// State is what the agent is doing, for its health and metrics.
type State struct {
	Node        string
	Began       time.Time
	Applied     time.Time // when the kernel was last brought to a plan; zero if never
	Turn        time.Time // when the loop last showed that it lives
	Problem     string    // why the newest state of the cluster is not in force; "" if it is
	NodeKnown   bool      // the cluster has the node
	Ranges      int       // ranges in which unknown pods are dropped
	Pods        int       // local pods with an address
	Isolated    [2]int    // local addresses under policy, by direction
	Endpoints   int
	Policies    int
	Diagnostics int
	Limits      int
}

// Ready reports whether the newest state of the cluster is being enforced, and
// if not why.
func (s *State) Ready() (bool, string) {
	switch {
	case s.Problem != "":
		return false, s.Problem
	case s.Applied.IsZero():
		return false, "nothing has been applied yet: waiting until the cluster is known"
	case !s.NodeKnown:
		return false, fmt.Sprintf("the cluster has no node %q: is --node-name right?", s.Node)
	}
	return true, ""
}
