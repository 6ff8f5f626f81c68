package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// Names that a local user chooses reach no terminal as they are: that of a device, a
// directory, a file, an argument.
func TestHostileNames(t *testing.T) {
	testenv.Root(t)
	const device = "a\x1b[31m;\xff"
	nasty := "\x1b]0;x\a\x1b[2J\u202e\u2028\xff"
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "set", "lo", "up")
	ns.Run("ip", "link", "add", device, "type", "veth", "peer", "name", "peer")
	ns.Run("ip", "link", "set", "peer", "up")
	ns.Run("ip", "link", "set", device, "up")
	ns.Run("ip", "addr", "add", "10.9.9.1/24", "dev", device)
	ns.Run("ethtool", "-K", device, "sg", "off")
	dir := filepath.Join(t.TempDir(), nasty)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, nasty)
	src := "apiVersion: zcprobe/v1\nrequire: [sendfile.tcp, \"x\\e[1m\"]\nwaivers: [{check: tap.none, reason: \"\\e[31m\\u202e\", expires: 2030-01-01}]\n"
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "record"+nasty)
	b := newBench(t)
	shown := 0
	for _, args := range [][]string{
		{"probe", "--dir", dir}, {"probe", "-v"}, {"path", "10.9.9.2"}, {"path", "10.9.9.2", "-v"}, {"preflight", "--to", "10.9.9.2", "-v"},
		{"preflight", "--policy", file}, {"preflight", "--policy", file + "absent"}, {"policy", "check", file}, {"policy", "init", "--to", "10.9.9.2"},
		{"select", "--from", "file", "--to", "10.9.9.2:1", "-v"}, {"probe", "--dev", nasty}, {"path", nasty}, {"explain", nasty}, {nasty}, {"--" + nasty},
		{"record", record, "--with-addresses", "--dir", dir}, {"probe", "--from-record", record}, {"probe", "--from-record", nasty},
		{"send", "--to", "127.0.0.1:1", "--dry-run", file}, {"send", "--to", nasty, file}, {"recv", "--dry-run", "--out", file}, {"recv", "--listen", nasty},
		{"trace", "--comm", nasty}, {"trace", "--user", nasty, "--", "true"}, {"trace", "--", nasty}, {"lab", "list", nasty}, {"help", nasty},
	} {
		for _, format := range []string{"text", "json"} {
			b.fresh()
			b.env["LC_ALL"] = map[string]string{"text": "C", "json": "C.UTF-8"}[format]
			ns.Do(func() { b.run(t.Context(), append([]string{"-o", format}, args...)...) })
			both := b.out.String() + b.err.String()
			if both == "" {
				t.Errorf("%q says nothing", args)
			}
			checkHarmless(t, strings.ToValidUTF8(args[0], "?")+" "+format, both)
			if strings.Contains(both, `a\x1b[31m;\xff`) || strings.Contains(both, `a\u001b[31m;`) {
				shown++
			}
			if strings.Contains(both, "ethtool -K a") {
				t.Errorf("%q: a command with an unquoted name:\n%s", args, both)
			}
		}
	}
	if shown < 5 {
		t.Errorf("the device was named in %d answers", shown)
	}
}

// What holds addresses is for its owner's eyes, and nothing is written through the link of another user.
func TestFilesWritten(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // no other test may run beside it
	dir := t.TempDir()
	b := newBench(t)
	write := func(want int, args ...string) {
		t.Helper()
		b.fresh()
		if code := b.run(t.Context(), args...); code != want {
			t.Fatalf("%q: exit %d: %s", args, code, &b.err)
		}
	}
	is := func(name string, want fs.FileMode) {
		t.Helper()
		st, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != want {
			t.Errorf("%s: %v, want %v", name, st.Mode(), want)
		}
	}
	plain, private, record := filepath.Join(dir, "plain.yaml"), filepath.Join(dir, "private.yaml"), filepath.Join(dir, "record")
	write(0, "policy", "init", "-f", plain)
	is(plain, 0o644)
	write(0, "policy", "init", "--to", "127.0.0.1:9", "-f", private)
	is(private, 0o600)
	write(0, "policy", "init", "--to", "127.0.0.1:9", "-f", plain, "--force")
	is(plain, 0o600)
	write(0, "record", record, "--with-addresses")
	is(record, fs.ModeDir|0o700)
	entries, err := os.ReadDir(record)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		is(filepath.Join(record, e.Name()), 0o600)
	}

	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a link away")
	}
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.Symlink(plain, link), os.Lchown(link, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	write(2, "policy", "init", "-f", link, "--force")
	write(2, "record", link)
	write(2, "recv", "--force", "--out", link)
	if after, err := os.ReadFile(plain); err != nil || string(after) != string(before) {
		t.Errorf("written through a link: %q %v", after, err)
	}
}
