//go:build linux

package nft

import (
	"bytes"
	"net/netip"
	"slices"

	"picket/internal/model"
	"picket/internal/netset"
)

// anyPeer is the number of the class of everybody who is in no other.
const anyPeer = 0

// numbers gives each name of a plan a number, and never gives one twice: a
// packet that read a number before a change must not find something else
// behind it afterwards.
type numbers struct {
	of   map[string]uint32
	last uint32
}

// The kinds of name.
const (
	kindTarget = "t "
	kindPeer   = "p "
	kindPorts  = "s "
)

// most is how far numbers go; loading anew begins again. The rest is left for
// bridges.
const most = 1<<32 - 1<<24

func (n *numbers) get(kind, name string) uint32 {
	id, ok := n.of[kind+name]
	if !ok {
		if n.of == nil {
			n.of = map[string]uint32{}
		}
		id = n.fresh()
		n.of[kind+name] = id
	}
	return id
}

// fresh returns a number without a name.
func (n *numbers) fresh() uint32 {
	n.last++
	return n.last
}

// state is a plan with its numbers.
type state struct {
	*Plan
	target, class, set []uint32         // by index
	classAt            map[uint32]int32 // index by number
	targetAt           map[uint32]int32
}

// number numbers the names of p, and forgets those that it does not have.
func (n *numbers) number(p *Plan) *state {
	s := &state{Plan: p, target: make([]uint32, len(p.Targets)), class: make([]uint32, len(p.Classes)), set: make([]uint32, len(p.PortSets))}
	s.classAt, s.targetAt = make(map[uint32]int32, len(s.class)), make(map[uint32]int32, len(s.target))
	for i := range p.PortSets {
		s.set[i] = n.get(kindPorts, p.PortSets[i].Name)
	}
	for i := range p.Targets {
		s.target[i] = n.get(kindTarget, p.Targets[i].Name)
		s.targetAt[s.target[i]] = int32(i)
	}
	for i := range p.Classes {
		if i != anybody {
			s.class[i] = n.get(kindPeer, p.Classes[i])
		}
		s.classAt[s.class[i]] = int32(i)
	}
	return s
}

// keep forgets the names that s does not have.
func (n *numbers) keep(s *state) {
	used := make(map[uint32]bool, len(s.target)+len(s.class)+len(s.set))
	for _, list := range [][]uint32{s.target, s.class, s.set} {
		for _, id := range list {
			used[id] = true
		}
	}
	for name, id := range n.of {
		if !used[id] {
			delete(n.of, name)
		}
	}
}

// elements returns the elements of a set, sorted by key.
func (s *state) elements(set string) []Elem {
	var out []Elem
	s.each(set, func(e Elem) { out = append(out, e) })
	slices.SortFunc(out, compareKeys)
	return out
}

func compareKeys(a, b Elem) int { return bytes.Compare(a.Key, b.Key) }

// each visits the elements of a set, in no order.
func (s *state) each(set string, visit func(Elem)) {
	switch set {
	case setPairs:
		for t := range s.Targets {
			for c, ps := range s.Targets[t].Sets {
				visit(pairElem(s.target[t], s.class[c], s.set[ps]))
			}
		}
		return
	case setND:
		for _, t := range []byte{133, 134, 135, 136} {
			visit(Elem{Key: []byte{t}})
		}
		return
	}
	for _, d := range model.Directions {
		if set == setPorts(d) || set == setExact(d) {
			each := s.eachPort
			if set == setExact(d) {
				each = s.eachExact
			}
			for i := range s.PortSets {
				if s.PortSets[i].Direction == d {
					each(i, visit)
				}
			}
			return
		}
		for _, f := range families {
			switch set {
			case setTarget(d, f), setIsolated(d, f):
				for _, l := range s.Isolated[d] {
					if netset.FamilyOf(l.Addr) == f {
						visit(s.localElem(set == setTarget(d, f), l))
					}
				}
				return
			}
		}
	}
	for _, f := range families {
		switch set {
		case setPeer(f):
			for _, p := range s.Peers {
				if netset.FamilyOf(p.Addr) == f {
					visit(peerElem(p.Addr, s.class[p.Class]))
				}
			}
		case setCIDR(f):
			for _, b := range s.Blocks {
				if netset.FamilyOf(b.From) == f {
					visit(Elem{Key: addrKey(b.From), To: addrKey(b.To), Value: be(s.class[b.Class])})
				}
			}
		case setPods(f), setSelf(f):
			for _, a := range s.Pods {
				if netset.FamilyOf(a) == f {
					visit(podElem(set == setSelf(f), a))
				}
			}
		case setRange(f):
			for _, r := range ranges(s.Ranges) {
				if netset.FamilyOf(r.From) == f {
					visit(Elem{Key: addrKey(r.From), To: addrKey(r.To)})
				}
			}
		}
	}
}

func ranges(ps []netip.Prefix) []netset.Range[netip.Addr] {
	var out netset.Addrs
	for _, p := range ps {
		out = out.Union(netset.FromPrefix(p))
	}
	return out.Ranges()
}

// eachPort visits the elements of a port set: what it allows and what not. They
// cover all traffic.
func (s *state) eachPort(i int, visit func(Elem)) {
	ps := &s.PortSets[i]
	for _, span := range spansOf(ps.Allowed) {
		visit(Elem{Key: portKey(s.set[i], span.Protos[0], span.Ports[0]), To: portKey(s.set[i], span.Protos[1], span.Ports[1]), Code: Return})
	}
	for _, span := range spansOf(netset.AllTraffic().Subtract(ps.Allowed)) {
		visit(Elem{Key: portKey(s.set[i], span.Protos[0], span.Ports[0]), To: portKey(s.set[i], span.Protos[1], span.Ports[1]),
			Code: GoTo, Chain: "denied_" + dirNames[ps.Direction]})
	}
}

// maxExact is how many ports of a port set are written one by one.
const maxExact = 64

// eachExact visits the elements of a port set that stand for one allowed port
// each. Port sets with many of them have none.
func (s *state) eachExact(i int, visit func(Elem)) {
	n := 0
	ranges := s.PortSets[i].Allowed.PortRanges()
	for _, r := range ranges {
		if hasPorts(r.Proto) && !r.Whole() {
			n += int(r.To-r.From) + 1
		}
	}
	if n > maxExact {
		return
	}
	for _, r := range ranges {
		if !hasPorts(r.Proto) || r.Whole() {
			continue
		}
		for port := int(r.From); port <= int(r.To); port++ {
			visit(Elem{Key: portKey(s.set[i], r.Proto, uint16(port))})
		}
	}
}

func pairElem(target, class, set uint32) Elem {
	return Elem{Key: append(be(target), be(class)...), Value: pad(be(set))}
}

func peerElem(a netip.Addr, class uint32) Elem { return Elem{Key: addrKey(a), Value: be(class)} }

func (s *state) localElem(target bool, l Local) Elem {
	if target {
		return Elem{Key: addrKey(l.Addr), Value: pad(be(s.target[l.Target]))}
	}
	return Elem{Key: addrKey(l.Addr)}
}

func podElem(self bool, a netip.Addr) Elem {
	if self {
		return Elem{Key: append(addrKey(a), addrKey(a)...)}
	}
	return Elem{Key: addrKey(a)}
}

// portKey lays a key of a ports map out in registers.
func portKey(set uint32, p netset.Proto, port uint16) []byte {
	return append(be(set), byte(p), 0, 0, 0, byte(port>>8), byte(port), 0, 0)
}

// pad puts a number into the second of two registers.
func pad(id []byte) []byte { return append([]byte{0, 0, 0, 0}, id...) }
