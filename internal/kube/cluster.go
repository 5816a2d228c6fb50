package kube

import (
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"picket/internal/model"
)

// metadataName is the label that every namespace has.
const metadataName = "kubernetes.io/metadata.name"

func (o *object) readNamespace(raw []byte) {
	var doc struct {
		Metadata meta `json:"metadata"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, false) {
		o.b.distrust(o) // any namespace may have labels that are not known
		return
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Label)
	labels := maps.Clone(doc.Metadata.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[metadataName] = o.name
	o.b.namespaces[o.name] = model.Namespace{Name: o.name, Labels: labels, Broken: o.broken, Origin: o.origin("")}
}

func (o *object) readNode(raw []byte) {
	var doc struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			PodCIDR  string   `json:"podCIDR"`
			PodCIDRs []string `json:"podCIDRs"`
		} `json:"spec"`
		Status struct {
			Addresses []struct {
				Type    string `json:"type"`
				Address string `json:"address"`
			} `json:"addresses"`
		} `json:"status"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, false) {
		return
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Subdomain)
	n := model.Node{Name: o.name, Labels: doc.Metadata.Labels, Origin: o.origin("")}
	for _, text := range append(slices.Clone(doc.Spec.PodCIDRs), doc.Spec.PodCIDR) {
		if p, err := netip.ParsePrefix(text); err == nil && !slices.Contains(n.PodCIDRs, p.Masked()) {
			n.PodCIDRs = append(n.PodCIDRs, p.Masked())
		}
	}
	for _, role := range []string{"control-plane", "master"} {
		if _, ok := n.Labels["node-role.kubernetes.io/"+role]; ok {
			n.ControlPlane = true
		}
	}
	seen := map[netip.Addr]bool{}
	for _, kind := range []string{"InternalIP", "ExternalIP"} {
		for _, a := range doc.Status.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if a.Type != kind || err != nil || seen[ip] {
				continue
			}
			seen[ip] = true
			n.Addrs = append(n.Addrs, ip.Unmap().WithZone(""))
		}
	}
	o.b.nodes[o.name] = n
}
