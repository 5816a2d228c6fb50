package cluster

import (
	"fmt"
	"runtime"
	"testing"

	"picket/internal/kube"
)

// livePod is a pod as an API server sends it, but for managedFields, which are
// as large again.
func livePod(i int) string {
	return fmt.Sprintf(`{"metadata":{"name":"web-5d78c9869d-%05d","generateName":"web-5d78c9869d-","namespace":"team-%d","uid":"0f2e3a52-58f8-4d0c-9a55-%012d","resourceVersion":"%d","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web-%d","app.kubernetes.io/part-of":"shop","pod-template-hash":"5d78c9869d","tier":"web"},"annotations":{"prometheus.io/scrape":"true","prometheus.io/port":"9090","checksum/config":"0d8a8f3c5b9e4b4a0d8a8f3c5b9e4b4a0d8a8f3c5b9e4b4a0d8a8f3c5b9e4b4a"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-5d78c9869d","uid":"b2","controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{}}},"subresource":"status"}]},"spec":{"nodeName":"node-%d","serviceAccountName":"default","containers":[{"name":"web","image":"registry.example.org/shop/web:1.2.3","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"},{"name":"metrics","containerPort":9090,"protocol":"TCP"}],"env":[{"name":"A","value":"B"}],"resources":{"requests":{"cpu":"100m","memory":"128Mi"}},"volumeMounts":[{"name":"kube-api-access","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"livenessProbe":{"httpGet":{"path":"/healthz","port":8080}}}],"volumes":[{"name":"kube-api-access"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"}],"hostIP":"192.0.2.1","podIP":"10.%d.%d.%d","podIPs":[{"ip":"10.%[6]d.%[7]d.%[8]d"}],"containerStatuses":[{"name":"web","state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}},"ready":true,"restartCount":0,"image":"registry.example.org/shop/web:1.2.3"}]}}`,
		i, i%100, i, i, i%50, i%200, 1+i>>16, i>>8&255, i&255)
}

func benchWatcher(b *testing.B, pods int) *Watcher {
	w := newWatcher(WatchOptions{}, &client{name: "here"})
	for _, k := range w.kinds {
		k.status.Synced = true
		if k.kind != "Pod" {
			continue
		}
		for i := range pods {
			o := k.decoder.Decode([]byte(livePod(i)), w.at, k.kind, k.apiVersion)
			if o.Broken != "" || !o.Known() {
				b.Fatal(o.Broken)
			}
			k.objects[objectKey{o.Namespace, o.Name}] = o
		}
	}
	return w
}

func BenchmarkSnapshot(b *testing.B) {
	for _, pods := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			before := heap()
			w := benchWatcher(b, pods)
			held := heap() - before
			b.ReportAllocs()
			for b.Loop() {
				if r := w.Snapshot(); len(r.Snapshot.Endpoints) != pods {
					b.Fatal("pods are missing")
				}
			}
			b.ReportMetric(float64(held)/float64(pods), "B/pod")
		})
	}
}

func BenchmarkDecodePod(b *testing.B) {
	d := kube.NewDecoder(kube.Options{Live: true})
	raw := []byte(livePod(7))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		d.Decode(raw, source{"here"}, "Pod", "v1")
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
