//go:build amd64

package simd

import (
	"math"

	"setun/device"
	"setun/internal/par"
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
	run := make([]float32, min(1024, len(y)))
	for i := range run {
		run[i] = v
	}
	d.split(len(y), 4, func(lo, hi int) {
		for lo < hi {
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
			d.split(rows*cols, 8, func(lo, hi int) { copy(y[lo:hi], x[lo:hi]) })
		}
		return
	}
	d.split(rows, 8*cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			y, x := y[i*ldd:i*ldd+cols], x[i*lds:i*lds+cols]
			if acc {
				d.add(y, y, x)
			} else {
				copy(y, x)
			}
		}
	})
}
