package model

import "fmt"

// Dialect is a reading of the policy APIs where they leave room. A knob that
// is "open" makes the verdict undefined, but only where both readings can lead
// to different ends.
type Dialect struct {
	Name string

	OpenProtocols bool // a pod isolated by NetworkPolicy: what is not TCP, UDP or SCTP
	OpenNets      bool // whether an ipBlock (a term with PodsOpen) matches addresses of pods
	OpenHostPods  bool // whether pod selectors match pods on the host network
	OpenTies      bool // which of two policies of equal order comes first
	OpenNames     bool // which addresses a DNS name stands for; otherwise none
	OwnPodsOnly   bool // rules with node or name peers are not understood: Allow matches nothing, Deny and Pass deny everything
	SlashTies     bool // equal orders are broken by "name/namespace/kind" instead of the name
}

// Dialects lists the readings by name; the first is the default.
//
//   - picket: what Picket enforces; nothing is left open. A rule without ports
//     matches every protocol, a rule with ports never matches ICMP, and ipBlock
//     matches pod addresses too.
//   - kubernetes: only what the API text promises.
//   - calico: what Calico v3.32 and later does with the Kubernetes APIs.
var Dialects = []Dialect{
	{Name: "picket"},
	{Name: "kubernetes", OpenProtocols: true, OpenNets: true, OpenHostPods: true, OpenTies: true, OpenNames: true},
	{Name: "calico", OwnPodsOnly: true, SlashTies: true},
}

// DialectByName returns the dialect called name.
func DialectByName(name string) (Dialect, error) {
	for _, d := range Dialects {
		if d.Name == name {
			return d, nil
		}
	}
	return Dialect{}, fmt.Errorf("unknown dialect %q: want picket, kubernetes or calico", name)
}
