package cpu

import (
	"fmt"
	"math"

	"setun/device"
	"setun/internal/half"
	"setun/internal/par"
)

// Alloc reserves zeroed host memory.
func (d *Device) Alloc(t device.Type, n int) (m device.Mem) {
	defer func() {
		if recover() != nil { // make: a length below 0 or beyond the address space
			d.Fail(fmt.Errorf("cpu: alloc: cannot reserve %d elements of %v", n, t))
		}
	}()
	return device.Span(device.HostBuffer(t, n))
}

// Free leaves the memory to the garbage collector.
func (d *Device) Free(device.Mem) {}

// Upload copies.
func (d *Device) Upload(dst, src device.Mem) { device.CopyHost(dst, src) }

// Download copies.
func (d *Device) Download(dst, src device.Mem) { device.CopyHost(dst, src) }

func (d *Device) Copy(dst, src device.Mem) {
	if d.Failed() {
		return
	}
	switch {
	case dst.Type() == device.F16 && src.Type() == device.F32:
		y, x := dst.F16(), src.F32()
		d.par(len(y), cheap, func(lo, hi int) {
			for i, v := range x[lo:hi] {
				y[lo+i] = half.F16(v)
			}
		})
	case dst.Type() == device.F32 && src.Type() == device.F16:
		d.widen(dst.F32(), src.F16())
	case dst.Type() == device.F32:
		y, x := dst.F32(), src.F32()
		par.Each(d.Threads, len(y), 1<<16, [2][]float32{y, x}, func(a [2][]float32, lo, hi int) { copy(a[0][lo:hi], a[1][lo:hi]) })
	default:
		device.CopyHost(dst, src)
	}
}

func (d *Device) widen(y []float32, x []uint16) {
	d.par(len(y), cheap, func(lo, hi int) {
		for i, h := range x[lo:hi] {
			y[lo+i] = half.FromF16(h)
		}
	})
}

// floats are the elements of m, F32 or F16, and what gives back a copy of them.
func (d *Device) floats(m device.Mem) (x []float32, giveBack func()) {
	if m.Type() != device.F16 {
		return m.F32(), func() {}
	}
	buf := borrow[float32](m.Len())
	d.widen(buf.x, m.F16())
	return buf.x, buf.giveBack
}

// putScale and getScale are the end of a row in int8, see device.Int8Row.
func putScale(b []int8, scale float32) {
	bits := math.Float32bits(scale)
	b[0], b[1], b[2], b[3] = int8(bits), int8(bits>>8), int8(bits>>16), int8(bits>>24)
}

func getScale(b []int8) float32 {
	return math.Float32frombits(uint32(uint8(b[0])) | uint32(uint8(b[1]))<<8 | uint32(uint8(b[2]))<<16 | uint32(uint8(b[3]))<<24)
}

// rowsOf are the first keys of a cache in int8 as float32, in the shape s that they have then; the rest is undefined.
func (d *Device) rowsOf(m device.Mem, s device.AttentionShape) (x []float32, giveBack func()) {
	q, wide := m.I8(), s
	wide.Row = 0
	buf := borrow[float32](s.Batch * wide.KV())
	row := device.Int8Row(s.Dim)
	d.par(s.Batch*s.KVHeads, s.Keys*s.Dim*cheap, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			for j := t * s.Cache; j < t*s.Cache+s.Keys; j++ {
				codes := q[j*row:][:row]
				y, scale := buf.x[j*s.Dim:][:s.Dim], getScale(codes[s.Dim:])
				for i := range y {
					y[i] = float32(codes[i]) * scale
				}
			}
		}
	})
	return buf.x, buf.giveBack
}

func (d *Device) Fill(dst device.Mem, v float32) {
	if d.Failed() {
		return
	}
	fill(dst.F32(), v)
	switch dst.Type() {
	case device.I32:
		fill(dst.I32(), int32(v))
	case device.I8:
		fill(dst.I8(), int8(v))
	case device.U8:
		fill(dst.U8(), uint8(v))
	case device.F16:
		fill(dst.F16(), half.F16(v))
	}
}

func fill[T float32 | int32 | int8 | uint8 | uint16](x []T, v T) {
	for i := range x {
		x[i] = v
	}
}

func (d *Device) CopyRows(dst device.Mem, ldd int, src device.Mem, lds int, rows, cols int, acc bool) {
	y, x, h, q := dst.F32(), src.F32(), dst.F16(), dst.I8()
	if d.Failed() || len(x) == 0 {
		return
	}
	if q != nil {
		for i := range rows {
			row := q[i*ldd:][:device.Int8Row(cols)]
			putScale(row[cols:], quantizeRow(row[:cols], x[i*lds:][:cols]))
		}
		return
	}
	if h != nil {
		for i := range rows {
			for j, v := range x[i*lds : i*lds+cols] {
				h[i*ldd+j] = half.F16(v)
			}
		}
		return
	}
	if len(y) == 0 {
		return
	}
	d.par(rows, cols*cheap, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			y, x := y[i*ldd:i*ldd+cols], x[i*lds:i*lds+cols]
			if acc {
				addTo(y, x)
			} else {
				copy(y, x)
			}
		}
	})
}
