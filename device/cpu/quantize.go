package cpu

import (
	"math"
	"sync/atomic"

	"github.com/chewxy/math32"

	"setun/device"
	"setun/internal/par"
)

var nan32 = math32.NaN()

// roundCode is roundEven(v) for |v| < 128: the sum leaves it in the low bits of the significand.
func roundCode(v float32) int8 { return int8(math.Float32bits(v + 3<<22)) }

func (d *Device) QuantizeRows(q, scale, x device.Mem, rows, cols int) {
	q0, s0, x0 := q.I8(), scale.F32(), x.F32()
	if d.Failed() || q0 == nil {
		return
	}
	d.par(rows, 2*cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s0[i] = quantizeRow(q0[i*cols:(i+1)*cols], x0[i*cols:(i+1)*cols])
		}
	})
}

func quantizeRow(q []int8, x []float32) float32 { return quantizeAbove(q, x, 1e-5) }

// quantizeAbove is int8 absmax with a floor for the maximum.
func quantizeAbove(q []int8, x []float32, floor float32) float32 {
	a := absMax(x)
	if !finite(a) {
		clear(q)
		return nan32
	}
	a = max(a, floor)
	s := 127 / a
	q = q[:len(x)]
	for i, v := range x {
		q[i] = roundCode(float32(v * s))
	}
	return a / 127
}

// absMax is max|x|, by bits: NaN is above Inf, which is above all numbers.
func absMax(x []float32) float32 {
	bits := uint32(0)
	for _, v := range x {
		bits = max(bits, math.Float32bits(v)&^(1<<31))
	}
	return math.Float32frombits(bits)
}

// QuantizeWeights takes means, and products with Factor, in float64 and rounds them once to a scale or threshold. A
// group with a NaN or Inf gets codes 0 and, unless its scale is given, scale NaN.
func (d *Device) QuantizeWeights(codes, scale, w device.Mem, s device.WeightQuant) {
	q0, s0, w0 := codes.I8(), scale.F32(), w.F32()
	if d.Failed() || q0 == nil || len(s0) == 0 {
		return
	}
	if !s.PerRow {
		n := s.Rows * s.Cols
		if s.Rule == device.Given && len(s0) > 1 {
			panic("cpu: QuantizeWeights: several scales given for one tensor")
		}
		quantizeGroup(d.Threads, q0[:n], &s0[0], w0[:n], s)
		return
	}
	d.par(s.Rows, 4*s.Cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			quantizeGroup(1, q0[i*s.Cols:(i+1)*s.Cols], &s0[i], w0[i*s.Cols:(i+1)*s.Cols], s)
		}
	})
}

// quantizeGroup finds the codes and the scale of elements that share one.
func quantizeGroup(threads int, q []int8, scale *float32, w []float32, s device.WeightQuant) {
	if len(w) == 0 {
		return
	}
	sum := laneSum(threads, w, sumAbs, 0)
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		clear(q)
		if s.Rule != device.Given {
			*scale = nan32
		}
		return
	}
	mean := sum / float64(len(w))
	switch s.Rule {
	case device.AbsMean:
		*scale = max(float32(float64(s.Factor)*mean), 1e-8)
		encode(threads, q, w, *scale, s.Levels)
	case device.TWN:
		cut := max(float32(float64(s.Factor)*mean), 0)
		if kept := signs(threads, q, w, cut); kept > 0 {
			*scale = float32(laneSum(threads, w, sumAbove, cut) / float64(kept))
		} else {
			*scale = max(float32(mean), 1e-8)
		}
	case device.Given:
		encode(threads, q, w, *scale, s.Levels)
	default:
		panic("cpu: QuantizeWeights: unknown rule")
	}
}

// encode: q = clip(roundEven(w/scale)). 0/0 and a NaN scale give code 0.
func encode(threads int, q []int8, w []float32, scale float32, levels int) {
	if threads == 1 {
		encodeRange(q, w, scale, float32(levels))
		return
	}
	par.For(threads, len(w), task, func(lo, hi int) { encodeRange(q[lo:hi], w[lo:hi], scale, float32(levels)) })
}

func encodeRange(q []int8, w []float32, scale, top float32) {
	q = q[:len(w)]
	for i, v := range w {
		v = max(min(v/scale, top), -top)
		if v != v {
			v = 0
		}
		q[i] = roundCode(v)
	}
}

// signs: q = sign(w) where |w| > cut, else 0. It returns how many are kept.
func signs(threads int, q []int8, w []float32, cut float32) int {
	if threads == 1 {
		return signsRange(q, w, cut)
	}
	var kept atomic.Int64
	par.For(threads, len(w), task, func(lo, hi int) { kept.Add(int64(signsRange(q[lo:hi], w[lo:hi], cut))) })
	return int(kept.Load())
}

func signsRange(q []int8, w []float32, cut float32) int {
	n := 0
	q = q[:len(w)]
	c := int32(math.Float32bits(cut))
	for i, v := range w {
		b := int32(math.Float32bits(v))
		keep := (c - b&math.MaxInt32) >> 31 // -1 where |v| > cut
		q[i] = int8((b>>31 | 1) & keep)
		n -= int(keep)
	}
	return n
}

func (d *Device) Dequantize(y, codes, scale device.Mem, rows, cols int) {
	y0, q0, s0 := y.F32(), codes.I8(), scale.F32()
	if d.Failed() || y0 == nil {
		return
	}
	d.par(rows, cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s, y := column(s0, i), y0[i*cols:(i+1)*cols]
			for j, q := range q0[i*cols : (i+1)*cols] {
				y[j] = float32(q) * s
			}
		}
	})
}

func (d *Device) LSQGrad(dscale, dq, w, scale device.Mem, rows, cols, levels int, alpha float32) {
	ds0, dq0, w0, s0 := dscale.F32(), dq.F32(), w.F32(), scale.F32()
	if d.Failed() || len(ds0) == 0 {
		return
	}
	s := borrow[float64](rows)
	defer s.giveBack()
	sums := s.x
	d.par(rows, 3*cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			sums[i] = lsqRow(dq0[i*cols:(i+1)*cols], w0[i*cols:(i+1)*cols], column(s0, i), float32(levels))
		}
	})
	if len(ds0) == 1 {
		total := 0.0
		for _, v := range sums {
			total += v
		}
		ds0[0] += alpha * float32(total)
		return
	}
	for i, v := range sums {
		ds0[i] += alpha * float32(v)
	}
}

func lsqRow(dq, w []float32, scale, top float32) float64 {
	sum := 0.0
	for j, g := range dq {
		v := w[j] / scale
		switch {
		case v >= top:
			v = top
		case v <= -top:
			v = -top
		default:
			v = float32(math.RoundToEven(float64(v))) - v
		}
		sum += float64(g) * float64(v)
	}
	return sum
}
