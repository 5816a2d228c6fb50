package lint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"picket/internal/diag"
)

// The parts of SARIF 2.1.0 that are written, by the names of the standard.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifRule struct {
		ID               string      `json:"id"`
		ShortDescription sarifText   `json:"shortDescription"`
		FullDescription  sarifText   `json:"fullDescription"`
		Help             sarifText   `json:"help"`
		Configuration    sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations,omitempty"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
)

// WriteSARIF writes the report in SARIF 2.1.0, for code scanning. Every check
// of the catalogue is a rule, also those without a result. A result's
// fingerprint is made of code, object and path, so that it survives moved
// lines and changed numbers.
func (r *Report) WriteSARIF(w io.Writer) error {
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver.Name = "picket"
	index := map[string]int{}
	for i, c := range catalogue() {
		index[c.Code] = i
		help := c.Explanation
		md := c.Explanation
		if c.Bad != "" {
			help += "\n\nWith the finding:\n" + c.Bad + "\nWithout:\n" + c.Good
			md += "\n\n```yaml\n" + c.Bad + "```\n\nWithout the finding:\n\n```yaml\n" + c.Good + "```\n"
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: c.Code, ShortDescription: sarifText{Text: c.Title}, FullDescription: sarifText{Text: c.Explanation},
			Help: sarifText{help, md}, Configuration: sarifConfig{level(c.Severity)},
		})
	}
	seen := map[string]int{}
	add := func(d diag.Diagnostic) *sarifResult {
		i, ok := index[d.Code]
		if !ok {
			i = -1
		}
		text := d.Message
		if d.Fix != "" {
			text += "\n\nFix:\n" + d.Fix
		}
		run.Results = append(run.Results, sarifResult{
			RuleID: d.Code, RuleIndex: i, Level: level(d.Severity), Message: sarifText{Text: text},
			Locations: r.location(d), Fingerprints: map[string]string{"picket/v1": fingerprint(d, seen)},
		})
		return &run.Results[len(run.Results)-1]
	}
	for _, f := range r.Findings {
		add(f.Diagnostic)
	}
	for _, s := range r.Suppressed {
		add(s.Diagnostic).Suppressions = []sarifSuppression{{"inSource", s.Reason}}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(sarifLog{
		"https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", "2.1.0", []sarifRun{run},
	})
}

func level(s diag.Severity) string {
	return map[diag.Severity]string{diag.Error: "error", diag.Warning: "warning", diag.Info: "note"}[s]
}

func fingerprint(d diag.Diagnostic, seen map[string]int) string {
	key := d.Code + "\x00" + d.Object + "\x00" + d.Path
	n := seen[key]
	seen[key]++
	sum := sha256.Sum256([]byte(key + "\x00" + strconv.Itoa(n)))
	return hex.EncodeToString(sum[:16])
}

func (r *Report) location(d diag.Diagnostic) []sarifLocation {
	var l sarifLocation
	if d.Position.File != "" {
		l.Physical = &sarifPhysical{Artifact: sarifArtifact{r.uri(d.Position.File)}}
		if d.Position.Line > 0 {
			l.Physical.Region = &sarifRegion{d.Position.Line, d.Position.Col}
		}
	}
	if d.Object != "" {
		name := d.Object
		if d.Path != "" {
			name += " " + d.Path
		}
		l.Logical = []sarifLogical{{name, "object"}}
	}
	if l.Physical == nil && l.Logical == nil {
		return nil
	}
	return []sarifLocation{l}
}

// uri returns a file name as a relative URI reference. An absolute name that is
// not below the root becomes a file URI.
func (r *Report) uri(file string) string {
	if r.root != "" && filepath.IsAbs(file) {
		if rel, err := filepath.Rel(r.root, file); err == nil && !strings.HasPrefix(rel, "..") {
			file = rel
		}
	}
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(file))}
	if filepath.IsAbs(file) {
		u.Scheme = "file"
	}
	return u.String()
}
