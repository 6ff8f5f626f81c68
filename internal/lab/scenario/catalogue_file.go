package scenario

import "slices"

// fileScenarios are copies from file to file, on a file system that shares no blocks
// between files; where it does, copy_file_range is not tried.
func fileScenarios() []Scenario {
	const summary = "a file of a disk, to another there"
	files := []Step{Files{}}
	return with(slices.Concat(
		family{"file", summary, files, []string{"copy_file_range", "sendfile", "splice"},
			always(All, "iter_file_splice_write writes the pages of the one file to the other, which has blocks of its own (FIEMAP)", "file-to-file")}.scenarios(),
		family{"file", summary, files, []string{"read_write"},
			always(All, "read copies from the page cache, and write into it", "api-copy", "read-copy")}.scenarios(),
	), func(s *Scenario) {
		s.Traffic.Protocol, s.Traffic.Source, s.Traffic.Size, s.Traffic.Count = "file", OnDisk, 256<<10, 4
		s.Unpredicted = "a path's report is about what is sent"
		s.Unobserved = "what sockets send is looked at; whose the blocks of the copy are is asked of the file system instead"
	})
}
