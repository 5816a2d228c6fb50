package cluster

import (
	"slices"

	"k8s.io/client-go/tools/clientcmd"
)

// Contexts returns the names of the contexts of a kubeconfig file, "" for
// $KUBECONFIG and the usual places, sorted. What cannot be read has none.
func Contexts(kubeconfig string) []string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := rules.Load()
	if err != nil {
		return nil
	}
	var out []string
	for name := range config.Contexts {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
