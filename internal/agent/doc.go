// Package agent enforces a cluster's policies on one node: it follows the API
// server, compiles what it sees, and keeps the node's kernel at the plan that
// comes of it.
//
// It never opens by accident. Before the whole cluster has been listed nothing
// in the kernel is touched, so that the table of the agent before stays in
// force. Whatever cannot be read, compiled or written leaves the last good plan
// in the kernel and is tried again. When the agent ends, the table stays.
package agent
