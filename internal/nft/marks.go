//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Numbers of the connection tracking netlink protocol
// (linux/netfilter/nfnetlink_conntrack.h).
const (
	subsysConntrack = 1
	msgCtNew        = 0
	msgCtGet        = 1
	ctTuple         = 1
	ctMark          = 8
	ctZone          = 18
	ctMarkMask      = 21
)

// firstGeneration chooses the generation of a load: one that no connection
// carries. If it is known which was the last it is the next one; otherwise the
// marks of all connections are cleared.
func (k *Kernel) firstGeneration(found *inventory) error {
	n := k.options.generations()
	switch {
	case k.generation != 0:
	case found.mask == k.options.MarkMask && k.options.generationOf(found.mark) != 0:
		k.generation = k.options.generationOf(found.mark)
	default:
		k.generation = 1
		return k.sweep(0)
	}
	if k.generation%n == 0 {
		// The next one was there before.
		if err := k.sweep(k.generation); err != nil {
			return err
		}
		k.leftovers = true
	}
	k.generation++
	return nil
}

// sweepLeftovers clears the marks of generations that have gone, after the
// count has begun anew.
func (k *Kernel) sweepLeftovers() error {
	if !k.leftovers || k.loaded == nil {
		return nil
	}
	if err := k.sweep(k.generation); err != nil {
		return err
	}
	k.leftovers = false
	return nil
}

// sweep clears our bits of the mark of every connection, but those that carry
// generation keep; 0 keeps none. The other bits stay as they are.
func (k *Kernel) sweep(keep uint32) error {
	kept := uint32(0)
	if keep != 0 {
		kept = k.options.mark(keep)
	}
	conns, err := k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: subsysConntrack<<8 | msgCtGet, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{familyUnspec, 0, 0, 0},
	})
	if err != nil {
		return fmt.Errorf("list connections to clear their marks: %w", err)
	}
	for _, m := range conns {
		mark, family, tuple, zone, err := readConn(m.Data)
		if err != nil {
			return fmt.Errorf("read a connection: %w", err)
		}
		if mark&k.options.MarkMask == 0 || mark&k.options.MarkMask == kept {
			continue
		}
		e := &encoder{b: []byte{family, 0, 0, 0}}
		e.attr(ctTuple|nested, tuple)
		if zone != nil {
			e.attr(ctZone, zone)
		}
		e.u32(ctMark, 0)
		e.u32(ctMarkMask, k.options.MarkMask)
		_, err = k.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: subsysConntrack<<8 | msgCtNew, Flags: netlink.Request | netlink.Acknowledge},
			Data:   e.b,
		})
		if err != nil && !errors.Is(err, unix.ENOENT) { // else it has ended since
			return fmt.Errorf("clear the mark of a connection: %w", err)
		}
	}
	return nil
}

func readConn(data []byte) (mark uint32, family byte, tuple, zone []byte, err error) {
	if len(data) < 4 {
		return 0, 0, nil, nil, errors.New("message cut short")
	}
	family = data[0]
	err = attributes(data[4:], func(typ uint16, v []byte) error {
		switch {
		case typ == ctMark && len(v) == 4:
			mark = binary.BigEndian.Uint32(v)
		case typ == ctTuple:
			tuple = slices.Clone(v)
		case typ == ctZone:
			zone = slices.Clone(v)
		}
		return nil
	})
	return mark, family, tuple, zone, err
}
