// Package netset holds sets of IP addresses and sets of traffic (protocol and
// port) in canonical form, so that equal sets are equal values, with union,
// intersection, difference and partition.
//
// Both kinds are sorted lists of disjoint ranges and share one implementation.
// Addresses of both families live in one set, IPv4 before IPv6; a range never
// spans families. Traffic is flattened into one number, protocol times 65536
// plus port, so that a set over protocols and ports is one-dimensional; for
// ICMP and ICMPv6 the port's place holds type times 256 plus code. The zero
// value of every set is empty.
package netset
