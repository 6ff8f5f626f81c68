package transfer

import (
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// The schemas of what send and recv print as JSON.
const (
	SendSchema = "zcprobe/send/v1"
	RecvSchema = "zcprobe/recv/v1"
)

// Sent is zcprobe/send/v1: what a send did, or with DryRun would do.
type Sent struct {
	Schema   string `json:"schema"`
	DryRun   bool   `json:"dry_run"`
	Complete bool   `json:"complete"` // everything went, and was acknowledged where that can be told

	To       string     `json:"to"`     // as it was asked for
	Remote   string     `json:"remote"` // "" if there was no connection
	Local    string     `json:"local"`
	Protocol string     `json:"protocol"` // tcp, udp, unix
	Source   SourceInfo `json:"source"`

	Selection Selection `json:"selection"`
	Backend   string    `json:"backend"` // that moved most bytes; "" if none went
	Ways      []Way     `json:"ways"`    // bytes by backend; a piece that went by several non-copying ones counts for that which moved most

	SentBytes          int64  `json:"sent_bytes"`            // taken by the kernel
	AcknowledgedBytes  *int64 `json:"acknowledged_bytes"`    // by the peer's kernel; null: the protocol does not tell
	AbandonedBytes     int64  `json:"abandoned_bytes"`       // memory that the kernel still held at the end
	CopiedByCallsBytes int64  `json:"copied_by_calls_bytes"` // copied by the sending calls themselves
	Datagrams          *int64 `json:"datagrams"`             // null: not over UDP
	DatagramBytes      *int64 `json:"datagram_bytes"`        // payload of each but the last

	// What completions said of what was lent. It is a report and no proof.
	Reported      string `json:"reported"`       // not copied, copied, partly copied, not reported
	ZerocopySends int64  `json:"zerocopy_sends"` // calls that lent memory
	NotifiedSends int64  `json:"notified_sends"` // of these, completions came
	CopiedSends   int64  `json:"copied_sends"`   // of these, the kernel said it copied

	Downgrades []Downgrade `json:"downgrades"`

	DurationNS    int64   `json:"duration_ns"` // from the first call to the last acknowledgement
	RateBytesPerS int64   `json:"rate_bytes_per_s"`
	SHA256        *string `json:"sha256"`   // null: there is none
	Checksum      string  `json:"checksum"` // what it is of, or why there is none
	SourceChanged bool    `json:"source_changed"`
}

// SourceInfo says what was sent.
type SourceInfo struct {
	Kind        string `json:"kind"` // file, pipe, socket, memory, device
	Name        string `json:"name"` // of the file; "-" is standard input
	OffsetBytes int64  `json:"offset_bytes"`
	LengthBytes *int64 `json:"length_bytes"` // null: until it ends
	SendBytes   *int64 `json:"send_bytes"`   // of memory, how much each send hands over
}

// Selection is the backend that was planned, and why.
type Selection struct {
	Asked    string               `json:"asked"` // "" if the choice was left open
	Backend  string               `json:"backend"`
	Reason   string               `json:"reason"`
	Notes    []selection.Note     `json:"notes"`
	Evidence []probe.Evidence     `json:"evidence"` // what decided
	Rejected []selection.Rejected `json:"rejected"`
}

// Way is how many bytes went by a backend.
type Way struct {
	Backend string `json:"backend"`
	Bytes   int64  `json:"bytes"`
}

// Downgrade is a step to a lesser way.
type Downgrade struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Cause  string `json:"cause"` // id, or ""
	Reason string `json:"reason"`
	Error  string `json:"error"` // what the kernel answered, or ""
}

// The types of a recv line.
const (
	Listening   = "listening"
	ReceivedAll = "received"
)

// Received is zcprobe/recv/v1: a line when it listens, and one for each
// connection.
type Received struct {
	Schema   string `json:"schema"`
	Type     string `json:"type"` // listening, received
	DryRun   bool   `json:"dry_run"`
	Complete bool   `json:"complete"` // the stream ended as a stream does

	Protocol string `json:"protocol"`
	Local    string `json:"local"` // where it listens
	Peer     string `json:"peer"`
	Out      Out    `json:"out"`

	Way           string  `json:"way"` // read_write, splice, discard (MSG_TRUNC), read
	ReceivedBytes int64   `json:"received_bytes"`
	ReadBytes     int64   `json:"read_bytes"` // of these, copied into the process
	Datagrams     *int64  `json:"datagrams"`
	Dropped       *int64  `json:"dropped_datagrams"` // by the socket, as its buffer was full; null: not over UDP
	Foreign       *int64  `json:"foreign_datagrams"` // ignored, from other senders than the first
	EndedBy       string  `json:"ended_by"`          // end, idle, max-bytes, error; "" before
	DurationNS    int64   `json:"duration_ns"`       // from the first byte to the end
	RateBytesPerS int64   `json:"rate_bytes_per_s"`
	SHA256        *string `json:"sha256"` // of what arrived
	FileSHA256    *string `json:"file_sha256"`
	Checksum      string  `json:"checksum"`

	Downgrades []Downgrade `json:"downgrades"`
}

// Out is where received bytes go.
type Out struct {
	Kind        string `json:"kind"` // file, stream, discard
	Name        string `json:"name"`
	OffsetBytes int64  `json:"offset_bytes"` // the file had that many before
	Resume      bool   `json:"resume"`
}

func downgradeOf(d *transmit.Downgrade) Downgrade {
	out := Downgrade{From: string(d.From), To: string(d.To), Cause: d.Cause, Reason: d.Reason}
	if d.Err != nil {
		out.Error = d.Err.Error()
	}
	return out
}
