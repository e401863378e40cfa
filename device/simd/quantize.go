//go:build amd64 || arm64

package simd

import (
	"math"
	"sync/atomic"
	"unsafe"

	"setun/device"
	"setun/internal/scratch"
)

func (d *Device) QuantizeRows(q, scale, x device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.QuantizeRows(q, scale, x, rows, cols)
		return
	}
	q0, s0, x0 := q.I8(), scale.F32(), x.F32()
	if d.Failed() || q0 == nil {
		return
	}
	split(d, rows, 5*cols, quantizeRows{d, q0, s0, x0, cols}, quantizeRows.run)
}

type quantizeRows struct {
	d    *Device
	q    []int8
	s, x []float32
	cols int
}

func (r quantizeRows) run(lo, hi int) {
	quantizeRowsRoutine[r.d.width()](&r.q[lo*r.cols], &r.s[lo], &r.x[lo*r.cols], hi-lo, r.cols)
	for i := lo; i < hi; i++ {
		if !finite(math.Float32bits(r.s[i])) {
			clear(r.q[i*r.cols : (i+1)*r.cols])
			r.s[i] = float32(math.NaN())
		}
	}
}

// int8Row quantizes x to codes and, behind them, their scale.
func (d *Device) int8Row(q []int8, x []float32) {
	n := len(x)
	scale := (*float32)(unsafe.Pointer(&q[n:][:4][0]))
	quantizeRowsRoutine[d.width()](&q[0], scale, &x[0], 1, n)
	if !finite(math.Float32bits(*scale)) {
		clear(q[:n])
		*scale = float32(math.NaN())
	}
}

// finite reports whether bits are of a float32 that is neither NaN nor infinite.
func finite(bits uint32) bool { return bits&0x7f800000 != 0x7f800000 }

// smallGroup is the largest group of weights that one thread quantizes alone.
const smallGroup = 1 << 16

func (d *Device) QuantizeWeights(codes, scale, w device.Mem, s device.WeightQuant) {
	q0, s0, w0 := codes.I8(), scale.F32(), w.F32()
	count, n := 1, s.Rows*s.Cols
	if s.PerRow {
		count, n = s.Rows, s.Cols
	}
	if d.tier == None || d.Failed() || q0 == nil || len(s0) == 0 || n == 0 || s.Rule > device.Given ||
		s.Rule == device.Given && !s.PerRow && len(s0) > 1 {
		d.Device.QuantizeWeights(codes, scale, w, s)
		return
	}
	z := groups{d, q0, s0, w0, n, s}
	if n > smallGroup {
		z.run(0, count)
	} else {
		split(d, count, 5*n, z, groups.run)
	}
}

// groups of n weights each.
type groups struct {
	d     *Device
	q     []int8
	scale []float32
	w     []float32
	n     int
	s     device.WeightQuant
}

func (z groups) run(lo, hi int) {
	part := scratch.Get[float64](ceil(z.n, device.LaneChunk))
	defer part.Free()
	for g := lo; g < hi; g++ {
		a, b := g*z.n, (g+1)*z.n
		group{z.d, z.q[a:b], z.w[a:b], part.X}.quantize(&z.scale[g], z.s)
	}
}

// group is weights with one scale, not empty. Up to smallGroup of them are quantized by one thread.
type group struct {
	*Device
	q    []int8
	w    []float32
	part []float64 // sums of the chunks of w
}

// quantize finds the codes and the scale.
func (z group) quantize(scale *float32, s device.WeightQuant) {
	if s.Rule == device.Given {
		if !finite(z.codes(*scale, s.Levels)) {
			clear(z.q)
		}
		return
	}
	sum := z.sum()
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		clear(z.q)
		*scale = float32(math.NaN())
		return
	}
	mean := sum / float64(len(z.w))
	if s.Rule == device.AbsMean {
		*scale = max(float32(float64(s.Factor)*mean), 1e-8)
		z.codes(*scale, s.Levels)
		return
	}
	kept, sum := z.signs(max(float32(float64(s.Factor)*mean), 0))
	if kept > 0 {
		*scale = float32(sum / float64(kept))
	} else {
		*scale = max(float32(mean), 1e-8)
	}
}

// chunks lo to hi of w.
func (z group) chunks(lo, hi int) (a, b int) {
	return lo * device.LaneChunk, min(len(z.w), hi*device.LaneChunk)
}

// sum is device.LaneSum of |w|.
func (z group) sum() float64 {
	if len(z.w) <= smallGroup {
		z.sumRange(0, len(z.part))
	} else {
		split(z.Device, len(z.part), 4*device.LaneChunk, z, group.sumRange)
	}
	return total(z.part)
}

func (z group) sumRange(lo, hi int) {
	a, b := z.chunks(lo, hi)
	sumAbsRoutine[z.width()](&z.part[lo], &z.w[a], b-a)
}

// codes: q = clip(roundEven(w/scale)). It returns the bits of the largest |w|, NaN last, or of some that is not finite.
func (z group) codes(scale float32, levels int) uint32 {
	cut1, cut2, ok := cuts(scale, levels)
	if len(z.w) <= smallGroup {
		return z.codesRange(0, len(z.w), scale, levels, cut1, cut2, ok)
	}
	e := encoding{z, scale, levels, cut1, cut2, ok, new(atomic.Uint32)}
	split(z.Device, len(z.part), 5*device.LaneChunk, e, encoding.run)
	return e.top.Load()
}

type encoding struct {
	group
	scale      float32
	levels     int
	cut1, cut2 float32
	byCuts     bool
	top        *atomic.Uint32
}

func (e encoding) run(lo, hi int) {
	n := len(e.part)
	a, b := e.chunks(n-hi, n-lo) // from the end, which sum left in cache
	if bits := e.codesRange(a, b, e.scale, e.levels, e.cut1, e.cut2, e.byCuts); !finite(bits) {
		e.top.Store(bits)
	}
}

func (z group) codesRange(a, b int, scale float32, levels int, cut1, cut2 float32, byCuts bool) uint32 {
	q, w, n := &z.q[a], &z.w[a], b-a
	if byCuts {
		return ternaryRoutine[z.width()](q, w, n, cut1, cut2)
	}
	return encodeRoutine[z.width()](q, w, n, scale, float32(levels))
}

// cuts are the largest floats whose quotient by scale rounds to 0 and to 1 (+Inf if that is the last level): comparing
// with them gives the codes of the division, which is several times slower. ok is false if there are none.
func cuts(scale float32, levels int) (cut1, cut2 float32, ok bool) {
	inf := float32(math.Inf(1))
	if levels < 1 || levels > 2 || !(scale > 0 && scale < inf) {
		return 0, 0, false
	}
	if levels == 1 {
		return cut(scale, 0), inf, true
	}
	return cut(scale, 0), cut(scale, 1), true
}

// cut is the largest float32 x with roundEven(x/scale) <= k: a few steps from (k + 1/2) * scale.
func cut(scale float32, k float64) float32 {
	below := func(x float32) bool { return math.RoundToEven(float64(x/scale)) <= k }
	x := float32(min((k+0.5)*float64(scale), math.MaxFloat32))
	for !below(x) {
		x = math.Nextafter32(x, 0)
	}
	for x < math.MaxFloat32 && below(math.Nextafter32(x, math.MaxFloat32)) {
		x = math.Nextafter32(x, math.MaxFloat32)
	}
	return x
}

// signs: q = sign(w) where |w| > cut, else 0. It returns how many are kept and device.LaneSum of their |w|.
func (z group) signs(cut float32) (kept int, sum float64) {
	if len(z.w) <= smallGroup {
		kept = z.signsRange(0, len(z.part), cut)
		return kept, total(z.part)
	}
	s := signing{z, cut, new(atomic.Int64)}
	split(z.Device, len(z.part), 5*device.LaneChunk, s, signing.run)
	return int(s.kept.Load()), total(z.part)
}

type signing struct {
	group
	cut  float32
	kept *atomic.Int64
}

func (s signing) run(lo, hi int) {
	n := len(s.part)
	s.kept.Add(int64(s.signsRange(n-hi, n-lo, s.cut)))
}

func (z group) signsRange(lo, hi int, cut float32) int {
	a, b := z.chunks(lo, hi)
	return int(signsRoutine[z.width()](&z.q[a], &z.part[lo], &z.w[a], b-a, cut))
}

func (d *Device) Dequantize(y, codes, scale device.Mem, rows, cols int) {
	if d.tier == None || rows*cols == 0 {
		d.Device.Dequantize(y, codes, scale, rows, cols)
		return
	}
	y0, q0, s0 := y.F32(), codes.I8(), scale.F32()
	if d.Failed() || y0 == nil {
		return
	}
	d.dequantize(y0, q0, s0, rows, cols)
}

// dequantize: y = codes * scale; scale has one element or one a row.
func (d *Device) dequantize(y []float32, codes []int8, scale []float32, rows, cols int) {
	x := dequantize{d, y, codes, scale, cols}
	if len(scale) == 1 {
		split(d, rows*cols, 5, x, dequantize.all)
	} else {
		split(d, rows, 5*cols, x, dequantize.rows)
	}
}

type dequantize struct {
	d     *Device
	y     []float32
	codes []int8
	scale []float32
	cols  int
}

func (x dequantize) all(lo, hi int) {
	dequantizeRoutine[x.d.width()](&x.y[lo], &x.codes[lo], &x.scale[0], 1, hi-lo, 0)
}

func (x dequantize) rows(lo, hi int) {
	dequantizeRoutine[x.d.width()](&x.y[lo*x.cols], &x.codes[lo*x.cols], &x.scale[lo], hi-lo, x.cols, 1)
}

func (d *Device) LSQGrad(dscale, dq, w, scale device.Mem, rows, cols, levels int, alpha float32) {
	ds0, dq0, w0, s0 := dscale.F32(), dq.F32(), w.F32(), scale.F32()
	if d.tier == None || d.Failed() || len(ds0) != len(s0) || len(s0) != 1 && len(s0) != rows || rows*cols == 0 {
		d.Device.LSQGrad(dscale, dq, w, scale, rows, cols, levels, alpha)
		return
	}
	n := rows * cols / len(s0)
	chunks := ceil(n, device.LaneChunk)
	s := scratch.Get[float64](len(s0) * chunks)
	defer s.Free()
	split(d, len(s.X), 8*min(n, device.LaneChunk), lsqGrad{d, s.X, dq0, w0, s0, n, chunks, float32(levels)}, lsqGrad.run)
	for g := range ds0 {
		ds0[g] += alpha * float32(total(s.X[g*chunks:(g+1)*chunks]))
	}
}

type lsqGrad struct {
	d         *Device
	part      []float64
	dq, w, s  []float32
	n, chunks int // of a group
	levels    float32
}

func (l lsqGrad) run(lo, hi int) {
	f := lsqRoutine[l.d.width()]
	for i := lo; i < hi; i++ {
		g, c := i/l.chunks, i%l.chunks*device.LaneChunk
		at := g*l.n + c
		f(&l.part[i], &l.dq[at], &l.w[at], min(l.n-c, device.LaneChunk), l.s[g], l.levels)
	}
}
