package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestScale measures, when CONTROLPLANE_SCALE says how many pods: how fast they
// can be made, and what memory the program takes then.
func TestScale(t *testing.T) {
	pods, err := strconv.Atoi(os.Getenv("CONTROLPLANE_SCALE"))
	if err != nil {
		t.Skip("a measurement; CONTROLPLANE_SCALE is the number of pods")
	}
	const perNode = 100
	ctx := t.Context()
	p := start(t, "--controller-manager-arg=--controllers=*,-node-lifecycle-controller")
	t.Logf("empty: %s MB", resident(t, p))
	for n := range pods / perNode {
		fakeNode(ctx, t, p, fmt.Sprintf("node-%d", n), fmt.Sprintf("192.0.%d.%d", n/250, n%250+1))
	}
	begin := time.Now()
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for n := range numbers {
				pod := &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", n), Labels: map[string]string{"app": fmt.Sprintf("app-%d", n%100)}},
					Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", n/perNode), Containers: []corev1.Container{{Name: "c", Image: "none"}}},
				}
				made, err := p.client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
					continue
				}
				run(ctx, t, p, made, fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255))
			}
		})
	}
	for n := range pods {
		numbers <- n
	}
	close(numbers)
	workers.Wait()
	took := time.Since(begin)
	list, err := p.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil || len(list.Items) != pods {
		t.Errorf("%d pods, %v", len(list.Items), err)
	}
	t.Logf("%d pods made and running in %s, %.0f a second: %s MB", pods, took.Round(time.Second), float64(pods)/took.Seconds(), resident(t, p))
}

// resident is the program's memory in megabytes.
func resident(t *testing.T, p *process) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.ready.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(kb)[0])
			if err != nil {
				t.Fatal(err)
			}
			return strconv.Itoa(n / 1000)
		}
	}
	t.Fatal("no VmRSS")
	return ""
}
