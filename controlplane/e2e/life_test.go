package e2e

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestReadyLine(t *testing.T) {
	p := shared(t)
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(out))
	if p.ready.Version != want {
		t.Errorf("the line says version %q, want %q", p.ready.Version, want)
	}
	served, err := p.client.Discovery().ServerVersion()
	if err != nil || served.GitVersion != want || served.Major+"."+served.Minor != "1.36" {
		t.Errorf("the server says version %v, %v; want %s", served, err, want)
	}
	if text, err := exec.Command(binary, "--version").Output(); err != nil || string(text) != want+"\n" {
		t.Errorf("--version says %q, %v; want %q", text, err, want)
	}
	server, err := url.Parse(p.ready.Server)
	if err != nil || server.Hostname() != "127.0.0.1" || p.config.Host != p.ready.Server {
		t.Errorf("server %q in the line, %q in the kubeconfig, %v", p.ready.Server, p.config.Host, err)
	}
	if p.ready.PID != p.cmd.Process.Pid {
		t.Errorf("pid %d, want %d", p.ready.PID, p.cmd.Process.Pid)
	}
	for file, mode := range map[string]os.FileMode{p.ready.Kubeconfig: 0o600, p.ready.Log: 0o600, p.ready.CA: 0o644, p.ready.Data: 0o700 | os.ModeDir} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", file, info, err, mode)
		}
	}
}

// TestListensOnLoopbackOnly reads the kernel's tables of listeners.
func TestListensOnLoopbackOnly(t *testing.T) {
	p := shared(t)
	server, err := url.Parse(p.ready.Server)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(server.Port())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ss", "-Hltnp").Output()
	if err != nil {
		t.Skipf("ss: %v", err)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "pid="+strconv.Itoa(p.ready.PID)+",") {
			continue
		}
		found++
		if local := strings.Fields(line)[3]; local != net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) {
			t.Errorf("listens on %s too", local)
		}
	}
	if found == 0 {
		t.Errorf("no listener found in:\n%s", out)
	}
}

// TestStopLeavesNothing stops a control plane that a client watches, which
// must not hold it up.
func TestStopLeavesNothing(t *testing.T) {
	p := start(t)
	w, err := p.client.CoreV1().Pods("").Watch(testContext(t), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if p.stderr.Len() > 0 {
		t.Errorf("said %q", p.stderr)
	}
	if _, err := os.Stat(p.ready.Data); !os.IsNotExist(err) {
		t.Errorf("the temporary folder is still there (%v)", err)
	}
	if err := syscall.Kill(-p.ready.PID, 0); err != syscall.ESRCH {
		t.Errorf("a process of its group is still there (%v)", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.ready.Server, "https://")); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

func TestStopsWhenStandardInputCloses(t *testing.T) {
	p := start(t, "--exit-with-parent")
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
}

func TestInterruptedStartLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var message strings.Builder
	cmd.Stderr = &message
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if found, _ := filepath.Glob(tmp + "/*/etcd"); len(found) == 0 {
			return "no folder was made"
		}
		return ""
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 || message.String() != "controlplane: stopped before it was ready\n" {
		t.Errorf("status %d, message %q", code, message.String())
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestRestartKeepsData stops the program, and then kills it, and starts it
// again on the same folder. Clients need not notice: the port, the authority
// and the key of tokens stay.
func TestRestartKeepsData(t *testing.T) {
	ctx := testContext(t)
	data := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	copied := filepath.Join(t.TempDir(), "kubeconfig")
	args := []string{"--data", data, "--kubeconfig-out", copied, "--name", "lab-one"}
	first := start(t, args...)
	if first.ready.Kubeconfig != copied || first.ready.Data != data {
		t.Errorf("the line says %+v", first.ready)
	}
	create := func(name string) {
		t.Helper()
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := first.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	find := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if _, err := first.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
				t.Errorf("after the restart, with the first client: %v", err)
			}
		}
	}
	create("before-term")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	second := start(t, args...)
	if second.ready.Server != first.ready.Server {
		t.Errorf("was at %s and is at %s", first.ready.Server, second.ready.Server)
	}
	find("before-term")
	create("before-kill")
	if err := second.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-second.exited

	third := start(t, args...)
	find("before-term", "before-kill")
	if third.ready.Server != first.ready.Server {
		t.Errorf("was at %s and is at %s", first.ready.Server, third.ready.Server)
	}
	refused(t, "is in use by process "+strconv.Itoa(third.ready.PID), "--data", data)
}

func TestOneClearMessage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := t.TempDir()
	if err := os.Symlink(file, filepath.Join(wrong, "crd.yaml")); err != nil {
		t.Fatal(err)
	}
	refused(t, "--port "+port+": listen tcp 127.0.0.1:"+port+": bind: address already in use", "--port", port)
	refused(t, "data folder: mkdir "+file+": not a directory", "--data", filepath.Join(file, "data"))
	refused(t, "data folder: mkdir /proc/picket", "--data", "/proc/picket")
	refused(t, "--log: open "+file+"/log", "--log", filepath.Join(file, "log"))
	refused(t, "--crds "+wrong+": crd.yaml: document 1 is no named CustomResourceDefinition", "--crds", wrong)
	refused(t, "--crds /nonexistent", "--crds", "/nonexistent")
	refused(t, `--service-cidr: netip.ParsePrefix("10.0.0.0")`, "--service-cidr", "10.0.0.0")
	refused(t, "--cluster-cidr: both CIDRs are of one family", "--cluster-cidr", "10.0.0.0/16,10.1.0.0/16")
	refused(t, "--advertise-address: the API refuses 127.0.0.1", "--advertise-address", "127.0.0.1")
	refused(t, `--network-policy-api "beta"`, "--network-policy-api", "beta")
	refused(t, "--feature-gates: unrecognized feature gate: Nonsense", "--feature-gates", "Nonsense=true")
	refused(t, "kube-scheduler: unknown flag: --nonsense", "--scheduler-arg", "--nonsense")
	refused(t, "unknown flag: --nonsense; see --help", "--nonsense")
	refused(t, `unknown command "nonsense"`, "nonsense")
}

// TestFailureKeepsItsLog starts a control plane that fails half way, in a
// temporary folder: of that only the log may stay.
func TestFailureKeepsItsLog(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(binary, "--apiserver-arg=--tls-cert-file=/nonexistent")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	message, _ := cmd.CombinedOutput()
	left, err := filepath.Glob(tmp + "/*")
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".log") {
		t.Fatalf("left %v, want one log; %s", left, message)
	}
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(message), "/nonexistent") || !strings.HasSuffix(string(message), " (log: "+left[0]+")\n") {
		t.Errorf("status %d, message %q", code, message)
	}
}
