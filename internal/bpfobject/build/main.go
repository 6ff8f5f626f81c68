// Command build makes the BPF objects of a package, for go:generate: it runs bpf2go
// with the arguments it is given, compresses the objects, and has the Go files
// load them with package bpfobject.
//
// Whoever needs more of bpf2go than its arguments gives here: -output-dir is where
// the results go, the working directory if it is not given, and must come first.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

func main() {
	if err := build(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(args []string) error {
	to := "."
	if len(args) > 1 && args[0] == "-output-dir" {
		to, args = args[1], args[2:]
	}
	made, err := os.MkdirTemp("", "bpfobject")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	bpf2go := exec.Command("go", append([]string{"tool", "bpf2go", "-output-dir", made}, args...)...)
	bpf2go.Stdout, bpf2go.Stderr = os.Stdout, os.Stderr
	if err := bpf2go.Run(); err != nil {
		return fmt.Errorf("bpf2go: %w", err)
	}
	files, err := os.ReadDir(made)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := finish(made, to, f.Name()); err != nil {
			return err
		}
	}
	return nil
}

// finish puts one file where it belongs, as it is to be.
func finish(from, to, name string) error {
	b, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	switch filepath.Ext(name) {
	case ".go":
		b, err = loadCompressed(b)
	case ".o":
		name += ".gz"
		b, err = compress(b)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(to, name), b, 0o644)
}

func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// loadCompressed changes what bpf2go has written: each of these places is there once.
func loadCompressed(source []byte) ([]byte, error) {
	for _, change := range []struct{ what, with string }{
		{`\t"bytes"\n`, ""},
		{`(\t"github.com/cilium/ebpf"\n)`, "${1}\n\t\"github.com/zcprobe/zcprobe/internal/bpfobject\"\n"},
		{`\treader := bytes\.NewReader\((\w+)\)\n\tspec, err := ebpf\.LoadCollectionSpecFromReader\(reader\)\n`, "\tspec, err := bpfobject.Load(${1})\n"},
		{`(//go:embed \w+\.o)\n`, "${1}.gz\n"},
	} {
		re := regexp.MustCompile(change.what)
		if n := len(re.FindAll(source, -1)); n != 1 {
			return nil, fmt.Errorf("%d times %s: bpf2go writes something else than it did", n, change.what)
		}
		source = re.ReplaceAll(source, []byte(change.with))
	}
	return source, nil
}
