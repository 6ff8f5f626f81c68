package main

import (
	"cmp"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
)

// versionJSON is zcprobe/version/v1.
type versionJSON struct {
	Schema   string `json:"schema"`
	Version  string `json:"version"`  // of the module, "(devel)" when built from a checkout
	Commit   string `json:"commit"`   // "" if the build does not know it
	Modified bool   `json:"modified"` // built from a checkout with changes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "The version of this program",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return runVersion(a) },
	}
}

func runVersion(a *app) error {
	v := a.version()
	return a.emit(v, func(p *text.Printer) {
		commit := ""
		if v.Commit != "" {
			commit = " commit " + v.Commit
		}
		if v.Modified {
			commit += " (modified)"
		}
		p.Line(0, text.S(fmt.Sprintf("zcprobe %s%s %s %s/%s", v.Version, commit, v.Go, v.OS, v.Arch)))
	})
}

func (a *app) version() versionJSON {
	v := versionJSON{Schema: "zcprobe/version/v1", Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := a.build()
	if !ok {
		return v
	}
	v.Version = cmp.Or(info.Main.Version, v.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
