// Package compile turns a snapshot into a verdict table.
package compile

import (
	"picket/internal/model"
	"picket/internal/verdict"
)

// Compile compiles s under dialect d. It is pure: equal snapshots give equal
// tables.
func Compile(s *model.Snapshot, d model.Dialect) *verdict.Table {
	panic("in the making")
}
