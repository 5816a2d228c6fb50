package matrix

// The JSON form is one object:
//
//	{
//	  "apiVersion": "picket/v1", "kind": "Matrix", "dialect": "picket",
//	  "ports": ["tcp/80"],                    only if the options name ports; the rest speaks of these only
//	  "groups": [Group…],                     what is in rows or columns
//	  "rows": [group id…], "columns": [group id…],
//	  "cells": [[[verdict id or null, count]…]…],  a list for each row: so many columns in a row have the verdict;
//	                                          null where nobody asked (both ends are outside, or in no wanted
//	                                          namespace) or where the ends share no address family
//	  "evidence": {…},                        only of a proof: a summary, cells as above with numbers of
//	                                          results, and results; the texts of verdicts are as measured then
//	  "verdicts": [Verdict…],                 by id
//	  "reasons": [Reason…], "rules": [Rule…], "policies": [Policy…],  each by id, those that occur
//	  "summary": {…}
//	}
//
// Everything that repeats has a number, so the object grows with the groups and
// with what is distinct, not with the pods squared. Identifiers are positions
// in their list. They come after the cells so that cells need not be kept.
type (
	jsonGroup struct {
		ID         int      `json:"id"`
		Name       string   `json:"name"`
		Kind       string   `json:"kind"` // pods, hostPods, nodes, addresses
		Namespaces []string `json:"namespaces,omitempty"`
		Pods       []string `json:"pods,omitempty"`      // namespace/name
		Workloads  []string `json:"workloads,omitempty"` // namespace/kind/name of the pods that belong to one
		Nodes      []string `json:"nodes,omitempty"`
		Addresses  []string `json:"addresses,omitempty"` // CIDRs
		External   bool     `json:"external,omitempty"`  // the rest of the world is among the addresses
		Ingress    []int    `json:"ingress,omitempty"`   // policies that select the pods for ingress
		Egress     []int    `json:"egress,omitempty"`    // and for egress
	}
	jsonVerdict struct {
		ID        int           `json:"id"`
		Text      string        `json:"text"`                // for people: "all", "-", "self", "tcp/80"
		Level     string        `json:"level"`               // all, some, closed, undefined, self
		Undefined bool          `json:"undefined,omitempty"` // some traffic is undefined
		Bypass    string        `json:"bypass,omitempty"`    // why no policy is asked
		Traffic   []jsonTraffic `json:"traffic"`             // together all traffic that is in question
	}
	jsonTraffic struct {
		Family   string      `json:"family,omitempty"`  // IPv4 or IPv6, where they differ
		Protocol string      `json:"protocol"`          // all, tcp, udp, sctp, icmp, icmpv6, a number, or other: all that have no name here
		Ports    [][2]uint16 `json:"ports,omitempty"`   // ranges, both ends included; absent for all. ICMP: type times 256 plus code
		Decision string      `json:"decision"`          // allow, deny, undefined
		Ingress  *int        `json:"ingress,omitempty"` // reason at the responder; absent if no policy can guard it
		Egress   *int        `json:"egress,omitempty"`  // reason at the initiator
	}
	jsonReason struct {
		ID        int    `json:"id"`
		Kind      string `json:"kind"` // rule, isolated, notSelected, unmatched, open
		Direction string `json:"direction"`
		Tier      string `json:"tier,omitempty"`   // isolated: the tier that ends in deny
		Rule      *int   `json:"rule,omitempty"`   // rule, and open where a rule is the cause
		Policy    *int   `json:"policy,omitempty"` // the policy of the rule, or the cause of open
		Text      string `json:"text"`             // one clause for people
	}
	jsonRule struct {
		ID        int    `json:"id"`
		Policy    int    `json:"policy"`
		Direction string `json:"direction"`
		Index     int    `json:"index"` // from 0, as in the policy
		Name      string `json:"name,omitempty"`
		Action    string `json:"action"`
		File      string `json:"file,omitempty"`
		Line      int    `json:"line,omitempty"`
		Path      string `json:"path,omitempty"`
	}
	jsonPolicy struct {
		ID   int    `json:"id"`
		Kind string `json:"kind"`
		Name string `json:"name"` // namespace/name, or the name of a cluster-wide policy
		Tier string `json:"tier"`
		File string `json:"file,omitempty"`
		Line int    `json:"line,omitempty"`
	}
)
