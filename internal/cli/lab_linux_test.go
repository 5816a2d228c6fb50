package cli

import "picket/internal/lab"

// canLab reports whether prove can work here; what Enter would make possible is
// possible too.
func canLab() bool {
	_, err := lab.NeedsReexec()
	return err == nil
}
