package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"picket/internal/kube"
)

// clusterYAML writes pods as kubectl prints them, less the fields that nobody
// keeps in files, and policies of the usual size.
func clusterYAML(pods, policies int) string {
	var b strings.Builder
	for i := range pods {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata:
  name: pod-%d
  namespace: ns-%d
  labels:
    app: app-%d
    tier: tier-%d
    app.kubernetes.io/part-of: shop
spec:
  serviceAccountName: app-%d
  containers:
  - name: main
    image: registry.example.com/shop/app-%d:1.2.3
    ports:
    - name: http
      containerPort: 8080
      protocol: TCP
    - name: metrics
      containerPort: 9090
status:
  phase: Running
  podIP: 10.1.%d.%d
`, i, i%20, i%50, i%3, i%50, i%50, i/250, i%250+1)
	}
	for i := range policies {
		fmt.Fprintf(&b, `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: policy-%d
  namespace: ns-%d
spec:
  podSelector:
    matchLabels:
      app: app-%d
  policyTypes:
  - Ingress
  - Egress
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: ns-%d
      podSelector:
        matchLabels:
          app: app-%d
    - ipBlock:
        cidr: 10.0.0.0/8
        except:
        - 10.1.0.0/16
    ports:
    - protocol: TCP
      port: 8080
  egress:
  - to:
    - namespaceSelector: {}
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    ports:
    - protocol: UDP
      port: 53
`, i, i%20, i%50, (i+1)%20, (i+7)%50)
	}
	return b.String()
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []struct{ pods, policies int }{{100, 30}, {1000, 300}, {10000, 1000}} {
		b.Run(fmt.Sprintf("pods=%d/policies=%d", size.pods, size.policies), func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "all.yaml")
			text := clusterYAML(size.pods, size.policies)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				k := kube.NewBuilder(kube.Options{})
				if err := Read(k, []string{file}, Options{}); err != nil {
					b.Fatal(err)
				}
				if r := k.Build(); r.Diagnostics.HasErrors() || len(r.Snapshot.Endpoints) != size.pods {
					b.Fatal(r.Diagnostics)
				}
			}
		})
	}
}
