// Package trit is the table of packed formats for weight codes: small integers around 0, {-1, 0, 1} for ternary weights
// and {-2 ... 2} for five-level ones.
//
//	format  levels  codes/byte  bits/code  byte
//	base3   3       5           1.6        t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4, t = code+1; 0 to 242
//	2bit    3       4           2          t0 | t1<<2 | t2<<4 | t3<<6, t = code+1; t = 3 is invalid
//	base5   5       3           2.667      t0 + 5 t1 + 25 t2, t = code+2; 0 to 124
//
// There is one type, [Format]; a format is a row of [Formats]. Compress and Expand take packed bytes to their entropy
// and back, for files and wires.
//
// # Invariants
//
//   - Packing is a bijection: n codes have one packed form, and Unpack refuses every other byte string. The unused
//     digits of the last byte hold code 0, so that they add nothing to a product.
//   - The layouts are on disk: they do not change. A new layout is a new row with a new name. What Compress writes may
//     change from version to version, what Expand reads may only grow.
//   - Packed and unpacked slices must not overlap.
package trit
