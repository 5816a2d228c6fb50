package manifest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"picket/internal/diag"
	"picket/internal/kube"
)

// readFiles writes files into a folder, reads paths below it, and returns the
// result with the folder's name cut from positions.
func readFiles(t *testing.T, files map[string]string, o Options, paths ...string) (kube.Result, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	b := kube.NewBuilder(kube.Options{})
	err := Read(b, paths, o)
	return b.Build(), err
}

func pod(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop}\n"
}

// names lists the endpoints with where they were written.
func names(r kube.Result) []string {
	var out []string
	for _, e := range r.Snapshot.Endpoints {
		out = append(out, fmt.Sprintf("%s %s", e.Name, e.Origin.Position))
	}
	return out
}

func TestFolders(t *testing.T) {
	files := map[string]string{
		"b.yaml": pod("b"), "a.yml": pod("a"), "c.JSON": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}`,
		"notes.txt": "not: read", "sub/d.yaml": pod("d"), "sub/deep/e.yaml": pod("e"), "empty/x.txt": "",
	}
	for _, tt := range []struct {
		paths     []string
		recursive bool
		want      []string
		err       string
	}{
		{[]string{"."}, false, []string{"c c.JSON:1:1", "a a.yml:1:1", "b b.yaml:1:1"}, ""},
		{[]string{"."}, true, []string{"c c.JSON:1:1", "a a.yml:1:1", "b b.yaml:1:1", "d sub/d.yaml:1:1", "e sub/deep/e.yaml:1:1"}, ""},
		{[]string{"b.yaml", "sub/d.yaml", "./b.yaml"}, false, []string{"b b.yaml:1:1", "d sub/d.yaml:1:1"}, ""},
		{[]string{"sub/deep"}, false, []string{"e sub/deep/e.yaml:1:1"}, ""},
		{[]string{"empty"}, false, nil, "no *.yaml, *.yml or *.json file in folder empty"},
		{[]string{"gone"}, false, nil, "cannot read gone: no such file or directory"},
		{[]string{"notes.txt/x"}, false, nil, "cannot read notes.txt/x: not a directory"},
	} {
		r, err := readFiles(t, files, Options{Recursive: tt.recursive}, tt.paths...)
		if fmt.Sprint(err) != cmpOr(tt.err, "<nil>") {
			t.Errorf("%v: error %v", tt.paths, err)
		}
		if diff := cmp.Diff(tt.want, names(r)); err == nil && diff != "" {
			t.Errorf("%v: %s", tt.paths, diff)
		}
	}
	_, err := readFiles(t, map[string]string{"top/sub/a.yaml": pod("a")}, Options{}, "top")
	if err == nil || !strings.Contains(err.Error(), "add -R") {
		t.Errorf("%v", err)
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// TestPositions holds that positions count from the file, whatever cuts it.
func TestPositions(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"one", pod("a"), []string{"a f.yaml:1:1"}},
		{"comments and blanks first", "# hello\n\n" + pod("a"), []string{"a f.yaml:3:1"}},
		{"two", pod("a") + "---\n" + pod("b"), []string{"a f.yaml:1:1", "b f.yaml:5:1"}},
		{"marker with comment", "--- # one\n" + pod("a") + "--- \t\n\n" + pod("b"), []string{"a f.yaml:2:1", "b f.yaml:7:1"}},
		{"end marker", pod("a") + "...\n---\n" + pod("b") + "...\n", []string{"a f.yaml:1:1", "b f.yaml:6:1"}},
		{"empty documents", "---\n---\n# nothing\n---\n" + pod("a") + "---\n", []string{"a f.yaml:5:1"}},
		{"content behind the marker", `--- {apiVersion: v1, kind: Pod, metadata: {name: a}}` + "\n", []string{"a f.yaml:1:5"}},
		{"directive", "%YAML 1.1\n---\n" + pod("a"), []string{"a f.yaml:3:1"}},
		{"windows", strings.ReplaceAll(pod("a")+"---\n"+pod("b"), "\n", "\r\n"), []string{"a f.yaml:1:1", "b f.yaml:5:1"}},
		{"byte order mark", "\ufeff" + pod("a"), []string{"a f.yaml:1:1"}},
		{"JSON", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}` + "\n" + `  {"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"}}`, []string{"a f.yaml:1:1", "b f.yaml:2:3"}},
		{"flow YAML", `{apiVersion: v1, kind: Pod, metadata: {name: a}}`, []string{"a f.yaml:1:1"}},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n# x\n-  apiVersion: v1\n   kind: Pod\n   metadata: {name: b}\n", []string{"a f.yaml:4:3", "b f.yaml:8:4"}},
		{"flow list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}},\n  {apiVersion: v1, kind: Pod, metadata: {name: b}}]\n", []string{"a f.yaml:3:9", "b f.yaml:4:3"}},
		{"typed list", "apiVersion: v1\nkind: PodList\nitems:\n  - metadata: {name: a}\n", []string{"a f.yaml:4:5"}},
		{"JSON list", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}},\n {\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"}}]}]}", []string{"a f.yaml:2:2", "b f.yaml:3:44"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := readFiles(t, map[string]string{"f.yaml": tt.text}, Options{}, "f.yaml")
			if err != nil || len(r.Diagnostics) > 0 {
				t.Fatal(err, r.Diagnostics)
			}
			if diff := cmp.Diff(tt.want, names(r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInside holds positions of errors inside documents.
func TestInside(t *testing.T) {
	const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelectr: {}
`
	in := func(prefix, first string) string {
		lines := strings.SplitAfter(policy, "\n")
		return first + strings.Join(lines[:len(lines)-1], prefix)
	}
	js := `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p"},"spec":{"policyTypes":["Ingress"],"ingress":[{"from":[
  {"podSelectr":{}}]}]}}`
	for _, tt := range []struct{ name, text, want string }{
		{"plain", policy, "f.yaml:10:7"},
		{"second document", pod("a") + "---\n" + policy, "f.yaml:14:7"},
		{"list", "apiVersion: v1\nkind: List\nitems:\n" + in("  ", "- "), "f.yaml:13:9"},
		{"JSON", js, "f.yaml:2:4"},
		{"JSON list", `{"apiVersion":"v1","kind":"List","items":[` + js + `]}`, "f.yaml:2:4"},
		{"anchor", strings.Replace(policy, "podSelector: {}", "podSelector: &x {}", 1), "f.yaml:10:7"},
		{"merge", strings.Replace(policy, "    - podSelectr: {}", "    - <<: {podSelectr: {}}", 1), "f.yaml:10:12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := readFiles(t, map[string]string{"f.yaml": tt.text}, Options{}, "f.yaml")
			if err != nil || len(r.Diagnostics) != 1 {
				t.Fatal(err, r.Diagnostics)
			}
			d := r.Diagnostics[0]
			if d.Position.String() != tt.want || d.Path != "spec.ingress[0].from[0].podSelectr" {
				t.Errorf("%+v, want %s", d, tt.want)
			}
		})
	}
}

// TestBadContent holds that what can't be read is an error with a place, and
// never hides its neighbours.
func TestBadContent(t *testing.T) {
	deep := strings.Repeat("[", 10001) + strings.Repeat("]", 10001)
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'j'; c++ {
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for _, tt := range []struct {
		name, text, want string
		unusable         bool
	}{
		{"binary", "\x7fELF\x00\x01", "f.yaml:1:5: the file is binary, not YAML or JSON", true},
		{"UTF-16", "\xff\xfea\x00", "f.yaml:1:1: the file is UTF-16 text", true},
		{"Latin-1", "a: b\nc: \xe9\n", "f.yaml:2:4: the file is not UTF-8 text", true},
		{"syntax", "a: b: c\n", "f.yaml:1:1: invalid YAML: mapping values are not allowed in this context", true},
		{"syntax in a later document", pod("x") + "---\na: 1\nb: [\n", "f.yaml:6: invalid YAML: did not find expected node content", true},
		{"tabs", "a:\n\tb: c\n", "f.yaml:2: invalid YAML: found character that cannot start any token", true},
		{"template", "a: {{ .Values.x }}\n", "f.yaml:1:1: invalid YAML: invalid map key: map[interface {}]interface {}{\".Values.x\":interface {}(nil)}", true},
		{"repeated key", pod("x") + "kind: Pod\n", `f.yaml:4: key "kind" already set in map (Pod shop/x)`, false},
		{"JSON", `{"a":1,}`, "f.json:1:8: invalid JSON: invalid character '}' looking for beginning of object key string", true},
		{"truncated JSON", `{"a":`, "f.json:1:6: invalid JSON: unexpected EOF", true},
		{"text", "hello\n", `f.yaml:1:1: want an object, found the string "hello"`, true},
		{"list of objects", "- a: b\n", "f.yaml:1:1: want an object, found a list", true},
		{"no kind", "a: b\n", "f.yaml:1:1: object 'Kind' is missing", true},
		{"items without kind", "apiVersion: v1\nkind: List\nitems: [{a: b}]\n", "f.yaml:3:9: object 'Kind' is missing", true},
		{"null item", "apiVersion: v1\nkind: List\nitems: [null]\n", "f.yaml:3:9: want an object, found null", true},
		{"unknown version", "apiVersion: v2\nkind: Pod\nmetadata: {name: x}\n", `f.yaml:1:1: no matches for kind "Pod" in version "v2" (Pod x)`, false},
		{"deep YAML", "a: " + deep, "f.yaml:1:1: invalid YAML: exceeded max depth of 10000", true},
		{"deep JSON", deep, "f.json:1:10001: invalid JSON: invalid character '[' exceeded max depth", true},
		{"alias bomb", bomb.String(), "f.yaml:1:1: invalid YAML: document contains excessive aliasing", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, _, _ := strings.Cut(tt.want, ":")
			r, err := readFiles(t, map[string]string{name: tt.text, "z.yaml": pod("z")}, Options{}, ".")
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Diagnostics) != 1 || r.Diagnostics[0].String() != tt.want {
				t.Errorf("got  %v\nwant %s", r.Diagnostics, tt.want)
			}
			if (r.Unusable != "") != tt.unusable {
				t.Errorf("unusable %q", r.Unusable)
			}
			last := len(r.Snapshot.Endpoints) - 1
			if last < 0 || r.Snapshot.Endpoints[last].Name != "z" {
				t.Error("the other document is hidden")
			}
		})
	}
}

// TestOddFiles holds that only files, and pipes that the user names, are read.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := syscall.Mkfifo("fifo.yaml", 0o600); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := func(o Options, paths ...string) error {
		return Read(kube.NewBuilder(kube.Options{}), paths, o)
	}
	for _, tt := range []struct{ path, want string }{
		{"fifo.yaml", "nothing to read from fifo.yaml"},
		{"s.yaml", "cannot read s.yaml: it is a socket, not a file"},
		{"/dev/zero", "cannot read /dev/zero: it is a device, not a file"},
		{".", "cannot read fifo.yaml: it is a named pipe, not a file"},
		{"-", "standard input is not available"},
	} {
		if err := read(Options{}, tt.path); fmt.Sprint(err) != tt.want {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
	if err := read(Options{Stdin: strings.NewReader("")}, "-"); fmt.Sprint(err) != "nothing to read from stdin" {
		t.Error(err)
	}

	// A folder that contains itself, and a link to a file.
	loop := filepath.Join(dir, "loop")
	for _, err := range []error{os.Mkdir(loop, 0o700), os.Symlink(loop, filepath.Join(loop, "again.yaml")), os.Symlink("..", filepath.Join(loop, "up")),
		os.WriteFile("real", []byte(pod("a")), 0o600), os.Symlink("../real", filepath.Join(loop, "a.yaml"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := kube.NewBuilder(kube.Options{})
	if err := Read(b, []string{"loop"}, Options{Recursive: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a loop/a.yaml:1:1"}, names(b.Build())); diff != "" {
		t.Error(diff)
	}
	if err := os.Symlink("nowhere", filepath.Join(loop, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := read(Options{}, "loop"); fmt.Sprint(err) != "cannot read loop/b.yaml: no such file or directory" {
		t.Error(err)
	}
}

func TestTooLarge(t *testing.T) {
	files := map[string]string{"a.yaml": pod("a"), "b.yaml": pod("b")}
	if _, err := readFiles(t, files, Options{MaxBytes: int64(len(pod("a")))}, "a.yaml"); err != nil {
		t.Error(err)
	}
	_, err := readFiles(t, files, Options{MaxBytes: int64(len(pod("a"))) + 1}, ".")
	if fmt.Sprint(err) != "cannot read b.yaml: the input is larger than 63 bytes in all" {
		t.Error(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = Read(kube.NewBuilder(kube.Options{}), []string{"-"}, Options{Stdin: endless{}, MaxBytes: 1 << 20})
	runtime.ReadMemStats(&after)
	if err == nil || after.TotalAlloc-before.TotalAlloc > 16<<20 {
		t.Errorf("%v after %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestKustomization(t *testing.T) {
	r, err := readFiles(t, map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": pod("a")}, Options{}, ".")
	if err != nil || len(r.Diagnostics) > 0 || r.Unusable != "" || r.Snapshot.Ignored["Kustomization"] != 1 {
		t.Error(err, r.Diagnostics, r.Unusable, r.Snapshot.Ignored)
	}
}

// TestCorpus reads states of the upstream conformance suite: nothing in them is
// an error.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/conformance/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, f := range files {
		b := kube.NewBuilder(kube.Options{})
		if err := Read(b, []string{f}, Options{}); err != nil {
			t.Fatal(err)
		}
		r := b.Build()
		if len(r.Diagnostics) > 0 || r.Unusable != "" || len(r.Snapshot.Endpoints) == 0 {
			t.Errorf("%s: %v", f, r.Diagnostics)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(pod("a") + "---\n" + pod("b")))
	f.Add([]byte(clusterYAML(1, 1)))
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod"},null,[]]}`))
	f.Add([]byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 1/8, except: [x]}}], ports: [{port: a, endPort: 5}]}]}\n"))
	f.Add([]byte("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec: {tier: Admin, priority: 5, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [x]}], protocols: [{tcp: {}}]}]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("--- |\n x\n...\n%YAML\n"))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: d}\n  # picket: ignore=NP1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		build := func() kube.Result {
			b := kube.NewBuilder(kube.Options{})
			parse(b, "f", data)
			return b.Build()
		}
		r := build()
		again, _ := json.Marshal(build().Snapshot)
		once, err := json.Marshal(r.Snapshot)
		if err != nil || string(once) != string(again) {
			t.Fatalf("not the same twice: %v", err)
		}
		lines := strings.Split(string(data), "\n")
		for _, d := range append(append(diag.List{}, r.Diagnostics...), r.Snapshot.Findings...) {
			if d.Message == "" {
				t.Errorf("no message: %+v", d)
			}
			if d.Position == (diag.Position{}) && strings.Contains(d.Message, "pod range") {
				continue
			}
			if p := d.Position; p.File != "f" || p.Line < 1 || p.Line > len(lines) || p.Col > len(lines[p.Line-1])+1 {
				t.Errorf("outside the input: %+v", d)
			}
		}
		if r.Unusable != "" && !r.Diagnostics.HasErrors() {
			t.Errorf("unusable %q without an error", r.Unusable)
		}
	})
}

// TestBigList holds that a List read item by item gives what reading it whole
// does.
func TestBigList(t *testing.T) {
	read := func(text string, limit int) string {
		defer func(was int) { bigList = was }(bigList)
		bigList = limit
		b := kube.NewBuilder(kube.Options{})
		parse(b, "f.yaml", []byte(text))
		r := b.Build()
		j, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(j)
	}
	var items strings.Builder
	for _, doc := range strings.Split(clusterYAML(3, 2), "---\n")[1:] {
		items.WriteString("- " + strings.TrimSuffix(strings.ReplaceAll(doc, "\n", "\n  "), "  "))
	}
	bad := "- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: p}\n  spec:\n    # picket: ignore=NP101 reason=x\n    ingres: []\n"
	deep := strings.ReplaceAll("\n"+items.String()+bad, "\n", "\n  ")
	for name, text := range map[string]string{
		"kubectl":       "apiVersion: v1\nitems:\n" + items.String() + bad + "# end\nkind: List\nmetadata: {resourceVersion: ''}\n",
		"indented":      "apiVersion: v1\nkind: List\nitems:" + deep + "\n",
		"typed":         "kind: PodList\napiVersion: v1\nitems:\n- metadata: {name: a}\n-\n  metadata: {name: b}\n",
		"anchors":       "kind: PodList\napiVersion: v1\nitems:\n- metadata: &m {name: a}\n- metadata: *m\n",
		"no list":       "kind: ConfigMap\napiVersion: v1\nitems:\n- a\n- b\n",
		"block scalars": "kind: PodList\napiVersion: v1\nitems:\n- metadata:\n    name: a\n    annotations:\n      x: |\n        - one\n        - two\n\n- metadata: {name: b}\n",
	} {
		if diff := cmp.Diff(read(text, 1<<30), read(text, 0)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What is wrong with one item is no matter of the others.
	got := read("kind: List\napiVersion: v1\nitems:\n"+bad+"  kind: x\n- a: b: c\n"+items.String(), 0)
	for _, want := range []string{"pod-2", `"Unusable": "something`, "mapping values are not allowed", `key \"kind\" already set`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// TestHopeless holds that a stream of rubbish ends early.
func TestHopeless(t *testing.T) {
	b := kube.NewBuilder(kube.Options{})
	parse(b, "f.yaml", []byte(strings.Repeat("---\nx\n", 100_000)))
	r := b.Build()
	if n := len(r.Diagnostics); n != 1001 {
		t.Errorf("%d diagnostics", n)
	}
	b = kube.NewBuilder(kube.Options{})
	parse(b, "f.yaml", []byte("a: "+strings.Repeat("x", maxYAML)))
	const want = "f.yaml:1:1: the document is larger than 4 MiB"
	if r := b.Build(); len(r.Diagnostics) != 1 || r.Diagnostics[0].String() != want {
		t.Error(r.Diagnostics)
	}
}
