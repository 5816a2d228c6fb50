package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"picket/internal/clustergen"
	"picket/internal/compile"
	"picket/internal/model"
	"picket/internal/verdict"
)

func page(t testing.TB, tab *verdict.Table, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := build(t, tab, o).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// chromium loads the page in a headless Chromium at the given fragment, and
// returns the document as it is after the scripts have run.
func chromium(t *testing.T, page, fragment string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("the page is not checked in a browser in short mode")
	}
	bin, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: the page is not checked in a browser")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
		"--enable-logging=stderr", "--user-data-dir="+filepath.Join(dir, "profile"), "--window-size=1400,900", "--virtual-time-budget=3000", "--dump-dom", "file://"+file+fragment)
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("chromium: %v\n%s", err, log.String())
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the page complains: %s", line)
		}
	}
	dom := out.String()
	if !strings.Contains(dom, `data-ready="1"`) {
		t.Fatalf("the page's script did not finish at %q:\n%.3000s", fragment, log.String())
	}
	return dom
}

var (
	dataElement = regexp.MustCompile(`(?s)<script type="application/json".*?</script>`)
	tag         = regexp.MustCompile(`<([a-zA-Z]+)(?:\s+[^\s=>"]+(?:="[^"]*")?)*\s*>`) // as a browser writes it: no quotes inside quotes, no < in text
	anyTag      = regexp.MustCompile(`<[^>]*>`)
)

// part returns the element with the id, from its tag to what ends it.
func part(t *testing.T, dom, from, to string) string {
	t.Helper()
	dom = dataElement.ReplaceAllString(dom, "")
	i := strings.Index(dom, from)
	if i < 0 {
		t.Fatalf("no %s", from)
	}
	j := strings.Index(dom[i:], to)
	if j < 0 {
		t.Fatalf("no %s after %s", to, from)
	}
	return dom[i : i+j]
}

func words(s string) string {
	return strings.Join(strings.Fields(html.UnescapeString(anyTag.ReplaceAllString(s, " "))), " ")
}

func TestPageExplainsACell(t *testing.T) {
	t.Parallel()
	p := page(t, tutorial().table(t, "picket"), Options{External: true})
	dom := chromium(t, p, "#cell=4,5&theme=dark")
	if !strings.Contains(dom, `data-theme="dark"`) {
		t.Error("the theme of the address is not taken")
	}
	panel := part(t, dom, `<aside id="panel"`, "</aside>")
	if strings.Contains(panel[:200], "hidden") {
		t.Error("the panel is hidden")
	}
	got := words(panel)
	for _, want := range []string{
		"prod/prod{1,2} → qa/qa{1,2}", "Allowed: tcp/8888.", "everything else – denied",
		"egress rule 1 of NetworkPolicy prod/allow-traffic-from-prod-to-qa-on-tcp8888 allows it policies/prod.yaml:103",
		"ingress rule 1 of NetworkPolicy qa/allow-traffic-from-prod-to-qa-on-tcp8888 allows it policies/qa.yaml:93",
		"the pod is isolated for ingress and no rule allows it by NetworkPolicy qa/allow-traffic-from-prod-to-qa-on-tcp8888",
		"picket explain prod/prod1 qa/qa1 tcp/8888",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the explanation: %s", want, got)
		}
	}
	table := part(t, dom, "<table", "</table>")
	if n := strings.Count(table, "<tr"); n != 8 {
		t.Errorf("%d rows, want 8 with the head", n)
	}
	if !strings.Contains(table, `aria-label="prod/prod{1,2} to qa/qa{1,2}: tcp/8888" aria-selected="true"`) {
		t.Error("the cell is not marked, or says something else")
	}
	if n := strings.Count(table, `class="lv-all"`); n != 8 {
		t.Errorf("%d cells are open, want 8", n)
	}
}

func TestPageFilters(t *testing.T) {
	t.Parallel()
	p := page(t, tutorial().table(t, "picket"), Options{External: true})
	names := func(dom string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`<th scope="row" title="([^"]*)"`).FindAllStringSubmatch(part(t, dom, "<table", "</table>"), -1) {
			out = append(out, m[1])
		}
		return out
	}
	dom := chromium(t, p, "#filter=QA")
	diff(t, "prod/prod{1,2}\nqa/qa{1,2}", strings.Join(names(dom), "\n"))
	dom = chromium(t, p, "#filter=from:dev%20to:prod&traffic=tcp/80")
	diff(t, "dev/dev{1,2}", strings.Join(names(dom), "\n"))
	if !strings.Contains(dom, `aria-label="dev/dev{1,2} to prod/prod{1,2}: yes"`) {
		t.Error("dev → prod tcp/80 is not yes")
	}
	dom = chromium(t, p, "#connected=1&traffic=udp/53&theme=light")
	diff(t, "default/trouble2\ndev/dev{1,2}\nkube-system/coredns\nprod/prod{1,2}\nexternal", strings.Join(names(dom), "\n"))
	if !strings.Contains(dom, `data-theme="light"`) {
		t.Error("the theme of the address is not taken")
	}
	if dom = chromium(t, p, "#filter=nobody-is-called-so"); !strings.Contains(dom, "Nothing matches the filters.") {
		t.Error("no word about an empty result")
	}
}

func TestPageGraph(t *testing.T) {
	t.Parallel()
	dom := chromium(t, page(t, tutorial().table(t, "picket"), Options{External: true}), "#view=graph&group=4")
	svg := part(t, dom, "<svg", "</svg>")
	if n := strings.Count(svg, `class="node`); n != 7 {
		t.Errorf("%d nodes, want 7", n)
	}
	if n := strings.Count(svg, `class="edge`); n != 10 {
		t.Errorf("%d edges, want 10", n)
	}
	if n := strings.Count(svg, `class="cluster"`); n != 5 {
		t.Errorf("%d namespaces, want 5", n)
	}
	if !strings.Contains(svg, `aria-label="prod/prod{1,2} → qa/qa{1,2}: tcp/8888"`) {
		t.Error("no edge from prod to qa")
	}
	if got := words(part(t, dom, `<aside id="panel"`, "</aside>")); !strings.Contains(got, "May be reached by (2)") || !strings.Contains(got, "May reach (3)") {
		t.Errorf("the group's panel: %s", got)
	}
}

// A page with hundreds of groups keeps only what is in sight in the document.
func TestPageOfManyGroups(t *testing.T) {
	t.Parallel()
	tab := compile.Compile(clustergen.Sized(clustergen.Config{Pods: 400, Namespaces: 8, Policies: 60, Distinct: true}), model.Dialects[0])
	dom := chromium(t, page(t, tab, Options{External: true}), "#cell=399,3")
	if n := strings.Count(part(t, dom, "<table", "</table>"), "<td"); n < 500 || n > 6000 {
		t.Errorf("%d cells in the document", n)
	}
	if !strings.Contains(dom, `aria-rowcount="4`) {
		t.Error("the grid does not say how many rows it has")
	}
	dom = chromium(t, page(t, tab, Options{External: true}), "#view=graph")
	if n := strings.Count(part(t, dom, "<svg", "</svg>"), `class="node`); n < 8 {
		t.Errorf("%d nodes", n)
	}
}

func TestPageIsSafeFromItsInput(t *testing.T) {
	t.Parallel()
	p := page(t, hostile().table(t, "picket"), Options{External: true})
	data := dataElement.FindString(p)
	if data == "" {
		t.Fatal("no data")
	}
	inner := strings.TrimSuffix(data[strings.Index(data, ">")+1:], "</script>")
	if strings.ContainsAny(inner, "<>&\u2028") {
		t.Error("the data holds characters that a page may take for its own")
	}
	var v any
	if err := json.Unmarshal([]byte(inner), &v); err != nil {
		t.Errorf("the data is no JSON: %v", err)
	}
	if strings.Count(p, "<script") != 2 || strings.Contains(p, "onerror=document") && !strings.Contains(inner, "onerror=document") {
		t.Error("the page has scripts that are not its own")
	}
	for _, at := range []string{"#cell=0,1", "#view=graph&group=0", "#cell=1,0&filter=script", "#cell=%3Cimg%20src%3Dx%3E,1&filter=%3C/script%3E%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D1%3E&view=__proto__"} {
		dom := chromium(t, p, at)
		if !strings.Contains(dom, "<title>Who may reach whom – Picket</title>") {
			t.Errorf("%s: a script of the input ran", at)
		}
		elements := map[string]int{}
		for _, m := range tag.FindAllStringSubmatch(dom, -1) {
			elements[m[1]]++
		}
		if elements["img"] != 0 || elements["script"] != 2 || elements["title"] == 0 || elements["button"] < 3 {
			t.Errorf("%s: the input has become part of the page: %v", at, elements)
		}
	}
}

// The page must not load anything, nor allow a script that is not its own.
func TestPageLoadsNothing(t *testing.T) {
	t.Parallel()
	p := page(t, tutorial().table(t, "picket"), Options{})
	own := strings.NewReplacer("`url(#arrow-", "", "http://www.w3.org/2000/svg", "").Replace(p) // a reference inside the page, and a name
	for _, bad := range []string{"src=", "href=", "@import", "url(", "http://", "https://", "fetch(", "XMLHttpRequest", "innerHTML", "eval("} {
		if strings.Contains(own, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if !strings.Contains(p, "default-src &#39;none&#39;") {
		t.Error("no content security policy")
	}
}

func TestPageTooLarge(t *testing.T) {
	t.Parallel()
	tab := compile.Compile(clustergen.Sized(clustergen.Config{Pods: 2100, Namespaces: 30, Policies: 300, Distinct: true}), model.Dialects[0])
	err := build(t, tab, Options{}).WriteHTML(&bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "narrow it") {
		t.Errorf("error %v", err)
	}
}
