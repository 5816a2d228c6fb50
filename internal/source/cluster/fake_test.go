package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// fakeAPI is an API server as far as a Watcher can see: lists in pages, and
// watches from a version on. It can be made to fail in the ways that real ones
// do.
type fakeAPI struct {
	mu      sync.Mutex
	more    chan struct{} // closed when something happens
	version int
	objects map[string]map[string]string // path → name → JSON
	past    map[string][]fakeEvent       // path → events, in order
	oldest  int                          // watches from a version before this are answered with 410
	served  bool                         // ClusterNetworkPolicy
	defined string                       // its definition: "", "yes", "deleting"
	status  map[string]int               // path, or "watch "+path → refuse with it
	epoch   int                          // watches of an earlier epoch are cut
	cutAt   int                          // > 0: a watch is cut after so many bytes of its first event
	asked   []string
}

type fakeEvent struct {
	version int
	typ     string
	object  string // as it is sent
}

const (
	podsPath = "api/v1/pods"
	nsPath   = "api/v1/namespaces"
	npPath   = "apis/networking.k8s.io/v1/networkpolicies"
	cnpPath  = "apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
	crdPath  = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusternetworkpolicies.policy.networking.k8s.io"
)

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		more: make(chan struct{}), version: 100, objects: map[string]map[string]string{}, past: map[string][]fakeEvent{}, status: map[string]int{},
	}
}

// change runs f and wakes all watches.
func (s *fakeAPI) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.more)
	s.more = make(chan struct{})
}

// put creates or changes an object; rest is JSON after its metadata, such as
// `,"spec":{}`.
func (s *fakeAPI) put(path, name, rest string) {
	s.change(func() {
		s.version++
		typ := "MODIFIED"
		if s.objects[path] == nil {
			s.objects[path] = map[string]string{}
		}
		if s.objects[path][name] == "" {
			typ = "ADDED"
		}
		ns, bare, ok := strings.Cut(name, "/")
		if !ok {
			ns, bare = "", name
		}
		meta := fmt.Sprintf(`{"metadata":{"name":%q,"namespace":%q,"resourceVersion":"%d"`, bare, ns, s.version)
		if labels, after, ok := strings.Cut(rest, ";"); ok {
			meta, rest = meta+`,"labels":`+labels, after
		}
		s.objects[path][name] = meta + "}" + rest + "}"
		s.past[path] = append(s.past[path], fakeEvent{s.version, typ, s.objects[path][name]})
	})
}

func (s *fakeAPI) remove(path, name string) {
	s.change(func() {
		s.version++
		old := s.objects[path][name]
		delete(s.objects[path], name)
		s.past[path] = append(s.past[path], fakeEvent{s.version, "DELETED", old})
	})
}

// send puts an event of any shape into the watches.
func (s *fakeAPI) send(path, typ, object string) {
	s.change(func() {
		s.version++
		s.past[path] = append(s.past[path], fakeEvent{s.version, typ, object})
	})
}

// cut ends all watches in the middle of whatever they do.
func (s *fakeAPI) cut() { s.change(func() { s.epoch++ }) }

func (s *fakeAPI) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if a == what {
			n++
		}
	}
	return n
}

func (s *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	watching := r.URL.Query().Get("watch") != ""
	what := path
	if watching {
		what = "watch " + path
	}
	s.mu.Lock()
	s.asked = append(s.asked, what)
	status := s.status[what]
	defined, served := s.defined, s.served
	s.mu.Unlock()
	switch {
	case status != 0:
	case path == crdPath && defined == "", path == cnpPath && !served:
		status = http.StatusNotFound
	case path == crdPath:
		deleting := ""
		if defined == "deleting" {
			deleting = `,"deletionTimestamp":"2026-01-01T00:00:00Z"`
		}
		fmt.Fprintf(w, `{"kind":"CustomResourceDefinition","metadata":{"name":"x"%s}}`, deleting)
		return
	}
	switch {
	case status != 0:
		w.WriteHeader(status)
		fmt.Fprint(w, `{"kind":"Status"}`)
	case watching:
		s.serveWatch(w, r, path)
	default:
		s.serveList(w, r, path)
	}
}

func (s *fakeAPI) serveList(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.objects[path]))
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	next := ""
	to := len(names)
	if r.URL.Query().Get("limit") != "" && to > from+2 { // pages of two
		to, next = from+2, strconv.Itoa(from+2)
	}
	var items []string
	for _, n := range names[from:to] {
		items = append(items, s.objects[path][n])
	}
	fmt.Fprintf(w, `{"kind":"SomeList","metadata":{"resourceVersion":"%d","continue":%q},"items":[%s]}`, s.version, next, strings.Join(items, ","))
}

func (s *fakeAPI) serveWatch(w http.ResponseWriter, r *http.Request, path string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.mu.Lock()
	epoch := s.epoch
	if from < s.oldest {
		s.mu.Unlock()
		fmt.Fprint(w, `{"type":"ERROR","object":{"kind":"Status","code":410}}`)
		return
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		s.mu.Lock()
		var out strings.Builder
		for _, e := range s.past[path] {
			if e.version > from {
				fmt.Fprintf(&out, `{"type":%q,"object":%s}`+"\n", e.typ, e.object)
				from = e.version
			}
		}
		more, cutAt, cut := s.more, s.cutAt, s.epoch != epoch
		if out.Len() > 0 && cutAt > 0 {
			s.cutAt = 0
		}
		s.mu.Unlock()
		if cut {
			panic(http.ErrAbortHandler)
		}
		if out.Len() > 0 {
			if cutAt > 0 {
				io.WriteString(w, out.String()[:cutAt])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, out.String())
			w.(http.Flusher).Flush()
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// inMemory is a transport that calls a handler, without a network: time in a
// test can stand still while it waits.
type inMemory struct{ handler http.Handler }

func (t inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	pr, pw := io.Pipe()
	w := &memWriter{w: pw, header: http.Header{}, began: make(chan int, 1)}
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	go func() {
		defer cancel()
		defer stop()
		defer func() {
			if recover() != nil {
				pw.CloseWithError(io.ErrUnexpectedEOF)
			}
			w.WriteHeader(http.StatusOK)
			pw.Close()
		}()
		t.handler.ServeHTTP(w, r.WithContext(ctx))
	}()
	return &http.Response{StatusCode: <-w.began, Header: w.header, Body: memBody{pr, cancel}, Request: r}, nil
}

type memBody struct {
	*io.PipeReader
	cancel func()
}

func (b memBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

type memWriter struct {
	w      *io.PipeWriter
	header http.Header
	began  chan int
	once   sync.Once
}

func (w *memWriter) Header() http.Header { return w.header }
func (w *memWriter) WriteHeader(status int) {
	w.once.Do(func() { w.began <- status })
}
func (w *memWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.w.Write(b)
}
func (w *memWriter) Flush() { w.WriteHeader(http.StatusOK) }

// inMemoryClient asks a handler.
func inMemoryClient(h http.Handler) *client {
	return &client{http: &http.Client{Transport: inMemory{h}}, base: &url.URL{Scheme: "http", Host: "api"}, name: "here"}
}
