//go:build linux

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"picket/internal/nft"
)

// controlPlane is a real one, of the program that the module controlplane
// builds.
type controlPlane struct {
	t      *testing.T
	binary string
	data   string
	args   []string
	cmd    *exec.Cmd
	client *http.Client
	base   string
}

// startControlPlane starts a control plane, or skips the test where its program
// is not there.
func startControlPlane(t *testing.T, args ...string) *controlPlane {
	t.Helper()
	binary := os.Getenv("PICKET_CONTROLPLANE")
	if binary == "" {
		binary = filepath.Join("..", "..", "bin", "controlplane")
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("SKIPPED: needs a real control plane: build the module controlplane to bin/controlplane, or name it by PICKET_CONTROLPLANE: %v", err)
	}
	if testing.Short() {
		t.Skip("SKIPPED: starting a control plane takes seconds")
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{t: t, binary: binary, data: t.TempDir(), args: args}
	c.start()
	t.Cleanup(c.stop)
	return c
}

func (c *controlPlane) kubeconfig() string { return filepath.Join(c.data, "admin.kubeconfig") }

func (c *controlPlane) start() {
	c.t.Helper()
	c.cmd = exec.Command(c.binary, slices.Concat([]string{"--data", c.data, "--kubeconfig-out", c.kubeconfig()}, c.args)...)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.t.Fatalf("the control plane did not start: %v %s", err, line)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		c.t.Fatal(err)
	}
	if c.client, err = rest.HTTPClientFor(cfg); err != nil {
		c.t.Fatal(err)
	}
	c.base = cfg.Host
}

func (c *controlPlane) stop() {
	if c.cmd == nil {
		return
	}
	c.client.CloseIdleConnections()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait()
	c.cmd = nil
}

// do sends a request and returns the status and the body.
func (c *controlPlane) do(method, path, body string) (int, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+"/"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// must is do for a request that works, if not at once then soon: a namespace
// gets its service account from a controller.
func (c *controlPlane) must(method, path, body string) {
	c.t.Helper()
	var status int
	var answer []byte
	for range 100 {
		if status, answer = c.do(method, path, body); status < 300 {
			return
		}
		if status != http.StatusForbidden && status != http.StatusConflict && status != http.StatusNotFound {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("%s %s: %d %s", method, path, status, answer)
}

const (
	podPaths  = "api/v1/namespaces/shop/pods"
	npPaths   = "apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
	cnpPaths  = "apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
	crdPaths  = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	crdName   = "clusternetworkpolicies.policy.networking.k8s.io"
	denyBody  = `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"%s"},"spec":{"podSelector":{"matchLabels":{"app":"%s"}},"policyTypes":["Ingress"]}}`
	adminBody = `{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"%s"},"spec":{"tier":"Admin","priority":5,"subject":{"namespaces":{}},"ingress":[{"name":"no","action":"Deny","from":[{"namespaces":{}}]}]}}`
)

// cluster makes a node and a namespace.
func (c *controlPlane) cluster() {
	c.must("POST", "api/v1/nodes", `{"metadata":{"name":"n1"},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24"]}}`)
	c.must("POST", "api/v1/namespaces", `{"metadata":{"name":"shop"}}`)
}

func (c *controlPlane) pod(name, app, addr string) {
	c.must("POST", podPaths, fmt.Sprintf(
		`{"metadata":{"name":%q,"labels":{"app":%q}},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"x"}]}}`, name, app))
	c.must("PATCH", podPaths+"/"+name+"/status", fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%[1]q}]}}`, addr))
}

// testNetNS makes a network namespace and returns a file of it.
func testNetNS(t *testing.T) *os.File {
	t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- made{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- made{f, err}
	}()
	m := <-c
	if os.IsPermission(m.err) {
		t.Skipf("SKIPPED: needs the right to make network namespaces: %v", m.err)
	}
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { m.f.Close() })
	return m.f
}

// running is an agent that runs in a namespace.
type running struct {
	t    *testing.T
	log  *agentLog
	url  string
	stop func()
}

func runAgent(t *testing.T, kubeconfig string, ns *os.File, change func(*Options)) *running {
	t.Helper()
	r := &running{t: t, log: &agentLog{}}
	o := Options{Config: Defaults(), Log: slog.New(slog.NewTextHandler(r.log, nil)), Version: "test"}
	o.Node, o.NetNS, o.Kubeconfig, o.Listen, o.CRDPoll = "n1", fmt.Sprint(ns.Fd()), kubeconfig, "127.0.0.1:0", time.Second
	at := make(chan net.Addr, 1)
	o.Listening = func(a net.Addr) { at <- a }
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	select {
	case a := <-at:
		r.url = "http://" + a.String()
	case err := <-done:
		t.Fatal(err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the agent:\n%s", strings.Join(r.log.lines(), "\n"))
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *running) get(path string) (int, string) {
	resp, err := http.Get(r.url + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// untilReady waits for the agent to be ready: that is a little after the change
// can be seen in the kernel.
func (r *running) untilReady() {
	r.t.Helper()
	var text string
	for range 1000 {
		var status int
		if status, text = r.get("/readyz"); status == http.StatusOK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("not ready: %s", text)
}

// inKernel returns the IPv4 addresses that a set of the table in the namespace
// holds, whatever version of it is in use; nil if there is none.
func inKernel(t *testing.T, ns *os.File, set string) []string {
	t.Helper()
	var out []string
	err := (&netNS{ns}).do(func() error {
		for version := 40; version > 0; version-- {
			name := fmt.Sprintf("%s.%d", set, version)
			if version == 1 {
				name = set
			}
			addrs, err := readSet(name)
			if err == nil {
				out = addrs
				return nil
			}
			if !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// readSet reads a set of IPv4 addresses in the current namespace.
func readSet(name string) ([]string, error) {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, "picket")
	ae.String(unix.NFTA_SET_ELEM_LIST_SET, name)
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	var out []string
	each := func(ad *netlink.AttributeDecoder, visit func(*netlink.AttributeDecoder) error) error {
		for ad.Next() {
			if err := visit(ad); err != nil {
				return err
			}
		}
		return nil
	}
	const typ = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM
	err = dump(unix.NETLINK_NETFILTER, typ, append([]byte{1, 0, 0, 0}, attrs...), 4, func(_ []byte, ad *netlink.AttributeDecoder) error {
		return each(ad, func(list *netlink.AttributeDecoder) error {
			if list.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return nil
			}
			list.Nested(func(elems *netlink.AttributeDecoder) error {
				return each(elems, func(elem *netlink.AttributeDecoder) error {
					elem.Nested(func(parts *netlink.AttributeDecoder) error {
						return each(parts, func(part *netlink.AttributeDecoder) error {
							if part.Type() == unix.NFTA_SET_ELEM_KEY {
								part.Nested(func(value *netlink.AttributeDecoder) error {
									return each(value, func(v *netlink.AttributeDecoder) error {
										out = append(out, net.IP(v.Bytes()).String())
										return nil
									})
								})
							}
							return nil
						})
					})
					return nil
				})
			})
			return nil
		})
	})
	return out, err
}

// until waits for the state of the kernel that is wanted.
func until(t *testing.T, ns *os.File, set string, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got = inKernel(t, ns, set); slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("%s holds %q, want %q", set, got, want)
}

// isolatedIn is the set of local pods under ingress policy.
const isolatedIn = "isolated_in4"

// TestReal follows a real control plane through the life of pods and policies,
// a restart of the API server and of the agent, and cleans up.
func TestReal(t *testing.T) {
	ns := testNetNS(t)
	c := startControlPlane(t)
	c.cluster()
	c.pod("a", "web", "10.1.0.1")
	c.must("POST", npPaths, fmt.Sprintf(denyBody, "deny", "web"))
	r := runAgent(t, c.kubeconfig(), ns, nil)
	until(t, ns, isolatedIn, "10.1.0.1")
	r.untilReady()

	// Pods and policies come, change and go.
	c.pod("b", "web", "10.1.0.2")
	until(t, ns, isolatedIn, "10.1.0.1", "10.1.0.2")
	c.must("PATCH", podPaths+"/b", `{"metadata":{"labels":{"app":"db"}}}`)
	until(t, ns, isolatedIn, "10.1.0.1")
	c.must("DELETE", podPaths+"/a?gracePeriodSeconds=0", "")
	until(t, ns, "pods4", "10.1.0.2")
	c.must("POST", npPaths, fmt.Sprintf(denyBody, "db", "db"))
	until(t, ns, isolatedIn, "10.1.0.2")

	// The server goes away: what was in force stays.
	c.stop()
	time.Sleep(time.Second)
	until(t, ns, isolatedIn, "10.1.0.2")
	if status, text := r.get("/readyz"); status != 200 {
		t.Error("an agent that enforces the last policies it knew is ready: ", text)
	}
	if status, text := r.get("/metrics"); status != 200 || !strings.Contains(text, `picket_agent_watch_connected{kind="Pod"} 0`) {
		t.Error("the metrics do not tell that the server is away")
	}

	// An agent that begins while the server is away touches nothing.
	r.stop()
	until(t, ns, isolatedIn, "10.1.0.2")
	r = runAgent(t, c.kubeconfig(), ns, nil)
	time.Sleep(time.Second)
	until(t, ns, isolatedIn, "10.1.0.2")
	if status, _ := r.get("/readyz"); status == 200 {
		t.Error("it is ready without having read the cluster")
	}

	// The server is back, with its data.
	c.start()
	c.pod("c", "db", "10.1.0.3")
	until(t, ns, isolatedIn, "10.1.0.2", "10.1.0.3")
	c.must("DELETE", npPaths+"/db", "")
	until(t, ns, isolatedIn)

	// Somebody deletes the table.
	c.must("POST", npPaths, fmt.Sprintf(denyBody, "db", "db"))
	until(t, ns, isolatedIn, "10.1.0.2", "10.1.0.3")
	k, err := nft.Open(int(ns.Fd()), nft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	k.Close()
	// This process is the agent's, whose own changes it does not notice.
	r.stop()
	r = runAgent(t, c.kubeconfig(), ns, func(o *Options) { o.CheckEvery = time.Second })
	until(t, ns, isolatedIn, "10.1.0.2", "10.1.0.3")

	// The clean end.
	r.stop()
	o := Options{Config: Defaults(), Log: slog.New(slog.DiscardHandler)}
	o.NetNS = fmt.Sprint(ns.Fd())
	if err := Cleanup(o); err != nil {
		t.Fatal(err)
	}
	var tables []string
	own := &netNS{ns}
	if err := own.do(func() (err error) { tables, _, err = listNFTables(); return err }); err != nil {
		t.Fatal(err)
	}
	want(t, "tables after cleanup", tables, nil)
}

// TestRealDefinition follows ClusterNetworkPolicy as its definition comes, goes
// and comes again.
func TestRealDefinition(t *testing.T) {
	ns := testNetNS(t)
	c := startControlPlane(t, "--network-policy-api=standard")
	c.cluster()
	c.pod("a", "web", "10.1.0.1")
	_, body := c.do("GET", crdPaths+"/"+crdName, "")
	var crd map[string]any
	if err := json.Unmarshal(body, &crd); err != nil {
		t.Fatal(err)
	}
	delete(crd, "status")
	meta := crd["metadata"].(map[string]any)
	crd["metadata"] = map[string]any{"name": meta["name"], "annotations": meta["annotations"]}
	body, _ = json.Marshal(crd)
	gone := func() {
		t.Helper()
		for range 300 {
			if status, _ := c.do("GET", crdPaths+"/"+crdName, ""); status == http.StatusNotFound {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatal("the definition does not go")
	}
	c.must("DELETE", crdPaths+"/"+crdName, "")
	gone()

	runAgent(t, c.kubeconfig(), ns, nil)
	until(t, ns, "pods4", "10.1.0.1")
	until(t, ns, isolatedIn)
	c.must("POST", crdPaths, string(body))
	c.must("POST", cnpPaths, fmt.Sprintf(adminBody, "one"))
	until(t, ns, isolatedIn, "10.1.0.1")
	c.must("DELETE", cnpPaths+"/one", "")
	until(t, ns, isolatedIn)

	// The definition goes, and with it all its objects: the policy stays.
	c.must("POST", cnpPaths, fmt.Sprintf(adminBody, "two"))
	until(t, ns, isolatedIn, "10.1.0.1")
	c.must("DELETE", crdPaths+"/"+crdName, "")
	gone()
	c.pod("b", "web", "10.1.0.2") // the agent has seen what came before this
	until(t, ns, "pods4", "10.1.0.1", "10.1.0.2")
	time.Sleep(2 * time.Second)
	until(t, ns, isolatedIn, "10.1.0.1", "10.1.0.2")

	// It is back, without objects: that is an answer.
	c.must("POST", crdPaths, string(body))
	until(t, ns, isolatedIn)
}

// TestRealLatency measures the time from the answer to an API request to the
// change in the kernel. It logs and judges nothing but that all arrive.
func TestRealLatency(t *testing.T) {
	ns := testNetNS(t)
	c := startControlPlane(t)
	c.cluster()
	c.pod("a", "web", "10.1.0.1")
	runAgent(t, c.kubeconfig(), ns, nil)
	until(t, ns, "pods4", "10.1.0.1")
	var took []time.Duration
	for i := range 40 {
		began := time.Now()
		if i%2 == 0 {
			c.must("POST", npPaths, fmt.Sprintf(denyBody, "deny", "web"))
			until(t, ns, isolatedIn, "10.1.0.1")
		} else {
			c.must("DELETE", npPaths+"/deny", "")
			until(t, ns, isolatedIn)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from the beginning of the API request to the kernel: median %s, p90 %s, worst %s", took[len(took)/2], took[len(took)*9/10], took[len(took)-1])
}

// TestRealScale measures an agent in a cluster of PICKET_SCALE pods, those of
// other nodes for the most part. It logs and judges nothing but that all
// arrive.
func TestRealScale(t *testing.T) {
	pods, err := strconv.Atoi(os.Getenv("PICKET_SCALE"))
	if err != nil {
		t.Skip("SKIPPED: give the number of pods by PICKET_SCALE; 10000 take minutes")
	}
	ns := testNetNS(t)
	c := startControlPlane(t)
	c.cluster()
	const namespaces = 50
	for n := range namespaces {
		c.must("POST", "api/v1/namespaces", fmt.Sprintf(`{"metadata":{"name":"team-%d","labels":{"team":"%[1]d"}}}`, n))
		for p := range 20 {
			c.must("POST", fmt.Sprintf("apis/networking.k8s.io/v1/namespaces/team-%d/networkpolicies", n), fmt.Sprintf(
				`{"metadata":{"name":"np-%d"},"spec":{"podSelector":{"matchLabels":{"app":"web-%d"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web-%d"}}},{"namespaceSelector":{"matchLabels":{"team":"%d"}}}],"ports":[{"port":8080}]}]}}`,
				p, p, (p+1)%20, (n+1)%namespaces))
		}
	}
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				node := "far"
				if i%100 == 0 {
					node = "n1"
				}
				at := fmt.Sprintf("api/v1/namespaces/team-%d/pods", i%namespaces)
				c.must("POST", at, fmt.Sprintf(
					`{"metadata":{"name":"web-5d78c9869d-%d","labels":{"app":"web-%d","pod-template-hash":"5d78c9869d"}},"spec":{"nodeName":%q,"containers":[{"name":"c","image":"x","ports":[{"name":"http","containerPort":8080}]}]}}`,
					i, i/namespaces%20, node))
				ip := fmt.Sprintf("10.%d.%d.%d", 2+i>>16, i>>8&255, i&255)
				c.must("PATCH", fmt.Sprintf("%s/web-5d78c9869d-%d/status", at, i), fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%[1]q}]}}`, ip))
			}
		})
	}
	began := time.Now()
	for i := range pods {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d pods written in %s", pods, time.Since(began).Round(time.Second))

	before := heapInUse()
	began = time.Now()
	r := runAgent(t, c.kubeconfig(), ns, nil)
	r.untilReady()
	t.Logf("from the agent's start to enforced: %s", time.Since(began).Round(time.Millisecond))
	t.Logf("heap held by the agent: %.1f MiB", float64(heapInUse()-before)/(1<<20))
	var took []time.Duration
	c.pod("a", "web", "10.1.0.1")
	for i := range 40 {
		began := time.Now()
		if i%2 == 0 {
			c.must("POST", npPaths, fmt.Sprintf(denyBody, "deny", "web"))
		} else {
			c.must("DELETE", npPaths+"/deny", "")
		}
		for slices.Contains(inKernel(t, ns, isolatedIn), "10.1.0.1") != (i%2 == 0) {
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from the beginning of the API request to the kernel: median %s, p90 %s, worst %s", took[len(took)/2], took[len(took)*9/10], took[len(took)-1])
	_, text := r.get("/metrics")
	for line := range strings.Lines(text) {
		if strings.Contains(line, "stage_duration_seconds_sum") || strings.Contains(line, "stage_duration_seconds_count") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRealKernel runs an agent on a real kernel, with a cluster of the test's
// making: the table of the agent before stays until the first plan, what others
// do to it is put right, and it outlives the agent.
func TestRealKernel(t *testing.T) {
	ns := testNetNS(t)
	o := Options{Config: Defaults(), Log: slog.New(slog.DiscardHandler)}
	o.Node, o.Listen, o.CheckEvery = "n1", "", time.Second
	run := func(source *fakeSource) (stop func()) {
		kernel, err := nft.Open(int(ns.Fd()), o.tableOptions())
		if err != nil {
			t.Fatal(err)
		}
		l := newLoop(o, source, kernel)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- l.runAll(ctx, nil, func(ctx context.Context, changed func()) error {
				return nft.Watch(ctx, int(ns.Fd()), o.Table, changed)
			}, nil)
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			kernel.Close()
		}
	}
	source := newFakeSource()
	stop := run(source)
	source.put("Node/n1", nodeN1)
	source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
	source.put("NetworkPolicy/shop/deny", denyAll)
	until(t, ns, isolatedIn, "10.1.0.1")
	for i := range 20 {
		source.put(fmt.Sprintf("Pod/shop/p%d", i), podOn("n1", fmt.Sprintf("10.1.0.%d", 100+i)))
	}
	for len(inKernel(t, ns, isolatedIn)) != 21 {
		time.Sleep(time.Millisecond)
	}
	k, err := nft.Open(int(ns.Fd()), o.tableOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
	k.Close()
	for len(inKernel(t, ns, isolatedIn)) != 21 { // at the next look: the process is the same, and its changes are not foreign
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	want(t, "after the end", len(inKernel(t, ns, isolatedIn)), 21)

	// The next agent, whose cluster is not known yet.
	source = newFakeSource()
	stop = run(source)
	<-source.began
	time.Sleep(1500 * time.Millisecond) // longer than CheckEvery
	want(t, "before the cluster is known", len(inKernel(t, ns, isolatedIn)), 21)
	source.put("Pod/shop/a", podOn("n1", "10.1.0.1"))
	until(t, ns, "pods4", "10.1.0.1")
	stop()
}
