//go:build linux

package nft

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"

	"picket/internal/model"
	"picket/internal/netset"
)

// stream is a TCP connection that lives across changes of policy.
type stream struct {
	client, server net.Conn
}

func (w *world) connect(from, to string, family int, port string) *stream {
	w.t.Helper()
	var l net.Listener
	w.spaces[to].do(w.t, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(w.spaces[to].addrs[family].String(), port))
		return err
	})
	defer l.Close()
	f := &stream{}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	w.spaces[from].do(w.t, func() (err error) {
		d := net.Dialer{Timeout: patience}
		f.client, err = d.Dial("tcp", l.Addr().String())
		return err
	})
	f.server = <-accepted
	w.t.Cleanup(func() { f.client.Close(); f.server.Close() })
	return f
}

// passes sends through the connection, one way.
func passes(from, to net.Conn) error {
	text := []byte("hello")
	if _, err := from.Write(text); err != nil {
		return err
	}
	to.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(to, buf); err != nil {
		return err
	}
	if !bytes.Equal(buf, text) {
		return fmt.Errorf("read %q", buf)
	}
	return nil
}

// lives fails unless the connection carries data both ways.
func (w *world) lives(what string, f *stream) {
	w.t.Helper()
	if err := passes(f.client, f.server); err != nil {
		w.t.Errorf("%s, from the client: %v", what, err)
	}
	if err := passes(f.server, f.client); err != nil {
		w.t.Errorf("%s, from the server: %v", what, err)
	}
}

// cut fails unless what the connection carries is dropped, both ways.
func (w *world) cut(what, counter string, f *stream) {
	w.t.Helper()
	for _, end := range []net.Conn{f.client, f.server} {
		before := w.drops()[counter]
		if _, err := end.Write([]byte("lost")); err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
		for wait := time.Now().Add(patience); w.drops()[counter] == before; time.Sleep(time.Millisecond) {
			if time.Now().After(wait) {
				w.t.Errorf("%s: the connection is not cut: %v", what, w.drops())
				return
			}
		}
	}
}

// Tightening cuts the connections that are not allowed any more, and no other;
// loosening touches none. What was cut goes on when it is allowed again.
func TestTighteningCuts(t *testing.T) {
	w := newWorld(t, false)
	web, both := netset.Ports(netset.TCP, 80, 80), netset.Ports(netset.TCP, 80, 81)
	w.apply(isolate("a", []model.Rule{allow(both)}, nil))
	k := w.kernel["n1"]
	for i, f := range families {
		kept, other := w.connect("b", "a", i, "80"), w.connect("b", "c", i, "81")
		gone, far := w.connect("b", "a", i, "81"), w.connect("d", "a", i, "81")
		node := w.connect("n1", "a", i, "82")
		v := fmt.Sprintf("IPv%d ", f)
		generations := k.Stats.Generations
		w.apply(isolate("a", []model.Rule{allow(web)}, nil))
		if k.Stats.Generations != generations+1 {
			t.Errorf("%stightening: %d generations passed, want 1", v, k.Stats.Generations-generations)
		}
		w.cut(v+"same node", "denied_in", gone)
		w.cut(v+"other node", "denied_in", far)
		w.lives(v+"allowed still", kept)
		w.lives(v+"nobody's business", other)
		w.lives(v+"of the node", node)

		generations = k.Stats.Generations
		w.apply(isolate("a", []model.Rule{allow(both)}, nil))
		if k.Stats.Generations != generations {
			t.Errorf("%sloosening: %d generations passed, want 0", v, k.Stats.Generations-generations)
		}
		// The kernel repeats what was lost.
		for _, f := range []*stream{gone, far} {
			f.server.SetReadDeadline(time.Now().Add(patience))
			buf := make([]byte, 4)
			if _, err := io.ReadFull(f.server, buf); err != nil || string(buf) != "lost" {
				t.Errorf("%sallowed again: %q %v", v, buf, err)
			}
		}
		w.lives(v+"allowed still", kept)
	}
}

// Connections of before the first load are judged by it.
func TestFirstLoadJudgesWhatIsThere(t *testing.T) {
	w := newWorld(t, false)
	// Connections are tracked once somebody asks for it.
	w.nft("n1", "table inet other { chain c { type filter hook forward priority 0; ct state new accept; }; }")
	good, bad := w.connect("d", "a", 0, "80"), w.connect("d", "a", 0, "81")
	w.apply(isolate("a", []model.Rule{allow(netset.Ports(netset.TCP, 80, 80))}, nil))
	w.lives("allowed", good)
	w.cut("not allowed", "denied_in", bad)
}

// When the generations have all been used the marks of old ones are gone, and
// the other bits of the mark are as they were.
func TestGenerationsWrap(t *testing.T) {
	w := newWorld(t, false)
	k, err := Open(int(w.spaces["n1"].ns), Options{MarkMask: 0x00000600}) // 3 generations
	w.must(err)
	defer k.Close()
	w.kernel = map[string]*Kernel{"n1": k}
	web, both := netset.Ports(netset.TCP, 80, 80), netset.Ports(netset.TCP, 80, 81)
	apply := func(tr netset.Traffic) {
		t.Helper()
		p := w.plan("n1", isolate("a", []model.Rule{allow(tr)}, nil))
		p.Options.MarkMask = 0x600
		w.must(k.Apply(p))
	}
	w.nft("n1", "table inet other { chain c { type filter hook forward priority 10; ct mark set ct mark or 0x80000001; }; }")
	apply(both)
	idle, busy := w.connect("d", "a", 0, "81"), w.connect("d", "a", 0, "80")
	w.lives("before", idle)
	for round := range 7 {
		apply(web)
		w.lives(fmt.Sprintf("round %d", round), busy)
		// An idle connection must not pass by a mark of long ago.
		if round%3 == 2 {
			w.cut(fmt.Sprintf("round %d, idle", round), "denied_in", idle)
		}
		apply(both)
	}
	if n := k.Stats.Generations; n < 8 {
		t.Errorf("only %d generations", n)
	}
	// A second opinion about the marks.
	w.spaces["n1"].do(t, func() error {
		conn, err := conntrack.Dial(nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		flows, err := conn.Dump(nil)
		if err != nil {
			return err
		}
		current := k.options.mark(k.generation)
		for _, f := range flows {
			if f.Mark&^0x600 != 0x80000001 {
				t.Errorf("somebody else's bits are lost: %#x", f.Mark)
			}
			if f.Mark&0x600 > current {
				t.Errorf("a mark of a generation that will come: %#x, now %#x", f.Mark, current)
			}
		}
		if len(flows) == 0 {
			t.Error("no connections")
		}
		return nil
	})
}

// An address that a new pod has from one that went gives it no connections.
func TestAddressUsedAgain(t *testing.T) {
	w := newWorld(t, false)
	w.pods = append(w.pods[:0:0], w.pods...)
	policy := isolate("a", []model.Rule{allow(netset.Ports(netset.TCP, 80, 80), "d")}, nil)
	w.apply(policy)
	f := w.connect("d", "a", 0, "80")
	w.lives("before", f)
	d := len(w.pods) - 1
	heir := w.pods[d]
	w.pods = w.pods[:d]
	w.apply(policy)
	heir.Name, heir.Labels = "z", map[string]string{"app": "z"}
	w.pods = append(w.pods, heir)
	w.apply(policy)
	w.cut("of the pod that had the address before", "denied_in", f)
}
