package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesComeBack(t *testing.T) {
	var b bytes.Buffer
	s := NewSender(&b)
	io.WriteString(s.Stream(Stdout, 3), "hello")
	if err := s.SendJSON(Ended, 3, Exit{Status: 7}); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(Done, 0, nil); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	for _, want := range []Frame{{Stdout, 3, []byte("hello")}, {Kind: Ended, Step: 3}, {Kind: Done}} {
		f, err := Read(&b)
		if err != nil || f.Kind != want.Kind || f.Step != want.Step || want.Data != nil && !bytes.Equal(f.Data, want.Data) {
			t.Fatalf("got %+v, %v, want %+v", f, err, want)
		}
	}
	if _, err := Read(&b); err != io.EOF {
		t.Errorf("after the last frame: %v, want EOF", err)
	}
	for _, cut := range []int{3, 9} { // a guest that died within a header, within a payload
		if _, err := Read(bytes.NewReader(whole[:cut])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := Read(bytes.NewReader([]byte{Stdout, 0, 0, 0xff, 0, 0, 0})); err == nil {
		t.Error("a frame of 4 GiB was accepted")
	}
}

// A guest is not to be trusted with more than its own frames.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	s := NewSender(&b)
	for _, frame := range []Frame{{Stdout, 3, []byte("hello")}, {File, 0, []byte("name\x00content")}, {Kind: Done}} {
		if err := s.Send(frame.Kind, frame.Step, frame.Data); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(b.Bytes()))
	}
	f.Add([]byte{Stdout, 0, 0, 0xff, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, used := bytes.NewReader(stream), 0
		for {
			if at := stream[used:]; len(at) >= 5 && at[3]|at[4] != 0 {
				return // 64 KiB and more: nothing but time is lost on it
			}
			frame, err := Read(r)
			if err != nil {
				if len(frame.Data) > 0 {
					t.Errorf("%d bytes and %v", len(frame.Data), err)
				}
				return
			}
			used += 7 + len(frame.Data)
			if used != len(stream)-r.Len() {
				t.Fatalf("frames of %d bytes, and %d were read", used, len(stream)-r.Len())
			}
		}
	})
}
