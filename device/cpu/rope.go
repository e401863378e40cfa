package cpu

import "setun/device"

func (d *Device) RoPE(y, x, table device.Mem, s device.RoPEShape) {
	y0, x0, t0 := y.F32(), x.F32(), table.F32()
	if d.Failed() || y0 == nil {
		return
	}
	half := s.Dim / 2
	d.par(s.Rows, 2*s.Heads*s.Dim*cheap, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			pos := s.Offset + r%s.Seq
			cos, sin := t0[pos*s.Dim:pos*s.Dim+half], t0[pos*s.Dim+half:pos*s.Dim+2*half]
			for h := range s.Heads {
				at := (r*s.Heads + h) * s.Dim
				x1, x2 := x0[at:at+half], x0[at+half:at+2*half]
				y1, y2 := y0[at:at+half], y0[at+half:at+2*half]
				for i, c := range cos {
					sn := sin[i]
					if s.Inverse {
						sn = -sn
					}
					a := float32(x1[i]*c) - float32(x2[i]*sn)
					b := float32(x2[i]*c) + float32(x1[i]*sn)
					if s.Acc {
						a, b = a+y1[i], b+y2[i]
					}
					y1[i], y2[i] = a, b
				}
			}
		}
	})
}
