//go:build amd64 || arm64

package simd

import (
	"math"

	"setun/device"
	"setun/internal/par"
	"setun/internal/scratch"
)

// Fill copies a short run of v over and over: copy is the fastest store in Go.
func (d *Device) Fill(dst device.Mem, v float32) {
	y := dst.F32()
	if d.tier == None || y == nil {
		d.Device.Fill(dst, v)
		return
	}
	if d.Failed() {
		return
	}
	if math.Float32bits(v) == 0 {
		par.Each(d.Threads, len(y), taskBytes/4, y, func(y []float32, lo, hi int) { clear(y[lo:hi]) })
		return
	}
	run := scratch.Get[float32](min(1024, len(y)))
	defer run.Free()
	for i := range run.X {
		run.X[i] = v
	}
	split(d, len(y), 4, [2][]float32{y, run.X}, func(x [2][]float32, lo, hi int) {
		for y, run := x[0], x[1]; lo < hi; {
			lo += copy(y[lo:hi], run)
		}
	})
}

func (d *Device) CopyRows(dst device.Mem, ldd int, src device.Mem, lds int, rows, cols int, acc bool) {
	y, x, h := dst.F32(), src.F32(), dst.F16()
	if d.tier == None || dst.Type() == device.I8 && cols == 0 {
		d.Device.CopyRows(dst, ldd, src, lds, rows, cols, acc)
		return
	}
	if d.Failed() || len(x) == 0 || cols == 0 {
		return
	}
	if q := dst.I8(); q != nil {
		for i := range rows {
			d.int8Row(q[i*ldd:][:device.Int8Row(cols)], x[i*lds:][:cols])
		}
		return
	}
	if h != nil {
		for i := range rows {
			d.narrow(h[i*ldd:i*ldd+cols], x[i*lds:i*lds+cols])
		}
		return
	}
	if len(y) == 0 {
		return
	}
	if ldd == cols && lds == cols {
		if acc {
			d.each3(addRoutine, 12, y[:rows*cols], y, x)
		} else {
			split(d, rows*cols, 8, [2][]float32{y, x}, func(x [2][]float32, lo, hi int) { copy(x[0][lo:hi], x[1][lo:hi]) })
		}
		return
	}
	split(d, rows, 8*cols, copyRows{d, y, x, ldd, lds, cols, acc}, copyRows.run)
}

type copyRows struct {
	d              *Device
	y, x           []float32
	ldd, lds, cols int
	acc            bool
}

func (c copyRows) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		y, x := c.y[i*c.ldd:][:c.cols], c.x[i*c.lds:][:c.cols]
		if c.acc {
			c.d.add(y, y, x)
		} else {
			copy(y, x)
		}
	}
}
