//go:build linux

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/model"
)

// loop is the one goroutine that computes plans and talks to the kernel. So
// there is never more than one transaction in flight, and what happens
// meanwhile is taken together.
type loop struct {
	o       Options
	log     *slog.Logger
	source  Source
	kernel  Kernel
	metrics *metrics

	wake    chan struct{}      // something changed in the cluster
	foreign chan struct{}      // somebody else changed something in the kernel
	asked   chan chan counters // somebody wants the kernel's counters

	flows *flowLog             // nil if there is none
	shown atomic.Pointer[plan] // the plan in force, for the flow log

	mu    sync.Mutex
	st    State
	first time.Time // when the oldest change that is not in force was seen; zero if there is none

	// The rest is the loop's own.
	inForce  *plan // the last plan that the kernel took; nil if none
	ranges   []netip.Prefix
	failures int
	said     map[diag.Diagnostic]bool
	limits   map[string]bool // of the plan in force, that were logged
	counts   counters
}

// counters are the kernel's, by name.
type counters map[string]uint64

// Waits of the loop.
const (
	// firstRetry and lastRetry bound the wait after a failure.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
	// checkGap is the least time between two looks at what others changed.
	checkGap = time.Second
)

func newLoop(o Options, source Source, kernel Kernel) *loop {
	now := time.Now()
	l := &loop{
		o: o, log: o.Log, source: source, kernel: kernel,
		wake: make(chan struct{}, 1), foreign: make(chan struct{}, 1), asked: make(chan chan counters),
		st: State{Node: o.Node, Began: now, Turn: now}, said: map[diag.Diagnostic]bool{}, counts: counters{},
	}
	l.metrics = newMetrics(l)
	return l
}

// changed notes that the cluster is no longer what the plan was made of. It
// may be called by any goroutine and does not block.
func (l *loop) changed() {
	l.mu.Lock()
	if l.first.IsZero() {
		l.first = time.Now()
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// watchKernel notes changes that others make to the kernel's tables. While the
// watch is broken the regular look has to do.
func (l *loop) watchKernel(ctx context.Context, watch func(context.Context, func()) error) {
	l.keep(ctx, "changes that others make to nftables are only found by looking now and then", func(ctx context.Context) error {
		return watch(ctx, func() {
			select {
			case l.foreign <- struct{}{}:
			default:
			}
		})
	})
}

// keep runs f until ctx ends, again whenever it ends before that. What follows
// from its failure is logged.
func (l *loop) keep(ctx context.Context, otherwise string, f func(context.Context) error) {
	said := ""
	for {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != said {
			said = text
			l.log.Warn(otherwise, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lastRetry):
		}
	}
}

// run is the loop. A change is acted upon at once if the last one is long
// past; under a storm of changes the kernel is brought up to date, then the
// loop rests as long as that took, MaxDelay at most, and does it again: it
// never takes more than half of a processor for long, and no change waits for
// more than that rest and two turns.
func (l *loop) run(ctx context.Context) {
	apply := time.NewTimer(time.Hour)
	apply.Stop()
	check := time.NewTimer(l.o.CheckEvery)
	defer apply.Stop()
	defer check.Stop()
	var restUntil, lastCheck time.Time
	pending := false
	for {
		select {
		case <-ctx.Done():
			return
		case answer := <-l.asked:
			answer <- l.readCounts()
		case <-l.wake:
			pending = true
			apply.Reset(max(0, time.Until(restUntil)))
		case <-apply.C:
			if !pending {
				break
			}
			began := time.Now()
			if err := l.turn(); err != nil {
				wait := l.failed(err)
				restUntil = time.Now().Add(firstRetry)
				apply.Reset(wait)
				break
			}
			pending = false
			restUntil = time.Now().Add(min(time.Since(began), l.o.MaxDelay))
		case <-l.foreign:
			check.Reset(max(0, time.Until(lastCheck.Add(checkGap))))
		case <-check.C:
			lastCheck = time.Now()
			if err := l.check(); err != nil {
				l.failed(err)
				pending = true
				apply.Reset(0) // loads everything
			}
			check.Reset(l.o.CheckEvery)
		}
		l.alive()
	}
}

func (l *loop) alive() {
	l.mu.Lock()
	l.st.Turn = time.Now()
	l.mu.Unlock()
}

// turn brings the kernel to what the cluster is now.
func (l *loop) turn() error {
	l.mu.Lock()
	since := l.first
	l.first = time.Time{}
	l.mu.Unlock()
	err := l.apply()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.first.IsZero() || !since.IsZero() {
			l.first = since
		}
		return err
	}
	if !since.IsZero() {
		l.metrics.latency.Observe(time.Since(since).Seconds())
	}
	return nil
}

func (l *loop) apply() error {
	began := time.Now()
	res := l.source.Snapshot()
	l.metrics.stage("snapshot", time.Since(began))
	l.tell(res)
	p, err := makePlan(res, l.o.Config, l.ranges)
	if err != nil {
		l.metrics.applied("unusable")
		return fmt.Errorf("no plan can be made of what the cluster holds: %w", err)
	}
	for stage, took := range p.took {
		l.metrics.stage(stage, took)
	}
	write := time.Now()
	if err := l.kernel.Apply(p.Plan); err != nil {
		l.metrics.applied("error")
		return fmt.Errorf("the kernel did not take the plan: %w", err)
	}
	l.metrics.stage("kernel", time.Since(write))
	l.metrics.applied("ok")
	l.inForce, l.ranges = p, p.ranges
	l.shown.Store(p)
	l.took(res, p, time.Since(began))
	return nil
}

// took notes that a plan is in force.
func (l *loop) took(res kube.Result, p *plan, took time.Duration) {
	l.mu.Lock()
	first, problem := l.st.Applied.IsZero(), l.st.Problem
	l.st.Applied, l.st.Problem = time.Now(), ""
	l.st.NodeKnown, l.st.Ranges = p.nodeKnown, len(p.Ranges)
	l.st.Pods, l.st.Endpoints = len(p.Pods), len(res.Snapshot.Endpoints)
	for _, d := range model.Directions {
		l.st.Isolated[d] = len(p.Isolated[d])
	}
	l.st.Policies = 0
	for i := range res.Snapshot.Tiers {
		l.st.Policies += len(res.Snapshot.Tiers[i].Policies)
	}
	l.st.Diagnostics, l.st.Limits = len(res.Diagnostics), len(p.Limits)
	st := l.st
	l.mu.Unlock()
	l.failures = 0
	limits := map[string]bool{}
	for _, text := range p.Limits {
		limits[text] = true
		if !l.limits[text] {
			l.log.Warn("the kernel form cannot express a policy in full", "limit", text)
		}
	}
	l.limits = limits
	switch {
	case first:
		l.log.Info("enforcing", "pods", st.Pods, "policies", st.Policies, "endpoints", st.Endpoints, "ranges", fmt.Sprint(p.Ranges), "took", took)
		if !p.nodeKnown {
			l.log.Warn("the cluster has no node of this name: its pods are taken as they are bound to it", "node", l.o.Node)
		}
		if len(p.Ranges) == 0 {
			l.log.Warn("the node has no pod range: pods that are not known yet are let through; give --pod-cidr", "node", l.o.Node)
		}
	case problem != "":
		l.log.Info("the newest state of the cluster is in force again")
	}
}

// failed notes that the last good plan stays in force, and says how long to
// wait before the next attempt.
func (l *loop) failed(err error) time.Duration {
	l.mu.Lock()
	again := l.st.Problem == err.Error()
	l.st.Problem = err.Error()
	l.mu.Unlock()
	if !again {
		l.log.Error("the newest state of the cluster is not in force; what was before stays, and it is tried again", "error", err)
	}
	wait := min(firstRetry<<min(l.failures, 10), lastRetry)
	l.failures++
	return wait/2 + rand.N(wait/2+1)
}

// tell logs what is wrong with the cluster's objects, each thing once.
func (l *loop) tell(res kube.Result) {
	now := make(map[diag.Diagnostic]bool, len(res.Diagnostics))
	for _, d := range res.Diagnostics {
		now[d] = true
		if l.said[d] {
			continue
		}
		level := slog.LevelWarn
		if d.Severity == diag.Info {
			level = slog.LevelInfo
		}
		l.log.Log(context.Background(), level, d.Message, "code", d.Code, "object", d.Object, "path", d.Path)
	}
	l.said = now
}

// check looks whether the kernel still holds the plan, and repairs it.
func (l *loop) check() error {
	if l.inForce == nil {
		return nil
	}
	wrong, err := l.kernel.Check()
	if err != nil {
		l.metrics.checks.WithLabelValues("error").Inc()
		return fmt.Errorf("cannot look at the table in the kernel: %w", err)
	}
	if len(wrong) == 0 {
		l.metrics.checks.WithLabelValues("ok").Inc()
		return nil
	}
	l.metrics.checks.WithLabelValues("changed").Inc()
	l.log.Warn("somebody else has changed the table; it is put right", "table", l.o.Table, "wrong", wrong)
	if err := l.kernel.Repair(l.inForce.Plan); err != nil {
		return fmt.Errorf("the table could not be put right: %w", err)
	}
	l.metrics.repairs.Inc()
	return nil
}

// readCounts reads the kernel's counters; where that fails the last ones
// stand.
func (l *loop) readCounts() counters {
	if l.inForce == nil {
		return l.counts
	}
	if c, err := l.kernel.Counts(); err == nil {
		l.counts = c
	}
	return l.counts
}

// askCounts asks the loop for the kernel's counters. A loop that is busy for
// too long gives none.
func (l *loop) askCounts(ctx context.Context) counters {
	answer := make(chan counters, 1)
	select {
	case l.asked <- answer:
		return <-answer
	case <-ctx.Done():
		return nil
	}
}

// state returns what the agent is doing.
func (l *loop) state() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}
