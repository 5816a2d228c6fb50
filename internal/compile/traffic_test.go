package compile_test

import (
	"picket/internal/netset"
	"picket/internal/verdict"
)

func portTraffic(p verdict.Port) netset.Traffic {
	k := p.In(netset.V4)
	return netset.Span(k, k)
}
