//go:build !linux

package cli

import (
	"context"
	"io"
	"strings"
	"testing"
)

func canLab() bool { return false }

// TestNeedsLinux runs the commands that need Linux where there is none.
func TestNeedsLinux(t *testing.T) {
	for command, args := range map[string][]string{
		"prove": {"-f", "testdata/fixture/pods.yaml", "--nodes", "3"},
		"agent": {"--node-name", "worker-1", "--check", "-o", "json"},
	} {
		var out strings.Builder
		code := Run(context.Background(), append([]string{"picket", command}, args...), Streams{In: strings.NewReader(""), Out: io.Discard, Err: &out})
		if want := "picket: " + command + " needs Linux: its network namespaces and its packet filter, nftables\n"; code != exitFailed || out.String() != want {
			t.Errorf("%s: %d, %q; want %q", command, code, out.String(), want)
		}
	}
}
