package crds

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// The module is required for its manifests; this import keeps it in go.mod.
	_ "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func TestEqualToModule(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/network-policy-api").Output()
	if err != nil {
		t.Fatalf("locating the module: %v", err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "config", "crd")
	for _, channel := range []string{"standard", "experimental"} {
		theirs, err := filepath.Glob(filepath.Join(root, channel, "policy.networking.k8s.io_*.yaml"))
		if err != nil || len(theirs) == 0 {
			t.Fatalf("no manifests in %s (%v)", filepath.Join(root, channel), err)
		}
		ours, err := fs.Glob(NetworkPolicyAPI, channel+"/*.yaml")
		if err != nil || len(ours) != len(theirs) {
			t.Errorf("%s: %d manifests here, %d in the module (%v)", channel, len(ours), len(theirs), err)
		}
		for _, file := range theirs {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := NetworkPolicyAPI.ReadFile(channel + "/" + filepath.Base(file))
			if err != nil {
				t.Errorf("%s is missing: %v", filepath.Base(file), err)
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s/%s differs from the module's", channel, filepath.Base(file))
			}
		}
	}
}
