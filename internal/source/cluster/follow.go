package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"picket/internal/kube"
)

// Waits between attempts.
const (
	firstWait = 200 * time.Millisecond
	lastWait  = 30 * time.Second
	// watchFor is how long the server is asked to keep a watch open, at least;
	// at most twice that.
	watchFor = 5 * time.Minute
	// grace is how much longer we wait for the server to close it.
	grace = 30 * time.Second
	// stale is how many times in a row a watch may fail before the kind is
	// listed again.
	stale = 5
)

// backoff gives the waits after failures: doubling, with jitter, bounded.
type backoff struct{ failures int }

func (b *backoff) next() time.Duration {
	d := firstWait << min(b.failures, 10)
	b.failures++
	d = min(d, lastWait)
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// errGone says that the changes since a resource version are no longer known.
var errGone = errors.New("the server no longer knows the changes since the last one seen")

// follow lists and watches one kind until ctx ends.
func (w *Watcher) follow(ctx context.Context, k *kindState) {
	var wait backoff
	version := ""
	for ctx.Err() == nil {
		if version == "" {
			v, err := w.relist(ctx, k)
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, errNotServed):
				wait = backoff{}
				sleep(ctx, w.poll/2+rand.N(w.poll/2+1))
				continue
			case err != nil:
				w.failed(k, err)
				sleep(ctx, wait.next())
				continue
			}
			version = v
		}
		began := time.Now()
		last, err := w.watch(ctx, k, version)
		lived := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		if last != version || lived > lastWait {
			wait = backoff{}
		}
		version = last
		switch {
		case errors.Is(err, errGone):
			version = ""
			if lived < firstWait { // a server that says so at once must not make us spin
				sleep(ctx, wait.next())
			}
		case err != nil:
			w.failed(k, err)
			if wait.failures >= stale {
				version = ""
			}
			sleep(ctx, wait.next())
			if version != "" && w.wentBack(ctx, k, version) {
				version = ""
			}
		case lived < time.Second:
			sleep(ctx, wait.next())
		}
	}
}

// failed records why a kind is not being followed right now, and logs it once.
func (w *Watcher) failed(k *kindState, err error) {
	w.mu.Lock()
	first := k.status.Error != err.Error()
	k.status.Failures++
	if k.status.Connected {
		k.status.Since = time.Now()
	}
	k.status.Connected, k.status.Error = false, err.Error()
	w.mu.Unlock()
	if first {
		w.log.Warn("cannot follow a kind; what is known of it stays in force", "kind", k.kind, "error", err)
	}
}

// connected records that a watch is open.
func (w *Watcher) connected(k *kindState) {
	w.mu.Lock()
	again := k.status.Error != "" && k.status.Failures > 0
	if !k.status.Connected {
		k.status.Since = time.Now()
	}
	k.status.Connected, k.status.Error = true, ""
	w.mu.Unlock()
	if again {
		w.log.Info("following a kind again", "kind", k.kind)
	}
}

// notify tells that a snapshot would differ. The mutex must not be held.
func (w *Watcher) notify() {
	w.mu.Lock()
	ready, changed := w.synced(), w.changed
	w.mu.Unlock()
	if ready && changed != nil {
		changed()
	}
}

// errNotServed says that the server does not have a kind.
var errNotServed = errors.New("the server does not have this kind")

// relist reads the whole kind and replaces what is known of it.
func (w *Watcher) relist(ctx context.Context, k *kindState) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	next := map[objectKey]*kube.Object{}
	bad := map[objectKey]string{}
	lost := ""
	c := *w.c
	c.left = maxTotal
	served, version, err := c.each(ctx, k.path, k.name, func() {
		clear(next)
		clear(bad)
		lost = ""
	}, func(raw []byte) {
		o := k.decoder.Decode(raw, w.at, k.kind, k.apiVersion)
		if !o.Known() {
			lost = "one of the " + k.name + " has no name that could be read"
			return
		}
		key := objectKey{o.Namespace, o.Name}
		next[key] = w.better(k, key, o, bad)
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("list %s: %w", k.name, err)
	case !served && k.crd == "":
		return "", fmt.Errorf("list %s: the server does not have them", k.name)
	case !served:
		return "", w.notServed(ctx, k)
	case k.crd != "" && w.misses(k, next):
		// While a definition is being deleted its objects go before the kind.
		there, err := w.defined(ctx, k)
		if err != nil {
			return "", err
		}
		if !there {
			return "", w.withdraw(k)
		}
	}
	w.mu.Lock()
	k.status.Lists++
	differs := !k.status.Synced || k.status.Withdrawn || lost != k.lost || len(bad) != len(k.bad) || len(next) != len(k.objects)
	for key, o := range next {
		if old, ok := k.objects[key]; ok && old.Same(o) {
			next[key] = old
		} else {
			differs = true
		}
	}
	k.objects, k.bad, k.lost = next, bad, lost
	back := k.status.Withdrawn
	k.status.Synced, k.status.Served, k.status.Withdrawn = true, true, false
	w.mu.Unlock()
	if back {
		w.log.Info("the server has a kind again: its list replaces what was kept", "kind", k.kind, "objects", len(next))
	}
	if differs {
		w.notify()
	}
	return version, nil
}

// better decides between a new version of an object and the one known. A good
// one is not given up for one that can't be understood; why is noted in bad.
func (w *Watcher) better(k *kindState, key objectKey, o *kube.Object, bad map[objectKey]string) *kube.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := k.objects[key]
	if o.Broken == "" || old == nil || old.Broken != "" {
		delete(bad, key)
		return o
	}
	bad[key] = o.Broken
	return old
}

// wentBack reports whether the server's state is older than a version that it
// has sent: it was restored from a backup, and a watch from that version would
// be silent until it is reached again.
func (w *Watcher) wentBack(ctx context.Context, k *kindState, version string) bool {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	c := *w.c
	c.left = maxPage
	_, now, err := c.head(ctx, k.path, k.name)
	return err == nil && now != "" && older(now, version)
}

// older compares resource versions, which are numbers.
func older(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return strings.Compare(a, b) < 0
}
