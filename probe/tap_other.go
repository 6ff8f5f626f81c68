//go:build !linux

package probe

import "runtime"

// TapsShared says whether a packet socket on any device sees what other network
// namespaces send; nil: only Linux can be asked.
func TapsShared() (shared *bool, source string) { return nil, "this is " + runtime.GOOS }
