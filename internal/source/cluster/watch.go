package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"picket/internal/diag"
	"picket/internal/kube"
)

// WatchOptions say which cluster is followed, and how.
type WatchOptions struct {
	Options
	// Services are followed too, with their endpoint slices. Policies do not
	// ask for them.
	Services bool
	// Poll is how often a kind that the server does not have is asked for
	// again. 0 means 30 seconds.
	Poll time.Duration
	// Log gets a line when following a kind begins to fail and when it works
	// again. nil means no log.
	Log *slog.Logger
}

// resource is a kind that is followed.
type resource struct {
	path       string // below the server's root
	name       string // plural
	kind       string
	apiVersion string
	crd        string // name of its CustomResourceDefinition; "" if the server always has the kind
}

var watched = []resource{
	{path: "api/v1", name: "namespaces", kind: "Namespace", apiVersion: "v1"},
	{path: "api/v1", name: "nodes", kind: "Node", apiVersion: "v1"},
	{path: "api/v1", name: "pods", kind: "Pod", apiVersion: "v1"},
	{path: "apis/networking.k8s.io/v1", name: "networkpolicies", kind: "NetworkPolicy", apiVersion: "networking.k8s.io/v1"},
	{
		path: "apis/policy.networking.k8s.io/v1alpha2", name: "clusternetworkpolicies", kind: "ClusterNetworkPolicy",
		apiVersion: "policy.networking.k8s.io/v1alpha2", crd: "clusternetworkpolicies.policy.networking.k8s.io",
	},
}

var watchedServices = []resource{
	{path: "api/v1", name: "services", kind: "Service", apiVersion: "v1"},
	{path: "apis/discovery.k8s.io/v1", name: "endpointslices", kind: "EndpointSlice", apiVersion: "discovery.k8s.io/v1"},
}

// Watcher follows a cluster: it lists each kind once, applies the changes that
// the server sends, and keeps of every object what the model needs. What it
// holds is the last that it knew to be good: a server that is away, a watch
// that breaks, and an object that can't be understood take nothing from it.
// Its methods may be called at any time, by any goroutine.
type Watcher struct {
	c     *client
	log   *slog.Logger
	poll  time.Duration
	at    kube.Source
	kinds []*kindState

	mu      sync.Mutex // guards the kinds' states
	changed func()
}

// KindStatus is how following one kind goes.
type KindStatus struct {
	Kind      string
	Synced    bool      // it has been listed
	Connected bool      // a watch is open
	Served    bool      // the server has the kind
	Withdrawn bool      // the server had the kind and does no more: what is known stays
	Since     time.Time // since when Connected has been so
	Error     string    // why it is not connected; "" if it is
	Objects   int
	Broken    int // objects whose last version could not be understood
	Events    uint64
	Lists     uint64
	Failures  uint64
}

// kindState is what is known of one kind. All but what its own goroutine uses
// alone is guarded by the Watcher's mutex.
type kindState struct {
	resource
	decoder *kube.Decoder // of its own goroutine
	status  KindStatus
	objects map[objectKey]*kube.Object
	bad     map[objectKey]string // why the last version of an object was not taken over
	lost    string               // an object that can't be told from others; "" normally
}

type objectKey struct{ ns, name string }

// NewWatcher prepares to follow a cluster. It asks the server nothing.
func NewWatcher(o WatchOptions) (*Watcher, error) {
	cfg, name, err := o.config()
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "picket"
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	if name == "" {
		name = "cluster"
	}
	return newWatcher(o, &client{http: hc, base: base, name: name}), nil
}

func newWatcher(o WatchOptions, c *client) *Watcher {
	w := &Watcher{c: c, log: o.Log, poll: o.Poll, at: source{c.name}}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.poll == 0 {
		w.poll = 30 * time.Second
	}
	list := watched
	if o.Services {
		list = slices.Concat(watched, watchedServices)
	}
	for _, r := range list {
		w.kinds = append(w.kinds, &kindState{
			resource: r, decoder: kube.NewDecoder(kube.Options{Live: true}),
			objects: map[objectKey]*kube.Object{}, bad: map[objectKey]string{},
			status: KindStatus{Kind: r.kind, Since: time.Now(), Error: "it has not been listed yet"},
		})
	}
	return w
}

// Run follows the cluster until ctx ends. It calls changed, from any of its
// goroutines, when every kind has been listed for the first time and whenever
// a Snapshot would differ from then on. changed must not block.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	w.mu.Lock()
	w.changed = changed
	w.mu.Unlock()
	var wg sync.WaitGroup
	for _, k := range w.kinds {
		wg.Go(func() { w.follow(ctx, k) })
	}
	wg.Wait()
	w.c.http.CloseIdleConnections()
}

// Synced reports whether every kind has been listed.
func (w *Watcher) Synced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced()
}

func (w *Watcher) synced() bool {
	return !slices.ContainsFunc(w.kinds, func(k *kindState) bool { return !k.status.Synced })
}

// Snapshot makes the cluster as it is known now. Before every kind has been
// listed the result is Unusable.
func (w *Watcher) Snapshot() kube.Result {
	b := kube.NewBuilder(kube.Options{Live: true})
	w.mu.Lock()
	for _, k := range w.kinds {
		if !k.status.Synced {
			b.Unreadable(diag.Diagnostic{Position: w.at.Position(""), Message: k.name + " have not been listed yet"})
		}
		if k.lost != "" {
			b.Unreadable(diag.Diagnostic{Position: w.at.Position(""), Message: k.lost})
		}
		for _, o := range k.objects {
			b.AddObject(o)
		}
		for key, why := range k.bad {
			b.Report(diag.Diagnostic{
				Position: w.at.Position(""), Object: k.kind + " " + key.String(),
				Message: "its last version could not be understood, the one before stays in force: " + why,
			})
		}
	}
	w.mu.Unlock()
	return b.Build()
}

func (k objectKey) String() string {
	if k.ns == "" {
		return k.name
	}
	return k.ns + "/" + k.name
}

// Status returns how following each kind goes.
func (w *Watcher) Status() []KindStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]KindStatus, len(w.kinds))
	for i, k := range w.kinds {
		out[i] = k.status
		out[i].Objects = len(k.objects)
		out[i].Broken = len(k.bad)
		for _, o := range k.objects {
			if o.Broken != "" {
				out[i].Broken++
			}
		}
	}
	return out
}
