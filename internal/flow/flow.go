// Package flow judges observed connections: it reads them one a line, looks
// each up in the compiled table and writes the line back with its verdict.
//
// A line is four fields separated by tabs: source, destination, protocol and
// port. The verdict becomes the fifth. Memory is bounded whatever the length
// of the input.
package flow

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"picket/internal/diag"
	"picket/internal/netset"
	"picket/internal/verdict"
)

// MaxLine is the longest line that is read, in bytes, without its end.
// Comments may be longer.
const MaxLine = 64 << 10

// Options say how to replay.
type Options struct {
	File      string // name of the input in diagnostics
	Namespace string // where endpoints without a namespace are looked for; "" means default
	// Wrong is told of each line that is no flow. May be nil.
	Wrong func(diag.Diagnostic)
}

// Summary counts what was read.
type Summary struct {
	Flows     int    // lines that were answered
	Decisions [3]int // by verdict.Decision
	Wrong     int    // lines that are no flow
}

// Replay reads flows from r and writes each to w with its verdict as fifth
// field. Empty lines and comments, which begin with '#', are copied as they
// are. A line that is no flow is left out and reported. The error is one of
// reading or writing.
func Replay(t *verdict.Table, r io.Reader, w io.Writer, o Options) (Summary, error) {
	p := &replay{judge: newJudge(t, o.Namespace), out: bufio.NewWriterSize(w, 64<<10), options: o}
	err := p.run(bufio.NewReaderSize(r, MaxLine+2)) // a line of MaxLine bytes still fits with "\r\n"
	if flush := p.out.Flush(); err == nil && flush != nil {
		err = fmt.Errorf("write verdicts: %w", flush)
	}
	return p.sum, err
}

type replay struct {
	judge   *judge
	out     *bufio.Writer
	options Options
	sum     Summary
	line    int
}

func (p *replay) run(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read flows: %w", err)
		}
		if len(line) == 0 {
			return nil
		}
		p.line++
		var werr error
		switch long := errors.Is(err, bufio.ErrBufferFull); {
		case len(bytes.TrimSpace(line)) == 0 && !long, line[0] == '#':
			_, werr = p.out.Write(line)
			if long {
				err = rest(in, p.out)
			}
		case long || len(trimEnd(line)) > MaxLine:
			p.wrong(fmt.Sprintf("the line is longer than %d bytes", MaxLine))
			if long {
				err = rest(in, io.Discard)
			}
		default:
			werr = p.flow(trimEnd(line))
		}
		if werr != nil {
			return fmt.Errorf("write verdicts: %w", werr)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("copy line %d: %w", p.line, err)
		}
	}
}

// rest copies what is left of a line.
func rest(in *bufio.Reader, w io.Writer) error {
	for {
		part, err := in.ReadSlice('\n')
		if _, werr := w.Write(part); werr != nil {
			return werr
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

func (p *replay) flow(line []byte) error {
	d, err := p.judge.line(line)
	if err != nil {
		p.wrong(err.Error())
		return nil
	}
	p.sum.Flows++
	p.sum.Decisions[d]++
	p.out.Write(line)
	p.out.WriteByte('\t')
	p.out.WriteString(d.String())
	return p.out.WriteByte('\n') // a bufio.Writer repeats its first error
}

func (p *replay) wrong(message string) {
	p.sum.Wrong++
	if p.options.Wrong != nil {
		p.options.Wrong(diag.Diagnostic{
			Position: diag.Position{File: p.options.File, Line: p.line},
			Message:  message,
		})
	}
}

// fields splits a line at its tabs.
func fields(line []byte) (f [4][]byte, err error) {
	n := bytes.Count(line, []byte("\t")) + 1
	if n != len(f) {
		if n == 1 && len(bytes.Fields(line)) == len(f) {
			return f, errors.New("the fields must be separated by tabs, not by spaces")
		}
		return f, fmt.Errorf("want 4 fields separated by tabs (source, destination, protocol, port), got %d", n)
	}
	for i := range f {
		f[i], line, _ = bytes.Cut(line, []byte("\t"))
		if len(f[i]) == 0 {
			return f, fmt.Errorf("the %s is empty", [...]string{"source", "destination", "protocol", "port"}[i])
		}
	}
	return f, nil
}

// port is a parsed protocol and port.
type port struct {
	key  netset.Key
	echo bool // an echo request of whatever family the connection has
}

func (p port) in(f netset.Family) netset.Key {
	if p.echo {
		return netset.Echo(f)
	}
	return p.key
}

// parsePort reads the protocol and port of a flow. "-" is no port: an echo
// request of ICMP, or any packet of a protocol that has no ports.
func parsePort(proto, number []byte) (port, error) {
	p, err := netset.ParseProto(string(proto))
	if err != nil {
		return port{}, fmt.Errorf("unknown protocol %s: want TCP, UDP, SCTP, ICMP or a number from 0 to 255", quote(proto))
	}
	none := string(number) == "-"
	switch p {
	case netset.ICMP, netset.ICMPv6:
		if !none {
			return port{}, fmt.Errorf("%s has no ports: the port must be \"-\", not %s", p, quote(number))
		}
		return port{echo: true}, nil
	case netset.TCP, netset.UDP, netset.SCTP:
		n, ok := decimal(number)
		if !ok || n == 0 {
			return port{}, fmt.Errorf("%s is no port of %s: want a number from 1 to 65535", quote(number), p)
		}
		return port{key: netset.KeyOf(p, n)}, nil
	}
	n, ok := decimal(number)
	if !ok && !none {
		return port{}, fmt.Errorf("%s is no port of protocol %s: want \"-\" or a number from 0 to 65535", quote(number), p)
	}
	return port{key: netset.KeyOf(p, n)}, nil
}

// decimal reads a number from 0 to 65535 without sign or spaces.
func decimal(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}

// quote shows a piece of the input in a message, cut if it is long.
func quote(b []byte) string {
	if len(b) > 80 {
		return fmt.Sprintf("%q…", b[:80])
	}
	return fmt.Sprintf("%q", b)
}
