package device

import "math/bits"

// Philox is the counter-based generator Philox4x32-10 (Salmon et al. 2011): four random words from a key and a counter,
// without state, so that element i of a random tensor is the same on every device and in every order.
// Element i of a kernel uses word i%4 of counter i/4.
func Philox(key, counter uint64) [4]uint32 {
	c := [4]uint32{uint32(counter), uint32(counter >> 32), 0, 0}
	k0, k1 := uint32(key), uint32(key>>32)
	for range 10 {
		h0, l0 := bits.Mul32(0xD2511F53, c[0])
		h1, l1 := bits.Mul32(0xCD9E8D57, c[2])
		c = [4]uint32{h1 ^ c[1] ^ k0, l1, h0 ^ c[3] ^ k1, l0}
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c
}

// Unit maps a random word to [0, 1) with 24 bits.
func Unit(w uint32) float32 { return float32(w>>8) * (1.0 / (1 << 24)) }
