//go:build linux

package lab

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/model"
	"picket/internal/netset"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestFromSnapshot(t *testing.T) {
	s := &model.Snapshot{
		Nodes: []model.Node{{Name: "cp", Addrs: addrs("192.168.1.1")}},
		Endpoints: []model.Endpoint{
			{Namespace: "a", Name: "1", Addrs: addrs("10.0.0.1"), Ports: []model.Port{{Name: "web", Proto: netset.TCP, Number: 80}}},
			{Namespace: "a", Name: "2", Addrs: addrs("10.0.0.2"), Node: "w9"},
			{Namespace: "a", Name: "3", Addrs: addrs("10.0.0.3", "fd00::3")},
			{Namespace: "a", Name: "4", Addrs: addrs("10.0.0.4")},
			{Namespace: "a", Name: "5", Addrs: addrs("10.0.0.5")},
			{Namespace: "a", Name: "finished"},
			{Kind: model.HostPod, Namespace: "k", Name: "proxy", Addrs: addrs("192.168.1.9"), Node: "w9"},
		},
	}
	want := Spec{
		Nodes: []NodeSpec{{Name: "cp", Addrs: addrs("192.168.1.1")}, {Name: "w9", Addrs: addrs("192.168.1.9")}, {Name: "node-1"}},
		Pods: []PodSpec{
			{Name: "a/1", Node: "cp", Addrs: addrs("10.0.0.1"), Ports: []Port{{netset.TCP, 80}}},
			{Name: "a/2", Node: "w9", Addrs: addrs("10.0.0.2")},
			{Name: "a/3", Node: "w9", Addrs: addrs("10.0.0.3", "fd00::3")},
			{Name: "a/4", Node: "node-1", Addrs: addrs("10.0.0.4")},
			{Name: "a/5", Node: "cp", Addrs: addrs("10.0.0.5")},
			{Name: "k/proxy", Node: "w9", HostNetwork: true},
		},
		Externals: []ExternalSpec{{Name: "1.2.3.4", Addrs: addrs("1.2.3.4")}},
	}
	got := FromSnapshot(s, 3, addrs("1.2.3.4"))
	if d := cmp.Diff(want, got, compareAddrs); d != "" {
		t.Error(d)
	}
	if err := got.check(); err != nil {
		t.Error(err)
	}
}

func TestComplete(t *testing.T) {
	s := Spec{
		Nodes: []NodeSpec{{Name: "a"}, {Name: "b", Addrs: addrs("172.18.0.2")}},
		Pods:  []PodSpec{{Name: "x/y", Node: "a", Addrs: addrs("172.18.0.1", "fd00:172:18::2")}},
	}
	nodes, router := s.complete()
	want := []NodeSpec{
		{Name: "a", Addrs: addrs("172.18.0.4", "fd00:172:18::3")},
		{Name: "b", Addrs: addrs("172.18.0.2", "fd00:172:18::4")},
	}
	if d := cmp.Diff(want, nodes, compareAddrs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(addrs("172.18.0.3", "fd00:172:18::1"), router, compareAddrs); d != "" {
		t.Error(d)
	}
}

func TestMistakes(t *testing.T) {
	node := []NodeSpec{{Name: "n"}}
	for _, c := range []struct {
		want string
		spec Spec
	}{
		{"there is no node", Spec{}},
		{`there is no node "m"`, Spec{Nodes: node, Pods: []PodSpec{{Name: "a/b", Node: "m", Addrs: addrs("10.0.0.1")}}}},
		{"the pod has no address", Spec{Nodes: node, Pods: []PodSpec{{Name: "a/b", Node: "n"}}}},
		{"belongs to a/b already", Spec{Nodes: node, Pods: []PodSpec{{Name: "a/b", Node: "n", Addrs: addrs("10.0.0.1")}, {Name: "a/c", Node: "n", Addrs: addrs("10.0.0.1")}}}},
		{"used twice", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "n", Addrs: addrs("1.2.3.4")}}}},
		{"no slash", Spec{Nodes: []NodeSpec{{Name: "a/n"}}}},
		{"cannot listen on icmp", Spec{Nodes: node, Pods: []PodSpec{{Name: "a/b", Node: "n", Addrs: addrs("10.0.0.1"), Ports: []Port{{netset.ICMP, 8}}}}}},
		{"the host has no address", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x"}}}},
		{"loopback", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x", Addrs: addrs("127.0.0.1")}}}},
		{"stands for no host", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x", Addrs: addrs("0.1.2.3")}}}},
		{"not the address of one host", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x", Addrs: addrs("ff02::1")}}}},
		{"one link only", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x", Addrs: addrs("169.254.1.1")}}}},
		{"canonical", Spec{Nodes: node, Externals: []ExternalSpec{{Name: "x", Addrs: addrs("::ffff:1.2.3.4")}}}},
	} {
		if err := c.spec.check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
}
