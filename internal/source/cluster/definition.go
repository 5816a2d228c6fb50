package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"picket/internal/kube"
)

// notServed handles a kind that the server does not have. Where it was there
// before, what is known of it stays.
func (w *Watcher) notServed(ctx context.Context, k *kindState) error {
	there, err := w.defined(ctx, k)
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("list %s: their definition is there, but the server does not serve them as %s (yet)", k.name, k.apiVersion)
	}
	return w.withdraw(k)
}

// misses reports whether an object that is known is not in a new list.
func (w *Watcher) misses(k *kindState, next map[objectKey]*kube.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range k.objects {
		if next[key] == nil {
			return true
		}
	}
	return false
}

// withdraw records that the server has no such kind, and keeps what is known.
func (w *Watcher) withdraw(k *kindState) error {
	w.mu.Lock()
	first := !k.status.Synced
	gone := k.status.Served && !k.status.Withdrawn
	k.status.Synced = true
	k.status.Withdrawn = k.status.Withdrawn || k.status.Served
	k.status.Connected, k.status.Error = false, errNotServed.Error()
	kept := len(k.objects)
	w.mu.Unlock()
	if gone && kept > 0 {
		w.log.Warn("the server no longer has a kind; the objects known last stay in force until it is back or this program is started again",
			"kind", k.kind, "objects", kept)
	}
	if first {
		w.notify()
	}
	return errNotServed
}

// defined reports whether the server holds the definition of a kind, and means
// to keep it.
func (w *Watcher) defined(ctx context.Context, k *kindState) (bool, error) {
	c := *w.c
	c.left = maxPage
	body, status, err := c.get(ctx, "apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+k.crd, nil)
	switch {
	case err != nil:
		return false, fmt.Errorf("read the definition of %s: %w", k.name, err)
	case status == http.StatusNotFound:
		return false, nil
	case status == http.StatusForbidden:
		return w.discovered(ctx, k)
	case status != http.StatusOK:
		return false, fmt.Errorf("read the definition of %s: %w", k.name, statusError(status))
	}
	var doc struct {
		Metadata struct {
			DeletionTimestamp any `json:"deletionTimestamp"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return false, fmt.Errorf("read the definition of %s: the server's answer is no JSON", k.name)
	}
	return doc.Metadata.DeletionTimestamp == nil, nil
}

// discovered is defined for an account that may not read definitions: a kind
// that can't be created is on its way out.
func (w *Watcher) discovered(ctx context.Context, k *kindState) (bool, error) {
	var rs struct {
		Resources []struct {
			Name  string   `json:"name"`
			Verbs []string `json:"verbs"`
		} `json:"resources"`
	}
	c := *w.c
	c.left = maxPage
	ok, err := c.discover(ctx, k.path, &rs)
	if err != nil || !ok {
		return false, err
	}
	for _, r := range rs.Resources {
		if r.Name == k.name {
			return slices.Contains(r.Verbs, "create"), nil
		}
	}
	return false, nil
}
