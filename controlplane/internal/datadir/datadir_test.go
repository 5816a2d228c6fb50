package datadir

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecondHolderIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path)
	if want := fmt.Sprintf("in use by process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(path)
	if err != nil {
		t.Fatalf("after the first has closed: %v", err)
	}
	second.Close()
}

func TestNumberOutlivesHolder(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Number("port"); n != 0 {
		t.Errorf("at first %d", n)
	}
	if err := d.SetNumber("port", 4711); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if d, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := d.Number("port"); n != 4711 {
		t.Errorf("got %d, want 4711", n)
	}
}

func TestTemporaryVanishesNamedStays(t *testing.T) {
	temp, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	if err := temp.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp.Path); !os.IsNotExist(err) {
		t.Errorf("the temporary folder is still there (%v)", err)
	}
	named, err := Open(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	named.Close()
	if _, err := os.Stat(named.Path); err != nil {
		t.Errorf("the named folder: %v", err)
	}
}

func TestSocketInDeepFolder(t *testing.T) {
	d, err := Open(filepath.Join(t.TempDir(), strings.Repeat("deep", 40)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := net.Listen("unix", d.Socket("s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Stat(d.File("s.sock")); err != nil {
		t.Errorf("the socket is elsewhere: %v", err)
	}
}

func TestFileInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names %s", err, path)
	}
}
