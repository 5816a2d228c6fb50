package matrix

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"picket/internal/verdict"
)

// WriteDOT writes the matrix as a Graphviz digraph: a node for each group,
// those whose pods share a namespace in a cluster, and an edge for each pair
// that may connect, labelled with the traffic; dashed where it is undefined.
func (r *Report) WriteDOT(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString("digraph picket {\n\trankdir=LR;\n\tcompound=true;\n\tnode [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];\n\tedge [fontname=\"sans-serif\", fontsize=10];\n")
	var spaces []string
	in := map[string][]int{}
	for _, i := range r.used() {
		ns := ""
		if g := r.groups[i]; len(g.namespaces) == 1 {
			ns = g.namespaces[0]
		}
		if in[ns] == nil {
			spaces = append(spaces, ns)
		}
		in[ns] = append(in[ns], i)
	}
	for k, ns := range spaces {
		indent := "\t"
		if ns != "" {
			fmt.Fprintf(b, "\tsubgraph cluster_%d {\n\t\tlabel=%s;\n\t\tstyle=\"rounded,filled\";\n\t\tfillcolor=\"#f3f4f6\";\n", k, dotQuote(ns))
			indent = "\t\t"
		}
		for _, i := range in[ns] {
			shape := ""
			if !r.groups[i].inside() {
				shape = ", shape=ellipse"
			}
			fmt.Fprintf(b, "%sg%d [label=%s%s];\n", indent, i, dotQuote(r.groups[i].name), shape)
		}
		if ns != "" {
			b.WriteString("\t}\n")
		}
	}
	r.eachRow(func(g int, cells []int32) {
		for c, id := range cells {
			if id == noCell || r.cells[id].bypass == verdict.Itself {
				continue
			}
			switch s := r.shown(id); s.level {
			case open, partly:
				fmt.Fprintf(b, "\tg%d -> g%d [label=%s];\n", g, r.columns[c], dotQuote(s.String()))
			case unclear:
				fmt.Fprintf(b, "\tg%d -> g%d [label=%s, style=dashed];\n", g, r.columns[c], dotQuote(s.String()))
			}
		}
	})
	b.WriteString("}\n")
	return b.Flush()
}

// dotQuote writes s as a quoted DOT string. In labels, DOT reads backslashes as
// escapes, so they are doubled.
func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "").Replace(s) + `"`
}
