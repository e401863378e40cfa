package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

var (
	quantizeRowsForms = rowFormsOf("quantizeRows")
	lsqGradForms      = rowFormsOf("lsqGrad")
)

func (d *Device) QuantizeRows(q, scale, x device.Mem, rows, cols int) {
	if q.IsZero() {
		return
	}
	d.shares(&quantizeRowsForms, rows, cols, kept, []device.Mem{q, x},
		addr(q), addr(scale), addr(x), num(rows), num(cols))
}

func (d *Device) QuantizeWeights(codes, scale, w device.Mem, s device.WeightQuant) {
	groups, n := 1, s.Rows*s.Cols
	if s.PerRow {
		groups, n = s.Rows, s.Cols
	}
	all := groups * n
	if codes.IsZero() || scale.Len() == 0 || all <= 0 {
		return
	}
	if s.Rule == device.Given && !s.PerRow && scale.Len() > 1 {
		panic("cuda: QuantizeWeights: several scales given for one tensor")
	}
	sums, chunks, free := d.laneChunks(w, groups, n, sumAbs, 0)
	defer free()
	work, freeWork := d.temp(4 * groups) // a scale or a cut for each group
	defer freeWork()
	if sums == 0 || work == 0 {
		return
	}
	shape := []uint64{num(groups), num(n), num(chunks)}
	switch s.Rule {
	case device.AbsMean, device.Given:
		scales, given := addr(scale), uint64(0)
		if s.Rule == device.Given {
			scales, given = work, scales
		}
		d.each("weightScale", 32*groups, append([]uint64{scales, sums, given, f32(s.Factor)}, shape...)...)
		d.each("encode", all, addr(codes), addr(w), scales, f32(float32(s.Levels)), num(all), num(groups), num(n))
	case device.TWN:
		d.each("signCut", 32*groups, append([]uint64{work, addr(scale), sums, f32(s.Factor)}, shape...)...)
		above, _, freeAbove := d.laneChunks(w, groups, n, sumAbove, work)
		defer freeAbove()
		count, _, freeCount := d.laneChunks(w, groups, n, countAbove, work)
		defer freeCount()
		if above == 0 || count == 0 {
			return
		}
		d.each("signScale", 32*groups, addr(scale), work, above, count, num(groups), num(chunks))
		d.each("signs", all, addr(codes), addr(w), work, num(all), num(groups), num(n))
	default:
		panic("cuda: QuantizeWeights: unknown rule")
	}
}

func (d *Device) QuantizeStochastic(codes, scale, x device.Mem, s device.StochasticQuant) {
	groups, n := 1, s.Rows*s.Cols
	if s.PerRow {
		groups, n = s.Rows, s.Cols
	}
	all, chunks := groups*n, (n+device.LaneChunk-1)/device.LaneChunk
	if codes.IsZero() || scale.Len() == 0 || all <= 0 {
		return
	}
	tops, freeTops := d.temp(4 * groups * chunks)
	defer freeTops()
	squares := uint64(0)
	if s.Clip > 0 && !s.Given {
		var free func()
		squares, _, free = d.laneChunks(x, groups, n, sumSquares, 0)
		defer free()
	}
	scales, given := addr(scale), uint64(0)
	if s.Given {
		work, free := d.temp(4 * groups)
		defer free()
		scales, given = work, scales
	}
	if d.failed() {
		return
	}
	levels := f32(float32(s.Levels))
	d.each("maxChunks", 32*groups*chunks, tops, addr(x), num(groups), num(n), num(chunks))
	d.each("stochasticScale", 32*groups, scales, tops, squares, given, f32(s.Clip), levels,
		num(groups), num(n), num(chunks))
	d.each("encodeStochastic", (all+3)/4, addr(codes), addr(x), scales, levels, u64(s.Seed),
		num(all), num(groups), num(n))
}

func (d *Device) Dequantize(y, codes, scale device.Mem, rows, cols int) {
	n := min(rows*cols, y.Len())
	d.each("dequantize", n, addr(y), addr(codes), addr(scale), num(scale.Len()), num(n), num(cols))
}

func (d *Device) LSQGrad(dscale, dq, w, scale device.Mem, rows, cols, levels int, alpha float32) {
	if dscale.Len() == 0 || rows <= 0 {
		return
	}
	sums := uint64(0)
	if dscale.Len() == 1 {
		var free func()
		sums, free = d.temp(8 * rows)
		defer free()
		if sums == 0 {
			return
		}
	}
	d.shares(&lsqGradForms, rows, cols, unkept, []device.Mem{dq, w}, addr(dscale), sums, addr(dq), addr(w), addr(scale),
		num(scale.Len()), f32(float32(levels)), f32(alpha), num(rows), num(cols))
	if sums != 0 {
		d.launch("addSums", driver.Dim{}, driver.Dim{X: blockSize}, 0, addr(dscale), sums, f32(alpha), num(rows))
	}
}
