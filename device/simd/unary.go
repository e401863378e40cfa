//go:build amd64

package simd

import "setun/device"

// activations holds f and d += dy * f' of each activation.
var activations = [...]struct {
	value routine2
	slope routine3
}{
	device.SiLU:    {routine2{siluAVX512, siluAVX2}, routine3{siluGradAVX512, siluGradAVX2}},
	device.ReLU:    {routine2{reluAVX512, reluAVX2}, routine3{reluGradAVX512, reluGradAVX2}},
	device.ReLU2:   {routine2{relu2AVX512, relu2AVX2}, routine3{relu2GradAVX512, relu2GradAVX2}},
	device.GELU:    {routine2{geluAVX512, geluAVX2}, routine3{geluGradAVX512, geluGradAVX2}},
	device.Sigmoid: {routine2{sigmoidAVX512, sigmoidAVX2}, routine3{sigmoidGradAVX512, sigmoidGradAVX2}},
	device.Tanh:    {routine2{tanhAVX512, tanhAVX2}, routine3{tanhGradAVX512, tanhGradAVX2}},
	device.Exp:     {routine2{expAVX512, expAVX2}, routine3{expGradAVX512, expGradAVX2}},
}

func (d *Device) Unary(f device.UnaryOp, dst, x device.Mem) {
	if d.tier == None {
		d.Device.Unary(f, dst, x)
		return
	}
	d.each2(activations[f].value, 8, dst.F32(), x.F32())
}

func (d *Device) UnaryGrad(f device.UnaryOp, dx, dy, x device.Mem, acc bool) {
	if d.tier == None {
		d.Device.UnaryGrad(f, dx, dy, x, acc)
		return
	}
	dx0, dy0, x0 := dx.F32(), dy.F32(), x.F32()
	if d.Failed() || len(dx0) == 0 {
		return
	}
	covers(len(dx0), dy0, x0)
	split(d, len(dx0), 16, unaryGrad{activations[f].slope[d.width()], dx0, dy0, x0, acc}, unaryGrad.run)
}

type unaryGrad struct {
	slope     func(dx, dy, x *float32, n int)
	dx, dy, x []float32
	acc       bool
}

func (u unaryGrad) run(lo, hi int) {
	for ; lo < hi; lo += gateBlock {
		n := min(gateBlock, hi-lo)
		if !u.acc {
			clear(u.dx[lo : lo+n])
		}
		u.slope(&u.dx[lo], &u.dy[lo], &u.x[lo], n)
	}
}
