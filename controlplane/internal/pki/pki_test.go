package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestAuthorityStaysAndLeavesVerify(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := first.Issue("apiserver", Subject{CommonName: "kube-apiserver", Hosts: []string{"127.0.0.1", "kubernetes.default"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.PEM(), again.PEM()) {
		t.Error("the authority was made anew")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(again.PEM())
	cert, err := parseCert(leaf.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "kubernetes.default"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			t.Errorf("as %s: %v", host, err)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "10.0.0.1", Roots: roots}); err == nil {
		t.Error("holds for an address that was not asked for")
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server's certificate serves a client")
	}
}

func TestClientCarriesUserAndGroups(t *testing.T) {
	ca, err := OpenAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.Issue("admin", Subject{CommonName: "admin", Organization: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := parseCert(p.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "admin" || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != "system:masters" {
		t.Errorf("subject %v", cert.Subject)
	}
	if _, err := tls.X509KeyPair(p.Cert, p.Key); err != nil {
		t.Errorf("certificate and key: %v", err)
	}
	info, err := os.Stat(p.KeyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: mode %v, %v", info.Mode(), err)
	}
}

func TestKeyPairStays(t *testing.T) {
	dir := t.TempDir()
	private, public, err := OpenKeyPair(dir, "sa")
	if err != nil {
		t.Fatal(err)
	}
	var before [2][]byte
	for i, f := range []string{private, public} {
		if before[i], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := OpenKeyPair(dir, "sa"); err != nil {
		t.Fatal(err)
	}
	for i, f := range []string{private, public} {
		if after, _ := os.ReadFile(f); !bytes.Equal(before[i], after) {
			t.Errorf("%s changed", f)
		}
	}
}

func TestBrokenFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenAuthority(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, "ca"); err == nil || !bytes.Contains([]byte(err.Error()), []byte(file)) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
}

func TestKubeconfigLoads(t *testing.T) {
	dir := t.TempDir()
	ca, err := OpenAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.Issue("admin", Subject{CommonName: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sub", "kubeconfig")
	if err := Kubeconfig(file, "lab-one", "https://127.0.0.1:1", ca, p); err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CurrentContext != "lab-one" || cfg.Clusters["lab-one"].Server != "https://127.0.0.1:1" {
		t.Errorf("got context %q, clusters %v", cfg.CurrentContext, cfg.Clusters)
	}
}
