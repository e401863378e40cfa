package cpu

import (
	"math"

	"github.com/chewxy/math32"
)

// exp(x) = 2^(k/32) * 2^(r/32) with k whole and |r| <= 1/2: a table times a cubic, in float64. After expf of ARM's
// optimized routines (and glibc). Relative error 6e-10, so that rounding to float32 is nearly always right.
const (
	expScale = 32 * math.Log2E
	expShift = 0x1.8p52 // adding it leaves round(z) in the low bits
	expC0    = 0x1.c6af84b912394p-5 / (32 * 32 * 32)
	expC1    = 0x1.ebfce50fac4f3p-3 / (32 * 32)
	expC2    = 0x1.62e42ff0c52d6p-1 / 32
	expMax   = 700
)

// expTab[i] is 2^(i/32) less i/32 in the exponent field, which k<<47 puts back.
var expTab = func() (t [32]uint64) {
	for i := range t {
		t[i] = math.Float64bits(math.Exp2(float64(i)/32)) - uint64(i)<<47
	}
	return
}()

// exp is e^x, right to about a float32 after rounding. NaN stays NaN, the ends are 0 and +Inf.
func exp(x float64) float64 {
	if !(x > -expMax && x < expMax) {
		return math.Exp(x)
	}
	return expFast(x)
}

// expFast is exp for |x| < expMax.
func expFast(x float64) float64 {
	z := x * expScale
	kd := z + expShift
	k := math.Float64bits(kd)
	r := z - (kd - expShift)
	return ((expC0*r+expC1)*(r*r) + (expC2*r + 1)) * math.Float64frombits(expTab[k&31]+k<<47)
}

// sigmoid is 1/(1+e^-x).
func sigmoid(x float32) float64 { return 1 / (1 + exp(-float64(x))) }

// expRow: y = exp(x - shift), and the sum of y before rounding.
func expRow(y, x []float32, shift float32) float64 {
	sum := 0.0
	y = y[:len(x)]
	for i, v := range x {
		e := float64(v - shift)
		if e > -expMax && e < expMax { // exp, inlined
			e = expFast(e)
		} else {
			e = math.Exp(e)
		}
		y[i] = float32(e)
		sum += e
	}
	return sum
}

// maxRow is the largest element that is not NaN, -Inf without any.
func maxRow(x []float32) float32 {
	m := math32.Inf(-1)
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}
