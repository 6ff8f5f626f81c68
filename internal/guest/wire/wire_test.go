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
