package kube

import (
	"cmp"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
)

// service is a Service with what monitors need to know of it.
type service struct {
	model.Service
	hasSelector bool
	labels      map[string]string
	annotations map[string]string
}

// backend is an address that Endpoints or an EndpointSlice lists.
type backend struct {
	addr  netip.Addr
	ports []uint16
}

func (o *object) readService(raw []byte) {
	var doc struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			Type       string            `json:"type"`
			ClusterIP  string            `json:"clusterIP"`
			ClusterIPs []string          `json:"clusterIPs"`
			Selector   map[string]string `json:"selector"`
			Policy     string            `json:"externalTrafficPolicy"`
			Ports      []servicePort     `json:"ports"`
		} `json:"spec"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Label)
	s := service{labels: doc.Metadata.Labels, annotations: doc.Metadata.Annotations}
	s.Namespace, s.Name, s.Origin = o.ns, o.name, o.origin("")
	s.Type = cmp.Or(doc.Spec.Type, "ClusterIP")
	if len(doc.Spec.Selector) > 0 && s.Type != "ExternalName" {
		s.Selector, s.hasSelector = selector.FromLabels(doc.Spec.Selector), true
	}
	if s.Type == "NodePort" || s.Type == "LoadBalancer" {
		s.ExternalCluster = doc.Spec.Policy != "Local"
	}
	var ips []statusIP
	for _, ip := range doc.Spec.ClusterIPs {
		ips = append(ips, statusIP{ip})
	}
	if s.Type != "ExternalName" {
		s.ClusterIPs = onePerFamily(parseAddrs(ips, doc.Spec.ClusterIP))
	}
	for i, p := range doc.Spec.Ports {
		if sp, ok := o.servicePort(p, fmt.Sprintf("spec.ports[%d]", i)); ok {
			s.Ports = append(s.Ports, sp)
		}
	}
	o.b.services[o.key()] = s
}

type servicePort struct {
	Name       string             `json:"name"`
	Protocol   string             `json:"protocol"`
	Port       int32              `json:"port"`
	TargetPort intstr.IntOrString `json:"targetPort"`
}

func (o *object) servicePort(p servicePort, at string) (model.ServicePort, bool) {
	out := model.ServicePort{Name: p.Name, Port: uint16(p.Port)}
	ok := true
	bad := func(path, format string, args ...any) {
		o.fail("", path, "", path+": "+format, args...)
		ok = false
	}
	if p.Port < 1 || p.Port > 65535 {
		bad(at+".port", "Invalid value: %d: %s", p.Port, validation.InclusiveRangeError(1, 65535))
	}
	var known bool
	if out.Proto, known = protoOf(p.Protocol); !known {
		bad(at+".protocol", `Unsupported value: %q: supported values: "SCTP", "TCP", "UDP"`, shorten(p.Protocol))
	}
	if p.TargetPort == (intstr.IntOrString{}) || p.TargetPort.Type == intstr.String && p.TargetPort.StrVal == "" {
		out.TargetPort = out.Port
		return out, ok
	}
	var valid bool
	if out.TargetPort, out.TargetName, valid = portOf(p.TargetPort); !valid {
		bad(at+".targetPort", "Invalid value: %s: %s", p.TargetPort.String(), validation.InclusiveRangeError(1, 65535))
	}
	return out, ok
}

func (o *object) readEndpoints(raw []byte) {
	var doc struct {
		Metadata meta `json:"metadata"`
		Subsets  []struct {
			Addresses []statusIP `json:"addresses"`
			Ports     []struct {
				Port     int32  `json:"port"`
				Protocol string `json:"protocol"`
			} `json:"ports"`
		} `json:"subsets"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	for _, s := range doc.Subsets {
		var ports []uint16
		for _, p := range s.Ports {
			if p.Protocol == "" || p.Protocol == "TCP" {
				ports = append(ports, uint16(p.Port))
			}
		}
		o.addBackends(o.name, parseAddrs(s.Addresses, ""), ports)
	}
}

func (o *object) readEndpointSlice(raw []byte) {
	var doc struct {
		Metadata  meta `json:"metadata"`
		Endpoints []struct {
			Addresses  []string `json:"addresses"`
			Conditions struct {
				Ready *bool `json:"ready"`
			} `json:"conditions"`
		} `json:"endpoints"`
		Ports []struct {
			Port     *int32 `json:"port"`
			Protocol string `json:"protocol"`
		} `json:"ports"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	of := doc.Metadata.Labels["kubernetes.io/service-name"]
	if of == "" {
		return
	}
	var ports []uint16
	for _, p := range doc.Ports {
		if p.Port != nil && (p.Protocol == "" || p.Protocol == "TCP") {
			ports = append(ports, uint16(*p.Port))
		}
	}
	for _, e := range doc.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			o.addBackends(of, parseAddrs(nil, a), ports)
		}
	}
}

func (o *object) addBackends(of string, addrs []netip.Addr, ports []uint16) {
	for _, a := range addrs {
		o.b.backends[key{o.ns, of}] = append(o.b.backends[key{o.ns, of}], backend{a, ports})
	}
}

func (o *object) readIngress(raw []byte) {
	type back struct {
		Service struct {
			Name string `json:"name"`
			Port struct {
				Name   string `json:"name"`
				Number int32  `json:"number"`
			} `json:"port"`
		} `json:"service"`
	}
	var doc struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			IngressClassName string `json:"ingressClassName"`
			DefaultBackend   back   `json:"defaultBackend"`
			Rules            []struct {
				HTTP struct {
					Paths []struct {
						Backend back `json:"backend"`
					} `json:"paths"`
				} `json:"http"`
			} `json:"rules"`
		} `json:"spec"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	seen := map[model.Route]bool{}
	var out []model.Route
	add := func(b back, path string) {
		r := model.Route{
			Namespace: o.ns, Name: o.name, Service: b.Service.Name,
			Port: uint16(b.Service.Port.Number), PortName: b.Service.Port.Name,
			Class: cmp.Or(doc.Spec.IngressClassName, doc.Metadata.Annotations["kubernetes.io/ingress.class"]),
		}
		if r.Service == "" || seen[r] {
			return
		}
		seen[r] = true
		r.Origin = o.origin(path)
		out = append(out, r)
	}
	add(doc.Spec.DefaultBackend, "spec.defaultBackend")
	for i, r := range doc.Spec.Rules {
		for j, p := range r.HTTP.Paths {
			add(p.Backend, fmt.Sprintf("spec.rules[%d].http.paths[%d].backend", i, j))
		}
	}
	o.b.routes[o.key()] = out
}

func (o *object) readWebhooks(raw []byte) {
	var doc struct {
		Metadata meta `json:"metadata"`
		Webhooks []struct {
			Name         string `json:"name"`
			ClientConfig struct {
				Service *struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
					Port      *int32 `json:"port"`
				} `json:"service"`
			} `json:"clientConfig"`
		} `json:"webhooks"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, false) {
		return
	}
	for i, w := range doc.Webhooks {
		s := w.ClientConfig.Service
		if s == nil {
			continue
		}
		port := int32(443)
		if s.Port != nil {
			port = *s.Port
		}
		out := model.Webhook{
			Name: o.name + "/" + w.Name, Namespace: s.Namespace, Service: s.Name, Port: uint16(port),
			Origin: o.origin(fmt.Sprintf("webhooks[%d]", i)),
		}
		o.b.webhooks[o.kind+" "+out.Name] = out
	}
}

// monitor is a ServiceMonitor or PodMonitor.
type monitor struct {
	service    bool // selects Services, whose pods are meant
	sel        selector.Selector
	namespaces []string // empty for any
	ports      []monitorPort
}

type monitorPort struct {
	name   string             // of the Service's port, or the pod's
	target intstr.IntOrString // of the pod
}

func (o *object) readMonitor(raw []byte) {
	type endpoint struct {
		Port       string              `json:"port"`
		TargetPort *intstr.IntOrString `json:"targetPort"`
		PortNumber *int32              `json:"portNumber"`
	}
	var doc struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			Selector          metav1.LabelSelector `json:"selector"`
			NamespaceSelector struct {
				Any        bool     `json:"any"`
				MatchNames []string `json:"matchNames"`
			} `json:"namespaceSelector"`
			Endpoints           []endpoint `json:"endpoints"`
			PodMetricsEndpoints []endpoint `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	m := monitor{service: o.kind == "ServiceMonitor", sel: toSelector(&doc.Spec.Selector)}
	switch ns := doc.Spec.NamespaceSelector; {
	case ns.Any:
	case len(ns.MatchNames) > 0:
		m.namespaces = ns.MatchNames
	default:
		m.namespaces = []string{o.ns}
	}
	for _, e := range append(doc.Spec.Endpoints, doc.Spec.PodMetricsEndpoints...) {
		p := monitorPort{name: e.Port}
		switch {
		case e.PortNumber != nil:
			p.target = intstr.FromInt32(*e.PortNumber)
		case e.TargetPort != nil:
			p.target = *e.TargetPort
		}
		m.ports = append(m.ports, p)
	}
	o.b.monitors[o.kindKey()] = m
}

// resolve returns the ports of a pod that the monitor asks to scrape. sv is the
// Service that it found the pod by, nil for a PodMonitor.
func (p monitorPort) resolve(pod []model.Port, sv *model.Service) []model.Port {
	number, name, ok := portOf(p.target)
	switch {
	case ok:
	case p.name == "":
		return nil
	case sv == nil:
		name = p.name
	default:
		for _, sp := range sv.Ports {
			if sp.Name == p.name {
				number, name = sp.TargetPort, sp.TargetName
			}
		}
	}
	if number != 0 {
		for _, have := range pod {
			if have.Number == number && have.Proto == netset.TCP {
				return []model.Port{have}
			}
		}
		return []model.Port{{Proto: netset.TCP, Number: number}}
	}
	for _, have := range pod {
		if have.Name == name && name != "" {
			return []model.Port{have}
		}
	}
	return nil
}
