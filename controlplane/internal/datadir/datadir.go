// Package datadir keeps the directory that a control plane lives in: made on
// demand, held by one process at a time, and removed at the end if it was only
// a temporary one.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Dir is a directory that this process holds.
type Dir struct {
	// Path is absolute.
	Path string
	// short is another path of it, of a few bytes whatever Path is.
	short string
	temp  bool
	lock  *os.File
	self  *os.File
}

// Open takes the directory path, or makes a temporary one if path is "". It
// fails if another process holds the directory or nothing can be written there.
func Open(path string) (*Dir, error) {
	d := &Dir{temp: path == ""}
	var err error
	if d.temp {
		path, err = os.MkdirTemp("", "picket-controlplane-")
	} else if path, err = filepath.Abs(path); err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d.Path = path
	if err := d.hold(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dir) hold() error {
	lock, err := os.OpenFile(d.File("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(lock, 32))
		lock.Close()
		return fmt.Errorf("data folder %s is in use by process %s", d.Path, strings.TrimSpace(string(holder)))
	}
	d.lock = lock
	if err := lock.Truncate(0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if _, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if d.self, err = os.Open(d.Path); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	d.short = fmt.Sprintf("/proc/self/fd/%d", d.self.Fd())
	return nil
}

// File returns the path of a file or directory in d.
func (d *Dir) File(name ...string) string {
	return filepath.Join(append([]string{d.Path}, name...)...)
}

// Socket returns a path for a socket in d that is short enough for the kernel,
// which takes 107 bytes. It means the socket within this process only.
func (d *Dir) Socket(name string) string { return filepath.Join(d.short, name) }

// Sub returns the path of a directory in d, made on demand.
func (d *Dir) Sub(name string) (string, error) {
	path := d.File(name)
	return path, os.MkdirAll(path, 0o700)
}

// Number reads what SetNumber stored under name, or 0.
func (d *Dir) Number(name string) int {
	text, err := os.ReadFile(d.File(name))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// SetNumber stores a number for the next process that opens d.
func (d *Dir) SetNumber(name string, n int) error {
	return os.WriteFile(d.File(name), []byte(strconv.Itoa(n)+"\n"), 0o600)
}

// Close gives d up, and removes it if it is temporary.
func (d *Dir) Close() error {
	var err error
	if d.temp {
		err = os.RemoveAll(d.Path)
	}
	for _, f := range []*os.File{d.self, d.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
