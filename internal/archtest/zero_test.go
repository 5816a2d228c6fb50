package archtest

import (
	"net/netip"
	"testing"

	"picket/internal/diag"
	"picket/internal/model"
	"picket/internal/netset"
	"picket/internal/selector"
	"picket/internal/verdict"
)

// TestZeroValuesClose holds that whatever somebody forgot to set opens nothing.
func TestZeroValuesClose(t *testing.T) {
	var (
		action   model.Action
		decision verdict.Decision
		piece    = verdict.PortVerdict{}.At(netset.KeyOf(netset.TCP, 80))
		sel      selector.Selector
		term     model.Term
		addrs    netset.Addrs
		severity diag.Severity
	)
	for what, open := range map[string]bool{
		"Action":            action != model.Deny,
		"Decision":          decision != verdict.Deny,
		"empty PortVerdict": piece.Decision != verdict.Deny,
		"Selector":          sel.Matches(nil) || sel.Matches(map[string]string{"a": "b"}),
		"Term":              term.Kind != model.NoTerm || term.String() != "nothing",
		"Rule":              !verdict.TrafficOf(&model.Rule{}, nil).Empty(),
		"Addrs":             addrs.Contains(netip.MustParseAddr("10.0.0.1")),
		"Traffic":           netset.Traffic{}.Contains(0),
		"Severity":          severity != diag.Error,
	} {
		if open {
			t.Errorf("the zero %s is open", what)
		}
	}
	for _, d := range []verdict.Decision{verdict.Deny, verdict.Allow, verdict.Undefined} {
		if decision.And(d) != verdict.Deny || d.And(decision) != verdict.Deny {
			t.Errorf("deny and %v is not deny", d)
		}
	}
}
