package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// loadModule loads one module whose dependencies are loaded. One that is
// loaded already is fine.
func loadModule(name string) error {
	f, err := os.Open(filepath.Join(wire.ModuleDir, name+".ko"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// modprobe answers the kernel's request for a module: it keeps the name and
// loads what the plan has for it. The kernel calls `modprobe -q -- NAME`.
func modprobe(args []string) {
	name := args[len(args)-1]
	log, err := os.OpenFile(modprobeLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(log, name)
		log.Close()
	}
	if err != nil {
		fmt.Println("guest modprobe:", err)
		os.Exit(1)
	}
	plan, err := readPlan()
	if err != nil {
		fmt.Println("guest modprobe:", err)
		os.Exit(1)
	}
	for pattern, modules := range plan.Loadable {
		if ok, _ := path.Match(pattern, name); !ok && !strings.EqualFold(pattern, name) {
			continue
		}
		for _, m := range modules {
			if err := loadModule(m); err != nil {
				fmt.Println("guest modprobe:", err)
				os.Exit(1)
			}
		}
		return
	}
	os.Exit(1)
}
