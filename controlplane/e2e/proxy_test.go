package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestKubeProxyInNamespace runs kube-proxy for a node that is a network
// namespace from which the API server can't be reached, and looks at the rules
// there: they come, follow, and go.
func TestKubeProxyInNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	const ns = "picket-controlplane-e2e"
	command := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	_ = exec.Command("ip", "netns", "del", ns).Run() // of a test that was killed
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Skipf("network namespaces: %s", out)
	}
	t.Cleanup(func() { command("ip", "netns", "del", ns) })
	command("ip", "-n", ns, "link", "set", "lo", "up")
	before := command("nft", "list", "tables")

	ctx := testContext(t)
	args := []string{"--data", t.TempDir(), "--kube-proxy-node", "worker=/run/netns/" + ns, "--cluster-cidr", "10.1.0.0/16"}
	p := start(t, args...)
	fakeNode(ctx, t, p, "worker", "192.0.2.1")
	s := service(ctx, t, p, "default")
	rules := func() string { return command("ip", "netns", "exec", ns, "nft", "list", "ruleset") }
	eventually(t, func() string {
		if got := rules(); !strings.Contains(got, s.Spec.ClusterIP+" . tcp . 80") {
			return "no rule for the Service in:\n" + got
		}
		return ""
	})
	pod, err := p.client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if pod, err = p.client.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		if pod.Spec.NodeName == "" {
			return "the pod is not bound"
		}
		return ""
	})
	run(ctx, t, p, pod, "10.1.0.7")
	eventually(t, func() string {
		if got := rules(); !strings.Contains(got, "10.1.0.7") {
			return "no rule for the endpoint in:\n" + got
		}
		return ""
	})
	if after := command("nft", "list", "tables"); strings.Contains(after, "kube-proxy") && !strings.Contains(before, "kube-proxy") {
		t.Errorf("it is in our own namespace too:\n%s", after)
	}

	// Killed, the control plane takes kube-proxy with it, and comes back with it.
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	eventually(t, func() string {
		if got := rules(); got != "" {
			return "killed, it leaves in the namespace:\n" + got
		}
		return ""
	})
	p = start(t, args...)
	eventually(t, func() string {
		if got := rules(); !strings.Contains(got, "10.1.0.7") {
			return "after the restart no rule for the endpoint in:\n" + got
		}
		return ""
	})
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if got := rules(); got != "" {
		t.Errorf("stopped, it leaves in the namespace:\n%s", got)
	}
	if err := syscall.Kill(-p.ready.PID, 0); err != syscall.ESRCH {
		t.Errorf("a process of its group is still there (%v)", err)
	}
}
