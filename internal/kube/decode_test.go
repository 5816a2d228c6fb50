package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/diag"
	"picket/internal/model"
)

// fixed is a Source that is one place.
type fixed string

func (f fixed) Position(string) diag.Position { return diag.Position{File: string(f)} }

// decodable are objects of every kind that a running cluster is followed by,
// good ones and bad ones.
var decodable = []struct{ kind, version, raw string }{
	{"Namespace", "v1", `{"metadata":{"name":"shop","labels":{"team":"a"}}}`},
	{"Namespace", "v1", `{"metadata":{"name":"odd","labels":{"team":7}}}`},
	{"Node", "v1", `{"metadata":{"name":"n1"},"spec":{"podCIDRs":["10.1.0.0/24","fd00::/64"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}`},
	{"Pod", "v1", `{"metadata":{"name":"a","namespace":"shop","labels":{"app":"a","pod-template-hash":"h"},"ownerReferences":[{"kind":"ReplicaSet","name":"web-h","controller":true}]},"spec":{"nodeName":"n1","containers":[{"ports":[{"name":"web","containerPort":80}]}]},"status":{"podIP":"10.1.0.1"}}`},
	{"Pod", "v1", `{"metadata":{"name":"b","namespace":"shop","labels":{"app":"a","pod-template-hash":"h"}},"spec":{"nodeName":"n1","hostNetwork":true},"status":{"hostIP":"192.0.2.1"}}`},
	{"Pod", "v1", `{"metadata":{"name":"c","namespace":"shop","labels":{"-":""}},"spec":{"containers":[{"ports":[{"containerPort":0}]}]}}`},
	{"Service", "v1", `{"metadata":{"name":"web","namespace":"shop"},"spec":{"selector":{"app":"a"},"ports":[{"port":80}]}}`},
	{"Service", "v1", `{"metadata":{"name":"kubernetes","namespace":"default"},"spec":{"ports":[{"port":443}]}}`},
	{"EndpointSlice", "discovery.k8s.io/v1", `{"metadata":{"name":"x","namespace":"default","labels":{"kubernetes.io/service-name":"kubernetes"}},"endpoints":[{"addresses":["192.0.2.7"]}],"ports":[{"port":6443}]}`},
	{"EndpointSlice", "discovery.k8s.io/v1", `{"metadata":{"name":"nobody","namespace":"default"}}`},
	{"NetworkPolicy", "networking.k8s.io/v1", `{"metadata":{"name":"good","namespace":"shop"},"spec":{"podSelector":{},"ingress":[]}}`},
	{"NetworkPolicy", "networking.k8s.io/v1", `{"metadata":{"name":"bad","namespace":"shop"},"spec":{"podSelector":{},"ingress":[{"form":[]}]}}`},
	{"NetworkPolicy", "networking.k8s.io/v1", `{"metadata":{"name":{},"namespace":"shop"},"spec":{}}`},
	{"ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", `{"metadata":{"name":"admin"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}}}}`},
}

// TestDecoder holds that objects that were decoded one by one make the same
// cluster as those that were added as they are, any number of times.
func TestDecoder(t *testing.T) {
	whole, d := NewBuilder(Options{Live: true}), NewDecoder(Options{Live: true})
	var objects []*Object
	for _, o := range decodable {
		whole.AddItem([]byte(o.raw), fixed("here"), o.kind+"List", o.version)
		objects = append(objects, d.Decode([]byte(o.raw), fixed("here"), o.kind, o.version))
	}
	want := whole.Build()
	for range 2 {
		b := NewBuilder(Options{Live: true})
		for i := len(objects) - 1; i >= 0; i-- {
			b.AddObject(objects[i])
		}
		got := b.Build()
		got.Snapshot.Ignored, want.Snapshot.Ignored = nil, nil
		say := func(r Result) string { return fmt.Sprintf("%+v\n%+v\n%s", *r.Snapshot, r.Diagnostics, r.Unusable) }
		if diff := cmp.Diff(say(want), say(got)); diff != "" {
			t.Errorf("(-added +decoded)\n%s", diff)
		}
	}
	if want.Unusable == "" || !want.Diagnostics.HasErrors() || len(want.Snapshot.Endpoints) != 3 {
		t.Errorf("the objects are not what they should be: %+v", want)
	}
}

func TestObjectIsKnown(t *testing.T) {
	for _, tt := range []struct {
		raw    string
		known  bool
		broken bool
	}{
		{`{"metadata":{"name":"a","namespace":"b","resourceVersion":"7"},"spec":{"podSelector":{}}}`, true, false},
		{`{"metadata":{"name":"a","namespace":"b"},"spec":{"podSelector":7}}`, true, true},
		{`{"metadata":{"namespace":"b"},"spec":{"podSelector":{}}}`, false, true},
		{`{"kind":"Job","apiVersion":"batch/v1","metadata":{"name":"a","namespace":"b"}}`, false, false},
		{`{"kind":"Deployment","apiVersion":"example.org/v1","metadata":{"name":"a","namespace":"b"}}`, false, false},
		{`{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v9","metadata":{"name":"a","namespace":"b"}}`, true, true},
		{`nonsense`, false, true},
		{``, false, true},
	} {
		o := NewDecoder(Options{}).Decode([]byte(tt.raw), fixed("here"), "NetworkPolicy", "networking.k8s.io/v1")
		if o.Known() != tt.known || (o.Broken != "") != tt.broken {
			t.Errorf("%s: known %t, broken %q", tt.raw, o.Known(), o.Broken)
		}
	}
}

// TestLiveAddresses holds that a pod of a running cluster never gets an address
// that is made up.
func TestLiveAddresses(t *testing.T) {
	for _, live := range []bool{false, true} {
		b := NewBuilder(Options{Live: live})
		b.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`), fixed("here"))
		e := b.Build().Snapshot.Endpoints[0]
		if got := len(e.Addrs) > 0; got == live {
			t.Errorf("live %t: addresses %v", live, e.Addrs)
		}
	}
}

func TestNodePodCIDRs(t *testing.T) {
	b := NewBuilder(Options{})
	b.Add([]byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.9/24","fd00::/64","nonsense"]}}`), fixed("here"))
	if got := fmt.Sprint(b.Build().Snapshot.Nodes[0].PodCIDRs); got != "[10.1.0.0/24 fd00::/64]" {
		t.Error(got)
	}
}

// FuzzDecode holds that decoding never panics, and that what it made can be
// built.
func FuzzDecode(f *testing.F) {
	for _, o := range decodable {
		f.Add(o.kind, o.version, o.raw)
	}
	f.Fuzz(func(t *testing.T, kind, version, raw string) {
		o := NewDecoder(Options{Live: true}).Decode([]byte(raw), fixed("f"), kind, version)
		b := NewBuilder(Options{Live: true})
		b.AddObject(o)
		r := b.Build()
		if !o.Same(o) {
			t.Error("an object is not the same as itself")
		}
		if strings.Contains(kind, "NetworkPolicy") && o.Known() && o.Broken == "" && r.Unusable == "" && policies(r.Snapshot) == 0 {
			t.Errorf("a policy was dropped: %s", raw)
		}
	})
}

func policies(s *model.Snapshot) int {
	n := 0
	for _, t := range s.Tiers {
		n += len(t.Policies)
	}
	return n
}
