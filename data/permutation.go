package data

import "math/bits"

// A permutation is a pseudo-random bijection of 0 .. n-1 chosen by a key, computed without a table: a Feistel network
// over the next even number of bits, walked along its cycle until it lands below n (Black and Rogaway 2002). The domain
// is less than 4n, so the walk takes fewer than 4 steps on average.
type permutation struct {
	n    uint64 // 1 to 1<<62
	half int    // bits of one half
	keys [8]uint64
}

func newPermutation(n, key uint64) permutation {
	p := permutation{n: n, half: max(1, (bits.Len64(n-1)+1)/2)}
	for i := range p.keys {
		p.keys[i] = mix(key + uint64(i+1)*golden)
	}
	return p
}

// at is the image of i < n.
func (p *permutation) at(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		l, r := i>>p.half, i&mask
		for _, k := range p.keys {
			l, r = r, l^mix(r^k)&mask
		}
		if i = l<<p.half | r; i < p.n {
			return i
		}
	}
}

const golden = 0x9e3779b97f4a7c15

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64 bits.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
