//go:build linux

package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// link is a network link of the namespace.
type link struct {
	name  string
	kind  string // "bridge", "veth"; "" for a plain device
	ports int    // of a bridge
	addrs []netip.Addr
}

// dump asks the kernel for a list. Each answer is handed on without the header
// of skip bytes.
func dump(family int, typ uint16, body []byte, skip int, each func(head []byte, ad *netlink.AttributeDecoder) error) error {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump}, Data: body,
	})
	if err != nil {
		var op *netlink.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return err
	}
	for _, a := range answers {
		if len(a.Data) < skip {
			return errors.New("netlink: a message is cut short")
		}
		ad, err := netlink.NewAttributeDecoder(a.Data[skip:])
		if err != nil {
			return err
		}
		if err := each(a.Data[:skip], ad); err != nil {
			return err
		}
		if err := ad.Err(); err != nil {
			return err
		}
	}
	return nil
}

var nftFamilies = map[byte]string{1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

// listNFTables returns the tables and chains of nftables in the current
// namespace, those of iptables-nft too, as "family name" and "family table
// name".
func listNFTables() (tables, chains []string, err error) {
	const getTable, getChain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	err = dump(unix.NETLINK_NETFILTER, getTable, make([]byte, 4), 4, func(head []byte, ad *netlink.AttributeDecoder) error {
		for ad.Next() {
			if ad.Type() == 1 {
				tables = append(tables, fmt.Sprint(nftFamilies[head[0]], " ", ad.String()))
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = dump(unix.NETLINK_NETFILTER, getChain, make([]byte, 4), 4, func(head []byte, ad *netlink.AttributeDecoder) error {
		var table, name string
		for ad.Next() {
			switch ad.Type() {
			case 1:
				table = ad.String()
			case 3:
				name = ad.String()
			}
		}
		chains = append(chains, strings.Join([]string{nftFamilies[head[0]], table, name}, " "))
		return nil
	})
	slices.Sort(tables)
	slices.Sort(chains)
	return tables, chains, err
}

// listLinks returns the network links of the current namespace, by name.
func listLinks() ([]link, error) {
	byIndex := map[uint32]*link{}
	masters := map[uint32]int{}
	err := dump(unix.NETLINK_ROUTE, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), unix.SizeofIfInfomsg, func(head []byte, ad *netlink.AttributeDecoder) error {
		l := &link{}
		for ad.Next() {
			switch ad.Type() {
			case unix.IFLA_IFNAME:
				l.name = ad.String()
			case unix.IFLA_MASTER:
				masters[ad.Uint32()]++
			case unix.IFLA_LINKINFO:
				ad.Nested(func(nad *netlink.AttributeDecoder) error {
					for nad.Next() {
						if nad.Type() == unix.IFLA_INFO_KIND {
							l.kind = nad.String()
						}
					}
					return nil
				})
			}
		}
		byIndex[binary.NativeEndian.Uint32(head[4:])] = l
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = dump(unix.NETLINK_ROUTE, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), unix.SizeofIfAddrmsg, func(head []byte, ad *netlink.AttributeDecoder) error {
		l := byIndex[binary.NativeEndian.Uint32(head[4:])]
		for ad.Next() {
			if a, ok := netip.AddrFromSlice(ad.Bytes()); ok && l != nil && ad.Type() == unix.IFA_ADDRESS {
				l.addrs = append(l.addrs, a)
			}
		}
		return nil
	})
	out := make([]link, 0, len(byIndex))
	for i, l := range byIndex {
		l.ports = masters[i]
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b link) int { return strings.Compare(a.name, b.name) })
	return out, err
}
