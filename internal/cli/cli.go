// Package cli is the command line: flags to options, options to a source, the
// compiler and one consumer, and what comes of it to an exit status. It is the
// only package that prints and decides how the program ends.
//
// Each command is an options struct with Complete, Validate and Run, which can
// be used without cobra, in a file of its own.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"picket/internal/term"
)

// The exit statuses.
const (
	exitOK       = 0 // nothing found
	exitFindings = 1 // findings, differences, failures
	exitFailed   = 2 // could not do it
)

// Streams are the program's input and outputs. Data goes to Out, everything
// about the data to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Main runs the program with the process's arguments and streams and returns
// its exit status.
func Main() int {
	return Run(context.Background(), os.Args, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Run runs the command line args, whose first element is the program's name,
// and returns the exit status.
func Run(ctx context.Context, args []string, s Streams) int {
	name := "picket"
	if len(args) > 0 {
		if base := strings.TrimSuffix(filepath.Base(args[0]), ".exe"); base == "kubectl-picket" {
			name = "kubectl picket"
		}
		args = args[1:]
	}
	root := newRoot(name, s)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var st status
	var us usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &st):
		return int(st)
	case errors.Is(err, syscall.EPIPE):
		return exitFailed // whoever read the output has seen enough
	case errors.As(err, &us) || isCobraUsage(err):
		fmt.Fprintf(s.Err, "picket: %s\nRun '%s --help' for usage.\n", clean(err.Error()), cmd.CommandPath())
	default:
		fmt.Fprintf(s.Err, "picket: %s\n", clean(err.Error()))
	}
	return exitFailed
}

// clean makes control characters of the input visible, but for the line ends
// of a message.
func clean(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i := range lines {
		lines[i] = term.Clean(strings.ReplaceAll(lines[i], "\t", "  "))
	}
	return strings.Join(lines, "\n")
}

// status is an exit status whose cause has been printed.
type status int

// Error says that the status has nothing more to say.
func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// isCobraUsage recognises cobra's own complaint about a word that is no
// command, for which it has no type.
func isCobraUsage(err error) bool { return strings.HasPrefix(err.Error(), "unknown command ") }

// output buffers what a command writes to standard output.
type output struct {
	*bufio.Writer
	term *term.Writer // writes to the buffer
}

func newOutput(w io.Writer, noColor bool) *output {
	b := bufio.NewWriterSize(w, 64<<10)
	t := term.New(w)
	return &output{Writer: b, term: term.Fixed(b, t.Colour() && !noColor, t.Width())}
}

// finish flushes after writing returned err.
func (o *output) finish(err error) error {
	if flush := o.Flush(); err == nil {
		err = flush
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
