package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"picket/internal/compile"
	"picket/internal/diag"
	"picket/internal/kube"
	"picket/internal/model"
	"picket/internal/source/cluster"
	"picket/internal/source/manifest"
	"picket/internal/verdict"
)

// reading says how input is read, wherever it comes from.
type reading struct {
	recursive        bool
	defaultNamespace string
	podCIDRs         []string
	dualStack        bool
	strict           bool
	maxInput         string
	dialect          string
	kubeconfig       string

	prefixes []netip.Prefix
	maxBytes int64
	reading  model.Dialect
}

func (r *reading) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.BoolVarP(&r.recursive, "recursive", "R", false, "read folders with all that is below them")
	fs.StringVar(&r.defaultNamespace, "default-namespace", "default", "namespace of objects that name none")
	fs.StringSliceVar(&r.podCIDRs, "pod-cidr", nil, "ranges that pods without an address get one from (default 10.244.0.0/16, with --dual-stack also fd00:10:244::/56)")
	fs.BoolVar(&r.dualStack, "dual-stack", false, "the cluster uses IPv4 and IPv6")
	fs.BoolVar(&r.strict, "strict", false, "a policy of a kind that is not understood is an error, not a warning")
	fs.StringVar(&r.maxInput, "max-input", "", "read at most so much, such as 64Mi")
	fs.StringVar(&r.kubeconfig, "kubeconfig", "", "kubeconfig file for reading from a cluster")
	names := make([]string, len(model.Dialects))
	for i, d := range model.Dialects {
		names[i] = d.Name
	}
	fs.StringVar(&r.dialect, "dialect", names[0], "reading of the policy APIs where they leave room: "+strings.Join(names, ", "))
	complete(cmd, "dialect", names...)
}

func (r *reading) validate() error {
	var err error
	if r.reading, err = model.DialectByName(r.dialect); err != nil {
		return usageError{err}
	}
	r.prefixes = nil
	for _, s := range r.podCIDRs {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return usagef("--pod-cidr: %q is no CIDR: want one such as 10.244.0.0/16", s)
		}
		r.prefixes = append(r.prefixes, p.Masked())
	}
	if r.maxBytes, err = parseSize(r.maxInput); err != nil {
		return usagef("--max-input: %v", err)
	}
	return nil
}

// parseSize reads a number of bytes with an optional suffix such as Mi or M.
// "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	s = strings.TrimSuffix(s, "B")
	number, factor := s, int64(1)
	for i, unit := range []string{"k", "m", "g"} {
		for _, u := range []struct {
			suffix string
			base   int64
		}{{unit + "i", 1024}, {unit, 1000}} {
			if n, ok := strings.CutSuffix(strings.ToLower(s), u.suffix); ok {
				number = n
				for range i + 1 {
					factor *= u.base
				}
				break
			}
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is no size: want one such as 64Mi", s)
	}
	return n * factor, nil
}

// source is where one cluster is read from.
type source struct {
	files   []string // files, folders, "-"
	cluster bool     // the API server instead
	context string   // of the kubeconfig; "" means the current one
}

// input are the flags of commands that read one cluster.
type input struct {
	reading
	source
	changed func(flag string) bool // whether the flag was given; nil means none was
}

func (in *input) bind(cmd *cobra.Command) {
	in.reading.bind(cmd)
	fs := cmd.Flags()
	fs.StringSliceVarP(&in.files, "filename", "f", nil, "file or folder with manifests, or - for standard input; may be repeated")
	fs.StringVar(&in.context, "context", "", "read the cluster of this kubeconfig context")
	in.changed = fs.Changed
	completeContexts(cmd, &in.reading)
}

// complete settles whether a cluster is to be read.
func (in *input) complete() {
	in.cluster = in.context != "" || in.kubeconfig != "" ||
		in.changed != nil && (in.changed("context") || in.changed("kubeconfig"))
}

func (in *input) validate() error {
	switch {
	case in.cluster && len(in.files) > 0:
		return usagef("give either -f or --context and --kubeconfig, not both")
	case !in.cluster && len(in.files) == 0:
		return usagef("nothing to read: give -f FILE, -f FOLDER or -f -, or --context NAME to read a cluster")
	case slices.Contains(in.files, ""):
		return usagef("-f: the name of the file is empty")
	case count(in.files, "-") > 1:
		return usagef("-f - can be given only once")
	}
	return in.reading.validate()
}

func count(list []string, s string) int {
	n := 0
	for _, v := range list {
		if v == s {
			n++
		}
	}
	return n
}

// usesStdin reports whether the manifests come from standard input.
func (s *source) usesStdin() bool { return slices.Contains(s.files, "-") }

// read reads a cluster. The error is one of the world, or of an interrupt;
// mistakes in what was read are in the result.
func (r *reading) read(ctx context.Context, g *global, s source) (kube.Result, error) {
	b := kube.NewBuilder(kube.Options{
		PodCIDRs: r.prefixes, DualStack: r.dualStack, Strict: r.strict, Namespace: r.defaultNamespace,
	})
	if !s.cluster {
		err := manifest.Read(b, s.files, manifest.Options{Recursive: r.recursive, Stdin: g.In, MaxBytes: r.maxBytes})
		if err != nil {
			return kube.Result{}, err
		}
		return b.Build(), nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	err := cluster.List(ctx, b, cluster.Options{Kubeconfig: r.kubeconfig, Context: s.context})
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return kube.Result{}, errors.New("interrupted while reading the cluster")
	case err != nil:
		return kube.Result{}, err
	}
	return b.Build(), nil
}

// load reads and compiles a cluster, and otherwise does as snapshot does.
func (r *reading) load(ctx context.Context, g *global, s source) (t *verdict.Table, ok bool, err error) {
	snapshot, ok, err := r.snapshot(ctx, g, s)
	if err != nil {
		return nil, false, err
	}
	return compile.Compile(snapshot, r.reading), ok, nil
}

// snapshot reads a cluster and prints what is to be said about the input. ok is
// false if the input has errors: the report still has a meaning, since what the
// errors touch is undefined, but the exit status must be 2. If no verdict can
// be given the error is a status.
func (r *reading) snapshot(ctx context.Context, g *global, s source) (snapshot *model.Snapshot, ok bool, err error) {
	res, err := r.read(ctx, g, s)
	if err != nil {
		return nil, false, err
	}
	g.diagnostics(res.Diagnostics)
	if g.verbose && res.Snapshot != nil {
		g.readings(res.Snapshot)
	}
	if res.Unusable != "" {
		fmt.Fprintf(g.Err, "picket: no verdict is given: %s\n", clean(res.Unusable))
		return nil, false, status(exitFailed)
	}
	return res.Snapshot, !res.Diagnostics.HasErrors(), nil
}

// diagnostics prints what is wrong with the input, each thing once: the two
// sides of a difference may have files in common.
func (g *global) diagnostics(list diag.List) {
	var b strings.Builder
	if g.said == nil {
		g.said = map[diag.Diagnostic]bool{}
	}
	for _, d := range list {
		if g.said[d] || d.Severity != diag.Error && g.quiet || d.Severity == diag.Info && !g.verbose {
			continue
		}
		g.said[d] = true
		b.WriteString(clean(d.String()) + "\n")
		for line := range strings.Lines(d.Fix) {
			b.WriteString("    " + clean(line) + "\n")
		}
	}
	fmt.Fprint(g.Err, b.String())
}

// readings says what was read.
func (g *global) readings(s *model.Snapshot) {
	policies := 0
	for i := range s.Tiers {
		policies += len(s.Tiers[i].Policies)
	}
	fmt.Fprintf(g.Err, "info: read %s, %s, %s, %s, %s\n", plural(len(s.Namespaces), "namespace"), plural(len(s.Nodes), "node"),
		plural(len(s.Endpoints), "pod"), plural(len(s.Services), "service"), plural(policies, "policy"))
	kinds := make([]string, 0, len(s.Ignored))
	for k, n := range s.Ignored {
		kinds = append(kinds, fmt.Sprintf("%d %s", n, clean(k)))
	}
	if len(kinds) > 0 {
		slices.SortFunc(kinds, func(a, b string) int {
			_, a, _ = strings.Cut(a, " ")
			_, b, _ = strings.Cut(b, " ")
			return strings.Compare(a, b)
		})
		fmt.Fprintf(g.Err, "info: passed over, as they have no bearing on policy: %s\n", strings.Join(kinds, ", "))
	}
}

// plural says a number of things.
func plural(n int, one string) string {
	switch {
	case n == 1:
		return "1 " + one
	case strings.HasSuffix(one, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(one, "y"))
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// done turns whether the input was good, and whether something was found, into
// the exit status.
func done(ok, found bool) error {
	switch {
	case !ok:
		return status(exitFailed)
	case found:
		return status(exitFindings)
	}
	return nil
}
