package kube

import (
	"net/netip"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"picket/internal/model"
	"picket/internal/netset"
)

// pod is a pod of the input, or the pattern of those that a workload makes.
type pod struct {
	endpoint model.Endpoint
	owner    ownerRef // its controller; zero if it has none
	done     bool     // it has completed and holds no address
	leaving  bool     // it is being deleted
	hash     string   // the label pod-template-hash
	hostIPs  []netip.Addr
}

// podSpec is what matters of a PodSpec.
type podSpec struct {
	NodeName                     string      `json:"nodeName"`
	HostNetwork                  bool        `json:"hostNetwork"`
	ServiceAccountName           string      `json:"serviceAccountName"`
	AutomountServiceAccountToken *bool       `json:"automountServiceAccountToken"`
	Containers                   []container `json:"containers"`
	InitContainers               []container `json:"initContainers"`
}

type container struct {
	RestartPolicy string          `json:"restartPolicy"`
	Ports         []containerPort `json:"ports"`
}

type containerPort struct {
	Name          string `json:"name"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

type podStatus struct {
	Phase   string     `json:"phase"`
	PodIP   string     `json:"podIP"`
	PodIPs  []statusIP `json:"podIPs"`
	HostIP  string     `json:"hostIP"`
	HostIPs []statusIP `json:"hostIPs"`
}

type statusIP struct {
	IP string `json:"ip"`
}

func (o *object) readPod(raw []byte) {
	var doc struct {
		Metadata meta      `json:"metadata"`
		Spec     podSpec   `json:"spec"`
		Status   podStatus `json:"status"`
	}
	o.decode(raw, &doc)
	if !o.named(&doc.Metadata, true) {
		return
	}
	o.checkNames(&doc.Metadata, validation.IsDNS1123Subdomain)
	p := o.makePod(doc.Metadata.Labels, doc.Metadata.Annotations, &doc.Spec, "metadata", "spec")
	p.endpoint.Name = o.name
	p.done = doc.Status.Phase == "Succeeded" || doc.Status.Phase == "Failed"
	p.leaving = doc.Metadata.DeletionTimestamp != nil
	p.owner = controller(doc.Metadata.OwnerReferences)
	addrs := parseAddrs(doc.Status.PodIPs, doc.Status.PodIP)
	if p.endpoint.Kind == model.HostPod {
		p.hostIPs = onePerFamily(append(parseAddrs(doc.Status.HostIPs, doc.Status.HostIP), addrs...))
	} else {
		p.endpoint.Addrs = onePerFamily(addrs)
	}
	o.b.pods[o.key()] = &p
}

// named is identify, and reports an object without a name.
func (o *object) named(m *meta, namespaced bool) bool {
	if o.identify(m, namespaced) {
		return true
	}
	if o.broken == "" {
		o.failFields(field.ErrorList{field.Required(field.NewPath("metadata", "name"), "name or generateName is required")})
	}
	return false
}

// checkNames validates metadata as the API server does.
func (o *object) checkNames(m *meta, name func(string) []string) {
	for _, msg := range name(o.name) {
		o.failFields(field.ErrorList{field.Invalid(fieldAt("metadata.name"), shorten(o.name), msg)})
	}
	if o.ns != "" {
		for _, msg := range validation.IsDNS1123Label(o.ns) {
			o.failFields(field.ErrorList{field.Invalid(fieldAt("metadata.namespace"), shorten(o.ns), msg)})
		}
	}
	o.failFields(o.b.labelErrors(m.Labels, "metadata.labels"))
}

// makePod converts the parts that pods and pod templates share.
func (o *object) makePod(labels, annotations map[string]string, spec *podSpec, metaPath, specPath string) pod {
	e := model.Endpoint{
		Namespace:      o.ns,
		Labels:         labels,
		Node:           spec.NodeName,
		ServiceAccount: spec.ServiceAccountName,
		MountsToken:    spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken,
		Ports:          o.containerPorts(spec, specPath),
		Broken:         o.broken,
		Origin:         o.origin(""),
	}
	if e.ServiceAccount == "" {
		e.ServiceAccount = "default"
	}
	if spec.HostNetwork {
		e.Kind = model.HostPod
	}
	e.Scrape = scrapePorts(annotations, e.Ports)
	e.Broken = o.broken
	return pod{endpoint: e, hash: labels["pod-template-hash"]}
}

// containerPorts returns the ports of the containers that run beside each
// other: init containers only if they keep running.
func (o *object) containerPorts(spec *podSpec, path string) []model.Port {
	var out []model.Port
	add := func(list string, i int, c *container) {
		for j, p := range c.Ports {
			at := path + "." + list + "[" + strconv.Itoa(i) + "].ports[" + strconv.Itoa(j) + "]"
			if m, ok := o.containerPort(p, at); ok {
				out = append(out, m)
			}
		}
	}
	for i := range spec.Containers {
		add("containers", i, &spec.Containers[i])
	}
	for i := range spec.InitContainers {
		if spec.InitContainers[i].RestartPolicy == "Always" {
			add("initContainers", i, &spec.InitContainers[i])
		}
	}
	return out
}

func (o *object) containerPort(p containerPort, at string) (model.Port, bool) {
	ok := true
	bad := func(e *field.Error) {
		e.Field = at + "." + e.Field
		o.failField("", "", e)
		ok = false
	}
	if p.ContainerPort < 1 || p.ContainerPort > 65535 {
		bad(field.Invalid(field.NewPath("containerPort"), p.ContainerPort, validation.InclusiveRangeError(1, 65535)))
	}
	proto, known := protoOf(p.Protocol)
	if !known {
		bad(field.NotSupported(field.NewPath("protocol"), shorten(p.Protocol), protoNames))
	}
	if p.Name != "" {
		for _, msg := range validation.IsValidPortName(p.Name) {
			bad(field.Invalid(field.NewPath("name"), shorten(p.Name), msg))
		}
	}
	return model.Port{Name: p.Name, Proto: proto, Number: uint16(p.ContainerPort)}, ok
}

var protoNames = []string{"SCTP", "TCP", "UDP"}

// protoOf reads a protocol as the API writes it; "" is TCP.
func protoOf(s string) (netset.Proto, bool) {
	switch s {
	case "", "TCP":
		return netset.TCP, true
	case "UDP":
		return netset.UDP, true
	case "SCTP":
		return netset.SCTP, true
	}
	return 0, false
}

// scrapePorts reads the annotations by which pods and Services ask Prometheus
// to scrape them. Without a port they mean every declared TCP port.
func scrapePorts(annotations map[string]string, ports []model.Port) []model.Port {
	if annotations["prometheus.io/scrape"] != "true" {
		return nil
	}
	text, ok := annotations["prometheus.io/port"]
	var out []model.Port
	for _, p := range ports {
		if p.Proto == netset.TCP && (!ok || text == p.Name || text == strconv.Itoa(int(p.Number))) {
			out = append(out, p)
		}
	}
	if n, err := strconv.ParseUint(text, 10, 16); len(out) == 0 && err == nil && n > 0 {
		out = append(out, model.Port{Proto: netset.TCP, Number: uint16(n)})
	}
	return out
}

// controller returns the reference to what controls an object.
func controller(refs []ownerRef) ownerRef {
	for _, r := range refs {
		if r.Controller != nil && *r.Controller {
			return r
		}
	}
	return ownerRef{}
}

func parseAddrs(list []statusIP, one string) []netip.Addr {
	var out []netip.Addr
	for _, s := range append(slices.Clone(list), statusIP{one}) {
		if a, err := netip.ParseAddr(s.IP); err == nil {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	return out
}

// onePerFamily keeps the first address of each family, IPv4 first.
func onePerFamily(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, f := range []netset.Family{netset.V4, netset.V6} {
		for _, a := range addrs {
			if netset.FamilyOf(a) == f {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

// portOf reads a port that is a number or a name.
func portOf(v intstr.IntOrString) (number uint16, name string, ok bool) {
	if v.Type == intstr.String {
		return 0, v.StrVal, v.StrVal != ""
	}
	return uint16(v.IntVal), "", v.IntVal > 0 && v.IntVal < 65536
}
