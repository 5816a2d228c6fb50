package matrix

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/data.js page/matrix.js page/panel.js page/graph.js page/main.js
var pageScripts embed.FS

var pageJS = script("data", "matrix", "panel", "graph", "main")

// script joins parts of the page's script, which share one scope, in order.
func script(parts ...string) string {
	var b strings.Builder
	b.WriteString("\"use strict\";\n(() => {\n")
	for _, p := range parts {
		text, err := pageScripts.ReadFile("page/" + p + ".js")
		if err != nil {
			panic(err)
		}
		b.Write(text)
	}
	b.WriteString("})();\n")
	return b.String()
}

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// htmlLimit bounds the cells of a page: beyond it, a browser struggles.
const htmlLimit = 4_000_000

// WriteHTML writes one page that needs nothing else: the matrix and a graph,
// which can be filtered and clicked for explanations. The page holds the JSON
// form; it runs no script but its own and loads nothing. It fails for more than
// about 2,000 groups.
func (r *Report) WriteHTML(w io.Writer) error {
	if n := len(r.rows) * len(r.columns); n > htmlLimit {
		return fmt.Errorf("a page of %d × %d groups is too large for a browser: narrow it by namespace, source or destination", len(r.rows), len(r.columns))
	}
	var data bytes.Buffer
	if err := r.WriteJSON(&data); err != nil {
		return err
	}
	return pageTemplate.Execute(w, map[string]any{
		"Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; script-src " + hash(pageJS) + "; style-src " + hash(pageCSS),
		"CSS":    template.CSS(pageCSS),
		"JS":     template.JS(pageJS),
		"Data":   template.JS(data.String()), // safe in a script element: marshal escapes <, > and &
	})
}

// hash returns the source expression of a content security policy that lets
// exactly text run.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
