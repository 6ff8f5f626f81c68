package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

const module = "github.com/zcprobe/zcprobe"

// A layer is a package, or a tree of them, and what its product code may import
// from this module and from others. Everything may import the standard library,
// with the exceptions of checkImports.
type layer struct {
	dir      string   // below the module; covers what is below it unless a longer one does
	inside   []string // directories of this module
	outside  []string // modules
	testOnly bool     // imported by tests alone
}

var layers = []layer{
	{dir: "internal/sys", outside: []string{"golang.org/x/sys"}},
	{dir: "probe", inside: []string{"internal/sys"}},
	{dir: "transmit", inside: []string{"probe", "internal/sys"}},
	// Public, for the tests of others.
	{dir: "transmit/zctest", inside: []string{"transmit", "internal/lab", "internal/sys"}, testOnly: true},
	{dir: "internal/bpfobject", outside: []string{"github.com/cilium/ebpf"}},
	// For go:generate.
	{dir: "internal/bpfobject/build", testOnly: true},
	// For .ci/release.
	{dir: "internal/release", testOnly: true},
	{dir: "ebpf", inside: []string{"probe", "internal/sys", "internal/bpfobject"}, outside: []string{"github.com/cilium/ebpf"}},
	// Tests of transmit use it, so it knows nothing of what they test.
	{dir: "internal/lab", inside: []string{"internal/sys", "internal/bpfobject"}, outside: []string{"github.com/cilium/ebpf"}},
	{dir: "internal/lab/scenario", inside: []string{"probe", "transmit", "ebpf", "internal/lab", "internal/sys"}, outside: []string{"github.com/cilium/ebpf"}},
	{dir: "internal/lab/bench", inside: []string{"probe", "transmit", "internal/lab", "internal/benchpair", "internal/sys"}},
	{
		dir:     "cmd/zcprobe",
		inside:  []string{"probe", "transmit", "ebpf", "internal/lab", "internal/sys"},
		outside: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/goccy/go-yaml"},
	},
	{dir: "internal/benchpair", inside: []string{"internal/sys"}},
	{dir: "internal/testenv", outside: []string{"golang.org/x/sys"}, testOnly: true},
	{dir: "internal/hosttest", inside: []string{"probe"}, outside: []string{"github.com/santhosh-tekuri/jsonschema/v6"}, testOnly: true},
	{dir: "internal/layout", testOnly: true},
	{dir: "internal/guest", inside: []string{"internal/testenv"}, outside: []string{"golang.org/x/sys"}, testOnly: true},
}

// linkOnly names the trees that a library user links, and all that may come
// with them, at any depth.
var linkOnly = map[string][]string{
	"probe":    {"golang.org/x/sys"},
	"transmit": {"golang.org/x/sys"},
}

// initFiles may have an init function, with its reason beside it.
var initFiles = []string{"transmit/zctest/tracer_linux.go"}

// unsafePackages may import unsafe and golang.org/x/sys/unix.
var unsafePackages = []string{"internal/sys"}

// runsPrograms are the files that may start a program by another way than os/exec: the
// one that runs the command of the user.
var runsPrograms = []string{"cmd/zcprobe/internal/child/program.go"}

// starters are the functions that do, by the last element of the package's path.
var starters = map[string][]string{
	"os":      {"StartProcess"},
	"syscall": {"StartProcess", "ForkExec", "Exec", "SYS_EXECVE", "SYS_EXECVEAT", "SYS_CLONE", "SYS_CLONE3", "SYS_FORK", "SYS_VFORK"},
	"unix":    {"Exec", "SYS_EXECVE", "SYS_EXECVEAT", "SYS_CLONE", "SYS_CLONE3", "SYS_FORK", "SYS_VFORK"},
}

// topLevel is everything that may stand in the module's root.
var topLevel = []string{
	".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md",
	"cmd", "docs", "ebpf", "go.mod", "go.sum", "internal", "probe", "testdata", "transmit",
}

// vagueNames say nothing about what a package is for.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base"}

// maxLines is the length at which a source file holds more than one idea.
const maxLines = 500

// A pkg is what `go list -deps -json` says about a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
	Deps       []string
}

func (p pkg) dir() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func (p pkg) ours() bool { return p.Module != nil && p.Module.Path == module }

func under(dir, tree string) bool { return dir == tree || strings.HasPrefix(dir, tree+"/") }

func layerOf(dir string) (layer, bool) {
	var best layer
	for _, l := range layers {
		if under(dir, l.dir) && len(l.dir) > len(best.dir) {
			best = l
		}
	}
	return best, best.dir != ""
}

// checkImports returns the rules that pkgs break, one sentence each.
func checkImports(pkgs []pkg) []string {
	byPath := make(map[string]pkg, len(pkgs))
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	var broken []string
	for _, p := range pkgs {
		if !p.ours() {
			continue
		}
		l, ok := layerOf(p.dir())
		if !ok {
			broken = append(broken, p.dir()+" is in no layer: add it to layers, with what it may import")
			continue
		}
		if slices.Contains(vagueNames, path.Base(p.dir())) {
			broken = append(broken, p.dir()+": the name says nothing about the package")
		}
		for _, imp := range p.Imports {
			if why := l.forbids(p, byPath[imp], imp); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", p.dir(), imp, why))
			}
		}
		broken = append(broken, checkLinks(p, byPath)...)
	}
	return broken
}

// forbids says why p, in layer l, may not import q, whose path is imp; "" if it may.
func (l layer) forbids(p, q pkg, imp string) string {
	switch {
	case imp == "C":
		return "the project builds without cgo"
	case imp == "unsafe" || imp == "golang.org/x/sys/unix":
		if !slices.Contains(unsafePackages, p.dir()) && !l.testOnly {
			return "only " + strings.Join(unsafePackages, ", ") + " may"
		}
		return ""
	case imp == "os/exec":
		if !l.testOnly {
			return "product code runs no programs"
		}
		return ""
	case imp == "testing" && !l.testOnly:
		return "product code does not link the testing package"
	case q.Standard || under(imp, "unsafe"):
		return ""
	case q.ours():
		if to, ok := layerOf(q.dir()); ok && to.testOnly && !l.testOnly {
			return "it is for tests alone"
		}
		if under(q.dir(), l.dir) || slices.ContainsFunc(l.inside, func(d string) bool { return under(q.dir(), d) }) {
			return ""
		}
		return "the layers of the project do not allow it"
	case q.Module != nil && slices.Contains(l.outside, q.Module.Path):
		return ""
	}
	return "the package may not use that module"
}

// checkLinks looks at everything that is linked with p.
func checkLinks(p pkg, byPath map[string]pkg) []string {
	if l, _ := layerOf(p.dir()); l.testOnly {
		return nil // no program links it
	}
	var broken []string
	for tree, allowed := range linkOnly {
		if !under(p.dir(), tree) {
			continue
		}
		for _, dep := range p.Deps {
			q := byPath[dep]
			if q.Standard || q.ours() || dep == "unsafe" || q.Module != nil && slices.Contains(allowed, q.Module.Path) {
				continue
			}
			broken = append(broken, fmt.Sprintf("%s links %s: it may bring only the standard library and %s",
				p.dir(), dep, strings.Join(allowed, ", ")))
		}
	}
	return broken
}

// checkNames returns the entries of the module's root that have no business there.
func checkNames(names, ignored []string) []string {
	var broken []string
	for _, name := range names {
		if name != ".git" && !slices.Contains(topLevel, name) && !slices.Contains(ignored, name) {
			broken = append(broken, name+" stands at the top of the tree: add it to topLevel or move it")
		}
	}
	return broken
}

// checkSource returns the rules that one product source file breaks.
func checkSource(name string, src []byte) []string {
	var broken []string
	if n := bytes.Count(src, []byte("\n")); n > maxLines {
		broken = append(broken, fmt.Sprintf("%s has %d lines, more than %d: it holds more than one idea", name, n, maxLines))
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		return append(broken, err.Error())
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !slices.Contains(initFiles, name) {
			broken = append(broken, name+" has an init function: importing a package does nothing")
		}
	}
	if l, _ := layerOf(path.Dir(name)); l.testOnly || slices.Contains(runsPrograms, name) {
		return broken
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if from, ok := s.X.(*ast.Ident); ok && slices.Contains(starters[from.Name], s.Sel.Name) {
				broken = append(broken, fmt.Sprintf("%s uses %s.%s: product code runs no programs", name, from.Name, s.Sel.Name))
			}
		}
		return true
	})
	return broken
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// list runs go list for one platform, over the packages that exist there.
func list(t *testing.T, goos, goarch string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "go"), "list", "-e", "-deps", "-json=ImportPath,Standard,Module,Imports,Deps", "./...")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s/%s: %v\n%s", goos, goarch, err, &stderr)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func report(t *testing.T, broken []string) {
	t.Helper()
	for _, b := range broken {
		t.Error(b)
	}
}

func TestImports(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		t.Run(platform, func(t *testing.T) {
			pkgs := list(t, goos, goarch)
			if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.dir() == "probe" }) {
				t.Fatal("go list did not see package probe")
			}
			report(t, checkImports(pkgs))
		})
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	ignore, err := os.ReadFile(filepath.Join(root(t), ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkNames(names, strings.FieldsFunc(string(ignore), func(r rune) bool { return r == '\n' || r == '/' })))
}

func TestSource(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(root(t), func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == ".git") {
			return fs.SkipDir
		}
		generated := strings.Contains(name, "_bpfe") // by bpf2go
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || generated {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		seen++
		report(t, checkSource(strings.TrimPrefix(name, root(t)+"/"), src))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no source files were seen")
	}
}

func TestCrossBuilds(t *testing.T) {
	for _, c := range []struct {
		goos, goarch string
		packages     []string
	}{
		{"linux", "arm64", []string{"./..."}},
		{"darwin", "arm64", []string{"./probe/...", "./transmit", "./ebpf", "./cmd/zcprobe"}},
	} {
		t.Run(c.goos+"/"+c.goarch, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "go"), append([]string{"build"}, c.packages...)...)
			cmd.Dir = root(t)
			cmd.Env = append(os.Environ(), "GOOS="+c.goos, "GOARCH="+c.goarch, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
