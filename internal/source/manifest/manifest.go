// Package manifest reads Kubernetes objects from YAML and JSON files, folders
// and standard input, and hands them to a kube.Builder with their positions.
//
// One bad document never hides the others. A position inside a document is
// looked up only when something asks for it, since most objects are only ever
// said to be in a file at a line.
package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"picket/internal/kube"
)

// Options say how input is found.
type Options struct {
	// Recursive descends into subfolders. Symbolic links to folders are not
	// followed.
	Recursive bool
	// Stdin is what the path "-" means.
	Stdin io.Reader
	// MaxBytes bounds all input of one Read together. 0 means 64 MiB.
	MaxBytes int64
}

// defaultMaxBytes is what Options.MaxBytes 0 means.
const defaultMaxBytes = 64 << 20

// stdinName is how standard input is called in positions.
const stdinName = "stdin"

// Read adds the objects of each path to b: of a file, of "-", or of the files
// *.yaml, *.yml and *.json of a folder, in the order of their names. What is
// wrong with the content goes to b; an error means that something could not be
// read at all.
func Read(b *kube.Builder, paths []string, o Options) error {
	r := reader{b: b, opts: o, left: o.MaxBytes, seen: map[string]bool{}}
	if r.left <= 0 {
		r.left = defaultMaxBytes
	}
	r.limit = r.left
	for _, p := range paths {
		if err := r.path(p); err != nil {
			return err
		}
	}
	return nil
}

type reader struct {
	b     *kube.Builder
	opts  Options
	limit int64
	left  int64
	seen  map[string]bool // what was read, so that it is not read twice
}

func (r *reader) path(p string) error {
	if p == "-" || p == "/dev/stdin" {
		if r.opts.Stdin == nil {
			return errors.New("standard input is not available")
		}
		if r.seen["-"] {
			return nil
		}
		r.seen["-"] = true
		return r.content(stdinName, r.opts.Stdin, true)
	}
	info, err := os.Stat(p)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", p, reason(err))
	}
	if !info.IsDir() {
		return r.file(p, true)
	}
	files, below, err := list(p, r.opts.Recursive)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		hint := ""
		if below {
			hint = "; its subfolders have some: add -R to read them"
		}
		return fmt.Errorf("no *.yaml, *.yml or *.json file in folder %s%s", p, hint)
	}
	for _, f := range files {
		if err := r.file(f, false); err != nil {
			return err
		}
	}
	return nil
}

// reason strips the operation and the path off an error that names both again.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// list returns the manifests of a folder, sorted. below reports whether, not
// recursing, it has seen some in a subfolder.
func list(dir string, recursive bool) (files []string, below bool, err error) {
	seen := 0
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if !recursive && filepath.Dir(p) != filepath.Clean(dir) && p != dir {
				return nil // only the hint is lost
			}
			return fmt.Errorf("cannot read %s: %w", p, reason(err))
		}
		inside := p == dir || filepath.Dir(p) == filepath.Clean(dir)
		if e.IsDir() {
			if p == dir {
				return nil
			}
			if seen++; !recursive && (below || seen > 1000) { // enough for a hint
				return fs.SkipDir
			}
			return nil
		}
		switch strings.ToLower(filepath.Ext(p)) {
		case ".yaml", ".yml", ".json":
		default:
			return nil
		}
		if e.Type()&fs.ModeSymlink != 0 {
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				return nil
			}
		}
		if recursive || inside {
			files = append(files, p)
		} else {
			below = true
		}
		return nil
	})
	slices.Sort(files)
	return files, below, err
}

// file reads one file. named says that the user named it, and not only its
// folder.
func (r *reader) file(p string, named bool) error {
	if r.seen[filepath.Clean(p)] {
		return nil
	}
	r.seen[filepath.Clean(p)] = true
	info, err := os.Stat(p)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", p, reason(err))
	}
	mode := info.Mode()
	pipe := mode&fs.ModeNamedPipe != 0
	if !mode.IsRegular() && (!pipe || !named) {
		return fmt.Errorf("cannot read %s: it is %s, not a file", p, what(mode))
	}
	if mode.IsRegular() && info.Size() > r.left {
		return r.tooLarge(p)
	}
	// Without O_NONBLOCK, opening a pipe that nobody writes to never returns.
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", p, reason(err))
	}
	defer f.Close()
	return r.content(p, f, pipe)
}

func what(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}

func (r *reader) tooLarge(name string) error {
	return fmt.Errorf("cannot read %s: the input is larger than %s in all", name, mib(r.limit))
}

func mib(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// content reads one stream. Nothing in a stream that should have some is an
// error.
func (r *reader) content(name string, in io.Reader, stream bool) error {
	data, err := io.ReadAll(io.LimitReader(in, r.left+1))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, reason(err))
	}
	if int64(len(data)) > r.left {
		return r.tooLarge(name)
	}
	if len(data) == 0 && stream {
		return fmt.Errorf("nothing to read from %s", name)
	}
	r.left -= int64(len(data))
	parse(r.b, name, data)
	return nil
}
