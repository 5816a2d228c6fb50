//go:build linux

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = `# What the nodes of the test cluster use.
apiVersion: picket/v1
kind: AgentConfiguration
nodeName: worker-1
podCidr: [10.1.0.0/24, "fd00:1::/64"]
markMask: 0xff000000
logGroup: 7
audit: true
checkEvery: 30s
listen: "[::1]:9000"
logFormat: json
logLevel: warn
`

func TestConfigFile(t *testing.T) {
	c := Defaults()
	if list := ReadConfig("agent.yaml", []byte(goodConfig), &c, nil); len(list) > 0 {
		t.Fatal(list)
	}
	want(t, "node", c.Node, "worker-1")
	want(t, "ranges", fmt.Sprint(c.PodCIDRs), "[10.1.0.0/24 fd00:1::/64]")
	want(t, "mask", c.MarkMask, 0xff000000)
	want(t, "group", c.LogGroup, 7)
	want(t, "audit", c.Audit, true)
	want(t, "check", c.CheckEvery, 30*time.Second)
	want(t, "listen", c.Listen, "[::1]:9000")
	want(t, "format", c.LogFormat, "json")
	want(t, "level", c.LogLevel.String(), "WARN")
	want(t, "what is not said", c.MaxDelay, time.Second)
}

// TestFlagsWin holds that the file does not change what a flag has set.
func TestFlagsWin(t *testing.T) {
	c := Defaults()
	for _, s := range c.Settings() {
		switch s.Name {
		case "node-name":
			_ = s.Set("flag")
		case "pod-cidr":
			_ = s.Set("10.9.0.0/16")
		}
	}
	given := func(name string) bool { return name == "node-name" || name == "pod-cidr" || name == "audit" }
	if list := ReadConfig("agent.yaml", []byte(goodConfig), &c, given); len(list) > 0 {
		t.Fatal(list)
	}
	want(t, "node", c.Node, "flag")
	want(t, "ranges", fmt.Sprint(c.PodCIDRs), "[10.9.0.0/16]")
	want(t, "audit", c.Audit, false)
	want(t, "format", c.LogFormat, "json")
}

// TestConfigMistakes holds that every mistake is found, with its place.
func TestConfigMistakes(t *testing.T) {
	head := "apiVersion: picket/v1\nkind: AgentConfiguration\n"
	for _, tt := range []struct{ text, want string }{
		{"", "agent.yaml: the file is empty"},
		{"- a\n", "agent.yaml:1:1: want fields such as nodeName: NAME"},
		{"a: b: c\n", "agent.yaml: mapping values are not allowed in this context"},
		{"nodeName: a\n", "agent.yaml:1:1: the field apiVersion is missing|agent.yaml:1:1: the field kind is missing"},
		{"apiVersion: picket/v2\nkind: Agent\n", "agent.yaml:1:13: want apiVersion: picket/v1|agent.yaml:2:7: want kind: AgentConfiguration"},
		{head + "nodename: a\n", `agent.yaml:3:1: unknown field "nodename": want one of nodeName,`},
		{head + "nodeName: a\nnodeName: b\n", "agent.yaml:4:1: the field is set twice, first in line 3"},
		{head + "nodeName: [a]\n", "agent.yaml:3:11: want a string"},
		{head + "nodeName:\n", "agent.yaml:3:10: the value is missing"},
		{head + "audit: maybe\ncheckEvery: 5\n", `agent.yaml:3:8: "maybe" is neither true nor false|agent.yaml:4:13: "5" is no duration: want one such as 30s`},
		{head + "checkEvery: 1ms\n", "agent.yaml:3:13: 1ms is out of range: want 1s to 24h0m0s"},
		{head + "podCidr:\n- 10.0.0.0/8\n- ten\n", `agent.yaml:5:3: "ten" is no CIDR: want one such as 10.244.1.0/24`},
		{head + "markMask: 0xf0f00000\n", "agent.yaml:3:11: mark mask 0xf0f00000: want one run of 2 to 31 bits"},
		{head + "markMask: 0\n", "agent.yaml:3:11: the mask is 0: want one run of 2 to 31 bits"},
		{head + "logGroup: 70000\n", `agent.yaml:3:11: "70000" is no number from 0 to 0xffff`},
		{head + "listen: localhost:80\n", `agent.yaml:3:9: "localhost:80" is no address to listen at: want an IP address and a port, such as 127.0.0.1:9476`},
		{head + "logLevel: loud\nlogFormat: xml\n", `agent.yaml:3:11: unknown log level "loud": want debug, info, warn or error|agent.yaml:4:12: unknown log format "xml": want text or json`},
		{head + "table: a b\n", `agent.yaml:3:8: "a b" is no name for a table`},
		{head + "flowRate: 0\n", `agent.yaml:3:11: "0" is no number from 1 to 100000`},
		{head + "---\nnodeName: a\n", "the file has more than one document"},
	} {
		c := Defaults()
		list := ReadConfig("agent.yaml", []byte(tt.text), &c, nil)
		wants := strings.Split(tt.want, "|")
		if len(list) != len(wants) {
			t.Errorf("%q: %v", tt.text, list)
			continue
		}
		for i, w := range wants {
			if got := list[i].String(); !strings.Contains(got, w) {
				t.Errorf("%q:\ngot  %s\nwant %s", tt.text, got, w)
			}
		}
	}
}

// TestDocumented holds that docs/agent.md names every setting and every metric.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "agent.md"))
	if err != nil {
		t.Fatal(err)
	}
	c := Defaults()
	for _, s := range c.Settings() {
		if !strings.Contains(string(b), "`"+s.Field()+"`") || !strings.Contains(string(b), "`--"+s.Name+"`") {
			t.Errorf("the page lacks %s or --%s", s.Field(), s.Name)
		}
	}
	o := Options{Config: c}
	l := newLoop(o, newFakeSource(), &fakeKernel{})
	l.flows = &flowLog{}
	families, err := l.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "picket_") {
			n++
			if !strings.Contains(string(b), "`"+f.GetName()+"`") {
				t.Errorf("the page lacks the metric %s", f.GetName())
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d metrics", n)
	}
}

func FuzzReadConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("apiVersion: &a picket/v1\nkind: *a\npodCidr: [[], {}]\n"))
	f.Add([]byte("? [a]\n: b\n--- \n..."))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Defaults()
		list := ReadConfig("f", data, &c, nil)
		if len(list) > 0 {
			return
		}
		for _, s := range c.Settings() { // what was taken is good by itself
			again := Defaults()
			for _, o := range again.Settings() {
				if o.Name == s.Name && s.String() != "" {
					if err := o.Set(s.String()); err != nil {
						t.Errorf("%s: %v", s.Name, err)
					}
				}
			}
		}
	})
}
