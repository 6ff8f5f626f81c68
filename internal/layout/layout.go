// Package layout holds the project's structure in its tests: which package may
// import which, who may reach below the operating system's safe interface, and
// what stands at the top of the tree. A rule is changed there, on purpose, or
// not at all.
package layout
