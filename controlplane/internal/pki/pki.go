// Package pki makes the certificates and keys that the components of a control
// plane know each other by, in one directory of PEM files.
//
// Certificate authorities and the service-account key stay as they are once
// made, so that credentials handed out before a restart hold after it. All else
// is issued anew at every start.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	// skew is how far back a certificate is valid, for clocks that differ.
	skew = time.Hour
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// CertFile and KeyFile are where it is stored, in PEM.
	CertFile, KeyFile string
}

// Subject says for whom a certificate is. Kubernetes reads the user from
// CommonName and the groups from Organization.
type Subject struct {
	CommonName   string
	Organization []string
	Hosts        []string // DNS names and IP addresses; for servers only
}

// Pair is a certificate and its key: the PEM text and where it is stored.
type Pair struct {
	CertFile, KeyFile string
	Cert, Key         []byte
}

// OpenAuthority reads the authority NAME.crt, NAME.key of dir, or makes it.
func OpenAuthority(dir, name string) (*Authority, error) {
	a := &Authority{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
	certPEM, err := os.ReadFile(a.CertFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, a.create(name)
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(a.KeyFile)
	if err != nil {
		return nil, err
	}
	if a.cert, err = parseCert(certPEM); err != nil {
		return nil, fmt.Errorf("%s: %w", a.CertFile, err)
	}
	if a.key, err = parseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("%s: %w", a.KeyFile, err)
	}
	return a, nil
}

func (a *Authority) create(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "picket-" + name},
		NotBefore:             time.Now().Add(-skew),
		NotAfter:              time.Now().Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	// The key first: the certificate's presence says that both are there.
	if err := writeKey(a.KeyFile, key); err != nil {
		return err
	}
	return replaceFile(a.CertFile, encode("CERTIFICATE", der), 0o644)
}

// PEM returns the certificate of the authority.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.cert.Raw) }

// Issue makes NAME.crt and NAME.key for s beside the authority. A subject with
// hosts gets a server's certificate, any other a client's.
func (a *Authority) Issue(name string, s Subject) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.CommonName, Organization: s.Organization},
		NotBefore:    time.Now().Add(-skew),
		NotAfter:     time.Now().Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range s.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(s.Hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(a.CertFile)
	p := &Pair{
		CertFile: filepath.Join(dir, name+".crt"),
		KeyFile:  filepath.Join(dir, name+".key"),
		Cert:     encode("CERTIFICATE", der),
	}
	if err := replaceFile(p.CertFile, p.Cert, 0o644); err != nil {
		return nil, err
	}
	if err := writeKey(p.KeyFile, key); err != nil {
		return nil, err
	}
	p.Key, err = os.ReadFile(p.KeyFile)
	return p, err
}

// OpenKeyPair reads the bare key NAME.key with its public half NAME.pub from
// dir, or makes them. Service-account tokens are signed with it.
func OpenKeyPair(dir, name string) (private, public string, err error) {
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	text, err := os.ReadFile(private)
	var key crypto.Signer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			err = writeKey(private, key)
		}
	case err == nil:
		if key, err = parseKey(text); err != nil {
			err = fmt.Errorf("%s: %w", private, err)
		}
	}
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", "", err
	}
	return private, public, replaceFile(public, encode("PUBLIC KEY", der), 0o644)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeKey stores key in the form that every Kubernetes component reads, the
// verifier of service-account keys among them.
func writeKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	return replaceFile(file, encode("EC PRIVATE KEY", der), 0o600)
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("holds no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, errors.New("holds no EC private key in PEM")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// replaceFile writes a file so that a reader, or a start after a crash, sees
// the old one or the new one whole.
func replaceFile(file string, text []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
