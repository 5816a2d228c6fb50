package small

import "picket/internal/model"

// Tutorial is the cluster of the tutorial after the given step: dev, qa and
// prod with two pods each, CoreDNS, and the policies as they are written there.
func Tutorial(step int) *World {
	w := &World{}
	for _, ns := range []string{"dev", "prod", "qa"} {
		w.Namespace(ns, "nsp="+ns)
	}
	w.Namespace("kube-system", "")
	w.Pod("dev/dev1", "ns=dev,run=dev1", "10.1.0.1")
	w.Pod("dev/dev2", "ns=dev,run=dev2", "10.1.0.2")
	w.Pod("kube-system/coredns", "k8s-app=kube-dns", "10.4.0.1", model.Port{Proto: 17, Number: 53}, TCP("", 53))
	w.Pod("prod/prod1", "ns=prod,run=prod1", "10.2.0.1")
	w.Pod("prod/prod2", "ns=prod,run=prod2", "10.2.0.2")
	w.Pod("qa/qa1", "ns=qa,run=qa1", "10.3.0.1", TCP("", 8888))
	w.Pod("qa/qa2", "ns=qa,run=qa2", "10.3.0.2", TCP("", 8888))
	if step >= 3 {
		for _, ns := range []string{"dev", "prod", "qa"} {
			w.Policy(ns+"/deny-all", "", "ie", nil, nil)
		}
	}
	if step >= 4 {
		own := []model.Rule{Allow("", Pods("prod", "", "ns=prod"))}
		w.Policy("prod/allow-within-prod", "ns=prod", "ie", own, own)
	}
	if step >= 5 {
		w.Policy("prod/allow-dev", "ns=prod", "i", []model.Rule{Allow("", Pods("", "nsp=dev", ""), Pods("prod", "", "ns=dev"))}, nil)
		w.Policy("dev/allow-prod", "ns=dev", "e", nil, []model.Rule{Allow("", Pods("", "nsp=prod", ""), Pods("dev", "", "ns=prod"))})
	}
	if step >= 6 {
		w.Policy("qa/allow-prod-8888", "ns=qa", "i", []model.Rule{Allow("tcp/8888", Pods("", "nsp=prod", ""), Pods("qa", "", "ns=prod"))}, nil)
		w.Policy("prod/allow-qa-8888", "ns=prod", "e", nil, []model.Rule{Allow("tcp/8888", Pods("", "nsp=qa", ""), Pods("prod", "", "ns=qa"))})
	}
	if step >= 7 {
		ports := Allow("tcp/53", Pods("", "kubernetes.io/metadata.name=kube-system", ""), Pods("prod", "", "k8s-app=kube-dns"))
		ports.Ports = append(ports.Ports, Allow("udp/53").Ports...)
		ports.Ports = append(ports.Ports, Allow("tcp/9153").Ports...)
		w.Policy("prod/allow-coredns", "ns=prod", "e", nil, []model.Rule{ports})
	}
	return w
}
