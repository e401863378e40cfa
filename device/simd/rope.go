//go:build amd64

package simd

import "setun/device"

func (d *Device) RoPE(y, x, table device.Mem, s device.RoPEShape) {
	if d.tier == None {
		d.Device.RoPE(y, x, table, s)
		return
	}
	y0, x0, t0 := y.F32(), x.F32(), table.F32()
	if d.Failed() || len(y0) == 0 || s.Rows == 0 {
		return
	}
	covers(s.Rows*s.Heads*s.Dim, y0, x0)
	turn := ropeAVX2
	switch {
	case d.tier >= AVX512 && s.Acc:
		turn = ropeAccAVX512
	case d.tier >= AVX512:
		turn = ropeAVX512
	case s.Acc:
		turn = ropeAccAVX2
	}
	sign, row := uint32(0), s.Heads*s.Dim
	if s.Inverse {
		sign = 1 << 31
	}
	d.split(s.Rows, 8*row, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			pos := s.Offset + r%s.Seq
			t := t0[pos*s.Dim:][:s.Dim]
			turn(&y0[r*row], &x0[r*row], &t[0], s.Heads, s.Dim/2, sign)
		}
	})
}
