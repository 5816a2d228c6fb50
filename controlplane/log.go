package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"picket/controlplane/internal/components"
	"picket/controlplane/internal/datadir"
)

// messages is where this program speaks to its user. os.Stderr may be the log.
var messages = os.Stderr

// logFile takes the logs of all components.
type logFile struct {
	*os.File
	name string // "-" for standard error
	// spare is where the log goes after a failure, if its place will vanish.
	spare string
}

func openLog(f *flags, dir *datadir.Dir) (*logFile, error) {
	log := &logFile{File: os.Stderr, name: f.log}
	if f.log != "-" {
		if log.name == "" {
			log.name = dir.File("controlplane.log")
			if f.data == "" {
				log.spare = dir.Path + ".log"
			}
		}
		var err error
		if log.name, err = filepath.Abs(log.name); err != nil {
			return nil, err
		}
		if log.File, err = os.OpenFile(log.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return nil, fmt.Errorf("--log: %w", err)
		}
	}
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	for k, v := range map[string]string{
		"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL", "one_output": "true",
		"v": strconv.Itoa(f.verbosity),
	} {
		if err := fs.Set(k, v); err != nil {
			return nil, err
		}
	}
	klog.SetOutput(log.File)
	if log.File == os.Stderr {
		return log, nil
	}
	return log, log.redirect()
}

// redirect sends what components write to standard error, past klog, to the
// log. Standard error stays for the one message of this program, and for what
// ends it without one.
func (l *logFile) redirect() error {
	fd, err := unix.FcntlInt(os.Stderr.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	stderr := os.NewFile(uintptr(fd), "stderr")
	if err := debug.SetCrashOutput(stderr, debug.CrashOptions{}); err != nil {
		return err
	}
	klog.OsExit = func(int) {
		fmt.Fprintln(stderr, "controlplane: a component gave up (log: "+l.name+")")
		os.Exit(exitFailure)
	}
	if err := unix.Dup3(int(l.File.Fd()), int(os.Stderr.Fd()), 0); err != nil {
		return err
	}
	messages = stderr
	return nil
}

// Close leaves standard error open.
func (l *logFile) Close() error {
	klog.Flush()
	if l.name == "-" {
		return nil
	}
	return l.File.Close()
}

// explain makes one message of an error: being stopped before ready is one, and
// for all else but mistakes of the user the log is where to read on.
func (l *logFile) explain(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStopped) {
		return errStopped
	}
	if l.name == "-" || errors.Is(err, components.ErrUsage) {
		return err
	}
	name := l.name
	if l.spare != "" && os.Rename(l.name, l.spare) == nil {
		name = l.spare
	}
	return fmt.Errorf("%w (log: %s)", err, name)
}
