package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type referenceOptions struct {
	*global
	format format
	root   *cobra.Command
}

// newReference is hidden: packagers and this project's own tests use it.
func newReference(g *global) *cobra.Command {
	o := &referenceOptions{global: g}
	cmd := &cobra.Command{
		Use:     "reference",
		Short:   "Print the command reference",
		Long:    "Print the help of all commands as one Markdown page or one man page.",
		Hidden:  true,
		Example: `  picket reference -o man > picket.1`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.root = cmd.Root()
			return run(o)(cmd, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.format.bind(cmd, "markdown", "man")
	return cmd
}

func (o *referenceOptions) Complete([]string) error { return nil }

func (o *referenceOptions) Validate() error { return o.format.validate() }

func (o *referenceOptions) Run(context.Context) error {
	out := newOutput(o.Out, true)
	var err error
	if o.format.value == "man" {
		_, err = out.WriteString(man(o.root))
	} else {
		_, err = out.WriteString(markdown(o.root))
	}
	return out.finish(err)
}

// shown returns the commands of the reference in the order of the help:
// groups first.
func shown(root *cobra.Command) []*cobra.Command {
	root.InitDefaultCompletionCmd()
	var out []*cobra.Command
	groups := []string{}
	for _, g := range root.Groups() {
		groups = append(groups, g.ID)
	}
	for _, g := range append(groups, "") {
		for _, c := range root.Commands() {
			if c.GroupID == g && !c.Hidden && c.Name() != "help" {
				out = append(out, c)
			}
		}
	}
	return out
}

// markdown renders the reference as one page.
func markdown(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command reference\n\n")
	b.WriteString("This page is written by `picket reference`; a test fails when it is out of date.\n\n")
	b.WriteString("```\n" + root.Long + "\n```\n\n")
	b.WriteString("Every command takes these flags:\n\n")
	flagTable(&b, root.PersistentFlags())
	for _, c := range shown(root) {
		fmt.Fprintf(&b, "\n## picket %s\n\n%s.\n\n", c.Name(), c.Short)
		if c.Long != c.Short {
			b.WriteString("```\n" + strings.TrimSpace(c.Long) + "\n```\n\n")
		}
		fmt.Fprintf(&b, "Usage: `%s`\n", usageLine(c))
		if c.Example != "" {
			b.WriteString("\n```console\n" + unindent(c.Example) + "\n```\n")
		}
		if c.LocalNonPersistentFlags().HasAvailableFlags() {
			b.WriteString("\n")
			flagTable(&b, c.LocalNonPersistentFlags())
		}
	}
	return b.String()
}

func usageLine(c *cobra.Command) string {
	if c.HasSubCommands() {
		var names []string
		for _, s := range c.Commands() {
			names = append(names, s.Name())
		}
		return "picket " + c.Name() + " " + strings.Join(names, "|")
	}
	return "picket " + c.Use
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func flagTable(b *strings.Builder, fs *pflag.FlagSet) {
	b.WriteString("| flag | what it does |\n|---|---|\n")
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", flagName(f), strings.ReplaceAll(flagText(f), "|", `\|`))
	})
}

// flagName says a flag with the kind of its value.
func flagName(f *pflag.Flag) string {
	s := "--" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", " + s
	}
	switch f.Value.Type() {
	case "bool":
	case "stringSlice":
		s += " LIST"
	default:
		s += " " + strings.ToUpper(f.Value.Type())
	}
	return s
}

// flagText says what a flag does and its default.
func flagText(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "[]":
		return f.Usage
	}
	return fmt.Sprintf("%s (default %s)", f.Usage, f.DefValue)
}

// man renders the reference as a man page of section 1.
func man(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(".TH PICKET 1\n.SH NAME\npicket \\- " + roff(strings.ToLower(root.Short[:1])+root.Short[1:]) + "\n")
	b.WriteString(".SH SYNOPSIS\n.B picket\n\\fICOMMAND\\fR [\\fIFLAGS\\fR]\n")
	b.WriteString(".SH DESCRIPTION\n.nf\n" + roff(root.Long) + "\n.fi\n")
	b.WriteString(".SH FLAGS OF EVERY COMMAND\n")
	manFlags(&b, root.PersistentFlags())
	b.WriteString(".SH COMMANDS\n")
	for _, c := range shown(root) {
		fmt.Fprintf(&b, ".SS %s\n.nf\n%s\n.fi\n", roff(usageLine(c)), roff(strings.TrimSpace(c.Long)))
		if c.Example != "" {
			b.WriteString(".PP\n.nf\n" + roff(c.Example) + "\n.fi\n")
		}
		manFlags(&b, c.LocalNonPersistentFlags())
	}
	b.WriteString(".SH EXIT STATUS\n0 nothing found; 1 findings, differences or failures; 2 could not do it.\n")
	return b.String()
}

func manFlags(b *strings.Builder, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(flagName(f)), roff(flagText(f)))
		}
	})
}

// roff escapes text: backslashes, hyphens that are to stay hyphens, and lines
// that would be requests.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
