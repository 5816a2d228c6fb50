//go:build linux

package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forget empties the connection tables of all nodes. Protocols without ports
// need it: all packets of such a protocol between two hosts are one connection
// to the kernel, whichever way they go, so that a probe one way would open the
// other way for those that follow.
func (l *Lab) Forget(ctx context.Context) error {
	hubs := l.spaces[:1+l.nodes]
	return each(ctx, len(hubs), func(i int) error {
		err := l.inside(hubs[i], func() error {
			h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
			if err != nil {
				return err
			}
			defer h.Close()
			return h.ConntrackTableFlush(netlink.ConntrackTable)
		})
		if err != nil {
			return fmt.Errorf("lab: %s: empty the connection table: %w", hubs[i].name, err)
		}
		return nil
	})
}
