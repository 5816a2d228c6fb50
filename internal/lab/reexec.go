//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// entered marks the environment of a process that Enter started.
const entered = "PICKET_LAB_ENTERED"

// NeedsReexec reports whether this process may not make network namespaces,
// and must first be started anew in a user namespace of its own, by Enter. The
// error says why that would not help either. The pattern, before New:
//
//	if need, err := lab.NeedsReexec(); err != nil {
//		return err
//	} else if need {
//		code, err := lab.Enter(ctx)
//		… // end with code: the other process did the work
//	}
func NeedsReexec() (bool, error) {
	ns, err := inNewNamespace(func() error { return nil })
	if err == nil {
		return false, ns.Close()
	}
	if !errors.Is(err, unix.EPERM) {
		return false, fmt.Errorf("lab: %w", err)
	}
	if os.Getenv(entered) != "" {
		return false, fmt.Errorf("lab: not even in a user namespace: %w%s", err, advice())
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = inUserNamespace()
	// Only the namespaces are tried: a program that is not there is not run.
	cmd.Path = "/proc/self/exe/none"
	if err := cmd.Start(); err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("lab: make a user namespace: %w%s", err, advice())
	}
	return true, nil
}

// Enter runs this program again, with the same arguments, as root of a new
// user namespace with an empty network, and returns its exit status. The other
// process has our standard streams and dies with us. When ctx is done it is
// interrupted, and killed if that does not end it.
func Enter(ctx context.Context) (code int, err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	return enter(cmd)
}

func enter(cmd *exec.Cmd) (code int, err error) {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, entered+"=1")
	cmd.SysProcAttr = inUserNamespace()
	if cmd.Stdin == nil {
		cmd.Stdin = os.Stdin
	}
	if cmd.Stdout == nil {
		cmd.Stdout = os.Stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// The other process dies with the thread that started it: one that lives
	// until it is waited for.
	err = onThread(cmd.Run)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case err != nil && cmd.ProcessState == nil:
		return 0, fmt.Errorf("lab: start in a user namespace: %w%s", err, advice())
	case err != nil:
		return 0, fmt.Errorf("lab: in a user namespace: %w", err)
	}
	return 0, nil
}

func inUserNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
}

// advice names the settings of this machine that forbid user namespaces.
func advice() string {
	var found []string
	for _, s := range []struct{ name, bad string }{
		{"kernel.unprivileged_userns_clone", "0"},
		{"user.max_user_namespaces", "0"},
		{"user.max_net_namespaces", "0"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1"},
	} {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(b)) == s.bad {
			found = append(found, s.name+"="+s.bad)
		}
	}
	if len(found) == 0 {
		return "; run as root, or allow user namespaces (a container must allow unshare and mount no masked /proc)"
	}
	return "; run as root, or change " + strings.Join(found, ", ")
}
