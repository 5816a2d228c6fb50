// Package term writes aligned tables and colour to a terminal, and plain text
// to anything else.
package term

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Writer is a writer that knows whether colour is welcome.
type Writer struct {
	io.Writer
	colour bool
	width  int
}

// New returns a Writer to w. It colours if w is a terminal, NO_COLOR is unset
// or empty and TERM is not "dumb".
func New(w io.Writer) *Writer {
	width := Width(w)
	return &Writer{
		Writer: w,
		colour: width > 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		width:  width,
	}
}

// Fixed returns a Writer to w with colour on or off and the given width in
// columns, 0 for no terminal, whatever w is.
func Fixed(w io.Writer, colour bool, width int) *Writer {
	return &Writer{Writer: w, colour: colour, width: width}
}

// To returns a Writer to o that colours and measures as w does, for text that
// is put together before it is written to w.
func (w *Writer) To(o io.Writer) *Writer {
	return &Writer{Writer: o, colour: w.colour, width: w.width}
}

// Width returns how many columns the terminal behind w has, 0 if there is no
// terminal.
func Width(w io.Writer) int {
	switch v := w.(type) {
	case *Writer:
		return v.width
	case interface{ Fd() uintptr }:
		if n, _, err := term.GetSize(int(v.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// Width returns the columns of the terminal, 0 if there is none.
func (w *Writer) Width() int { return w.width }

// Colour reports whether the styles have an effect.
func (w *Writer) Colour() bool { return w.colour }

// Bold returns s in bold, or unchanged without colour, as all styles do.
func (w *Writer) Bold(s string) string { return w.style("1", s) }

// Dim returns s in a fainter colour.
func (w *Writer) Dim(s string) string { return w.style("2", s) }

// Red returns s in red.
func (w *Writer) Red(s string) string { return w.style("31", s) }

// Green returns s in green.
func (w *Writer) Green(s string) string { return w.style("32", s) }

// Yellow returns s in yellow.
func (w *Writer) Yellow(s string) string { return w.style("33", s) }

// Cyan returns s in cyan.
func (w *Writer) Cyan(s string) string { return w.style("36", s) }

func (w *Writer) style(code, s string) string {
	if !w.colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Clean returns s with control characters made visible, so that a name from
// the input cannot steer the terminal.
func Clean(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// Columns returns how many columns s takes on a terminal: none for combining
// and invisible characters, two for East Asian wide ones and emoji.
func Columns(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r < 0x300:
			n++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

func wide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115F, r >= 0x2E80 && r <= 0xA4CF && r != 0x303F, r >= 0xAC00 && r <= 0xD7A3,
		r >= 0xF900 && r <= 0xFAFF, r >= 0xFE30 && r <= 0xFE6F, r >= 0xFF00 && r <= 0xFF60,
		r >= 0xFFE0 && r <= 0xFFE6, r >= 0x1F300 && r <= 0x1FAFF, r >= 0x20000 && r <= 0x3FFFD:
		return true
	}
	return false
}
