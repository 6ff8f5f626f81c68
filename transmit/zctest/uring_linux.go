package zctest

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A request is an entry of an io_uring's submission queue that the kernel has not
// taken yet, as /proc/PID/fdinfo/FD lists it since Linux 6.0 (io_uring/fdinfo.c).
type request struct {
	index     uint32 // in the array of entries
	operation string
	fd        int32
	flags     uint32
	off, addr uint64
	userData  uint64
}

// fixedFile is IOSQE_FIXED_FILE of linux/io_uring.h: fd is the index of a registered
// file, and no descriptor.
const fixedFile = 1

// registeredRing is IORING_ENTER_REGISTERED_RING of linux/io_uring.h: the descriptor
// of io_uring_enter is an index.
const registeredRing = 1 << 4

// parseRequests returns the requests that wait in an io_uring. It fails where the
// kernel lists none, or a thread of its own takes them (SQPOLL), perhaps before they
// were seen.
func parseRequests(fdinfo string) ([]request, error) {
	var list []request
	waiting := -1
	for line := range strings.SplitSeq(fdinfo, "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case key == "SqThread" && value != "-1":
			return nil, fmt.Errorf("a thread of the kernel takes requests: %s", value)
		case key == "SQEs":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, err
			}
			waiting = n
		case strings.HasPrefix(value, "opcode:"):
			r, err := parseRequest(key, value)
			if err != nil {
				return nil, err
			}
			list = append(list, r)
		}
	}
	if waiting != len(list) {
		return nil, fmt.Errorf("%d requests wait, %d are listed", waiting, len(list))
	}
	return list, nil
}

// parseRequest reads what stands behind the index of an entry:
//
//	opcode:SEND_ZC, fd:28, flags:0, off:0, addr:0x18da4a0b0000, rw_flags:0x4040, buf_index:0 user_data:4294967296
func parseRequest(index, entry string) (request, error) {
	var r request
	n, err := strconv.ParseUint(strings.TrimSpace(index), 10, 32)
	if err != nil {
		return r, err
	}
	r.index = uint32(n)
	for field := range strings.FieldsSeq(entry) {
		key, value, _ := strings.Cut(strings.TrimSuffix(field, ","), ":")
		var n uint64
		switch key {
		case "opcode":
			r.operation = value
		case "fd":
			var fd int64
			fd, err = strconv.ParseInt(value, 10, 32)
			r.fd = int32(fd)
		case "flags":
			n, err = strconv.ParseUint(value, 16, 32)
			r.flags = uint32(n)
		case "off":
			r.off, err = strconv.ParseUint(value, 10, 64)
		case "addr":
			r.addr, err = strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 64)
		case "user_data":
			r.userData, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return r, fmt.Errorf("request %s: %w", index, err)
		}
	}
	return r, nil
}

// submits returns the requests that a call of io_uring_enter is about to submit, as
// calls. What cannot be seen is one call by the name of uringHidden.
func (t *tracer) submits(args [6]uint64) []Call {
	if args[1] == 0 {
		return nil
	}
	hidden := []Call{{Name: uringHidden, Source: memory, Target: memory, Asked: -1}}
	if args[3]&registeredRing != 0 {
		return hidden
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", t.pid, int32(args[0])))
	if err != nil {
		return hidden
	}
	waiting, err := parseRequests(string(info))
	if err != nil {
		return hidden
	}
	arrays := t.arrays()
	var calls []Call
	for _, r := range waiting[:min(uint64(len(waiting)), args[1])] {
		calls = append(calls, t.requested(r, arrays))
	}
	return calls
}

// requested is a request as a call. All are taken for sends but those that are known
// to read: what is not known then fails an assertion, and does not pass it.
func (t *tracer) requested(r request, arrays []uint64) Call {
	end := FD{Num: int(r.fd)}
	if r.flags&fixedFile != 0 {
		return Call{Name: uringHidden, Source: memory, Target: memory, Asked: -1}
	}
	t.name(&end)
	c := Call{Name: uringPrefix + r.operation, Source: memory, Target: end, Asked: -1, ZeroCopy: strings.HasSuffix(r.operation, "_ZC")}
	switch r.operation {
	case "READ", "READV", "READ_FIXED", "RECV", "RECVMSG", "RECV_ZC":
		c.Source, c.Target, c.ZeroCopy = end, memory, false
	case "NOP", "POLL_ADD", "POLL_REMOVE", "TIMEOUT", "TIMEOUT_REMOVE", "ASYNC_CANCEL", "CLOSE", "ACCEPT", "CONNECT", "SHUTDOWN", "FSYNC", "LINK_TIMEOUT":
		c.Target = memory
	case "SEND", "SEND_ZC", "WRITE", "WRITE_FIXED", "SPLICE":
		if n, ok := t.lengthOf(r, arrays); ok {
			c.Asked, c.Bytes = int64(n), int64(n)
		}
	}
	return c
}

// Of struct io_uring_sqe, linux/io_uring.h.
const (
	entrySize     = 64
	entryFD       = 4
	entryOff      = 8
	entryAddr     = 16
	entryLength   = 24
	entryUserData = 32
)

// entriesOffset is IORING_OFF_SQES: where in the file of a ring its entries are mapped.
const entriesOffset = 0x10000000

// arrays returns where the process has the entries of its rings.
func (t *tracer) arrays() []uint64 {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", t.pid))
	if err != nil {
		return nil
	}
	return parseArrays(string(maps))
}

func parseArrays(maps string) []uint64 {
	var starts []uint64
	for line := range strings.SplitSeq(maps, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != "anon_inode:[io_uring]" {
			continue
		}
		at, err := strconv.ParseUint(fields[2], 16, 64)
		from, _, _ := strings.Cut(fields[0], "-")
		start, err2 := strconv.ParseUint(from, 16, 64)
		if err == nil && err2 == nil && at == entriesOffset {
			starts = append(starts, start)
		}
	}
	return starts
}

// lengthOf reads the length of a request, which fdinfo does not have, from the entry
// itself: the one that is the same in all else.
func (t *tracer) lengthOf(r request, arrays []uint64) (uint32, bool) {
	var entry [entrySize]byte
	for _, start := range arrays {
		n, err := sys.ReadMemory(t.pid, start+uint64(r.index)*entrySize, entry[:])
		ne := binary.NativeEndian
		if err == nil && n == len(entry) && ne.Uint32(entry[entryFD:]) == uint32(r.fd) && ne.Uint64(entry[entryOff:]) == r.off &&
			ne.Uint64(entry[entryAddr:]) == r.addr && ne.Uint64(entry[entryUserData:]) == r.userData {
			return ne.Uint32(entry[entryLength:]), true
		}
	}
	return 0, false
}

// taken adds the requests that a call submitted. Of those that were not seen one
// by one that is as many as the kernel took.
func (t *tracer) taken(th *thread, result int64, errno syscall.Errno) {
	for i, c := range th.requests {
		c.Began = th.call.Began
		if errno == 0 && (int64(i) < result || c.Name == uringHidden) {
			t.keep(c)
		}
	}
	th.requests = nil
}
