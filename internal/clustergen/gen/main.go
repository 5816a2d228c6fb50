// Command gen writes a generated cluster as YAML to standard output, for
// measuring programs that read manifests. Equal flags give equal output.
package main

import (
	"flag"
	"fmt"
	"os"

	"picket/internal/clustergen"
)

func main() {
	var c clustergen.Config
	flag.IntVar(&c.Pods, "pods", 1000, "number of pods")
	flag.IntVar(&c.Namespaces, "namespaces", 50, "number of namespaces")
	flag.IntVar(&c.Policies, "policies", 300, "number of policies")
	flag.BoolVar(&c.Distinct, "distinct", false, "let policies tell every pod from every other")
	flag.Parse()
	if err := clustergen.Manifests(c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
