// Package safetensors reads and writes the safetensors file format, in which most published model weights are kept.
//
// A file is the length of its header (uint64, little endian), the header, and the data. The header is JSON,
//
//	{"__metadata__": {"format": "pt"}, "wte": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
//
// padded with spaces to a multiple of 8 bytes; offsets count from the first byte of data. Elements are row-major,
// little endian.
//
// The types are few. A [Tensor] is a name, a [DType], a shape and raw bytes; [New] makes one from a Go slice and
// [Values] turns one back. [Write] writes tensors. [Open] and [Read] give a [File], which lists its tensors ([Info])
// and reads them on demand.
//
// # Invariants
//
//   - A File is checked as a whole before any tensor is read: every tensor's offsets agree with its dtype and shape,
//     and the tensors cover the data without overlap, gap or rest. The format demands it, and it means that the data of
//     all tensors takes no more memory than the file has bytes.
//   - Open maps the file into memory. A file that is cut after that is an error at the next tensor.
//   - Unknown dtypes, unknown or repeated JSON keys, empty names and headers above 100 MB are refused.
//   - The header keeps the order of the tensors given to Write, and File.Tensors returns it. The data is laid out by
//     falling element size, as the format's own library does: tensors stay aligned although padding is refused.
//   - The same tensors and metadata give the same bytes.
package safetensors
