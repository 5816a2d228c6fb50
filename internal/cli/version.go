package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release:
// -ldflags "-X picket/internal/cli.version=v1.2.3".
var version string

// buildInfo says what program this is.
type buildInfo struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "Version"
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Date       string `json:"date,omitempty"`     // of the commit
	Modified   bool   `json:"modified,omitempty"` // built from a tree with changes
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

type versionOptions struct {
	*global
	format format
}

func newVersion(g *global) *cobra.Command {
	o := &versionOptions{global: g}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version of Picket this is",
		Long:  "Say which version of Picket this is, of which commit, and built with which Go.",
		Example: `  picket version

  picket version -o json`,
		Args:              noArgs,
		RunE:              run(o),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.format.bind(cmd, "text", "json")
	return cmd
}

func (o *versionOptions) Complete([]string) error { return nil }

func (o *versionOptions) Validate() error { return o.format.validate() }

func (o *versionOptions) Run(context.Context) error {
	b := readBuild()
	out := newOutput(o.Out, o.noColor)
	var err error
	if o.format.value == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(b)
	} else {
		fmt.Fprintf(out, "picket %s\n", b.Version)
		if b.Commit != "" {
			changed := ""
			if b.Modified {
				changed = " with changes"
			}
			fmt.Fprintf(out, "commit %s%s, %s\n", b.Commit, changed, b.Date)
		}
		_, err = fmt.Fprintf(out, "%s %s\n", b.Go, b.Platform)
	}
	return out.finish(err)
}

// readBuild reads what the Go tool put into the binary.
func readBuild() buildInfo {
	b := buildInfo{
		APIVersion: "picket/v1", Kind: "Version",
		Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Date = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		if b.Version == "" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}
