package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// suites names, for each kernel series, the Debian suite that holds it.
var suites = map[string]string{
	"5.10": "bullseye",
	"6.1":  "bookworm",
	"6.12": "trixie",
	"6.18": "trixie-backports",
	"7.3":  "trixie-backports",
}

// keyring verifies the archive; it comes with package debian-archive-keyring.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// fetch downloads the newest kernel of a series for an architecture from the Debian
// mirror this machine is configured with and unpacks it as dir/NAME. Nothing is
// installed: apt works on a state of its own, and verifies what it downloads.
func fetch(ctx context.Context, dir, name, series, arch string) error {
	if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
		return nil // another process was faster
	}
	suite, ok := suites[series]
	if !ok {
		return fmt.Errorf("no suite is known to hold kernel %s", series)
	}
	work, err := os.MkdirTemp(dir, ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	a := apt{ctx: ctx, dir: work, arch: arch}
	if err := a.configure(suite); err != nil {
		return err
	}
	packages, err := a.kernelPackages(series)
	if err != nil {
		return err
	}
	if _, err := a.run(work, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", deb, tree).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	if _, err := openKernel(tree); err != nil {
		return fmt.Errorf("packages %s: %w", strings.Join(packages, " "), err)
	}
	return os.Rename(tree, filepath.Join(dir, name))
}

// An apt is an apt with lists and archives of its own, in dir.
type apt struct {
	ctx  context.Context
	dir  string
	arch string // of the packages
}

// run runs one of apt's programs in a directory and returns its output.
func (a apt) run(in, program string, args ...string) (string, error) {
	options := []string{
		"-qq",
		"-o", "Dir::Etc::SourceList=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::SourceParts=-",
		"-o", "Dir::State::Lists=" + filepath.Join(a.dir, "lists"),
		"-o", "Dir::Cache=" + a.dir,
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "APT::Architecture=" + a.arch,
		"-o", "APT::Architectures=" + a.arch,
		"-o", "APT::Sandbox::User=" + strconv.Itoa(os.Getuid()),
	}
	return output(a.ctx, in, program, append(options, args...)...)
}

func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[len(args)-1], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// configure points apt to one suite on the mirror that this machine uses.
func (a apt) configure(suite string) error {
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	mirrors, err := output(a.ctx, a.dir, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
	if err != nil {
		return err
	}
	mirror := strings.Fields(mirrors)
	if len(mirror) == 0 {
		return fmt.Errorf("this machine has no Debian mirror configured, or apt-get update never ran")
	}
	list := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror[0], suite)
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(list), 0o644); err != nil {
		return err
	}
	_, err = a.run(a.dir, "apt-get", "update")
	return err
}

// kernelPackages returns the packages that make up the newest kernel of a
// series. Newer packaging splits it into binary, modules and base files.
func (a apt) kernelPackages(series string) ([]string, error) {
	out, err := a.run(a.dir, "apt-cache", "pkgnames", "linux-")
	if err != nil {
		return nil, err
	}
	names := strings.Fields(out)
	abi := newestABI(names, series, a.arch)
	if abi == "" {
		return nil, fmt.Errorf("suite %s has no kernel %s for %s", suites[series], series, a.arch)
	}
	packages := []string{"linux-image-" + abi}
	for _, part := range []string{"linux-binary-", "linux-modules-", "linux-base-"} {
		if slices.Contains(names, part+abi) {
			packages = append(packages, part+abi)
		}
	}
	return packages, nil
}

// newestABI picks from package names the newest kernel of a series in the
// general flavour, and returns what follows "linux-image-".
func newestABI(names []string, series, arch string) string {
	image := regexp.MustCompile(`^linux-image-(` + regexp.QuoteMeta(series) + `\.\d+(-\d+)?(\+deb\d+)?-` + arch + `)$`)
	best, bestKey := "", []int(nil)
	for _, n := range names {
		m := image.FindStringSubmatch(n)
		if m == nil {
			continue
		}
		var key []int
		for _, d := range regexp.MustCompile(`\d+`).FindAllString(m[1], -1) {
			v, _ := strconv.Atoi(d) // digits only
			key = append(key, v)
		}
		if slices.Compare(key, bestKey) > 0 {
			best, bestKey = m[1], key
		}
	}
	return best
}
