// Package e2e tests the program as its users have it: the binary, started anew,
// and a client.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// limit bounds whatever a test waits for. It is no measure: reached, all is lost.
const limit = 90 * time.Second

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	binary = os.Getenv("CONTROLPLANE")
	if binary == "" {
		dir, err := os.MkdirTemp("", "controlplane-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "controlplane")
		out, err := exec.Command("make", "-C", "..", "build", "OUT="+binary).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
			return 1
		}
	}
	defer stopShared()
	return m.Run()
}

// ready is the line that the program prints.
type ready struct {
	Kubeconfig string
	Server     string
	CA         string
	Data       string
	Log        string
	Version    string
	PID        int
	Seconds    float64
}

// process is the program, started.
type process struct {
	ready  ready
	config *rest.Config
	client kubernetes.Interface

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer
	exited chan struct{}
}

// launch starts the program in a process group of its own, and returns it when
// it has printed its line or ended.
func launch(args ...string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), stderr: new(bytes.Buffer), exited: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = time.Second
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	text, readErr := bufio.NewReader(stdout).ReadBytes('\n')
	go func() {
		defer close(p.exited)
		_, _ = io.Copy(io.Discard, stdout)
		_ = p.cmd.Wait()
	}()
	if readErr != nil {
		<-p.exited
		return p, fmt.Errorf("ended without its line: %v: %s", p.cmd.ProcessState, p.stderr)
	}
	if err := json.Unmarshal(text, &p.ready); err != nil {
		return p, errors.Join(fmt.Errorf("line %q: %w", text, err), p.stop())
	}
	if p.config, err = clientcmd.BuildConfigFromFlags("", p.ready.Kubeconfig); err != nil {
		return p, errors.Join(err, p.stop())
	}
	p.config.QPS = -1
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		return p, errors.Join(err, p.stop())
	}
	return p, nil
}

// stop ends the program as an operator would.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

// wait returns nil if the program ends with status 0.
func (p *process) wait() error {
	select {
	case <-p.exited:
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return errors.New("did not end")
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%v: %s", p.cmd.ProcessState, p.stderr)
	}
	return nil
}

// start is launch for one test, which may stop the program itself.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := launch(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-p.exited:
			return
		default:
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

var common struct {
	once sync.Once
	p    *process
	err  error
}

// shared is a control plane with default options for all tests that leave it
// as it is, but for namespaces and nodes of their own.
func shared(t *testing.T) *process {
	t.Helper()
	common.once.Do(func() { common.p, common.err = launch() })
	if common.err != nil {
		t.Fatal(common.err)
	}
	return common.p
}

func stopShared() {
	if common.p != nil && common.err == nil {
		if err := common.p.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// testContext ends with the test or at the limit.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until check returns "", and fails the test with what it
// said last if it does not.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if said = check(); said == "" {
			return
		}
	}
	t.Fatal(said)
}

// refused runs the program, which must end by itself: with status 2, one line
// on standard error that holds want, and nothing on standard output.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("%v: status %d, want 2", args, code)
	}
	message := errs.String()
	if strings.Count(message, "\n") != 1 || !strings.Contains(message, want) {
		t.Errorf("%v: got %q, want one line with %q", args, message, want)
	}
	if out.Len() > 0 {
		t.Errorf("%v: printed %q", args, out.String())
	}
}
