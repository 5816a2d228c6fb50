// Command picket says what Kubernetes network policies really allow.
package main

import (
	"os"

	"picket/internal/cli"
)

func main() { os.Exit(cli.Main()) }
