package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"picket/internal/kube"
)

// listHead is what matters of a list besides its items.
type listHead struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Continue        string `json:"continue"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

func (h *listHead) read(body []byte) error {
	if json.Unmarshal(body, h) != nil || !strings.HasSuffix(h.Kind, "List") {
		return errors.New("the server's answer is no list of objects in JSON")
	}
	return nil
}

// each hands the items of a list on, a page at a time, so that no more than a
// page is held in memory. Otherwise it is as walk.
func (c *client) each(ctx context.Context, path, resource string, restart func(), item func(raw []byte)) (served bool, version string, err error) {
	return c.walk(ctx, path, resource, restart, func(page []byte) {
		// A list is cut by a scanner that trusts its input, and walk has decoded
		// the head: the text is valid JSON.
		for _, raw := range kube.Items(page) {
			item(raw)
		}
	})
}

// walk hands the pages of a list on. If the list has to be begun again, because
// it changed too much meanwhile, it calls restart. It returns the list's
// resource version, and whether the server has the kind.
func (c *client) walk(ctx context.Context, path, resource string, restart func(), page func(body []byte)) (served bool, version string, err error) {
	token, restarts := "", 0
	for {
		q := url.Values{}
		if restarts <= maxRestarts { // the last resort is one page with everything
			q.Set("limit", fmt.Sprint(pageSize))
		}
		if token != "" {
			q.Set("continue", token)
		}
		body, status, err := c.get(ctx, path+"/"+resource, q)
		switch {
		case err != nil:
			return false, "", err
		case status == http.StatusNotFound && token == "":
			return false, "", nil
		case status == http.StatusGone && restarts <= maxRestarts:
			token = ""
			restarts++
			restart()
			continue
		case status == http.StatusForbidden:
			return false, "", forbidden(path, resource)
		case status != http.StatusOK:
			return false, "", statusError(status)
		}
		var head listHead
		if err := head.read(body); err != nil {
			return false, "", err
		}
		page(body)
		if head.Metadata.Continue == "" {
			return true, head.Metadata.ResourceVersion, nil
		}
		if head.Metadata.Continue == token {
			return false, "", errors.New("the server sends the same page again and again")
		}
		token = head.Metadata.Continue
	}
}

// head asks for the resource version of a list, and for no more of it than
// must be.
func (c *client) head(ctx context.Context, path, resource string) (served bool, version string, err error) {
	body, status, err := c.get(ctx, path+"/"+resource, url.Values{"limit": {"1"}})
	switch {
	case err != nil:
		return false, "", err
	case status != http.StatusOK:
		return false, "", statusError(status)
	}
	var head listHead
	if err := head.read(body); err != nil {
		return false, "", err
	}
	return true, head.Metadata.ResourceVersion, nil
}

// maxEvent bounds what a server can make us keep for one event, in bytes.
const maxEvent = 16 << 20

// bounded reads at most left bytes; left is set anew for each event.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("an event is too large")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// event is one line of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// watch applies the changes of a kind since a resource version, until the
// server closes the watch (no error) or it breaks. It returns the version of
// the last change that was applied.
func (w *Watcher) watch(ctx context.Context, k *kindState, version string) (last string, err error) {
	seconds := int((watchFor + rand.N(watchFor)).Seconds())
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+grace)
	defer cancel()
	body, err := w.c.open(ctx, k, url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"},
		"resourceVersion": {version}, "timeoutSeconds": {fmt.Sprint(seconds)},
	})
	if err != nil {
		return version, err
	}
	defer body.Close()
	w.connected(k)
	in := &bounded{r: body}
	dec := json.NewDecoder(in)
	for {
		in.left = maxEvent
		var e event
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return version, nil
		case err != nil:
			return version, fmt.Errorf("the watch on %s broke off: %w", k.name, bare(err))
		}
		next, err := w.apply(ctx, k, e)
		if err != nil {
			return version, err
		}
		if next != "" {
			version = next
		}
	}
}

// bare leaves out of an error the URL, and what the server sent.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	var se *json.SyntaxError
	if errors.As(err, &se) {
		return errors.New("the server's answer is no JSON")
	}
	return err
}

// open begins a watch.
func (c *client) open(ctx context.Context, k *kindState, q url.Values) (io.ReadCloser, error) {
	u := c.base.JoinPath(k.path, k.name)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the server's address is not valid")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", k.name, bare(err))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusGone, http.StatusBadRequest, http.StatusNotFound, http.StatusGatewayTimeout:
		// The version is of no use any more, or the kind is gone: a list tells.
		err = errGone
	case http.StatusForbidden:
		err = fmt.Errorf("watch %s: %w", k.name, forbiddenVerb("watch", k.path, k.name))
	default:
		err = fmt.Errorf("watch %s: %w", k.name, statusError(resp.StatusCode))
	}
	resp.Body.Close()
	return nil, err
}

// apply takes one event over. It returns the resource version that it stands
// for; "" if it has none.
func (w *Watcher) apply(ctx context.Context, k *kindState, e event) (version string, err error) {
	switch e.Type {
	case "BOOKMARK":
		var m struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
		}
		if json.Unmarshal(e.Object, &m) != nil {
			return "", errGone
		}
		return m.Metadata.ResourceVersion, nil
	case "ERROR":
		var s struct {
			Code int `json:"code"`
		}
		if json.Unmarshal(e.Object, &s) != nil || s.Code == http.StatusGone || s.Code == http.StatusGatewayTimeout {
			return "", errGone
		}
		return "", fmt.Errorf("watch %s: %w", k.name, statusError(s.Code))
	case "ADDED", "MODIFIED", "DELETED":
	default:
		return "", errGone // whatever it says, a list says it too
	}
	o := k.decoder.Decode(e.Object, w.at, k.kind, k.apiVersion)
	if !o.Known() {
		return "", errGone
	}
	key := objectKey{o.Namespace, o.Name}
	if e.Type == "DELETED" {
		if err := w.deleted(ctx, k, key); err != nil {
			return "", err
		}
		return o.ResourceVersion, nil
	}
	w.put(k, key, o)
	return o.ResourceVersion, nil
}

// put takes a new version of an object over.
func (w *Watcher) put(k *kindState, key objectKey, o *kube.Object) {
	better := w.better(k, key, o, k.bad)
	w.mu.Lock()
	old := k.objects[key]
	k.status.Events++
	differs := old == nil || better != old && !old.Same(better) || better != o
	if differs {
		k.objects[key] = better
	}
	w.mu.Unlock()
	if better != o {
		w.log.Warn("a new version of an object could not be understood; the one before stays in force",
			"kind", k.kind, "object", key.String(), "error", o.Broken)
	}
	if differs {
		w.notify()
	}
}

// deleted takes the end of an object over. When a kind's definition is deleted
// the server deletes all its objects first, one by one: that is no decision
// about any of them, and they stay.
func (w *Watcher) deleted(ctx context.Context, k *kindState, key objectKey) error {
	if k.crd != "" {
		there, err := w.defined(ctx, k)
		if err != nil {
			return err // the event comes again
		}
		if !there {
			return errGone // the list will say that the kind is gone
		}
	}
	w.mu.Lock()
	_, had := k.objects[key]
	delete(k.objects, key)
	delete(k.bad, key)
	k.status.Events++
	w.mu.Unlock()
	if had {
		w.notify()
	}
	return nil
}
