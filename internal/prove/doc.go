// Package prove compares what a verdict table predicts with what packets show.
//
// It builds a lab of the cluster's pods, loads each node's dataplane from the
// table, sends packets, and holds what became of each against the table.
//
// # Why it can be complete
//
// The table has finitely many cells. Groups are the pods, nodes and outside
// addresses that it cannot tell apart; between two groups the joint verdict of
// both sides cuts the traffic into ranges with one decision and one pair of
// reasons. A group pair with such a range, cut at the borders of protocols, is
// a cell: the table says one thing about all of it. At least one packet is sent
// in each cell, from a pod on the same node and from a pod on another where
// both exist, and at both ends of each range of ports. What no packet can show
// is counted, with the reason.
//
// The kernel is not the table: it could go wrong inside a cell. So each port
// that a policy, a container or a Service names is tried as well, in TCP and
// UDP, and each pair of endpoints gets a packet that should pass and one that
// should not, where there are such.
//
// # What is a mismatch
//
// A packet that arrived though the table denies it; one that did not though the
// table allows it; and one that arrived and whose answer was lost. The latter
// two are sent once more, and must fail again.
//
// Policies guard pods, so connections between hosts outside, or nodes, are not
// probed. Neither is a pod's connection to its own address, which does not
// leave the pod.
package prove
