package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"picket/internal/compile"
	"picket/internal/lab"
	"picket/internal/prove"
	"picket/internal/term"
)

// load reads the steps and places their pods. ok is false if the input has
// errors.
func (o *proveOptions) load(ctx context.Context) (steps []prove.Step, ok bool, err error) {
	placer := &prove.Placer{Nodes: o.nodes}
	ok = true
	src := o.source
	for i := 0; ; i++ {
		s, good, err := o.snapshot(ctx, o.global, src)
		if err != nil {
			return nil, false, err
		}
		ok = ok && good
		steps = append(steps, prove.Step{Name: strings.Join(o.added(i), " "), Table: compile.Compile(placer.Place(s), o.reading.reading)})
		if i == len(o.steps) {
			return steps, ok, nil
		}
		src.files = append(src.files[:len(src.files):len(src.files)], o.steps[i])
	}
}

// added are the files of a step: what it adds to the one before.
func (o *proveOptions) added(step int) []string {
	switch {
	case len(o.steps) == 0:
		return nil
	case step == 0:
		return o.files
	}
	return o.steps[step-1 : step]
}

func (o *proveOptions) write(proofs []*prove.Proof) error {
	out := newOutput(o.Out, o.noColor)
	var err error
	switch o.format.value {
	case "json":
		err = prove.WriteJSON(out, proofs)
	case "junit":
		err = prove.WriteJUnit(out, proofs)
	case "html":
		r, build := proofs[len(proofs)-1].Matrix()
		if err = build; err == nil {
			err = r.WriteHTML(out)
		}
	default:
		err = prove.WriteText(out.term, proofs)
	}
	return out.finish(err)
}

// entered is the end of a process whose work another did.
func entered(code int) error {
	if code == exitOK {
		return nil
	}
	return status(code)
}

// progress shows on a terminal what is going on.
type progress struct {
	w    io.Writer // nil if it is no terminal
	last time.Time
	long int // columns of what is shown
}

func newProgress(w io.Writer) *progress {
	if term.Width(w) == 0 {
		return &progress{}
	}
	return &progress{w: w}
}

func (p *progress) report(what string, done, total int) {
	if p.w == nil || done > 0 && done < total && time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	text := clean(what)
	if total > 0 {
		text += fmt.Sprintf(": %d of %d packets", done, total)
	}
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, p.long-term.Columns(text))))
	p.long = term.Columns(text)
}

func (p *progress) clear() {
	if p.w != nil && p.long > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.long))
	}
}

// Run proves; without the right to make network namespaces it lets itself be
// run again where it has it.
func (o *proveOptions) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	need, err := lab.NeedsReexec()
	if err != nil {
		return err
	}
	if need {
		code, err := lab.Enter(ctx)
		if err != nil {
			return err
		}
		return entered(code)
	}
	steps, ok, err := o.load(ctx)
	if err != nil {
		return err
	}
	shown := newProgress(o.Err)
	proofs, err := prove.Run(ctx, steps, prove.Options{Ports: o.parsed, All: o.all, Progress: shown.report})
	shown.clear()
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return err
	}
	if err := o.write(proofs); err != nil {
		return err
	}
	wrong := false
	for _, p := range proofs {
		wrong = wrong || !p.Agrees()
	}
	return done(ok, wrong)
}
