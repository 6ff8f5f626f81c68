package zctest

import "github.com/zcprobe/zcprobe/internal/sys"

// A shape says what the arguments of a call mean, by their position; -1: it has no
// such argument.
type shape struct {
	name                 string
	source, target, size int
	flags                int  // of send and receive
	messages             bool // the result counts messages, and not bytes
}

const none = -1

// shapes are the calls that are recorded, by number.
var shapes = map[uint64]shape{
	sys.CallRead:          {name: "read", source: 0, target: none, size: 2, flags: none},
	sys.CallPread:         {name: "pread64", source: 0, target: none, size: 2, flags: none},
	sys.CallReadv:         {name: "readv", source: 0, target: none, size: none, flags: none},
	sys.CallPreadv:        {name: "preadv", source: 0, target: none, size: none, flags: none},
	sys.CallPreadv2:       {name: "preadv2", source: 0, target: none, size: none, flags: none},
	sys.CallRecvfrom:      {name: "recvfrom", source: 0, target: none, size: 2, flags: 3},
	sys.CallRecvmsg:       {name: "recvmsg", source: 0, target: none, size: none, flags: 2},
	sys.CallRecvmmsg:      {name: "recvmmsg", source: 0, target: none, size: none, flags: 3, messages: true},
	sys.CallWrite:         {name: "write", source: none, target: 0, size: 2, flags: none},
	sys.CallPwrite:        {name: "pwrite64", source: none, target: 0, size: 2, flags: none},
	sys.CallWritev:        {name: "writev", source: none, target: 0, size: none, flags: none},
	sys.CallPwritev:       {name: "pwritev", source: none, target: 0, size: none, flags: none},
	sys.CallPwritev2:      {name: "pwritev2", source: none, target: 0, size: none, flags: none},
	sys.CallSendto:        {name: "sendto", source: none, target: 0, size: 2, flags: 3},
	sys.CallSendmsg:       {name: "sendmsg", source: none, target: 0, size: none, flags: 2},
	sys.CallSendmmsg:      {name: "sendmmsg", source: none, target: 0, size: none, flags: 3, messages: true},
	sys.CallSendfile:      {name: "sendfile", source: 1, target: 0, size: 3, flags: none},
	sys.CallSplice:        {name: "splice", source: 0, target: 2, size: 4, flags: none},
	sys.CallTee:           {name: "tee", source: 0, target: 1, size: 2, flags: none},
	sys.CallVmsplice:      {name: "vmsplice", source: none, target: 0, size: none, flags: none},
	sys.CallCopyFileRange: {name: "copy_file_range", source: 0, target: 2, size: 4, flags: none},
	sys.CallUringEnter:    {name: "io_uring_enter", source: none, target: 0, size: none, flags: none},
	sys.CallSetsockopt:    {name: "setsockopt", source: none, target: 0, size: none, flags: none},
}
