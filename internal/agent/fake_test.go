//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/nft"
	"picket/internal/source/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeKernel is a Kernel that remembers what it was told.
type fakeKernel struct {
	mu       sync.Mutex
	plans    []*nft.Plan
	repaired int
	fail     error         // of Apply
	takes    time.Duration // how long Apply takes
	wrong    []string      // what Check finds; Apply and Repair put it right
	checkErr error
	busy     bool // in a call
	overlap  bool // two calls at once
	looked   int
}

func (k *fakeKernel) call() func() {
	k.mu.Lock()
	k.overlap = k.overlap || k.busy
	k.busy = true
	k.mu.Unlock()
	return func() {
		k.mu.Lock()
		k.busy = false
		k.mu.Unlock()
	}
}

func (k *fakeKernel) Apply(p *nft.Plan) error {
	defer k.call()()
	k.mu.Lock()
	takes := k.takes
	k.mu.Unlock()
	time.Sleep(takes)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.plans = append(k.plans, p)
	k.wrong = nil
	return nil
}

func (k *fakeKernel) Repair(p *nft.Plan) error {
	k.set(func() { k.repaired++ })
	return k.Apply(p)
}

func (k *fakeKernel) Check() ([]string, error) {
	defer k.call()()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked++
	return k.wrong, k.checkErr
}

func (k *fakeKernel) Counts() (map[string]uint64, error) {
	defer k.call()()
	return map[string]uint64{"denied_in": 7}, nil
}

func (k *fakeKernel) Remove() error { return errors.New("the agent must not remove its table") }
func (k *fakeKernel) Close() error  { return nil }

func (k *fakeKernel) applied() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.plans)
}

func (k *fakeKernel) looks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.looked
}

func (k *fakeKernel) repairs() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.repaired
}

func (k *fakeKernel) overlapped() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.overlap
}

func (k *fakeKernel) last() *nft.Plan {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.plans) == 0 {
		return nil
	}
	return k.plans[len(k.plans)-1]
}

func (k *fakeKernel) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// fakeSource is a Source whose cluster the test writes.
type fakeSource struct {
	mu      sync.Mutex
	objects map[string]string
	lost    string // Unusable
	changed func()
	began   chan struct{}
}

func newFakeSource() *fakeSource {
	return &fakeSource{objects: map[string]string{}, began: make(chan struct{})}
}

func (s *fakeSource) Run(ctx context.Context, changed func()) {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	close(s.began)
	<-ctx.Done()
}

// lose makes the cluster unusable, or usable again.
func (s *fakeSource) lose(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = why
}

type here struct{}

func (here) Position(string) diag.Position { return diag.Position{File: "here"} }

func (s *fakeSource) Snapshot() kube.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := kube.NewBuilder(kube.Options{Live: true})
	for _, o := range s.objects {
		b.Add([]byte(o), here{})
	}
	if s.lost != "" {
		b.Unreadable(diag.Diagnostic{Message: s.lost})
	}
	return b.Build()
}

func (s *fakeSource) Status() []cluster.KindStatus {
	return []cluster.KindStatus{{Kind: "Pod", Synced: true}}
}

// put changes objects, given as kind/namespace/name, and tells.
func (s *fakeSource) put(name, rest string) {
	<-s.began
	kind, at, _ := strings.Cut(name, "/")
	ns, bare, ok := strings.Cut(at, "/")
	if !ok {
		ns, bare = "", at
	}
	version := map[string]string{"NetworkPolicy": "networking.k8s.io/v1", "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2"}[kind]
	if version == "" {
		version = "v1"
	}
	s.mu.Lock()
	if rest == "" {
		delete(s.objects, name)
	} else {
		s.objects[name] = fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"namespace":%q},%s}`, version, kind, bare, ns, rest)
	}
	changed := s.changed
	s.mu.Unlock()
	changed()
}

func podOn(node, addr string) string {
	return fmt.Sprintf(`"spec":{"nodeName":%q},"status":{"phase":"Running","podIP":%q}`, node, addr)
}

const (
	nodeN1  = `"spec":{"podCIDRs":["10.1.0.0/24"]}`
	denyAll = `"spec":{"podSelector":{},"policyTypes":["Ingress"]}`
)

// agentLog collects what the agent logs.
type agentLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *agentLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *agentLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

// test is an agent in a bubble with everything around it.
type test struct {
	t *testing.T
	*loop
	kernel  *fakeKernel
	source  *fakeSource
	log     *agentLog
	foreign func()
	stop    func()
}

// start runs an agent in a bubble. Its cluster is empty and nothing is told.
func start(t *testing.T) *test {
	t.Helper()
	x := &test{t: t, kernel: &fakeKernel{}, source: newFakeSource(), log: &agentLog{}}
	o := Options{Config: Defaults(), Log: slog.New(slog.NewTextHandler(io.MultiWriter(x.log), nil))}
	o.Node, o.Listen = "n1", ""
	began := time.Now()
	x.loop = newLoop(o, x.source, x.kernel)
	if waited := time.Since(began); waited > 0 {
		t.Errorf("making the agent waits for %s", waited)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = x.loop.runAll(ctx, nil, func(ctx context.Context, changed func()) error {
			x.foreign = changed
			<-ctx.Done()
			return nil
		}, nil)
	}()
	x.stop = func() { cancel(); <-done }
	t.Cleanup(x.stop)
	<-x.source.began
	synctest.Wait()
	return x
}

// after lets time pass.
func (x *test) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (x *test) logged(text string) int {
	n := 0
	for _, l := range x.log.lines() {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func isolated(p *nft.Plan) []string {
	var out []string
	for _, l := range p.Isolated[0] {
		out = append(out, l.Addr.String())
	}
	return out
}
