//go:build linux

package agent

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"picket/internal/model"
)

// metrics are what Prometheus may ask for; docs/agent.md lists them.
type metrics struct {
	registry *prometheus.Registry
	latency  prometheus.Histogram
	stages   *prometheus.HistogramVec
	applies  *prometheus.CounterVec
	checks   *prometheus.CounterVec
	repairs  prometheus.Counter
}

// fast are the bounds of histograms of times from 100 µs to 26 s.
var fast = prometheus.ExponentialBuckets(0.0001, 2, 19)

func newMetrics(l *loop) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "picket_agent_event_to_kernel_seconds", Buckets: fast,
		Help: "Time from the first event of a change to its being in force.",
	})
	m.stages = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "picket_agent_stage_duration_seconds", Buckets: fast,
		Help: "Time of each stage of a change: snapshot, compile, plan, kernel.",
	}, []string{"stage"})
	m.applies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "picket_agent_applies_total",
		Help: "Attempts to bring the kernel to the cluster's state: ok, error (the kernel refused), unusable (no plan could be made).",
	}, []string{"result"})
	m.checks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "picket_agent_checks_total",
		Help: "Looks at the table in the kernel: ok, changed (by somebody else), error.",
	}, []string{"result"})
	m.repairs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "picket_agent_repairs_total",
		Help: "How often the table was put right after somebody else had changed it.",
	})
	for _, r := range []string{"ok", "error", "unusable"} {
		m.applies.WithLabelValues(r)
	}
	for _, r := range []string{"ok", "changed", "error"} {
		m.checks.WithLabelValues(r)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "picket_agent_info", Help: "The agent: always 1.",
		ConstLabels: prometheus.Labels{"version": l.o.Version, "go": runtime.Version(), "node": l.o.Node},
	})
	info.Set(1)
	m.registry.MustRegister(m.latency, m.stages, m.applies, m.checks, m.repairs, info, &states{l},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) stage(name string, d time.Duration) {
	m.stages.WithLabelValues(name).Observe(d.Seconds())
}

func (m *metrics) applied(result string) { m.applies.WithLabelValues(result).Inc() }

// states are the metrics that are looked up when asked for.
type states struct{ l *loop }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descReady     = desc("picket_agent_ready", "1 if the newest state of the cluster that is known is in force.")
	descEnforcing = desc("picket_agent_enforcing", "1 if a plan of this agent is in the kernel and denies; 0 with --audit and before the first plan.")
	descApplied   = desc("picket_agent_last_applied_timestamp_seconds", "When the kernel was last brought to a plan; 0 if never.")
	descPods      = desc("picket_agent_local_pod_addresses", "Addresses of the node's pods.")
	descIsolated  = desc("picket_agent_isolated_addresses", "Addresses of the node's pods that policies isolate.", "direction")
	descRanges    = desc("picket_agent_pod_ranges", "Ranges of addresses in which pods that are not known are dropped.")
	descEndpoints = desc("picket_agent_cluster_pods", "Pods of the cluster that are known.")
	descPolicies  = desc("picket_agent_cluster_policies", "Policies of the cluster that are known.")
	descProblems  = desc("picket_agent_diagnostics", "Mistakes in the cluster's objects that bear on policy.")
	descLimits    = desc("picket_agent_plan_limits", "What the kernel form cannot express and denies therefore.")

	descObjects   = desc("picket_agent_watch_objects", "Objects known, by kind.", "kind")
	descBroken    = desc("picket_agent_watch_broken_objects", "Objects whose last version could not be understood, by kind.", "kind")
	descConnected = desc("picket_agent_watch_connected", "1 if a watch on the kind is open.", "kind")
	descWithdrawn = desc("picket_agent_watch_withdrawn", "1 if the server no longer has the kind and its last objects are kept.", "kind")
	descEvents    = desc("picket_agent_watch_events_total", "Changes that the API server has sent, by kind.", "kind")
	descLists     = desc("picket_agent_watch_lists_total", "How often the kind was listed as a whole.", "kind")
	descFailures  = desc("picket_agent_watch_failures_total", "Lists and watches that failed, by kind.", "kind")

	descFlows    = desc("picket_flow_log_lines_total", "Denied connections that were written to the flow log.")
	descFlowsOut = desc("picket_flow_log_left_out_total", "Denied packets that the flow log left out: rate_limit, or kernel (times that packets were lost there).", "reason")

	descPackets = desc("picket_packets_total", "First packets of connections that were judged, by what became of them; the counters of the kernel's table.", "outcome")
)

// Describe implements prometheus.Collector. It must not collect: nobody would
// answer for the counters yet.
func (s *states) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReady, descEnforcing, descApplied, descPods, descIsolated, descRanges, descEndpoints, descPolicies, descProblems, descLimits,
		descObjects, descBroken, descConnected, descWithdrawn, descEvents, descLists, descFailures,
		descFlows, descFlowsOut, descPackets,
	} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	st := s.l.state()
	ready, _ := st.Ready()
	gauge(descReady, truth(ready))
	gauge(descEnforcing, truth(!st.Applied.IsZero() && !s.l.o.Audit))
	applied := 0.0
	if !st.Applied.IsZero() {
		applied = float64(st.Applied.UnixNano()) / 1e9
	}
	gauge(descApplied, applied)
	gauge(descPods, float64(st.Pods))
	for _, d := range model.Directions {
		gauge(descIsolated, float64(st.Isolated[d]), d.String())
	}
	gauge(descRanges, float64(st.Ranges))
	gauge(descEndpoints, float64(st.Endpoints))
	gauge(descPolicies, float64(st.Policies))
	gauge(descProblems, float64(st.Diagnostics))
	gauge(descLimits, float64(st.Limits))
	for _, k := range s.l.source.Status() {
		gauge(descObjects, float64(k.Objects), k.Kind)
		gauge(descBroken, float64(k.Broken), k.Kind)
		gauge(descConnected, truth(k.Connected), k.Kind)
		gauge(descWithdrawn, truth(k.Withdrawn), k.Kind)
		count(descEvents, k.Events, k.Kind)
		count(descLists, k.Lists, k.Kind)
		count(descFailures, k.Failures, k.Kind)
	}
	if f := s.l.flows; f != nil {
		count(descFlows, f.written.Load())
		count(descFlowsOut, f.leftOut.Load(), "rate_limit")
		count(descFlowsOut, f.lost.Load(), "kernel")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for name, n := range s.l.askCounts(ctx) {
		count(descPackets, n, name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
