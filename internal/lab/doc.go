// Package lab builds a small cluster on this machine: nodes, pods and external
// hosts are network namespaces, joined by real links and routes, and it sends
// real packets between them and says what became of each.
//
// # What is built
//
// An underlay namespace holds a bridge, to which each node has a link, and is
// the router to the external hosts. A pod has a link to its node: routed, with
// the gateway 169.254.1.1 or fe80::1 and a host route on the node, as in
// Calico; or bridged, a port of the node's bridge cni0, as with the bridge CNI
// plugin. Addresses are arbitrary, and so each node has a host route to every
// pod. A pod on the host network is its node.
//
// Hosts are told each other's hardware addresses instead of asking, unless
// Spec.Discover is set. The kernel's table of discovered neighbours is one for
// all namespaces, and small; to fill it would disturb the machine's own network,
// and to enlarge it would change the machine's settings.
//
// Pods answer on their ports: TCP with a line that names the pod, then echo;
// UDP with what was sent and the name; SCTP as far as a raw socket can, INIT
// with INIT ACK or ABORT, whether or not the kernel has SCTP, so that what is
// tested of SCTP is whether the first packet of an association arrives. ICMP
// is the kernel's. A pod that stands for cluster DNS answers queries about the
// lab's names, over UDP and TCP, and probes as every other.
//
// # What is left behind
//
// Nothing, however the process ends. The namespaces have no names; descriptors
// of this process are all that holds them. When it ends, by Close, by a signal
// or by SIGKILL, the kernel takes them down with all links, addresses, routes
// and rules in them. There is no state to clean up and none to be found later.
// The namespace in which the process was started gets no link, no address, no
// rule, and no setting is changed there.
//
// # How a drop is established
//
// Each probe is one packet with a number of its own, which the kernel of the
// target repeats in its answer. Two things are watched, both by packets: the
// arrival at the target, by a socket in its namespace that sees what comes in
// (behind the rules of the node, where the target is the node itself), and the
// answer at the sender. So an answer lost on its way back is not taken for a
// probe that was dropped.
//
// That a probe did not arrive is known when it cannot arrive any more. After
// the probes, a fence is sent: Ethernet frames of a private type, which no IP
// rule sees, first from the pods to their nodes, when these are through between
// all nodes, and then from the nodes to the pods. They wait in the same queues
// as the probes, behind them: the queue of each link, and the kernel's queue of
// received packets, which is one for each processor, for which reason one
// thread on one processor sends everything. Whatever was ahead of a frame on
// the links of a stage has been dropped or has entered the queue of the next
// when the frame comes through. So when the last has, each probe has arrived or
// has been dropped, without a wait for silence; a slow link makes the fence
// slow, and not the result wrong. A second fence does the same for the answers
// that the targets' kernels gave on arrival. If a frame does not come through
// there is an error and no result.
//
// A probe that was not answered is sent once more, as another connection, and
// the same must be seen. A round in which some socket, connection table or
// queue of received packets overflowed does not count.
//
// # Limits
//
//   - Frames must not overtake: a queueing discipline that reorders, or that
//     treats IP and other frames differently, and a rule that holds packets back
//     (NFQUEUE) are not covered. The lab makes none.
//   - Receive packet steering must not spread the lab's links over processors;
//     it is off for new links.
//   - With Spec.Discover a first packet waits for its neighbour beside the
//     queues. The second sending finds the neighbour known.
//   - Answers of programs (UDP, SCTP) are waited for, half a second from the
//     last one that came: Arrived instead of Answered can mean a slow program.
//     Whether the probe arrived does not depend on it.
//   - The kernel limits its errors on the way (no route) to a few a second:
//     NoAnswer and Rejected both say that the probe did not arrive.
//   - Probes to a node of protocols other than TCP, UDP and ICMP end as Arrived:
//     the socket that sees them keeps the kernel from answering.
//   - Probes of pods leave through raw sockets: what is tested are the rules of
//     the nodes, and not those that someone loads in the namespace of a pod.
package lab
