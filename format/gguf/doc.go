// Package gguf reads and writes GGUF version 3, the file format of llama.cpp: metadata and tensors in one file. It knows
// bytes and names, not models.
//
//	"GGUF", version u32 = 3, tensors u64, pairs u64
//	pairs:    key, type u32, value              key: length u64, bytes
//	tensors:  name, dimensions u32, sizes u64..., type u32, offset u64
//	padding to general.alignment (32), then the data, each tensor padded
//
// Everything is little endian. Dims stand innermost first, so a weight (out, in) has Dims {in, out}.
//
//	type   elements  bytes  block
//	F32    1         4
//	F16    1         2      IEEE half precision
//	BF16   1         2
//	Q8_0   32        34     scale f16, codes int8
//	TQ1_0  256       54     five codes a byte as a fraction of base 3, the first most significant; scale f16 at the end
//	TQ2_0  256       66     four codes a byte, 2 bits each; scale f16 at the end
//	I2_S   128       32     of the flat tensor: four codes a byte, the first in the top bits; one f32 scale after all
//	                        blocks and 28 bytes of padding (bitnet.cpp's layout A)
//
// [Write] writes a file, [Read] and [Open] list one and load its tensors one by one; [Floats] and [Codes] decode, and
// [Encode] and [EncodeCodes] make tensors. Reading checks every length against the file before it takes memory for it:
// a damaged or hostile file is an error. Open maps the file into memory; a file that is cut after that is an error too,
// at the next tensor.
package gguf
