// Package bpfobject loads the BPF objects that this project carries. Programs hold
// them compressed, as command build of this directory leaves them: they shrink to a
// quarter.
package bpfobject

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
)

// Load returns what a compressed object holds.
func Load(compressed []byte) (*ebpf.CollectionSpec, error) {
	object, err := Unpack(compressed)
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	return spec, nil
}

// Unpack returns the object itself, an ELF file.
func Unpack(compressed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("unpack object: %w", err)
	}
	object, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("unpack object: %w", err)
	}
	return object, nil
}
