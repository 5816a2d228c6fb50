//go:build linux

package agent

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"picket/internal/nft"
)

// Config is what an operator may choose, by flags or in a file. Its zero value
// is of no use; begin with Defaults.
type Config struct {
	Node       string
	Kubeconfig string
	Context    string
	NetNS      string
	PodCIDRs   []netip.Prefix

	Table    string
	MarkMask uint32
	LogGroup uint16
	Audit    bool
	FlowLog  string // file; "-" for standard output, "" for none
	FlowRate int    // lines a second

	CheckEvery time.Duration
	MaxDelay   time.Duration
	CRDPoll    time.Duration

	Listen    string // "" serves nothing
	Pprof     bool
	LogFormat string
	LogLevel  slog.Level
}

// Defaults returns the configuration that holds where nothing is said. Node is
// for the caller to fill in.
func Defaults() Config {
	table := nft.Options{}.WithDefaults()
	return Config{
		Table: table.Table, MarkMask: table.MarkMask,
		CheckEvery: time.Minute, MaxDelay: time.Second, CRDPoll: 30 * time.Second,
		Listen: "127.0.0.1:9476", LogFormat: "text", FlowRate: 100,
	}
}

// tableOptions returns the options of the kernel's table.
func (c *Config) tableOptions() nft.Options {
	o := nft.Options{Table: c.Table, MarkMask: c.MarkMask, LogGroup: c.LogGroup, Audit: c.Audit}
	if o.LogGroup == 0 && c.FlowLog != "" {
		o.LogGroup = defaultLogGroup
	}
	return o
}

// listen opens the HTTP server's address, nil if there is to be none.
func (c *Config) listen() (net.Listener, error) {
	if c.Listen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("serve metrics and health: %w", err)
	}
	return l, nil
}

// A Setting is one thing of a Config, as a flag or a field of the file: the
// same name, in the file written like logFormat.
type Setting struct {
	Name  string // as a flag: "log-format"
	Usage string
	Kind  string // "string", "bool", "duration", "list"; what a value looks like
	get   func() string
	set   func(string) error
	clear func() // lists only: forgets the values
}

// Field is the setting's name in the file.
func (s *Setting) Field() string {
	words := strings.Split(s.Name, "-")
	for i := range words[1:] {
		w := words[i+1]
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// String is the value that is set.
func (s *Setting) String() string {
	if s.get == nil {
		return ""
	}
	return s.get()
}

// Set takes a value over, of a list one of its elements or several with commas
// between them. It checks the value by itself.
func (s *Setting) Set(v string) error { return s.set(v) }

// Type is Kind as flags are documented.
func (s *Setting) Type() string { return s.Kind }

// Settings returns what can be set of c, in the order of the documentation.
func (c *Config) Settings() []*Setting {
	return []*Setting{
		text("node-name", "name of the node to enforce on, as the cluster knows it (default $NODE_NAME, or the host's name)", &c.Node, nil),
		text("kubeconfig", "kubeconfig file; without it that of kubectl, or the service account of the pod", &c.Kubeconfig, nil),
		text("context", "context of the kubeconfig", &c.Context, nil),
		text("netns", "network namespace to enforce in: a file such as /run/netns/NAME, or the number of an open file descriptor (default the agent's own)", &c.NetNS, nil),
		prefixes("pod-cidr", "ranges that pods of this node get addresses from, besides those of the Node object: what in them is no known pod is dropped", &c.PodCIDRs),
		text("table", "name of the nftables table", &c.Table, func(s string) error {
			if s == "" {
				return errors.New("the name of the table is empty")
			}
			return nft.Options{Table: s}.Validate()
		}),
		number("mark-mask", "bits of the connection mark that are Picket's: one run of 2 to 31", &c.MarkMask, func(m uint32) error {
			if m == 0 {
				return errors.New("the mask is 0: want one run of 2 to 31 bits")
			}
			return nft.Options{MarkMask: m}.Validate()
		}),
		number("log-group", "netlink log group that denied packets are sent to; 0 is 9476 with --flow-log, and none without", &c.LogGroup, nil),
		boolean("audit", "enforce nothing, but count and log what would be denied", &c.Audit),
		text("flow-log", `file that denied connections are appended to, as JSON lines; "-" is standard output`, &c.FlowLog, nil),
		whole("flow-rate", "most lines of the flow log in a second; what is left out is counted", &c.FlowRate, 1, 100_000),
		duration("check-every", "how often the table in the kernel is compared with the plan, besides when somebody else changes nftables", &c.CheckEvery, time.Second, 24*time.Hour),
		duration("max-delay", "longest rest between two changes of the kernel under a storm of events", &c.MaxDelay, 0, time.Minute),
		duration("crd-poll", "how often to look whether the cluster has got ClusterNetworkPolicy", &c.CRDPoll, time.Second, time.Hour),
		text("listen", `address of /metrics, /healthz and /readyz; "" serves nothing`, &c.Listen, listenAddress),
		boolean("pprof", "serve /debug/pprof/ too", &c.Pprof),
		text("log-format", "format of the log: text, json", &c.LogFormat, func(s string) error {
			if s != "text" && s != "json" {
				return fmt.Errorf("unknown log format %q: want text or json", s)
			}
			return nil
		}),
		level("log-level", "what is logged: debug, info, warn, error", &c.LogLevel),
	}
}

// Validate reports what makes no sense together, or is missing.
func (c *Config) Validate() error {
	switch {
	case c.Node == "":
		return fmt.Errorf("the name of the node is not known: give --node-name")
	case c.Pprof && c.Listen == "":
		return fmt.Errorf("pprof needs an address to be served at: give --listen")
	}
	return nil
}

func text(name, usage string, p *string, check func(string) error) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "string", get: func() string { return *p }, set: func(v string) error {
		if check != nil {
			if err := check(v); err != nil {
				return err
			}
		}
		*p = v
		return nil
	}}
}

func boolean(name, usage string, p *bool) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "bool", get: func() string { return strconv.FormatBool(*p) }, set: func(v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*p = v == "true"
		return nil
	}}
}

func duration(name, usage string, p *time.Duration, least, most time.Duration) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "duration", get: func() string { return p.String() }, set: func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("%q is no duration: want one such as 30s", v)
		}
		if d < least || d > most {
			return fmt.Errorf("%s is out of range: want %s to %s", v, least, most)
		}
		*p = d
		return nil
	}}
}

func number[N uint16 | uint32](name, usage string, p *N, check func(N) error) *Setting {
	hex := uint64(^N(0)) > 0xffff
	return &Setting{Name: name, Usage: usage, Kind: "string", get: func() string {
		if hex {
			return fmt.Sprintf("%#x", *p)
		}
		return fmt.Sprint(*p)
	}, set: func(v string) error {
		n, err := strconv.ParseUint(v, 0, 64)
		if err != nil || n > uint64(^N(0)) {
			return fmt.Errorf("%q is no number from 0 to %#x", v, ^N(0))
		}
		if check != nil {
			if err := check(N(n)); err != nil {
				return err
			}
		}
		*p = N(n)
		return nil
	}}
}

func whole(name, usage string, p *int, least, most int) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "int", get: func() string { return strconv.Itoa(*p) }, set: func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is no number from %d to %d", v, least, most)
		}
		*p = n
		return nil
	}}
}

func prefixes(name, usage string, p *[]netip.Prefix) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "list", clear: func() { *p = nil }, get: func() string {
		out := make([]string, len(*p))
		for i, r := range *p {
			out[i] = r.String()
		}
		return strings.Join(out, ",")
	}, set: func(v string) error {
		var add []netip.Prefix
		for _, s := range strings.Split(v, ",") {
			r, err := netip.ParsePrefix(strings.TrimSpace(s))
			if err != nil || r.Addr().Zone() != "" || r.Addr().Is4In6() {
				return fmt.Errorf("%q is no CIDR: want one such as 10.244.1.0/24", s)
			}
			add = append(add, r.Masked())
		}
		*p = append(*p, add...)
		slices.SortFunc(*p, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		*p = slices.Compact(*p)
		return nil
	}}
}

func level(name, usage string, p *slog.Level) *Setting {
	return &Setting{Name: name, Usage: usage, Kind: "string", get: func() string { return strings.ToLower(p.String()) }, set: func(v string) error {
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if strings.EqualFold(v, l.String()) {
				*p = l
				return nil
			}
		}
		return fmt.Errorf("unknown log level %q: want debug, info, warn or error", v)
	}}
}

func listenAddress(s string) error {
	if s == "" {
		return nil
	}
	if _, err := netip.ParseAddrPort(s); err != nil {
		return fmt.Errorf("%q is no address to listen at: want an IP address and a port, such as 127.0.0.1:9476", s)
	}
	return nil
}
