//go:build linux

package nft

import (
	"slices"

	"picket/internal/netset"
)

// tightens reports whether a connection that exists may lose its permission.
func (d *delta) tightens() bool {
	ways := d.sameClasses()
	for w := range d.ways {
		ways[w] = true
	}
	for _, a := range d.old.Pods {
		if !has(d.now.Pods, a) {
			return true // nobody knows it any more
		}
	}
	if !slices.Equal(d.old.Ranges, d.now.Ranges) {
		return true
	}
	var known netset.Addrs
	for _, p := range d.old.Ranges {
		known = known.Union(netset.FromPrefix(p))
	}
	for _, a := range d.now.Pods {
		// Outside the ranges a pod may have talked before it was known.
		if !has(d.old.Pods, a) && !known.Contains(a) && (d.now.targetOf(0, a) != none || d.now.targetOf(1, a) != none) {
			return true
		}
	}
	type pair struct{ was, is int32 }
	covered := map[pair]bool{} // of port sets
	covers := func(was, is int32) bool {
		if d.old.set[was] == d.now.set[is] {
			return true
		}
		ok, known := covered[pair{was, is}]
		if !known {
			ok = d.old.PortSets[was].Allowed.Subtract(d.now.PortSets[is].Allowed).Empty()
			covered[pair{was, is}] = ok
		}
		return ok
	}
	done := map[pair]bool{} // of targets
	for dir := range d.targets {
		for _, a := range d.old.Pods {
			was, is := d.old.targetOf(dir, a), d.now.targetOf(dir, a)
			if is == none || done[pair{was, is}] || !has(d.now.Pods, a) {
				continue
			}
			done[pair{was, is}] = true
			if was == none {
				return true // a target is never open to all
			}
			for w := range ways {
				if !covers(d.old.Targets[was].Sets[d.old.classAt[w.was]], d.now.Targets[is].Sets[d.now.classAt[w.is]]) {
					return true
				}
			}
		}
	}
	return false
}
