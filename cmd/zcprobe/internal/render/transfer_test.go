package render

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

const sum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// sentFile is a file that went by sendfile.
func sentFile() *transfer.Sent {
	return &transfer.Sent{
		Schema: transfer.SendSchema, Complete: true, To: "store.example.com:9000", Remote: "192.0.2.7:9000", Local: "192.0.2.1:40122", Protocol: "tcp",
		Source: transfer.SourceInfo{Kind: "file", Name: "backup.img", LengthBytes: new(int64(1 << 30))},
		Selection: transfer.Selection{Backend: "sendfile", Reason: "The packets refer to the page cache, so that the call copies nothing, and nor does this path.",
			Notes:    []selection.Note{{Cause: "live-source", Text: "The file must not change before the send is released."}},
			Evidence: []probe.Evidence{{Source: "sendfile.tcp", Value: "supported"}, {Source: "path 192.0.2.7: sendfile of 65536 bytes", Value: "zero-copy yes, copies 0"}},
			Rejected: []selection.Rejected{{Backend: "mmap_zerocopy", Reason: "Mapping costs more than it saves in one send.", Causes: []string{}},
				{Backend: "read_write", Reason: "It copies twice.", Causes: []string{"read-copy"}}}},
		Backend: "sendfile", Ways: []transfer.Way{{Backend: "sendfile", Bytes: 1 << 30}}, SentBytes: 1 << 30,
		AcknowledgedBytes: new(int64(1 << 30)), Reported: "not reported", Downgrades: []transfer.Downgrade{},
		DurationNS: 912_345_678, RateBytesPerS: 1_176_900_000, SHA256: new(sum), Checksum: "of the file, read again after it was sent",
	}
}

// sentMemory lent memory, and met a limit.
func sentMemory() *transfer.Sent {
	r := sentFile()
	r.Source = transfer.SourceInfo{Kind: "memory", Name: "memory", LengthBytes: new(int64(64 << 20)), SendBytes: new(int64(1 << 20))}
	r.Selection = transfer.Selection{Asked: "msg_zerocopy", Backend: "msg_zerocopy", Reason: "msg_zerocopy was asked for.",
		Notes: []selection.Note{}, Evidence: []probe.Evidence{}, Rejected: []selection.Rejected{}}
	r.Backend, r.SentBytes, r.CopiedByCallsBytes, r.AcknowledgedBytes = "msg_zerocopy", 64<<20, 2<<20, new(int64(64<<20))
	r.Ways = []transfer.Way{{Backend: "msg_zerocopy", Bytes: 62 << 20}, {Backend: "write", Bytes: 2 << 20}}
	r.Reported, r.ZerocopySends, r.NotifiedSends = "not copied", 62, 62
	r.Downgrades = []transfer.Downgrade{{From: "msg_zerocopy", To: "write", Cause: "optmem-limit", Reason: "the option memory of the socket was full", Error: "no buffer space available"}}
	r.DurationNS, r.Checksum = 8_765_432, "of what was sent"
	return r
}

// sentBroken was reset in the middle of a file that others write to.
func sentBroken() *transfer.Sent {
	r := sentFile()
	r.Complete, r.SentBytes, r.AcknowledgedBytes, r.AbandonedBytes = false, 5<<20, new(int64(4<<20)), 1<<20
	r.SHA256, r.Checksum, r.SourceChanged = nil, "", true
	return r
}

func sentDatagrams() *transfer.Sent {
	r := sentMemory()
	r.Protocol, r.Datagrams, r.DatagramBytes, r.AcknowledgedBytes = "udp", new(int64(45592)), new(int64(1472)), nil
	r.Backend, r.Downgrades, r.ZerocopySends, r.NotifiedSends, r.CopiedByCallsBytes = "write", []transfer.Downgrade{}, 0, 0, 64<<20
	r.Ways = []transfer.Way{{Backend: "write", Bytes: 64 << 20}}
	r.Selection.Asked, r.Selection.Backend, r.Selection.Reason = "", "write", "A datagram is smaller than what lending pays for."
	r.SHA256, r.Checksum, r.Reported = nil, "not asked for", "not reported"
	return r
}

// sentHostile has names in it that a terminal would act on.
func sentHostile() *transfer.Sent {
	r := sentBroken()
	r.To, r.Source.Name = "unix:/tmp/"+fixture.Hostile, fixture.Hostile
	r.Protocol = "unix"
	return r
}

func wouldSendFile() *transfer.Sent {
	r := sentFile()
	r.DryRun, r.Complete, r.SentBytes, r.Source.OffsetBytes = true, false, 0, 4096
	return r
}

func TestGoldenSend(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *transfer.Sent
		how  int
		set  func(*text.Printer)
	}{
		{"send", sentFile(), Normal, nil},
		{"send-verbose", sentFile(), Verbose, nil},
		{"send-quiet", sentFile(), Quiet, nil},
		{"send-memory", sentMemory(), Normal, nil},
		{"send-broken", sentBroken(), Normal, nil},
		{"send-datagrams", sentDatagrams(), Normal, nil},
		{"send-hostile-ascii", sentHostile(), Normal, ascii},
		{"send-dry-run", wouldSendFile(), Normal, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { Sent(p, c.r, c.how) })
			validJSON(t, "send.v1", c.r)
		})
	}
}

func validJSON(t *testing.T, schema string, v any) {
	t.Helper()
	var b bytes.Buffer
	if err := JSONLine(&b, v); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != 1 || !json.Valid(b.Bytes()) {
		t.Errorf("%d lines: %s", n, b.Bytes())
	}
	hosttest.Validate(t, schema, b.Bytes())
}

func receivedFile() *transfer.Received {
	return &transfer.Received{
		Schema: transfer.RecvSchema, Type: transfer.ReceivedAll, Complete: true, Protocol: "tcp", Local: "127.0.0.1:9000", Peer: "127.0.0.1:40122",
		Out: transfer.Out{Kind: "file", Name: "backup.img"}, Way: "read_write", ReceivedBytes: 1 << 30, ReadBytes: 1 << 30, EndedBy: "end",
		DurationNS: 912_345_678, RateBytesPerS: 1_176_900_000, SHA256: new(sum), Checksum: "of what arrived", Downgrades: []transfer.Downgrade{},
	}
}

func TestGoldenRecv(t *testing.T) {
	resumed := receivedFile()
	resumed.Out.Resume, resumed.Out.OffsetBytes, resumed.FileSHA256 = true, 1<<20, new(sum)
	broken := receivedFile()
	broken.Complete, broken.SHA256, broken.Checksum, broken.EndedBy, broken.ReceivedBytes = false, nil, "", "error", 12345
	discarded := receivedFile()
	discarded.Out, discarded.Way, discarded.ReadBytes = transfer.Out{Kind: "discard"}, "discard", 0
	discarded.SHA256, discarded.Checksum = nil, "not asked for"
	lossy := receivedFile()
	lossy.Protocol, lossy.Datagrams, lossy.Dropped, lossy.Foreign, lossy.EndedBy = "udp", new(int64(700)), new(int64(28)), new(int64(3)), "idle"
	hostile := receivedFile()
	hostile.Out.Name, hostile.Peer = fixture.Hostile, "unix:"+fixture.Hostile
	hostile.Downgrades = []transfer.Downgrade{{From: "splice", To: "read_write", Cause: "fast-path-refused", Reason: "the kernel does not splice here", Error: "invalid argument"}}
	for _, c := range []struct {
		name string
		r    *transfer.Received
		how  int
	}{
		{"recv", receivedFile(), Normal}, {"recv-quiet", receivedFile(), Quiet}, {"recv-resumed", resumed, Normal}, {"recv-broken", broken, Normal},
		{"recv-discarded", discarded, Normal}, {"recv-datagrams", lossy, Normal}, {"recv-hostile", hostile, Normal},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, nil, func(p *text.Printer) { Received(p, c.r, c.how) })
			validJSON(t, "recv.v1", c.r)
		})
	}
	golden(t, "recv-dry-run", nil, func(p *text.Printer) { WouldReceive(p, resumed) })
}
