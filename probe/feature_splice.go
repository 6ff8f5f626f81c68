package probe

import "fmt"

func spliceFeatures() []featureSpec {
	return []featureSpec{
		{id: "sendfile.tcp", what: "sendfile to TCP", works: worksByReference},
		{id: "sendfile.udp", what: "sendfile to UDP", works: worksByReference},
		{id: "sendfile.unix", what: "sendfile to a unix stream", config: "CONFIG_UNIX", module: "unix", works: worksByReference},
		{id: "sendfile.pipe", what: "sendfile to a pipe", invalid: true, works: worksByReference},
		{id: "sendfile.file", what: "sendfile to a file", invalid: true, works: func(j *featureJudge) {
			j.works("sendfile to a file works; it copies, as every transfer between two files does that shares no extents.")
		}},
		{id: "splice.file-tcp", what: "splice from a file through a pipe to TCP", works: worksByReference},
		{id: "splice.tcp-tcp", what: "splice from TCP through a pipe to TCP"},
		{id: "vmsplice", what: "vmsplice of memory into a pipe", works: worksByReference},
		{id: "tee", what: "tee from pipe to pipe"},
		{id: "pipe.resize", what: "enlarging a pipe", title: "Enlarging a pipe", before: pipeLimits, works: pipeWorks},
	}
}

// worksByReference tells a transfer of pages from one that works by copying.
func worksByReference(j *featureJudge) {
	ref, known := j.seen("page_ref")
	switch {
	case !known:
		j.works(j.name() + " works; whether it copies did not show.")
		return
	case ref == 0:
		j.works(j.name() + " works, but this kernel copies the payload.")
	case j.is("summed_at_send", 1):
		j.works(j.name() + " takes page references without copying, and reads the payload once for the checksum.")
	default:
		j.works(j.name() + " takes page references; nothing is copied on the way in.")
	}
	text := map[bool]string{
		true:  "seen by the receiver: page references",
		false: "not seen by the receiver: copied",
	}[ref == 1]
	if j.is("summed_at_send", 1) {
		text = "dropped by the receiver for its checksum: page references, summed as they were sent"
	}
	j.evidence("source overwritten after the call", text)
}

// pipeWantedBytes is the capacity at which splice reaches its best rate.
const pipeWantedBytes = 1 << 20

// pipeLimits judges EPERM of F_SETPIPE_SZ, which is a limit and no refusal.
func pipeLimits(j *featureJudge) bool {
	s, failed := j.lastFailure()
	if !failed || s.Errno != "EPERM" || j.filtered() {
		return false
	}
	j.noteSysctl("fs.pipe-max-size")
	j.noteSysctl("fs.pipe-user-pages-soft")
	j.noteSysctl("fs.pipe-user-pages-hard")
	was, _ := j.seen("default_bytes")
	if most, ok := j.sysctl("fs.pipe-max-size"); ok && most <= was {
		j.disabled(fmt.Sprintf("fs.pipe-max-size of %d bytes forbids enlarging a pipe.", most), "sysctl -w fs.pipe-max-size=1048576")
		return true
	}
	j.disabled("This user has as many pipe buffers as fs.pipe-user-pages-soft allows, so pipes stay small.", "sysctl -w fs.pipe-user-pages-soft=65536")
	return true
}

func pipeWorks(j *featureJudge) {
	got, ok := j.seen("bytes")
	was, _ := j.seen("default_bytes")
	switch {
	case ok && got >= pipeWantedBytes:
		j.decide(Supported, fmt.Sprintf("A pipe of %d bytes can be enlarged to %d.", was, got))
	case ok && got > was:
		j.decide(Supported, fmt.Sprintf("A pipe of %d bytes can be enlarged, but only to less than 1 MiB (fs.pipe-max-size or the user's quota).", was))
		j.noteSysctl("fs.pipe-max-size")
		j.Remedy = "sysctl -w fs.pipe-max-size=1048576"
	default:
		j.unsupported("F_SETPIPE_SZ reports success, but the pipe keeps its size.")
	}
}
