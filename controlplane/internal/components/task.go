package components

import (
	"context"
	"fmt"
	"time"
)

// Task is a component that runs beside others.
type Task struct {
	Name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Go starts run, which must return when its context ends.
func Go(name string, run func(context.Context) error) *Task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Task{Name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = run(ctx)
	}()
	return t
}

// Done is closed when the task has ended, asked to or not.
func (t *Task) Done() <-chan struct{} { return t.done }

// Err says why a task ended that nobody had stopped.
func (t *Task) Err() error {
	if t.err == nil {
		return fmt.Errorf("%s stopped by itself", t.Name)
	}
	return fmt.Errorf("%s: %w", t.Name, t.err)
}

// Stop ends the tasks, all at once, and waits until they have ended or
// patience is over, which is an error. What they return is not looked at: most
// components call the end of their context a failure.
func Stop(patience time.Duration, tasks ...*Task) error {
	for _, t := range tasks {
		t.cancel()
	}
	late := time.After(patience)
	for _, t := range tasks {
		select {
		case <-t.done:
		case <-late:
			return fmt.Errorf("%s did not stop within %s", t.Name, patience)
		}
	}
	return nil
}
