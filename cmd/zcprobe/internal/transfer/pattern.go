package transfer

import "encoding/binary"

// fill writes the generated stream from position at on, a multiple of 8. Every
// word tells its place, so that what is lost, repeated or sent from memory that
// was used again changes the checksum.
func fill(b []byte, at int64) {
	i := uint64(at) / 8
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, mix(i))
		b = b[8:]
		i++
	}
	if len(b) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], mix(i))
		copy(b, last[:])
	}
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014) of the i-th state.
func mix(i uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
