package matrix

import (
	"bytes"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/verdict"
)

func TestEmptyCluster(t *testing.T) {
	tab := newCluster().table(t, "picket")
	for _, o := range []Options{{}, {External: true, Nodes: true}, {Namespaces: []string{"gone"}, External: true}} {
		r := build(t, tab, o)
		if got := text(t, r, 0); !strings.HasPrefix(got, "0 pods in 0 namespaces") {
			t.Errorf("%+v: %s", o, got)
		}
		if d := decode(t, r); d.Groups == nil && len(d.Rows) > 0 {
			t.Errorf("%+v: rows without groups", o)
		}
		for _, write := range []func(*bytes.Buffer) error{
			func(b *bytes.Buffer) error { return r.WriteCSV(b) },
			func(b *bytes.Buffer) error { return r.WriteDOT(b) },
			func(b *bytes.Buffer) error { return r.WriteHTML(b) },
		} {
			if err := write(&bytes.Buffer{}); err != nil {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}
}

// Where the families differ, the cell says so.
func TestDualStack(t *testing.T) {
	c := newCluster()
	c.s.DualStack = true
	c.namespace("shop", "")
	for i, name := range []string{"db", "web"} {
		e := c.pod("shop", name, "app="+name, "")
		e.Addrs = append(e.Addrs, netip.MustParseAddr("fd00::1"+string(rune('0'+i))))
	}
	six := model.Term{Kind: model.NetTerm, Nets: netset.FromPrefix(netip.MustParsePrefix("::/0")), NetText: "::/0"}
	c.policy("shop", "db", "app=db", []model.Rule{allow("tcp/5432", six)}, nil)
	tab := c.table(t, "picket")
	diff(t, `
                 shop      shop  external  external
from ↓  to →     db        web   (IPv4)    (IPv6)
shop/db          self      all   all       all
shop/web         A         self  all       all
external (IPv4)  -         all
external (IPv6)  tcp/5432  all

A  IPv4 -; IPv6 tcp/5432
`, body(text(t, build(t, tab, Options{External: true}), 0)))
	d := decode(t, build(t, tab, Options{}))
	for family, want := range map[string]string{"IPv4": "deny", "IPv6": "allow"} {
		if got, _ := d.at(t, 1, 0, family, netset.KeyOf(netset.TCP, 5432)); got != want {
			t.Errorf("%s: %s, want %s", family, got, want)
		}
	}
}

func TestHostPodsAndNodes(t *testing.T) {
	c := newCluster()
	c.namespace("kube-system", "")
	c.s.Nodes = []model.Node{{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.168.1.1")}}, {Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.168.1.2")}}}
	c.pod("kube-system", "dns", "app=dns", "").Node = "n1"
	p := c.pod("kube-system", "proxy", "app=proxy", "")
	p.Kind, p.Node, p.Addrs = model.HostPod, "n1", []netip.Addr{netip.MustParseAddr("192.168.1.1")}
	c.policy("kube-system", "dns", "app=dns", none, nil)
	// The proxy runs on the pod's own node and always reaches it, but a cell
	// speaks of a group, whose pods may be anywhere.
	got := text(t, build(t, c.table(t, "picket"), Options{Nodes: true}), 0)
	for _, want := range []string{"kube-system/proxy (host network)", "node/n{1,2}", "; 1 on the host network, beyond any policy"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	// The proxy runs on the pod's own node and always reaches it, but a cell
	// speaks of a group, whose pods may be anywhere.
	if !regexp.MustCompile(`(?m)^kube-system/proxy \(host network\) +- `).MatchString(got) {
		t.Errorf("the proxy's row:\n%s", got)
	}
}

func TestRefWithoutAddress(t *testing.T) {
	tab := tutorial().table(t, "picket")
	_, err := Build(tab, Options{From: []verdict.Ref{{Text: "shop/nobody", Node: verdict.None}}})
	if err == nil || !strings.Contains(err.Error(), "shop/nobody") {
		t.Errorf("error %v", err)
	}
}
