package kube

import (
	"fmt"
	"slices"
	"strings"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/selector"
)

// read dispatches an object by its kind.
func (b *Builder) read(raw []byte, o *object, group, version string) {
	r, known := readers[groupKind{group, o.kind}]
	switch {
	case known && version == r.version:
		r.read(o, raw)
	case IsPolicyKind(group, o.kind):
		o.locate(raw)
		if o.kind == "Tier" && slices.Contains(builtinTiers, o.name) {
			b.ignored[o.kind+"."+o.apiVersion]++
			return
		}
		o.notUnderstood(raw, group)
	case known && r.optional, !known && !legacy(group, o.kind):
		b.ignored[o.kind+"."+o.apiVersion]++
	default:
		o.locate(raw)
		want := readers[groupKind{group, o.kind}]
		wantGroup := group
		if !known {
			wantGroup = legacyGroup(o.kind)
			want = readers[groupKind{wantGroup, o.kind}]
		}
		full := strings.TrimPrefix(wantGroup+"/"+want.version, "/")
		o.fail("", "apiVersion", "write apiVersion: "+full,
			"no matches for kind %q in version %q", o.kind, o.apiVersion)
		want.read(o, raw)
	}
}

type groupKind struct{ group, kind string }

// reader reads objects of a kind in one version. What is optional bears on
// findings only, so that other versions of it are passed over.
type reader struct {
	version  string
	read     func(o *object, raw []byte)
	optional bool
}

// readers lists what is read.
var readers = map[groupKind]reader{
	{"", "Namespace"}:             {"v1", (*object).readNamespace, false},
	{"", "Node"}:                  {"v1", (*object).readNode, false},
	{"", "Pod"}:                   {"v1", (*object).readPod, false},
	{"", "ReplicationController"}: {"v1", (*object).readWorkload, false},
	{"", "Service"}:               {"v1", (*object).readService, false},
	{"", "Endpoints"}:             {"v1", (*object).readEndpoints, true},

	{"apps", "Deployment"}:  {"v1", (*object).readWorkload, false},
	{"apps", "StatefulSet"}: {"v1", (*object).readWorkload, false},
	{"apps", "DaemonSet"}:   {"v1", (*object).readWorkload, false},
	{"apps", "ReplicaSet"}:  {"v1", (*object).readWorkload, false},
	{"batch", "Job"}:        {"v1", (*object).readWorkload, false},
	{"batch", "CronJob"}:    {"v1", (*object).readWorkload, false},

	{"discovery.k8s.io", "EndpointSlice"}: {"v1", (*object).readEndpointSlice, true},

	{"networking.k8s.io", "NetworkPolicy"}:               {"v1", (*object).readNetworkPolicy, false},
	{"networking.k8s.io", "Ingress"}:                     {"v1", (*object).readIngress, true},
	{"policy.networking.k8s.io", "ClusterNetworkPolicy"}: {"v1alpha2", (*object).readClusterNetworkPolicy, false},

	{"admissionregistration.k8s.io", "ValidatingWebhookConfiguration"}: {"v1", (*object).readWebhooks, true},
	{"admissionregistration.k8s.io", "MutatingWebhookConfiguration"}:   {"v1", (*object).readWebhooks, true},

	{"monitoring.coreos.com", "ServiceMonitor"}: {"v1", (*object).readMonitor, true},
	{"monitoring.coreos.com", "PodMonitor"}:     {"v1", (*object).readMonitor, true},
}

// builtinTiers exist in every Calico cluster, and do nothing without policies.
var builtinTiers = []string{"default", "kube-admin", "kube-baseline", "adminnetworkpolicy", "baselineadminnetworkpolicy"}

// legacy reports whether the group once served the workload kind and no longer
// does.
func legacy(group, kind string) bool {
	return group == "extensions" && legacyGroup(kind) == "apps"
}

func legacyGroup(kind string) string {
	switch kind {
	case "Deployment", "DaemonSet", "ReplicaSet":
		return "apps"
	}
	return ""
}

// IsPolicyKind reports whether objects of the kind can change what is allowed,
// in any API known today.
func IsPolicyKind(group, kind string) bool {
	if strings.Contains(kind, "NetworkPolicy") {
		return true
	}
	switch {
	case group == "projectcalico.org" || strings.HasSuffix(group, ".projectcalico.org"):
		switch strings.TrimPrefix(kind, "Staged") {
		case "Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "Profile":
			return true
		}
	case group == "cilium.io":
		switch kind {
		case "CiliumCIDRGroup", "CiliumLocalRedirectPolicy":
			return true
		}
	case group == "antrea.io" || strings.HasSuffix(group, ".antrea.io"):
		switch kind {
		case "Tier", "ClusterGroup", "Group":
			return true
		}
	}
	return false
}

// locate fills in namespace and name of an object that is not decoded.
func (o *object) locate(raw []byte) {
	var m struct {
		Metadata struct {
			Name      any `json:"name"`
			Namespace any `json:"namespace"`
		} `json:"metadata"`
	}
	o.peekInto(raw, &m)
	o.name, _ = m.Metadata.Name.(string)
	o.ns, _ = m.Metadata.Namespace.(string)
}

// notUnderstood reports a policy of a kind or version that is not implemented.
func (o *object) notUnderstood(raw []byte, group string) {
	if r, ok := readers[groupKind{group, o.kind}]; ok {
		o.unknownVersion(raw, group+"/"+r.version)
		return
	}
	if o.kind == "NetworkPolicy" && group == "extensions" {
		o.unknownVersion(raw, "networking.k8s.io/v1")
		return
	}
	d := diag.Diagnostic{
		Code: "KB001", Severity: diag.Warning, Position: o.src.Position(""), Object: o.ref(),
		Message: fmt.Sprintf("%s of %s is not understood yet: %s", o.kind, o.apiVersion, leavesOut(group, o.kind)),
		Fix:     "the verdicts are those of a cluster without it; --strict makes this an error",
	}
	if o.b.opts.Strict {
		d.Severity, d.Fix = diag.Error, "the verdicts are those of a cluster without it"
	}
	o.b.Report(d)
}

// unknownVersion reports a policy of a kind that is read, in a version that no
// API server takes. Which pods it is meant for is not known, so it leaves all
// of its namespace uncertain.
func (o *object) unknownVersion(raw []byte, want string) {
	o.fail("KB001", "apiVersion", "write apiVersion: "+want, "no API server takes a %s of version %q", o.kind, o.apiVersion)
	if !o.policyName(raw) {
		return
	}
	p := model.Policy{
		Kind: o.kind, Namespace: o.ns, Name: o.name, Origin: o.origin(""),
		Subject: []model.Term{everyPod()}, Applies: [2]bool{true, true}, Broken: o.broken,
	}
	tier := tierAdmin
	if o.kind == "NetworkPolicy" {
		tier = tierNetworkPolicy
		p.Subject = []model.Term{{Kind: model.PodTerm, Namespace: o.ns, Pods: selector.Everything()}}
	}
	o.addPolicy(tier, p)
}

// leavesOut says what is missing from the answer without the object.
func leavesOut(group, kind string) string {
	switch {
	case strings.HasPrefix(kind, "Staged"):
		return "the answer does not preview what it would change"
	case strings.HasSuffix(kind, "Tier"):
		return "the answer leaves out the order and the end of this tier"
	case strings.HasSuffix(kind, "NetworkSet"), strings.HasSuffix(kind, "Group"):
		return "the answer leaves out rules that name these addresses"
	case kind == "HostEndpoint":
		return "the answer leaves out the policies of this host's interfaces"
	case kind == "Profile":
		return "the answer leaves out the rules and labels of this profile"
	case kind == "MultiNetworkPolicy":
		return "the answer leaves out what it allows and denies on secondary networks"
	}
	return "the answer leaves out everything that this policy allows and denies"
}
