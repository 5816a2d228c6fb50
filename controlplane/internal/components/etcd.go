package components

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"picket/controlplane/internal/datadir"
)

// Etcd is a store of one member. It listens on sockets in the data folder only:
// who can't enter that folder can't reach it.
type Etcd struct {
	// Endpoint is the URL for clients within this process.
	Endpoint string
	server   *embed.Etcd
}

// StartEtcd opens the store in dir and waits until it serves. Unless sync is
// set, writes are not forced to disk: they outlive the process, killed or not,
// but perhaps not the machine.
func StartEtcd(ctx context.Context, dir *datadir.Dir, logFile string, sync bool) (*Etcd, error) {
	data, err := dir.Sub("etcd")
	if err != nil {
		return nil, err
	}
	client := url.URL{Scheme: "unix", Path: dir.Socket("etcd.sock")}
	// For peers the listener looks at the host alone, and would listen on an
	// abstract socket, open to all, if that were empty.
	peer := url.URL{Scheme: "unix", Host: dir.Socket("etcd-peer.sock")}
	// Two of these are reserved on disk; the usual 64 MB are for machines that
	// do nothing else.
	wal.SegmentSizeBytes = 16 << 20
	cfg := embed.NewConfig()
	cfg.Dir = data
	cfg.ListenClientUrls = []url.URL{client}
	cfg.ListenPeerUrls = []url.URL{peer}
	// Advertised URLs must look like a host and port, so these stay as they
	// are by default. A sole member never dials them.
	cfg.UnsafeNoFsync = !sync
	// Short elections: a sole member waits one out at each start.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.QuotaBackendBytes = 8 << 30
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "5m"
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{logFile}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	e := &Etcd{Endpoint: client.String(), server: server}
	select {
	case <-server.Server.ReadyNotify():
		return e, nil
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("etcd: %w", err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("etcd: %w", context.Cause(ctx))
	}
}

// Failed delivers the error that ended the store, if one does.
func (e *Etcd) Failed() <-chan error { return e.server.Err() }

// Stop closes the store.
func (e *Etcd) Stop(patience time.Duration) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.server.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return errors.New("etcd did not stop within " + patience.String())
	}
}
