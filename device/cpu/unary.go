package cpu

import (
	"math"

	"setun/device"
)

// block is how many values of an activation are computed at a time, on the stack.
const block = 256

func (d *Device) Unary(f device.UnaryOp, dst, x device.Mem) {
	y, p := dst.F32(), x.F32()
	if d.Failed() {
		return
	}
	d.par(len(y), costly, func(lo, hi int) { values(f, y[lo:hi], p[lo:hi]) })
}

func (d *Device) UnaryGrad(f device.UnaryOp, dx, dy, x device.Mem, acc bool) {
	g, p, q := dx.F32(), dy.F32(), x.F32()
	if d.Failed() {
		return
	}
	d.par(len(g), costly, func(lo, hi int) {
		var buf [block]float32
		for ; lo < hi; lo += block {
			n := min(block, hi-lo)
			s := buf[:n]
			slopes(f, s, q[lo:lo+n])
			g, p := g[lo:lo+n], p[lo:lo+n]
			if !acc {
				clear(g)
			}
			for i, s := range s {
				g[i] += p[i] * s
			}
		}
	})
}

// values: y = f(x); y may be x.
func values(f device.UnaryOp, y, x []float32) {
	x = x[:len(y)]
	switch f {
	case device.SiLU:
		for i, v := range x {
			e := -float64(v)
			if e > -expMax && e < expMax { // exp, inlined
				e = expFast(e)
			} else {
				e = math.Exp(e)
			}
			y[i] = float32(float64(v) / (1 + e))
		}
	case device.ReLU:
		for i, v := range x {
			y[i] = max(v, 0)
		}
	case device.ReLU2:
		for i, v := range x {
			v = max(v, 0)
			y[i] = v * v
		}
	case device.GELU:
		for i, v := range x {
			y[i] = float32(float64(v) * normalCDF(v))
		}
	case device.Sigmoid:
		for i, v := range x {
			y[i] = float32(sigmoid(v))
		}
	case device.Tanh:
		for i, v := range x {
			y[i] = float32(math.Tanh(float64(v)))
		}
	case device.Exp:
		for i, v := range x {
			y[i] = float32(exp(float64(v)))
		}
	default:
		panic("cpu: unknown activation")
	}
}

// slopes: y = f'(x). The slope of ReLU at 0 is 0.
func slopes(f device.UnaryOp, y, x []float32) {
	x = x[:len(y)]
	switch f {
	case device.SiLU:
		for i, v := range x {
			s := sigmoid(v)
			y[i] = float32(s + float64(v)*s*(1-s))
		}
	case device.ReLU:
		for i, v := range x {
			y[i] = 0
			if v > 0 {
				y[i] = 1
			}
		}
	case device.ReLU2:
		for i, v := range x {
			y[i] = 2 * max(v, 0)
		}
	case device.GELU:
		for i, v := range x {
			pdf := exp(-0.5*float64(v)*float64(v)) * (math.Sqrt2 / (2 * math.SqrtPi))
			y[i] = float32(normalCDF(v) + float64(v)*pdf)
		}
	case device.Sigmoid:
		for i, v := range x {
			s := sigmoid(v)
			y[i] = float32(s * (1 - s))
		}
	case device.Tanh:
		for i, v := range x {
			t := math.Tanh(float64(v))
			y[i] = float32((1 - t) * (1 + t))
		}
	case device.Exp:
		for i, v := range x {
			y[i] = float32(exp(float64(v)))
		}
	default:
		panic("cpu: unknown activation")
	}
}

// valuesSlopes: y = f(x), s = f'(x).
func valuesSlopes(f device.UnaryOp, y, s, x []float32) {
	if f != device.SiLU {
		values(f, y, x)
		slopes(f, s, x)
		return
	}
	x, s = x[:len(y)], s[:len(y)]
	for i, v := range x {
		e := -float64(v)
		if e > -expMax && e < expMax { // exp, inlined
			e = expFast(e)
		} else {
			e = math.Exp(e)
		}
		g := 1 / (1 + e)
		a := float64(v) * g
		y[i], s[i] = float32(a), float32(g+a*(1-g))
	}
}

// normalCDF is Phi(x) = erfc(-x/sqrt 2)/2, which keeps its digits for negative x.
func normalCDF(x float32) float64 { return 0.5 * math.Erfc(-float64(x)*(math.Sqrt2/2)) }
