package crd

import (
	"strings"
	"testing"
	"testing/fstest"
)

const small = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.example.org}\n"

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // names, or the error
	}{
		"in order of names":    {map[string]string{"d/b.yml": strings.Replace(small, "a.", "b.", 1), "d/a.yaml": small}, "a.example.org b.example.org"},
		"documents":            {map[string]string{"d/x.yaml": "---\n" + small + "---\n# nothing\n---\n" + strings.Replace(small, "a.", "c.", 1)}, "a.example.org c.example.org"},
		"JSON":                 {map[string]string{"d/x.json": `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"j.example.org"}}`}, "j.example.org"},
		"others passed over":   {map[string]string{"d/x.yaml": small, "d/kustomization.yaml": "resources: []", "d/README.md": "kind: X", "d/sub/y.yaml": "kind: X"}, "a.example.org"},
		"another kind":         {map[string]string{"d/x.yaml": small + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"}, `x.yaml: document 2 is no named CustomResourceDefinition of apiextensions.k8s.io/v1 but Pod "p" of v1`},
		"an old version":       {map[string]string{"d/x.yaml": strings.Replace(small, "/v1", "/v1beta1", 1)}, "document 1 is no named"},
		"no name":              {map[string]string{"d/x.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"}, "document 1 is no named"},
		"not YAML":             {map[string]string{"d/x.yaml": "a: [\n"}, "x.yaml: document 1: "},
		"nothing":              {map[string]string{"d/x.txt": ""}, "no CustomResourceDefinition found"},
		"a folder that is not": {map[string]string{"e/x.yaml": small}, "d: file does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for file, text := range c.files {
				tree[file] = &fstest.MapFile{Data: []byte(text)}
			}
			all, err := Read(tree, "d")
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got error %q, want %q", err, c.want)
				}
				return
			}
			var names []string
			for _, m := range all {
				names = append(names, m.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("---\n- 1\n---\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parse(text)
		if err != nil {
			return
		}
		for _, m := range all {
			if m.Name == "" || !strings.HasPrefix(string(m.json), "{") {
				t.Errorf("manifest %q: %s", m.Name, m.json)
			}
		}
	})
}
