package layout

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// world is a small, lawful set of packages that each case spoils in one way.
func world() map[string]pkg {
	mod := func(p string) *struct{ Path string } { return &struct{ Path string }{p} }
	w := map[string]pkg{}
	for _, std := range []string{"fmt", "os/exec", "testing", "unsafe"} {
		w[std] = pkg{ImportPath: std, Standard: true}
	}
	w["golang.org/x/sys/unix"] = pkg{ImportPath: "golang.org/x/sys/unix", Module: mod("golang.org/x/sys")}
	w["github.com/cilium/ebpf"] = pkg{ImportPath: "github.com/cilium/ebpf", Module: mod("github.com/cilium/ebpf")}
	w["github.com/spf13/cobra"] = pkg{ImportPath: "github.com/spf13/cobra", Module: mod("github.com/spf13/cobra")}
	for dir, imports := range map[string][]string{
		"internal/sys":     {"unsafe", "golang.org/x/sys/unix"},
		"probe":            {"fmt", module + "/internal/sys"},
		"transmit":         {module + "/probe"},
		"ebpf":             {module + "/probe", "github.com/cilium/ebpf"},
		"internal/lab":     {module + "/internal/sys", "github.com/cilium/ebpf"},
		"cmd/zcprobe":      {module + "/internal/lab", "github.com/spf13/cobra"},
		"internal/testenv": {"testing", "os/exec", "golang.org/x/sys/unix"},

		"internal/lab/scenario": {module + "/ebpf", module + "/transmit", module + "/internal/lab"},
	} {
		w[module+"/"+dir] = pkg{ImportPath: module + "/" + dir, Module: mod(module), Imports: imports}
	}
	return w
}

func check(w map[string]pkg) []string {
	var pkgs []pkg
	for _, p := range w {
		pkgs = append(pkgs, p)
	}
	return checkImports(pkgs)
}

func TestImportRulesCatch(t *testing.T) {
	if broken := check(world()); len(broken) > 0 {
		t.Fatalf("the lawful world breaks rules: %v", broken)
	}
	for _, c := range []struct{ name, dir, imp, dep, want string }{
		{name: "probe loads BPF", dir: "probe", imp: "github.com/cilium/ebpf", want: "may not use that module"},
		{name: "probe links BPF through another", dir: "probe", dep: "github.com/cilium/ebpf", want: "probe links github.com/cilium/ebpf"},
		{name: "transmit links cobra through another", dir: "transmit", dep: "github.com/spf13/cobra", want: "transmit links"},
		{name: "upwards", dir: "probe", imp: module + "/transmit", want: "layers"},
		{name: "sideways", dir: "transmit", imp: module + "/ebpf", want: "layers"},
		{name: "the lab knows what it tests", dir: "internal/lab", imp: module + "/transmit", want: "layers"},
		{name: "sys knows nobody", dir: "internal/sys", imp: module + "/probe", want: "layers"},
		{name: "unsafe above sys", dir: "probe", imp: "unsafe", want: "only internal/sys may"},
		{name: "unix above sys", dir: "transmit", imp: "golang.org/x/sys/unix", want: "only internal/sys may"},
		{name: "runs a program", dir: "cmd/zcprobe", imp: "os/exec", want: "runs no programs"},
		{name: "cgo", dir: "internal/sys", imp: "C", want: "cgo"},
		{name: "testing in the product", dir: "cmd/zcprobe", imp: "testing", want: "testing"},
		{name: "test support in the product", dir: "cmd/zcprobe", imp: module + "/internal/testenv", want: "tests alone"},
		{name: "a package without a layer", dir: "internal/elsewhere", imp: "fmt", want: "in no layer"},
		{name: "a vague name", dir: "probe/utils", imp: "fmt", want: "says nothing"},
		{name: "cobra below cmd", dir: "internal/lab", imp: "github.com/spf13/cobra", want: "may not use that module"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := world()
			p := w[module+"/"+c.dir]
			p.ImportPath, p.Module = module+"/"+c.dir, w[module+"/probe"].Module
			if c.imp != "" {
				p.Imports = append(slices.Clone(p.Imports), c.imp)
			}
			if c.dep != "" {
				p.Deps = append(p.Deps, c.dep)
			}
			w[p.ImportPath] = p
			if broken := check(w); len(broken) != 1 || !strings.Contains(broken[0], c.want) {
				t.Errorf("got %q, want one with %q", broken, c.want)
			}
		})
	}
}

func TestNameRuleCatches(t *testing.T) {
	got := checkNames([]string{".git", "probe", "zcprobe", "notes.txt"}, []string{"zcprobe"})
	if len(got) != 1 || !strings.HasPrefix(got[0], "notes.txt ") {
		t.Errorf("got %q", got)
	}
}

func TestSourceRulesCatch(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"starts a program", "package a\nimport \"os\"\nfunc f() { os.StartProcess(`/bin/sh`, nil, nil) }\n", "runs no programs"},
		{"becomes a program", "package a\nimport \"syscall\"\nvar f = syscall.Exec\n", "runs no programs"},
		{"by number", "package a\nimport \"golang.org/x/sys/unix\"\nfunc f() { unix.Syscall(unix.SYS_EXECVEAT, 0, 0, 0) }\n", "runs no programs"},
		{"init", "package a\nfunc init() {}\n", "init function"},
		{"long", "package a\n" + strings.Repeat("\n", maxLines), "lines"},
		{"broken", "package", "expected"},
		{"fine", "package a\ntype t int\nfunc (t) init() {}\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(checkSource("a.go", []byte(c.src)), "; ")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestProgramsAreStarted where runsPrograms says, which is where such a rule is needed.
func TestProgramsAreStarted(t *testing.T) {
	for _, name := range runsPrograms {
		src, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		if broken := strings.Join(checkSource("elsewhere/a.go", src), "; "); !strings.Contains(broken, "runs no programs") {
			t.Errorf("%s starts none: take it off runsPrograms", name)
		}
	}
}
