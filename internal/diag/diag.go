// Package diag holds diagnostics: what is wrong with the user's input, where,
// and what to do about it. A mistake of the user is a Diagnostic, collected and
// positioned; a failure of the world (a file that can't be opened) is a Go
// error.
package diag

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says how bad a diagnostic is. The zero value is Error.
type Severity uint8

// The severities. An Error means that the input was not understood, or that
// the API server would reject it.
const (
	Error Severity = iota
	Warning
	Info
)

// String returns "error", "warning" or "info".
func (s Severity) String() string {
	return [...]string{"error", "warning", "info"}[s]
}

// MarshalText writes the severity as String does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Position is a place in a source. The zero value is no place.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`   // from 1; 0 if unknown
	Col  int    `json:"column,omitempty"` // from 1; 0 if unknown
}

// String returns "file:line:col" as far as known, and "" for no place.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Compare orders positions by file, line and column.
func (p Position) Compare(o Position) int {
	return cmp.Or(strings.Compare(p.File, o.File), cmp.Compare(p.Line, o.Line), cmp.Compare(p.Col, o.Col))
}

// Diagnostic is one finding.
type Diagnostic struct {
	Code     string   `json:"code,omitempty"` // stable, such as "NP101"; "" for input that can't be read
	Severity Severity `json:"severity"`
	Position Position `json:"position"`
	Object   string   `json:"object,omitempty"` // "NetworkPolicy prod/allow-dns"; "" if not known
	Path     string   `json:"path,omitempty"`   // "spec.ingress[0].from[1]"; "" for the object itself
	Message  string   `json:"message"`          // one sentence, lower case, no full stop
	Fix      string   `json:"fix,omitempty"`    // what to do; may have several lines
}

// String returns the one-line form "file:line:col: warning: NP101 message
// (object)". The word "error" is left out.
func (d Diagnostic) String() string {
	var b strings.Builder
	if p := d.Position.String(); p != "" {
		b.WriteString(p + ": ")
	}
	if d.Severity != Error {
		b.WriteString(d.Severity.String() + ": ")
	}
	if d.Code != "" {
		b.WriteString(d.Code + " ")
	}
	b.WriteString(d.Message)
	if d.Object != "" {
		b.WriteString(" (" + d.Object + ")")
	}
	return b.String()
}

// List is a collection of diagnostics.
type List []Diagnostic

// Sort orders by position, then severity, code, object, path, message and fix,
// and drops exact repetitions.
func (l *List) Sort() {
	slices.SortStableFunc(*l, func(a, b Diagnostic) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Severity, b.Severity),
			strings.Compare(a.Code, b.Code), strings.Compare(a.Object, b.Object),
			strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message),
			strings.Compare(a.Fix, b.Fix))
	})
	*l = slices.Compact(*l)
}

// Count returns how many diagnostics have the severity.
func (l List) Count(s Severity) int {
	n := 0
	for _, d := range l {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// HasErrors reports whether any diagnostic is an Error.
func (l List) HasErrors() bool { return l.Count(Error) > 0 }

// WriteText writes each diagnostic as a line, its fix indented below it.
func (l List) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, d := range l {
		b.WriteString(d.String() + "\n")
		for line := range strings.Lines(d.Fix) {
			b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the list as an indented JSON array, [] if it is empty.
func (l List) WriteJSON(w io.Writer) error {
	if l == nil {
		l = List{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(l)
}
