//go:build !linux

package cli

import "context"

// Run says what is missing here.
func (o *proveOptions) Run(context.Context) error { return needsLinux("prove") }
