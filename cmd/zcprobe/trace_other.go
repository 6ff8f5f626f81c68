//go:build !linux

package main

// keepLimits has nothing to keep where there is no tracer.
func keepLimits() (restore func()) { return func() {} }
