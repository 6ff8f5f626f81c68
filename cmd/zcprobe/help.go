package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// describeCompletion has the command that cobra brings say in our words what it is.
func describeCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Short = "Scripts that complete command lines in shells"
		c.Long = `Prints the script that completes zcprobe's command lines in a shell. Its help
says where that goes. For the shell at hand:

  source <(zcprobe completion bash)
  source <(zcprobe completion zsh)
  zcprobe completion fish | source`
		for _, shell := range c.Commands() {
			shell.Short = "The script for " + shell.Name()
		}
	}
}

// commandGroups are the commands by what somebody wants, the order of help.
func commandGroups() []struct {
	title string
	names []string
} {
	return []struct {
		title string
		names []string
	}{
		{"Look", []string{"probe", "path", "preflight", "select", "explain"}},
		{"Observe and measure", []string{"trace", "bench", "lab"}},
		{"Move bytes", []string{"send", "recv"}},
		{"Keep", []string{"policy", "record"}},
		{"Other", []string{"completion", "man", "version", "help"}},
	}
}

// listCommands writes the commands below one, those of the program in groups.
func listCommands(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	line := func(c *cobra.Command) { fmt.Fprintf(b, "\n  %-*s %s", c.NamePadding(), c.Name(), c.Short) }
	if cmd.HasParent() {
		b.WriteString("\n\nCommands:")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				line(c)
			}
		}
		return
	}
	for _, g := range commandGroups() {
		b.WriteString("\n\n" + g.title + ":")
		for _, name := range g.names {
			if i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == name }); i >= 0 {
				line(cmd.Commands()[i])
			}
		}
	}
}

// usage prints how a command is used, like cobra's own but 80 columns wide. It is
// no template: with package text/template the linker has to leave every exported
// method of every type in the program, since a template may call any.
func usage(cmd *cobra.Command) error {
	const columns = 80
	var b strings.Builder
	b.WriteString("Usage:")
	if cmd.Runnable() {
		fmt.Fprintf(&b, "\n  %s", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n  %s COMMAND", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\n\nExamples:\n%s", cmd.Example)
	}
	listCommands(&b, cmd)
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(&b, "\n\nFlags:\n%s", strings.TrimRight(cmd.LocalFlags().FlagUsagesWrapped(columns), " \n"))
	}
	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(&b, "\n\nCommon flags:\n%s", strings.TrimRight(cmd.InheritedFlags().FlagUsagesWrapped(columns), " \n"))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\n\"%s COMMAND --help\" says more about a command.", cmd.CommandPath())
	}
	_, err := fmt.Fprintln(cmd.OutOrStderr(), b.String())
	return err
}
