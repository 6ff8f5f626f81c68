package probe

import "slices"

// catalogue is every cause that any part of zcprobe may name, in the order in
// which it is printed: by kind, within a kind by where the cause lies. It is
// data and never changes.
//
// Kernel ranges say what was done: "verified" means reproduced on kernels
// 5.10, 6.1, 6.12, 6.18 and 7.3 within the range given, "read" that the
// statement was derived from their source.
var catalogue = slices.Concat(
	copyAPI, copyDevice, copyUDP, copySocket, copySource,
	copyObserver, copyLocal, copyProcessing, copyBelow,
	causesPass, causesHazard, causesRefused, causesNote,
)
