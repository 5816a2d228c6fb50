package matrix

import (
	"strings"

	"picket/internal/netset"
	"picket/internal/verdict"
)

// level says at a glance what a cell is.
type level uint8

const (
	closed level = iota
	unclear
	partly
	open
	self
)

func (l level) String() string {
	return [...]string{"closed", "undefined", "some", "all", "self"}[l]
}

// shown is a cell as a person sees it.
type shown struct {
	ready     bool
	text      string // "all", "-", "self", "tcp/80", "? tcp/80"; with asked ports "yes", "no"
	undefined bool   // some of the traffic is undefined
	wrong     bool   // it was measured, and is not what the table says
	level     level
	label     int32 // equal for cells that read the same
}

// String returns the text with its mark.
func (s *shown) String() string {
	if s.wrong {
		return s.text + " !"
	}
	if s.undefined && !strings.Contains(s.text, "?") {
		return s.text + " ?"
	}
	return s.text
}

// shown returns how cell id reads.
func (r *Report) shown(id int32) *shown {
	for int(id) >= len(r.texts) {
		r.texts = append(r.texts, shown{})
	}
	s := &r.texts[id]
	if !s.ready {
		*s = r.show(r.cells[id])
		key := s.String()
		n, ok := r.labels[key]
		if !ok {
			n = int32(len(r.labels))
			r.labels[key] = n
		}
		s.label = n
	}
	return s
}

func (r *Report) show(c cell) shown {
	if c.bypass == verdict.Itself {
		return shown{ready: true, text: "self", level: self}
	}
	if c.deviates != 0 {
		return r.showMeasured(c)
	}
	var all []shown
	for _, f := range r.families(c) {
		js := r.joined(c, f)
		all = append(all, r.showTraffic(
			verdict.JointTraffic(js, verdict.Allow).Intersect(r.mask[f]),
			verdict.JointTraffic(js, verdict.Undefined).Intersect(r.mask[f]),
			r.mask[f]))
	}
	if len(all) == 1 || all[0] == all[1] {
		return all[0]
	}
	s := shown{ready: true, text: "IPv4 " + all[0].text + "; IPv6 " + all[1].text, undefined: all[0].undefined || all[1].undefined}
	s.level = min(max(all[0].level, all[1].level), partly)
	return s
}

// showTraffic shows what of the wanted traffic is allowed and undefined. Traffic
// other than TCP, UDP and SCTP is only marked where it is undefined: a dialect
// that leaves it open does so for every isolated pod.
func (r *Report) showTraffic(allow, undefined, want netset.Traffic) shown {
	s := shown{ready: true, undefined: !undefined.Empty()}
	ports := len(r.o.Ports) > 0
	transport := undefined.Intersect(netset.AllPorts(netset.TCP, netset.UDP, netset.SCTP))
	switch {
	case allow.Equal(want):
		s.text, s.level = "all", open
		if ports {
			s.text = "yes"
		}
	case !allow.Empty():
		s.text, s.level = allow.String(), partly
		if !transport.Empty() {
			s.text += " ? " + transport.String()
		}
	case undefined.Equal(want):
		s.text, s.level = "?", unclear
	case !transport.Empty():
		s.text, s.level = "? "+transport.String(), unclear
	default:
		s.text, s.level = "-", closed
		if ports {
			s.text = "no"
		}
	}
	return s
}
