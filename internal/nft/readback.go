//go:build linux

package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attributes calls visit for each netlink attribute in b, with its type bare of
// flags. Malformed data is an error.
func attributes(b []byte, visit func(typ uint16, data []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errors.New("netlink attribute cut short")
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return fmt.Errorf("netlink attribute of %d bytes in %d", size, len(b))
		}
		if err := visit(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:size]); err != nil {
			return err
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// request asks for a dump and hands each answer's attributes on.
func (k *Kernel) request(typ uint16, flags netlink.HeaderFlags, fill func(*encoder), each func(attrs []byte) error) error {
	e := &encoder{b: []byte{familyInet, 0, 0, 0}, names: k.names}
	if fill != nil {
		fill(e)
	}
	answers, err := k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsysNFTables<<8 | typ), Flags: netlink.Request | flags},
		Data:   e.b,
	})
	if err != nil {
		return err
	}
	for _, a := range answers {
		if len(a.Data) < 4 {
			continue
		}
		if err := each(a.Data[4:]); err != nil {
			return err
		}
	}
	return nil
}

// Elements reads the elements of a set back, sorted by key. Reading a large
// hash map takes time in the square of its size.
func (k *Kernel) Elements(set string) ([]Elem, error) {
	spec := specByName[set]
	if spec == nil {
		return nil, fmt.Errorf("no set %q", set)
	}
	var out []Elem
	err := k.request(msgGetSetElem, netlink.Dump, func(e *encoder) {
		e.str(1, k.options.Table)
		e.str(2, e.set(set))
	}, func(attrs []byte) error {
		return attributes(attrs, func(typ uint16, list []byte) error {
			if typ != 3 {
				return nil
			}
			return attributes(list, func(_ uint16, data []byte) error {
				el, end, err := parseElem(spec, data)
				if err == nil {
					out = append(out, el)
					if end {
						out[len(out)-1].Code = intervalEnd
					}
				}
				return err
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read set %s: %w", set, err)
	}
	slices.SortStableFunc(out, func(a, b Elem) int {
		if c := compareKeys(a, b); c != 0 {
			return c
		}
		// Where one interval ends and the next begins, the end comes first.
		return int(b.Code&intervalEnd) - int(a.Code&intervalEnd)
	})
	if spec.Interval && len(spec.Key) == 1 {
		out = closeIntervals(out)
	}
	return out, nil
}

// intervalEnd marks, while reading, where an interval has ended.
const intervalEnd Code = 1 << 20

// closeIntervals turns starts and ends into ranges.
func closeIntervals(in []Elem) []Elem {
	var out []Elem
	for _, e := range in {
		if e.Code == intervalEnd {
			if n := len(out); n > 0 && out[n-1].To == nil {
				out[n-1].To = predecessor(e.Key)
			}
			continue
		}
		out = append(out, e)
	}
	for i := range out {
		if out[i].To == nil {
			out[i].To = bytes.Repeat([]byte{0xff}, len(out[i].Key))
		}
	}
	return out
}

func predecessor(k []byte) []byte {
	out := slices.Clone(k)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// parseElem reads one element as the kernel reports it.
func parseElem(s *SetSpec, data []byte) (el Elem, end bool, err error) {
	err = attributes(data, func(typ uint16, v []byte) error {
		switch typ {
		case 1:
			return value(v, &el.Key)
		case 10:
			return value(v, &el.To)
		case 2:
			if !s.Verdicts {
				return value(v, &el.Value)
			}
			return attributes(v, func(_ uint16, v []byte) error {
				return attributes(v, func(typ uint16, v []byte) error {
					switch {
					case typ == 1 && len(v) == 4:
						el.Code = Code(int32(binary.BigEndian.Uint32(v)))
					case typ == 2:
						el.Chain = strings.TrimRight(string(v), "\x00")
					}
					return nil
				})
			})
		case 3:
			end = len(v) == 4 && binary.BigEndian.Uint32(v)&elemIntervalEnd != 0
		}
		return nil
	})
	return el, end, err
}

func value(data []byte, into *[]byte) error {
	return attributes(data, func(typ uint16, v []byte) error {
		if typ == 1 {
			*into = slices.Clone(v)
		}
		return nil
	})
}

// readExprs reads the instructions of a rule that the caller asks for: masks
// and comparisons.
func readExprs(rule []byte) []Expr {
	var out []Expr
	_ = attributes(rule, func(typ uint16, list []byte) error {
		if typ != 4 {
			return nil
		}
		return attributes(list, func(_ uint16, expr []byte) error {
			var name string
			return attributes(expr, func(typ uint16, data []byte) error {
				if typ == 1 {
					name = text(data)
					return nil
				}
				var bits, cmp []byte
				err := attributes(data, func(typ uint16, data []byte) error {
					switch {
					case name == "bitwise" && typ == 4:
						return value(data, &bits)
					case name == "cmp" && typ == 3:
						return value(data, &cmp)
					}
					return nil
				})
				if bits != nil {
					out = append(out, Bitwise{Mask: bits})
				}
				if cmp != nil {
					out = append(out, Cmp{Data: cmp})
				}
				return err
			})
		})
	})
	return out
}

// rules reads how the kernel shows our rules: chain and instructions, without
// handles.
func (k *Kernel) rules() ([]byte, error) {
	var out []byte
	err := k.request(msgGetRule, netlink.Dump, func(e *encoder) { e.str(1, k.options.Table) }, func(attrs []byte) error {
		return attributes(attrs, func(typ uint16, data []byte) error {
			if typ == 2 || typ == 4 {
				out = append(out, data...)
			}
			return nil
		})
	})
	return out, err
}

// revision returns the kernel's count of nftables changes in this network
// namespace, by anybody.
func (k *Kernel) revision() (uint32, error) {
	var rev uint32
	err := k.request(msgGetGen, 0, nil, func(attrs []byte) error {
		return attributes(attrs, func(typ uint16, data []byte) error {
			if typ == 1 && len(data) == 4 {
				rev = binary.BigEndian.Uint32(data)
			}
			return nil
		})
	})
	return rev, err
}

// Counts reads the named counters: packets by name.
func (k *Kernel) Counts() (map[string]uint64, error) {
	out := map[string]uint64{}
	err := k.request(msgGetObj, netlink.Dump, func(e *encoder) { e.str(1, k.options.Table) }, func(attrs []byte) error {
		var name string
		var packets uint64
		err := attributes(attrs, func(typ uint16, data []byte) error {
			switch typ {
			case 2:
				name = strings.TrimRight(string(data), "\x00")
			case 4:
				return attributes(data, func(typ uint16, v []byte) error {
					if typ == 2 && len(v) == 8 {
						packets = binary.BigEndian.Uint64(v)
					}
					return nil
				})
			}
			return nil
		})
		out[name] = packets
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return out, nil
}

// Check compares the kernel with what was last applied and says, a line each,
// what somebody else has changed. While nobody has committed anything to
// nftables in this network namespace since the last look it costs one message.
func (k *Kernel) Check() ([]string, error) {
	if k.loaded == nil {
		return []string{"nothing is loaded"}, nil
	}
	rev, err := k.revision()
	if err != nil {
		return nil, fmt.Errorf("ask nf_tables for its revision: %w", err)
	}
	if rev == k.checked {
		return nil, nil
	}
	var wrong []string
	found, err := k.inventory()
	if err != nil {
		return nil, err
	}
	if found.exists && !found.fits(k.options.chains(k.generation)) {
		wrong = append(wrong, "the table's flags or chains differ")
	}
	rules, err := k.rules()
	switch {
	case errors.Is(err, unix.ENOENT):
		return []string{"the table is gone"}, nil
	case err != nil:
		return nil, fmt.Errorf("read rules: %w", err)
	case len(rules) == 0:
		return []string{"the table or its rules are gone"}, nil
	case !bytes.Equal(rules, k.rulesSeen):
		wrong = append(wrong, "the rules differ")
	}
	for _, s := range specs() {
		got, err := k.Elements(s.Name)
		if errors.Is(err, unix.ENOENT) {
			wrong = append(wrong, "set "+s.Name+" is gone")
			continue
		}
		if err != nil {
			return nil, err
		}
		c := diff(got, k.loaded.elements(s.Name))
		if len(c.add)+len(c.remove) > 0 {
			wrong = append(wrong, fmt.Sprintf("set %s: %d elements are missing or changed, %d are not ours", s.Name, len(c.add), len(c.gone)))
		}
	}
	if len(wrong) == 0 {
		k.checked = rev
	}
	return wrong, nil
}

// Repair loads the whole plan again, whatever the kernel holds.
func (k *Kernel) Repair(p *Plan) error {
	k.loaded = nil
	return k.Apply(p)
}

// Watch calls changed whenever another process changes the named table in the
// network namespace, until ctx ends. Several changes may come as one call, and
// a call may be for nothing: Check tells.
func Watch(ctx context.Context, netns int, table string, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	defer conn.Close()
	const groupNFTables = 7
	if err := conn.JoinGroup(groupNFTables); err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	touched := false
	for {
		msgs, err := conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			changed() // more than we could read: look
			continue
		}
		if err != nil {
			return fmt.Errorf("watch nf_tables: %w", err)
		}
		for _, m := range msgs {
			name, pid, end := readEvent(m)
			if !end {
				touched = touched || name == table
				continue
			}
			if touched && pid != uint32(unix.Getpid()) {
				changed()
			}
			touched = false
		}
	}
}

// readEvent reads what changed: a part of the named table, or the end of a
// transaction with the process that made it.
func readEvent(m netlink.Message) (table string, pid uint32, end bool) {
	if len(m.Data) < 4 || m.Header.Type>>8 != subsysNFTables {
		return "", 0, false
	}
	end = m.Header.Type&0xff == msgNewGen
	_ = attributes(m.Data[4:], func(typ uint16, v []byte) error {
		switch {
		case end && typ == 2:
			pid = be32(v)
		case !end && typ == 1:
			table = text(v)
		}
		return nil
	})
	return table, pid, end
}
