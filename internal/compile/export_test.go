package compile

import (
	"picket/internal/model"
	"picket/internal/verdict"
)

// CompileSharing compiles with backgrounds that are shared from so many peers
// on, with so many patterns at most, so that small clusters reach them.
func CompileSharing(s *model.Snapshot, d model.Dialect, above, patterns int) *verdict.Table {
	return compileWith(s, d, sharing{above, patterns})
}
