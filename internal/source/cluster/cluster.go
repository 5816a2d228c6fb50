// Package cluster reads Kubernetes objects from a live API server, by listing
// them once, and hands them to a kube.Builder.
//
// It asks for JSON page by page and decodes nothing itself, so that a kind that
// Picket does not know costs no code. What the server sends beyond objects,
// such as continue tokens and the bodies of its errors, never reaches a message.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"picket/internal/diag"
	"picket/internal/kube"
)

// Options say which cluster to read. The zero value is what kubectl would use.
type Options struct {
	Kubeconfig string // file; "" for $KUBECONFIG and the usual places
	Context    string // "" for the current one
}

const (
	pageSize = 500
	// maxPage and maxTotal bound what a server can make us keep, in bytes.
	maxPage  = 256 << 20
	maxTotal = 2 << 30
	// maxRestarts bounds how often a list is begun again because its
	// continue token has expired.
	maxRestarts = 3
)

// kinds lists what is read, by group and version. Groups that only some
// clusters serve are passed over where they are missing.
var kinds = []struct {
	path      string // below the server's root
	resources []string
}{
	{"api/v1", []string{"namespaces", "nodes", "pods", "replicationcontrollers", "services", "endpoints"}},
	{"apis/apps/v1", []string{"deployments", "statefulsets", "daemonsets", "replicasets"}},
	{"apis/batch/v1", []string{"jobs", "cronjobs"}},
	{"apis/discovery.k8s.io/v1", []string{"endpointslices"}},
	{"apis/networking.k8s.io/v1", []string{"networkpolicies", "ingresses"}},
	{"apis/admissionregistration.k8s.io/v1", []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}},
	{"apis/monitoring.coreos.com/v1", []string{"servicemonitors", "podmonitors"}},
}

// policyGroups are the API groups whose kinds are asked of the server, since
// any of them may be a policy. The second of each row is read only if the first
// is not served: both show the same objects.
var policyGroups = [][]string{
	{"policy.networking.k8s.io"},
	{"projectcalico.org", "crd.projectcalico.org"},
	{"cilium.io"},
	{"k8s.cni.cncf.io"},
	{"crd.antrea.io"},
}

// ours is the version that is read of a group, where others may be preferred.
var ours = map[string]string{"policy.networking.k8s.io": "v1alpha2"}

// List adds every object of the cluster that bears on policy to b. An error
// means that the answer would be incomplete: the server can't be reached, or it
// forbids to list a kind.
func List(ctx context.Context, b *kube.Builder, o Options) error {
	cfg, name, err := o.config()
	if err != nil {
		return err
	}
	return list(ctx, b, cfg, name)
}

// config returns how to reach the cluster, and the context's name.
func (o Options) config() (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	load := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: o.Context})
	cfg, err := load.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	name := o.Context
	if raw, err := load.RawConfig(); err == nil && name == "" {
		name = raw.CurrentContext
	}
	return cfg, name, nil
}

// client asks one server.
type client struct {
	http *http.Client
	base *url.URL
	name string // of the context, for positions
	left int64  // bytes that may still be read
}

func list(ctx context.Context, b *kube.Builder, cfg *rest.Config, name string) error {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = "picket"
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	if name == "" {
		name = "cluster"
	}
	c := &client{http: hc, base: base, name: name, left: maxTotal}
	for _, k := range kinds {
		for _, r := range k.resources {
			if _, err := c.list(ctx, b, k.path, r); err != nil {
				return err
			}
		}
	}
	for _, row := range policyGroups {
		for _, group := range row {
			served, err := c.policies(ctx, b, group)
			if err != nil {
				return err
			}
			if served {
				break
			}
		}
	}
	return nil
}

// policies lists the policies of a group. It reports whether the group has any
// kind of policy.
func (c *client) policies(ctx context.Context, b *kube.Builder, group string) (bool, error) {
	var g struct {
		Versions []struct {
			Version string `json:"version"`
		} `json:"versions"`
	}
	if ok, err := c.discover(ctx, "apis/"+group, &g); !ok || err != nil {
		return false, err
	}
	var versions []string
	for _, v := range g.Versions {
		if v.Version == ours[group] {
			versions = append([]string{v.Version}, versions...)
		} else {
			versions = append(versions, v.Version)
		}
	}
	seen := map[string]bool{} // kinds; the same objects are in every version
	for _, v := range versions {
		var rs struct {
			Resources []struct {
				Name  string   `json:"name"`
				Kind  string   `json:"kind"`
				Verbs []string `json:"verbs"`
			} `json:"resources"`
		}
		path := "apis/" + group + "/" + v
		if ok, err := c.discover(ctx, path, &rs); err != nil {
			return false, err
		} else if !ok {
			continue
		}
		for _, r := range rs.Resources {
			if seen[r.Kind] || strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || !kube.IsPolicyKind(group, r.Kind) {
				continue
			}
			seen[r.Kind] = true
			if _, err := c.list(ctx, b, path, r.Name); err != nil {
				return false, err
			}
		}
	}
	return len(seen) > 0, nil
}

// discover reads a discovery document. It reports whether the server has it.
func (c *client) discover(ctx context.Context, path string, v any) (bool, error) {
	body, status, err := c.get(ctx, path, nil)
	switch {
	case err != nil:
		return false, fmt.Errorf("cannot ask the server for %s: %w", path, err)
	case status == http.StatusNotFound:
		return false, nil
	case status != http.StatusOK:
		return false, fmt.Errorf("cannot ask the server for %s: %w", path, statusError(status))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, fmt.Errorf("cannot ask the server for %s: its answer is no JSON", path)
	}
	return true, nil
}

// list adds all objects of a resource. It reports whether the server has it.
func (c *client) list(ctx context.Context, b *kube.Builder, path, resource string) (bool, error) {
	var pages [][]byte
	served, _, err := c.walk(ctx, path, resource, func() { pages = nil }, func(page []byte) { pages = append(pages, page) })
	if err != nil {
		return false, fmt.Errorf("cannot list %s: %w", resource, err)
	}
	for _, p := range pages {
		b.Add(p, source{c.name})
	}
	return served, nil
}

// get asks for a path below the server's root.
func (c *client) get(ctx context.Context, path string, q url.Values) ([]byte, int, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, errors.New("the server's address is not valid")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the URL, and that a token
			err = ue.Err
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	limit := min(maxPage, c.left)
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, 0, fmt.Errorf("the answer broke off: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, 0, errors.New("the answer is too large")
	}
	c.left -= int64(len(body))
	return body, resp.StatusCode, nil
}

// forbidden says which right is missing.
func forbidden(path, resource string) error { return forbiddenVerb("list", path, resource) }

func forbiddenVerb(verb, path, resource string) error {
	group := ""
	if g, ok := strings.CutPrefix(path, "apis/"); ok {
		group, _, _ = strings.Cut(g, "/")
	}
	return fmt.Errorf("forbidden: the account needs the verb %q on resource %q in API group %q, for the whole cluster",
		verb, resource, group)
}

// statusError says what an HTTP status means, in our words: the server's may
// hold what should not be shown.
func statusError(status int) error {
	if status == http.StatusUnauthorized {
		return errors.New("unauthorized: the server does not accept the credentials of the kubeconfig")
	}
	return fmt.Errorf("the server answers %d %s", status, http.StatusText(status))
}

// source is the place of everything in a cluster.
type source struct{ context string }

// Position implements kube.Source: objects in a cluster have no lines.
func (s source) Position(string) diag.Position { return diag.Position{File: s.context} }
