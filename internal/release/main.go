// Command release lists what a binary was made of: a software bill of materials in
// the form of CycloneDX 1.6 for each, from what Go stamps into it, and the licences of
// the modules in it. It reads the binary, and never the checkout.
//
//	go run ./internal/release sbom BINARY >FILE
//	go run ./internal/release licences BINARY >FILE
package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: release sbom|licences BINARY")
	}
	info, err := buildinfo.ReadFile(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "sbom":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(bill(info))
	case "licences":
		return licences(ctx, info, out)
	}
	return fmt.Errorf("no task is called %q", args[0])
}

// A document is a CycloneDX 1.6 BOM, as far as one is needed here. It has neither time
// nor serial number: the same binary gives the same bytes.
type document struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Scope      string     `json:"scope,omitempty"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func bill(info *buildinfo.BuildInfo) document {
	program := part("application", info.Main.Path, info.Main.Version, "")
	for _, s := range info.Settings {
		program.Properties = append(program.Properties, property{"go:build:" + s.Key, s.Value})
	}
	d := document{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{program}}
	d.Components = append(d.Components, part("library", "std", strings.TrimPrefix(info.GoVersion, "go"), ""))
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		d.Components = append(d.Components, part("library", m.Path, m.Version, m.Sum))
	}
	slices.SortFunc(d.Components, func(a, b component) int { return cmp.Compare(a.Name, b.Name) })
	needs := dependency{Ref: program.Ref, DependsOn: []string{}}
	d.Dependencies = append(d.Dependencies, needs)
	for _, c := range d.Components {
		d.Dependencies[0].DependsOn = append(d.Dependencies[0].DependsOn, c.Ref)
	}
	return d
}

// part describes a module. Its sum is that of go.sum (golang.org/x/mod/sumdb/dirhash),
// which is the hash of no single file, and so a property.
func part(kind, path, version, sum string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	c := component{Ref: purl, Type: kind, Name: path, Version: version, PURL: purl}
	if kind == "library" {
		c.Scope = "required"
	}
	if sum != "" {
		c.Properties = []property{{"go:sum", sum}}
	}
	return c
}

// licences writes the licence and notice files of the modules in a binary, which those
// who pass it on must pass on with it, and Go's own.
func licences(ctx context.Context, info *buildinfo.BuildInfo, out io.Writer) error {
	root, err := goTool(ctx, "env", "GOROOT")
	if err != nil {
		return err
	}
	if err := licencesOf(out, "Go's standard library "+info.GoVersion, root); err != nil {
		return err
	}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		dir, err := goTool(ctx, "list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return err
		}
		if err := licencesOf(out, m.Path+" "+m.Version, dir); err != nil {
			return err
		}
	}
	return nil
}

func licencesOf(out io.Writer, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: its source is not there: %w", name, err)
	} else if err != nil {
		return err
	}
	found := 0
	for _, e := range entries {
		upper := strings.ToUpper(e.Name())
		if !e.Type().IsRegular() || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"},
			func(prefix string) bool { return strings.HasPrefix(upper, prefix) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found++
		if _, err := fmt.Fprintf(out, "==== %s: %s\n\n%s\n\n", name, e.Name(), strings.TrimSpace(string(text))); err != nil {
			return err
		}
	}
	if found == 0 {
		return fmt.Errorf("%s has no licence in %s", name, dir)
	}
	return nil
}

func goTool(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
