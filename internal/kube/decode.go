package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
)

// Object is one object as it was read. It can be kept and added to any number
// of Builders, so that a source that follows a cluster decodes each object
// once. It must not be changed.
type Object struct {
	Kind            string
	Namespace, Name string
	ResourceVersion string // "" if the object has none
	Broken          string // the first thing that could not be understood; "" if all could

	doubt    diag.Diagnostic // valid iff doubtful
	doubtful bool            // it may concern anything
	diags    diag.List
	findings diag.List
	piece    any // what the object's kind keeps; nil for a kind without bearing
}

// backends is the piece of Endpoints and EndpointSlices.
type backends struct {
	of   key
	list []backend
}

// Known reports whether it is known which object this is. Otherwise it may be
// any, and no verdict can be trusted.
func (o *Object) Known() bool { return o.Name != "" && !o.doubtful }

// Same reports whether two versions of an object mean the same.
func (o *Object) Same(p *Object) bool {
	return o.Broken == p.Broken && o.doubtful == p.doubtful && len(o.diags) == len(p.diags) && reflect.DeepEqual(o.piece, p.piece)
}

// Diagnostics are the errors and warnings of reading the object.
func (o *Object) Diagnostics() diag.List { return o.diags }

// A Decoder reads objects one by one. It shares what equal objects have in
// common. It is not safe for concurrent use.
type Decoder struct {
	b      *Builder
	labels map[string]map[string]string
	texts  map[string]string
}

// maxShared bounds what a Decoder remembers, by the number of entries.
const maxShared = 50_000

// NewDecoder returns a Decoder. Of the options PodCIDRs and DualStack have no
// bearing.
func NewDecoder(o Options) *Decoder {
	return &Decoder{b: NewBuilder(o), labels: map[string]map[string]string{}, texts: map[string]string{}}
}

// Decode reads one object, given as JSON. It takes on the kind and the version
// if it has none of its own, as items of the API server's lists do.
func (d *Decoder) Decode(raw []byte, src Source, kind, apiVersion string) *Object {
	b := d.b
	b.diags, b.findings, b.unreadable, b.dropped, b.generated = nil, nil, 0, [2]int{}, 0
	if len(b.validLabel) > maxShared {
		clear(b.validLabel)
	}
	b.add(raw, src, typeMeta{kind, apiVersion}, nil, maxListDepth)
	out := &Object{Kind: kind, diags: b.diags, findings: b.findings, doubtful: b.unreadable > 0, doubt: b.first}
	var m struct {
		Metadata struct {
			Name            any `json:"name"`
			Namespace       any `json:"namespace"`
			ResourceVersion any `json:"resourceVersion"`
		} `json:"metadata"`
	}
	(&object{b: b}).peekInto(raw, &m)
	out.Name, _ = m.Metadata.Name.(string)
	out.Namespace, _ = m.Metadata.Namespace.(string)
	out.ResourceVersion, _ = m.Metadata.ResourceVersion.(string)
	for i := range b.diags {
		if b.diags[i].Severity == diag.Error {
			out.Broken = cmp.Or(b.diags[i].Message, "it could not be read")
			break
		}
	}
	out.piece = d.take()
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		group = ""
	}
	if out.piece == nil && !out.doubtful && !readers[groupKind{group, kind}].optional {
		// It is something else than was asked for, such as an object of another
		// kind.
		out.doubtful = true
		out.doubt = diag.Diagnostic{Position: src.Position(""), Message: "an object that is no " + kind}
	}
	return out
}

// take moves what was read out of the Builder, which is empty afterwards.
func (d *Decoder) take() any {
	b := d.b
	for k, p := range b.pods {
		delete(b.pods, k)
		d.share(p)
		return p
	}
	for k, n := range b.namespaces {
		delete(b.namespaces, k)
		return n
	}
	for k, n := range b.nodes {
		delete(b.nodes, k)
		return n
	}
	for k, p := range b.policies {
		delete(b.policies, k)
		return p
	}
	for k, s := range b.services {
		delete(b.services, k)
		return s
	}
	for k, list := range b.backends {
		delete(b.backends, k)
		return backends{k, list}
	}
	return nil
}

// share makes a pod use the texts and labels of others like it.
func (d *Decoder) share(p *pod) {
	e := &p.endpoint
	for _, s := range []*string{&e.Namespace, &e.Node, &e.ServiceAccount, &p.owner.APIVersion, &p.owner.Kind, &p.owner.Name, &p.hash} {
		*s = d.text(*s)
	}
	for i := range e.Ports {
		e.Ports[i].Name = d.text(e.Ports[i].Name)
	}
	if len(e.Labels) == 0 {
		return
	}
	keys := make([]string, 0, len(e.Labels))
	for k, v := range e.Labels {
		keys = append(keys, k+"\x00"+v)
	}
	slices.Sort(keys)
	id := strings.Join(keys, "\x00")
	if known, ok := d.labels[id]; ok {
		e.Labels = known
		return
	}
	if len(d.labels) >= maxShared {
		clear(d.labels)
	}
	shared := make(map[string]string, len(e.Labels))
	for k, v := range e.Labels {
		shared[d.text(k)] = d.text(v)
	}
	e.Labels, d.labels[id] = shared, shared
}

func (d *Decoder) text(s string) string {
	if known, ok := d.texts[s]; ok {
		return known
	}
	if len(d.texts) >= maxShared {
		clear(d.texts)
	}
	s = strings.Clone(s)
	d.texts[s] = s
	return s
}

// AddObject adds what a Decoder has read.
func (b *Builder) AddObject(o *Object) {
	if o.doubtful {
		if b.unreadable == 0 {
			b.first = o.doubt
		}
		b.unreadable++
	}
	for _, d := range o.diags {
		b.Report(d)
	}
	b.findings = append(b.findings, o.findings...)
	switch p := o.piece.(type) {
	case model.Namespace:
		b.namespaces[p.Name] = p
	case model.Node:
		b.nodes[p.Name] = p
	case *pod:
		b.pods[key{p.endpoint.Namespace, p.endpoint.Name}] = p
	case service:
		b.services[key{p.Namespace, p.Name}] = p
	case policy:
		b.policies[kindKey{p.Kind, key{p.Namespace, p.Name}}] = p
	case backends:
		b.backends[p.of] = append(b.backends[p.of], p.list...)
	default:
		b.ignored[o.Kind]++
	}
}

// Items returns the text of each element of the field "items" of a list, which
// must be valid JSON. They are parts of raw.
func Items(raw []byte) [][]byte {
	s := scanner{raw: raw}
	if !s.find("items") {
		return nil
	}
	spans := s.items()
	out := make([][]byte, len(spans))
	for i, span := range spans {
		out[i] = raw[span[0]:span[1]]
	}
	return out
}

// settleAddrs decides who has an address that several pods claim. A pod that
// is being deleted has lost it; if more than one is left it cannot be known,
// and none of them has it: whoever enforces drops what it does not know.
func (b *Builder) settleAddrs(s *model.Snapshot) {
	claims := make(map[netip.Addr]int32, len(s.Endpoints))
	disputed := map[netip.Addr][]int32{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Kind != model.Pod {
			continue
		}
		for _, a := range e.Addrs {
			if first, ok := claims[a]; !ok {
				claims[a] = int32(i)
			} else if disputed[a] == nil {
				disputed[a] = []int32{first, int32(i)}
			} else {
				disputed[a] = append(disputed[a], int32(i))
			}
		}
	}
	for a, all := range disputed {
		var staying []int32
		for _, i := range all {
			if e := &s.Endpoints[i]; !b.pods[key{e.Namespace, e.Name}].leaving {
				staying = append(staying, i)
			}
		}
		for _, i := range all {
			if e := &s.Endpoints[i]; len(staying) != 1 || staying[0] != i {
				e.Addrs = slices.DeleteFunc(slices.Clone(e.Addrs), func(x netip.Addr) bool { return x == a })
			}
		}
		if len(staying) > 1 {
			e, f := &s.Endpoints[staying[0]], &s.Endpoints[staying[1]]
			b.Report(diag.Diagnostic{
				Severity: diag.Warning, Position: e.Origin.Position, Object: "Pod " + e.String(),
				Message: fmt.Sprintf("its address %s is also that of pod %s: neither is taken to have it", a, f),
			})
		}
	}
}
