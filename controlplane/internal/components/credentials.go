package components

import (
	"fmt"

	"picket/controlplane/internal/datadir"
	"picket/controlplane/internal/pki"
)

// credentials are all that the components need to know each other.
type credentials struct {
	ca, frontProxyCA           *pki.Authority
	serving, kubeletClient     *pki.Pair
	frontProxy                 *pki.Pair
	admin                      *pki.Pair
	serviceAccountKey          string
	serviceAccountPublic       string
	controllerManagerConfig    string // kubeconfig file
	schedulerConfig, proxyConf string // kubeconfig files
}

// issue makes the credentials in the folder pki of dir, with kubeconfigs for
// the server at that URL, whose certificate holds for hosts.
func issue(dir *datadir.Dir, server string, hosts []string) (*credentials, error) {
	folder, err := dir.Sub("pki")
	if err != nil {
		return nil, err
	}
	c := &credentials{}
	if c.ca, err = pki.OpenAuthority(folder, "ca"); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if c.frontProxyCA, err = pki.OpenAuthority(folder, "front-proxy-ca"); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if c.serviceAccountKey, c.serviceAccountPublic, err = pki.OpenKeyPair(folder, "sa"); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	var controllers, scheduler, proxy *pki.Pair
	for _, leaf := range []struct {
		to   **pki.Pair
		ca   *pki.Authority
		name string
		subj pki.Subject
	}{
		{&c.serving, c.ca, "apiserver", pki.Subject{CommonName: "kube-apiserver", Hosts: hosts}},
		{&c.kubeletClient, c.ca, "apiserver-kubelet-client", pki.Subject{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}}},
		{&c.frontProxy, c.frontProxyCA, "front-proxy-client", pki.Subject{CommonName: frontProxyName}},
		{&c.admin, c.ca, "admin", pki.Subject{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}}},
		{&controllers, c.ca, "controller-manager", pki.Subject{CommonName: "system:kube-controller-manager"}},
		{&scheduler, c.ca, "scheduler", pki.Subject{CommonName: "system:kube-scheduler"}},
		{&proxy, c.ca, "kube-proxy", pki.Subject{CommonName: "system:kube-proxy"}},
	} {
		if *leaf.to, err = leaf.ca.Issue(leaf.name, leaf.subj); err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
	}
	for _, k := range []struct {
		to   *string
		file string
		pair *pki.Pair
	}{
		{&c.controllerManagerConfig, "controller-manager.kubeconfig", controllers},
		{&c.schedulerConfig, "scheduler.kubeconfig", scheduler},
		{&c.proxyConf, "kube-proxy.kubeconfig", proxy},
	} {
		*k.to = dir.File(k.file)
		if err := pki.Kubeconfig(*k.to, "picket", server, c.ca, k.pair); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
	}
	return c, nil
}
