//go:build linux

package prove

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"picket/internal/lab"
	"picket/internal/netset"
	"picket/internal/nft"
	"picket/internal/verdict"
)

// Options choose what is sent.
type Options struct {
	Ports []verdict.Port // to be tried besides those that the cluster names
	All   bool           // send for every pair, not only for those that stand for a cell

	// Progress, if not nil, is told what is going on, and how much of it is done.
	Progress func(what string, done, total int)

	// For tests.
	edit func(p *nft.Plan) // what is done to a plan before it is loaded
	few  bool              // send no more than is needed, however few packets all would be
}

// Step is a state of the cluster to be proved. The table's snapshot must have
// been placed by a Placer, the same one for all steps.
type Step struct {
	Name  string // "" if there is only one
	Table *verdict.Table
}

// batch is how many packets are sent before results are looked at. The
// connection table of a kernel need not hold more than these.
const batch = 20_000

// Run proves one step after the other, in one lab if each pod is the same pod
// in all of them. An error means that there is no proof; what was found out
// until then is returned with it.
func Run(ctx context.Context, steps []Step, o Options) ([]*Proof, error) {
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	var out []*Proof
	for len(steps) > 0 {
		r, n, err := prepare(steps, o)
		if err != nil {
			return out, err
		}
		proofs, err := r.run(ctx, steps[:n])
		out = append(out, proofs...)
		if err != nil {
			return out, err
		}
		steps = steps[n:]
	}
	for i := range out[min(1, len(out)):] {
		out[i+1].compare(out[i])
	}
	return out, nil
}

// runner is a lab with what is loaded into its nodes.
type runner struct {
	o        Options
	lab      *lab.Lab
	spec     lab.Spec
	hosts    []netip.Addr
	missing  map[string]string
	named    []netset.Key
	listened map[netset.Key]bool
	kernels  map[string]*nft.Kernel
	after    func(context.Context) error // for tests: called while the lab of the last step is up
}

// prepare plans a lab for as many of the steps as can share one, at least one.
func prepare(steps []Step, o Options) (*runner, int, error) {
	tables := make([]*verdict.Table, len(steps))
	for i := range steps {
		tables[i] = steps[i].Table
	}
	n := len(tables)
	for ; ; n-- {
		hosts := outsiders(tables[:n])
		spec, missing, err := labSpec(tables[:n], hosts)
		if err != nil && n > 1 {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		r := &runner{o: o, spec: spec, hosts: hosts, missing: missing, kernels: map[string]*nft.Kernel{}}
		r.named, r.listened = names(tables[:n], o.Ports)
		return r, n, nil
	}
}

func (r *runner) run(ctx context.Context, steps []Step) (out []*Proof, err error) {
	if len(r.spec.Pods) == 0 {
		return nil, errors.New("there is no pod to probe")
	}
	r.o.Progress(fmt.Sprintf("building a lab of %d pods on %d nodes", len(r.spec.Pods), len(r.spec.Nodes)), 0, 0)
	start := time.Now()
	if r.lab, err = lab.New(ctx, r.spec); err != nil {
		return nil, err
	}
	defer func() {
		for _, k := range r.kernels {
			k.Close()
		}
		if closed := r.lab.Close(); err == nil {
			err = closed
		}
	}()
	for _, n := range r.spec.Nodes {
		fd, err := r.lab.NS(n.Name)
		if err != nil {
			return nil, err
		}
		if r.kernels[n.Name], err = nft.Open(fd, nft.Options{}); err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	for _, s := range steps {
		p, err := r.step(ctx, s)
		if err != nil {
			return out, err
		}
		p.Elapsed = time.Since(start)
		start = time.Now()
		out = append(out, p)
	}
	if r.after != nil {
		return out, r.after(ctx)
	}
	return out, nil
}

// load programs every node for the table.
func (r *runner) load(t *verdict.Table) (limits []string, err error) {
	for _, n := range r.spec.Nodes {
		node := nft.Node{Name: n.Name, Pods: nft.LocalPods(t.Snapshot, n.Name)}
		for i := range r.spec.Pods {
			if p := &r.spec.Pods[i]; p.Node == n.Name {
				for _, a := range p.Addrs {
					node.Ranges = append(node.Ranges, netip.PrefixFrom(a, a.BitLen()))
				}
			}
		}
		p := nft.NewPlan(t, node, nft.Options{})
		if r.o.edit != nil {
			r.o.edit(p)
		}
		limits = append(limits, p.Limits...)
		if err := r.kernels[n.Name].Apply(p); err != nil {
			return nil, fmt.Errorf("load the dataplane of node %s: %w", n.Name, err)
		}
	}
	return limits, nil
}

func (r *runner) step(ctx context.Context, s Step) (*Proof, error) {
	what := "probing"
	if s.Name != "" {
		what = s.Name
	}
	r.o.Progress(what, 0, 0)
	limits, err := r.load(s.Table)
	if err != nil {
		return nil, err
	}
	p := &Proof{Name: s.Name, t: s.Table, plan: newPlan(s.Table, r.named, r.listened, r.hosts, r.missing, r.o)}
	p.place(r, limits)
	if p.brief {
		p.Notes = append(p.Notes, "the cluster is large: ports that policies name are tried where they are the end of a range; --all tries all")
	}
	p.outcomes = make([]lab.Outcome, len(p.shots))
	todo := make([]int32, len(p.shots))
	for i := range todo {
		todo[i] = int32(i)
	}
	if err := r.shoot(ctx, p, todo, what); err != nil {
		return nil, err
	}
	// What did not get through, though it should have, is tried again by itself.
	todo = todo[:0]
	for i := range p.shots {
		if o := &p.outcomes[i]; o.Result == lab.Error || p.predicted(int32(i)) == verdict.Allow && p.mismatch(int32(i)) {
			todo = append(todo, int32(i))
		}
	}
	if err := r.shoot(ctx, p, todo, what); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// shoot sends the shots, a batch at a time. Protocols without ports come last,
// one way first and then the other: to a kernel all their packets between two
// hosts are one connection, and the answers of it pass.
func (r *runner) shoot(ctx context.Context, p *Proof, todo []int32, what string) error {
	var phases [3][]int32
	for _, i := range todo {
		s := &p.shots[i]
		phase := 0
		if proto := s.key.Proto(); !hasPorts(proto) && s.key != netset.Echo(p.ends[s.src].Family) {
			phase = 1
			if p.ends[s.src].Addr.Compare(p.ends[s.dst].Addr) > 0 {
				phase = 2
			}
		}
		phases[phase] = append(phases[phase], i)
	}
	done := 0
	for i, phase := range phases {
		if i > 0 && len(phase) > 0 {
			if err := r.lab.Forget(ctx); err != nil {
				return err
			}
		}
		if err := r.salvo(ctx, p, phase, func(n int) { r.o.Progress(what, done+n, len(todo)) }); err != nil {
			return err
		}
		done += len(phase)
	}
	return nil
}

// salvo sends the shots of a phase.
func (r *runner) salvo(ctx context.Context, p *Proof, todo []int32, progress func(done int)) error {
	total := len(todo)
	for at := 0; at < total; at += batch {
		now := todo[at:min(at+batch, total)]
		probes := make([]lab.Probe, len(now))
		for i, s := range now {
			shot := &p.shots[s]
			src, dst := &p.ends[shot.src], &p.ends[shot.dst]
			probes[i] = lab.Probe{From: src.name, Src: src.Addr, To: dst.Addr, Proto: shot.key.Proto(), Port: shot.key.Port()}
		}
		outs, err := r.lab.ProbeAll(ctx, probes, func(done, _ int) { progress(at + done) })
		if err != nil {
			return err
		}
		for i, s := range now {
			p.outcomes[s] = outs[i]
		}
		p.Sent += len(now)
	}
	return nil
}
