// Package nft programs a node's kernel with a verdict table: one nftables
// table of our own, static rules, and sets and maps whose elements are all
// that changes.
//
// A plan is a value, computed from the table and the node's pods alone. It can
// be printed, counted, traced and applied. Whatever the number of policies, a
// new connection costs a constant number of look-ups, and a packet of an
// established one costs a comparison of its connection mark.
//
// The order of look-ups is target, peer, pair, ports. The kernel makes one
// transaction atomic for each look-up, not for each packet, so changes are
// written in the opposite order and removed in look-up order, in transactions
// of their own, and identifiers are never given to anything else
// (docs/nftables.md).
package nft
