package kubeproxy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// restartDelay is between the end of a kube-proxy and the next. It ends
	// itself when it has waited too long for its node, or the node changed.
	restartDelay = time.Second
	// stopPatience is how long it may take to remove its rules.
	stopPatience = 5 * time.Second
)

// Keep runs kube-proxy as another process of this program until ctx ends, and
// starts it again whenever it ends before. Its log goes to log.
func Keep(ctx context.Context, o Options, log *os.File) error {
	// The kernel ends the child with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		err := once(ctx, o, log)
		if ctx.Err() != nil {
			return nil
		}
		fmt.Fprintf(log, "kube-proxy for %s ended (%v) and is started again\n", o.Node, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartDelay):
		}
	}
}

func once(ctx context.Context, o Options, log *os.File) error {
	path, err := self()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, o.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopPatience
	return cmd.Run()
}
