// Package target finds what a trace looks at: processes and their children,
// control groups, containers and destinations, by the names people have for them.
package target
