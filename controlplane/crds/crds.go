// Package crds carries the CustomResourceDefinition manifests that the control
// plane can install by itself.
//
// They are copies, since embedding does not reach into another module; a test
// holds them equal to those of the module that they come from.
package crds

import "embed"

// NetworkPolicyAPI holds the manifests of sigs.k8s.io/network-policy-api, one
// directory for each of its channels, "standard" and "experimental".
//
//go:embed standard/*.yaml experimental/*.yaml
var NetworkPolicyAPI embed.FS
