//go:build amd64 || arm64

package simd

import "setun/device"

// philoxBlock is the elements that the routines of random words come in.
const philoxBlock = 64

// philoxSplit calls full on whole blocks and rest on what is left, less than one: ranges of n elements. A counter of
// [device.Philox] is four elements.
func (d *Device) philoxSplit(n, bytes int, full, rest func(lo, hi int)) {
	split(d, ceil(n, philoxBlock), philoxBlock*bytes, philox{n, full, rest}, philox.run)
}

type philox struct {
	n          int
	full, rest func(lo, hi int)
}

func (p philox) run(lo, hi int) {
	lo, hi = lo*philoxBlock, min(hi*philoxBlock, p.n)
	end := lo + (hi-lo)/philoxBlock*philoxBlock
	if lo < end {
		p.full(lo, end)
	}
	if end < hi {
		p.rest(end, hi)
	}
}

// philoxFill calls fill on whole blocks of y, which begin at element at; the last one by way of a buffer.
func (d *Device) philoxFill(y []float32, bytes int, fill func(y *float32, n, at int)) {
	d.philoxSplit(len(y), bytes, func(lo, hi int) { fill(&y[lo], hi-lo, lo) }, func(lo, hi int) {
		var t [philoxBlock]float32
		fill(&t[0], len(t), lo)
		copy(y[lo:hi], t[:])
	})
}

func (d *Device) Uniform(dst device.Mem, seed uint64, lo, hi float32) {
	if d.tier == None {
		d.Device.Uniform(dst, seed, lo, hi)
		return
	}
	y := dst.F32()
	if d.Failed() {
		return
	}
	fill := func(y *float32, n, at int) {
		uniformRoutine[d.width()](y, n, uint64(at/4), uint32(seed), uint32(seed>>32), lo, hi-lo)
	}
	d.philoxFill(y, 4, fill)
}
