package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"picket/internal/kube"
	"picket/internal/model"
)

// followed is a Watcher that runs.
type followed struct {
	*Watcher
	changes atomic.Int64
}

// follow runs a Watcher on s until the test ends, in a bubble.
func follow(t *testing.T, s http.Handler) *followed {
	t.Helper()
	f := &followed{Watcher: newWatcher(WatchOptions{}, inMemoryClient(s))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx, func() { f.changes.Add(1) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return f
}

// took lets the time pass and returns how many changes were told meanwhile.
func (f *followed) took(d time.Duration) int {
	before := f.changes.Load()
	time.Sleep(d)
	synctest.Wait()
	return int(f.changes.Load() - before)
}

func (f *followed) pods() []string { return endpoints(f.Snapshot()) }

// policies lists the policies that the watcher knows; "!" marks broken ones.
func (f *followed) policies() []string {
	var out []string
	for _, tier := range f.Snapshot().Snapshot.Tiers {
		for i := range tier.Policies {
			p := &tier.Policies[i]
			mark := ""
			if p.Broken != "" {
				mark = "!"
			}
			out = append(out, mark+p.String())
		}
	}
	return out
}

func (f *followed) kind(name string) KindStatus {
	for _, k := range f.Status() {
		if k.Kind == name {
			return k
		}
	}
	return KindStatus{}
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

const (
	running = `;,"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":"10.1.0.%d"}`
	denyAll = `,"spec":{"podSelector":{},"policyTypes":["Ingress"]}`
	garbage = `,"spec":{"podSelector":{"matchLabels":"what?"}}`
	adminOK = `,"spec":{"tier":"Admin","priority":5,"subject":{"namespaces":{}},"ingress":[{"action":"Deny","from":[{"namespaces":{}}]}]}`
)

func pod(i int, labels string) string { return labels + fmt.Sprintf(running, i) }

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(nsPath, "shop", "")
		for i := range 5 { // three pages
			s.put(podsPath, fmt.Sprintf("shop/p%d", i), pod(i, `{"app":"a"}`))
		}
		f := follow(t, s)
		want(t, "pods", f.pods(), []string{"shop/p0", "shop/p1", "shop/p2", "shop/p3", "shop/p4"})
		if n := f.changes.Load(); n == 0 {
			t.Error("nothing was told when all was listed")
		}
		s.put(podsPath, "shop/p9", pod(9, `{"app":"b"}`))
		s.remove(podsPath, "shop/p0")
		if n := f.took(time.Millisecond); n != 2 {
			t.Errorf("%d changes told, want 2", n)
		}
		want(t, "pods", f.pods(), []string{"shop/p1", "shop/p2", "shop/p3", "shop/p4", "shop/p9"})
		s.put(podsPath, "shop/p9", pod(9, `{"app":"c"}`))
		f.took(time.Millisecond)
		e := f.Snapshot().Snapshot.Endpoints[4]
		want(t, "labels", e.Labels, map[string]string{"app": "c"})
		want(t, "lists of pods", s.count(podsPath), 3)
	})
}

// TestNothingNew holds that what has no bearing on policy wakes nobody.
func TestNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(podsPath, "shop/p1", pod(1, `{}`))
		f := follow(t, s)
		s.put(podsPath, "shop/p1", `{};,"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":"10.1.0.1","message":"fine"}`)
		if n := f.took(time.Second); n != 0 {
			t.Errorf("%d changes told, want none", n)
		}
		if got := f.kind("Pod").Events; got != 1 {
			t.Errorf("%d events, want 1", got)
		}
	})
}

// TestNotBeforeAll holds that nothing is told, and no verdict possible, before
// every kind has been listed.
func TestNotBeforeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.status[npPath] = http.StatusServiceUnavailable
		s.put(podsPath, "shop/p1", pod(1, `{}`))
		f := follow(t, s)
		s.put(podsPath, "shop/p2", pod(2, `{}`))
		if n := f.took(5 * time.Minute); n != 0 || f.Synced() {
			t.Errorf("%d changes told, synced %t", n, f.Synced())
		}
		if r := f.Snapshot(); !strings.Contains(r.Unusable, "networkpolicies have not been listed yet") {
			t.Errorf("unusable: %q", r.Unusable)
		}
		if n := s.count(npPath); n < 10 || n > 40 { // 200 ms, doubling up to 30 s
			t.Errorf("asked %d times in five minutes", n)
		}
		want(t, "error", f.kind("NetworkPolicy").Error, "list networkpolicies: the server answers 503 Service Unavailable")
		s.change(func() { delete(s.status, npPath) })
		if n := f.took(lastWait); n != 1 || !f.Synced() {
			t.Errorf("%d changes told, synced %t", n, f.Synced())
		}
		want(t, "unusable", f.Snapshot().Unusable, "")
	})
}

// TestServerAway holds that what is known stays while nothing can be asked, and
// that what happened meanwhile is taken over afterwards.
func TestServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(podsPath, "shop/p1", pod(1, `{}`))
		s.put(npPath, "shop/deny", denyAll)
		f := follow(t, s)
		paths := []string{podsPath, "api/v1/nodes", nsPath, npPath}
		s.change(func() {
			for _, p := range paths {
				s.status[p], s.status["watch "+p] = http.StatusBadGateway, http.StatusBadGateway
			}
			s.epoch++
		})
		f.took(time.Hour)
		want(t, "pods", f.pods(), []string{"shop/p1"})
		want(t, "policies", f.policies(), []string{"shop/deny"})
		if k := f.kind("Pod"); k.Connected || k.Error == "" || !k.Synced {
			t.Errorf("status %+v", k)
		}
		s.put(podsPath, "shop/p2", pod(2, `{}`))
		s.remove(npPath, "shop/deny")
		s.change(func() { clear(s.status) })
		f.took(lastWait)
		want(t, "pods", f.pods(), []string{"shop/p1", "shop/p2"})
		want(t, "policies", f.policies(), nil)
		if k := f.kind("Pod"); !k.Connected || k.Error != "" {
			t.Errorf("status %+v", k)
		}
	})
}

// TestCutMidEvent holds that a watch that breaks anywhere in an event goes on
// where it was, without a list.
func TestCutMidEvent(t *testing.T) {
	for _, at := range []int{1, 20, 60, 120} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeAPI()
			f := follow(t, s)
			s.mu.Lock()
			s.cutAt = at
			s.mu.Unlock()
			s.put(podsPath, "shop/p1", pod(1, `{}`))
			f.took(lastWait)
			want(t, "pods", f.pods(), []string{"shop/p1"})
			want(t, "lists", f.kind("Pod").Lists, 1)
		})
	}
}

// TestGoneVersion holds that a watch from a version that the server forgot
// begins again with a list.
func TestGoneVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(podsPath, "shop/p1", pod(1, `{}`))
		s.put(podsPath, "shop/p2", pod(2, `{}`))
		f := follow(t, s)
		s.change(func() { // a change whose event is never seen
			delete(s.objects[podsPath], "shop/p1")
			s.version += 10
			s.oldest = s.version
			s.epoch++
		})
		f.took(lastWait)
		want(t, "pods", f.pods(), []string{"shop/p2"})
		want(t, "lists", f.kind("Pod").Lists, 2)
		s.put(podsPath, "shop/p3", pod(3, `{}`))
		f.took(time.Second)
		want(t, "pods", f.pods(), []string{"shop/p2", "shop/p3"})
	})
}

// TestGoneForever holds that a server that always says 410 is not asked
// without end.
func TestGoneForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.oldest = 1 << 30
		f := follow(t, s)
		f.took(10 * time.Minute)
		if n := s.count(podsPath); n > 60 {
			t.Errorf("listed %d times in ten minutes", n)
		}
	})
}

// TestRestoredFromBackup holds that a server whose state went back is listed
// again: a watch from the old version would be silent.
func TestRestoredFromBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(podsPath, "shop/p1", pod(1, `{}`))
		s.put(podsPath, "shop/p2", pod(2, `{}`))
		f := follow(t, s)
		s.change(func() {
			delete(s.objects[podsPath], "shop/p2")
			s.version, s.past[podsPath] = 50, nil
			s.epoch++
		})
		f.took(lastWait)
		want(t, "pods", f.pods(), []string{"shop/p1"})
	})
}

func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		f := follow(t, s)
		s.put(npPath, "shop/deny", denyAll)
		s.mu.Lock()
		at := s.version + 1
		s.mu.Unlock()
		s.send(podsPath, "BOOKMARK", fmt.Sprintf(`{"metadata":{"resourceVersion":"%d"}}`, at))
		f.took(time.Second)
		s.change(func() { s.oldest = at; s.epoch++ }) // what is older is forgotten
		f.took(lastWait)
		want(t, "lists of pods", f.kind("Pod").Lists, 1)
	})
}

// TestGarbage holds that an object that can't be understood keeps its last good
// form, is broken if it never had one, and that events that can't be told from
// others lead to a list.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(npPath, "shop/old", denyAll)
		f := follow(t, s)
		s.put(npPath, "shop/old", garbage)
		s.put(npPath, "shop/new", garbage)
		f.took(time.Second)
		want(t, "policies", f.policies(), []string{"!shop/new", "shop/old"})
		want(t, "broken", f.kind("NetworkPolicy").Broken, 2)
		r := f.Snapshot()
		want(t, "unusable", r.Unusable, "")
		if !strings.Contains(fmt.Sprint(r.Diagnostics), "its last version could not be understood, the one before stays in force") {
			t.Errorf("diagnostics: %v", r.Diagnostics)
		}
		s.cut() // and a list says the same
		s.change(func() { s.oldest = s.version + 1; s.version += 2 })
		f.took(lastWait)
		want(t, "policies", f.policies(), []string{"!shop/new", "shop/old"})

		s.put(npPath, "shop/old", denyAll)
		s.put(npPath, "shop/new", denyAll)
		f.took(time.Second)
		want(t, "policies", f.policies(), []string{"shop/new", "shop/old"})
		want(t, "broken", f.kind("NetworkPolicy").Broken, 0)
		want(t, "diagnostics", len(f.Snapshot().Diagnostics), 0)

		lists := f.kind("NetworkPolicy").Lists
		for _, e := range [][2]string{
			{"MODIFIED", `{"metadata":{"name":7}}`}, {"MODIFIED", `[]`},
			{"MODIFIED", `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"old","namespace":"shop"}}`},
			{"MODIFIED", `{"kind":"List","apiVersion":"v1","items":[{"metadata":{"name":"old","namespace":"shop"}}],"metadata":{"name":"x"}}`},
			{"SURPRISE", `{}`}, {"ERROR", `"no"`}, {"BOOKMARK", `3`},
		} {
			s.send(npPath, e[0], e[1])
			f.took(lastWait)
			lists++
			want(t, "lists after "+e[0]+" "+e[1], f.kind("NetworkPolicy").Lists, lists)
			want(t, "policies", f.policies(), []string{"shop/new", "shop/old"})
		}
	})
}

// TestNameless holds that nothing is concluded while a list holds a policy that
// can't be told from others.
func TestNameless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		f := follow(t, s)
		s.change(func() {
			s.objects[npPath] = map[string]string{"x": `{"metadata":{"name":{}}}`}
			s.oldest, s.version = s.version+1, s.version+1
			s.epoch++
		})
		f.took(lastWait)
		if r := f.Snapshot(); !strings.Contains(r.Unusable, "has no name that could be read") {
			t.Errorf("unusable: %q", r.Unusable)
		}
	})
}

// TestDefinitionComes holds that ClusterNetworkPolicy is followed as soon as it
// is there.
func TestDefinitionComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		f := follow(t, s)
		if !f.Synced() || f.kind("ClusterNetworkPolicy").Served {
			t.Fatal("a cluster without the kind is not in sync")
		}
		s.change(func() { s.served, s.defined = true, "yes" })
		s.put(cnpPath, "deny", adminOK)
		if n := f.took(30 * time.Second); n == 0 {
			t.Error("nothing told")
		}
		want(t, "policies", f.policies(), []string{"deny"})
	})
}

// TestDefinitionNotServed holds that a cluster whose definition is there but
// not served, as just after a restart, is not one without policies.
func TestDefinitionNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.defined = "yes"
		f := follow(t, s)
		f.took(time.Minute)
		if f.Synced() || f.changes.Load() != 0 {
			t.Error("in sync")
		}
	})
}

// TestDefinitionGoes holds that the policies stay in force when their kind is
// deleted, and that its return makes the server's list count again.
func TestDefinitionGoes(t *testing.T) {
	for _, mayRead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeAPI()
			s.served, s.defined = true, "yes"
			s.put(cnpPath, "deny", adminOK)
			s.put(cnpPath, "other", adminOK)
			f := follow(t, s)
			if !mayRead { // the definition: discovery has to do
				s.change(func() { s.status[crdPath] = http.StatusForbidden })
				s.objects["apis/policy.networking.k8s.io/v1alpha2"] = nil
			}
			// The server deletes the objects first, then the kind.
			s.change(func() { s.defined = "deleting" })
			s.remove(cnpPath, "deny")
			f.took(10 * time.Second)
			want(t, "policies", f.policies(), []string{"deny", "other"})
			s.remove(cnpPath, "other")
			s.change(func() { s.served, s.defined = false, ""; s.epoch++ })
			f.took(time.Hour)
			want(t, "policies", f.policies(), []string{"deny", "other"})
			k := f.kind("ClusterNetworkPolicy")
			if !k.Withdrawn || !k.Synced {
				t.Errorf("status %+v", k)
			}
			s.change(func() { s.served, s.defined = true, "yes"; delete(s.status, crdPath) })
			s.put(cnpPath, "fresh", adminOK)
			f.took(time.Minute)
			want(t, "policies", f.policies(), []string{"fresh"})
			if k := f.kind("ClusterNetworkPolicy"); k.Withdrawn {
				t.Errorf("status %+v", k)
			}
		})
	}
}

// TestClusterPolicyDeleted holds that a ClusterNetworkPolicy that somebody
// deletes is gone at once.
func TestClusterPolicyDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.served, s.defined = true, "yes"
		s.put(cnpPath, "deny", adminOK)
		f := follow(t, s)
		want(t, "policies", f.policies(), []string{"deny"})
		s.remove(cnpPath, "deny")
		f.took(time.Millisecond)
		want(t, "policies", f.policies(), nil)
	})
}

// TestForbidden holds that the missing right is named.
func TestForbiddenWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.status["watch "+podsPath] = http.StatusForbidden
		f := follow(t, s)
		f.took(time.Second)
		want(t, "error", f.kind("Pod").Error,
			`watch pods: forbidden: the account needs the verb "watch" on resource "pods" in API group "", for the whole cluster`)
	})
}

// TestSharedAddress holds who has an address that two pods claim.
func TestSharedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeAPI()
		s.put(podsPath, "shop/old", pod(1, `{}`))
		s.put(podsPath, "shop/new", pod(1, `{}`))
		f := follow(t, s)
		addrs := func() map[string]int {
			out := map[string]int{}
			for _, e := range f.Snapshot().Snapshot.Endpoints {
				out[e.Name] = len(e.Addrs)
			}
			return out
		}
		want(t, "both alive", addrs(), map[string]int{"old": 0, "new": 0})
		if d := f.Snapshot().Diagnostics; len(d) != 1 || !strings.Contains(d[0].Message, "10.1.0.1") {
			t.Errorf("diagnostics: %v", d)
		}
		s.put(podsPath, "shop/old", `{},"deletionTimestamp":"2026-01-01T00:00:00Z"`+fmt.Sprintf(running, 1))
		f.took(time.Second)
		want(t, "one is leaving", addrs(), map[string]int{"old": 0, "new": 1})
		s.put(podsPath, "shop/new", `{};,"spec":{"nodeName":"n1"},"status":{"phase":"Succeeded","podIP":"10.1.0.1"}`)
		f.took(time.Second)
		want(t, "the other has completed", addrs(), map[string]int{"old": 1})
	})
}

// TestAsList holds that a Watcher and List make the same of a cluster.
func TestAsList(t *testing.T) {
	s := newFakeAPI()
	s.served, s.defined = true, "yes"
	s.put(nsPath, "shop", `{"team":"a"};`)
	s.put("api/v1/nodes", "n1", `{"zone":"z"};,"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd00::/64"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}`)
	s.put(podsPath, "shop/a", `{"app":"a"};,"spec":{"nodeName":"n1","containers":[{"name":"c","ports":[{"name":"web","containerPort":80}]}]},"status":{"podIP":"10.1.0.1"}`)
	s.put(podsPath, "shop/b", `{"app":"a"};,"spec":{"nodeName":"n1"},"status":{"podIP":"10.1.0.2"}`)
	s.put(npPath, "shop/deny", denyAll)
	s.put(npPath, "shop/odd", `,"spec":{"podSelector":{},"ingress":[]}`)
	s.put(cnpPath, "admin", adminOK)
	b := kube.NewBuilder(kube.Options{})
	c := inMemoryClient(s)
	c.left = maxTotal
	for _, r := range watched {
		if _, _, err := c.each(t.Context(), r.path, r.name, nil, func(raw []byte) {
			b.AddItem(raw, source{"here"}, r.kind+"List", r.apiVersion)
		}); err != nil {
			t.Fatal(err)
		}
	}
	listed := b.Build()
	synctest.Test(t, func(t *testing.T) {
		s.change(func() {}) // its channel must be the bubble's
		f := follow(t, s)
		got := f.Snapshot()
		want(t, "snapshot", fmt.Sprintf("%+v", got.Snapshot), fmt.Sprintf("%+v", listed.Snapshot))
		want(t, "diagnostics", got.Diagnostics, listed.Diagnostics)
		if n := len(got.Snapshot.Nodes[0].PodCIDRs); n != 2 {
			t.Errorf("%d pod ranges", n)
		}
	})
}

// TestOverTheNetwork follows a server over real connections that break.
func TestOverTheNetwork(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := newFakeAPI()
	s.put(podsPath, "shop/p1", pod(1, `{}`))
	srv := httptest.NewServer(s)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWatcher(WatchOptions{}, &client{http: &http.Client{Transport: &http.Transport{}}, base: base, name: "here"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	until := func(ok func(*model.Snapshot) bool) {
		t.Helper()
		for {
			if r := w.Snapshot(); r.Unusable == "" && ok(r.Snapshot) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("it never came: %+v", w.Status())
			}
		}
	}
	until(func(s *model.Snapshot) bool { return len(s.Endpoints) == 1 })
	srv.CloseClientConnections()
	s.put(podsPath, "shop/p2", pod(2, `{}`))
	until(func(s *model.Snapshot) bool { return len(s.Endpoints) == 2 })
	s.mu.Lock()
	s.cutAt = 30
	s.mu.Unlock()
	s.put(podsPath, "shop/p3", pod(3, `{}`))
	until(func(s *model.Snapshot) bool { return len(s.Endpoints) == 3 })
	cancel()
	<-done
	srv.Close()
}
