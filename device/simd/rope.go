//go:build amd64 || arm64

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
	turn := ropeRoutine[d.width()]
	if s.Acc {
		turn = ropeAccRoutine[d.width()]
	}
	sign, row := uint32(0), s.Heads*s.Dim
	if s.Inverse {
		sign = 1 << 31
	}
	split(d, s.Rows, 8*row, rope{turn, y0, x0, t0, s, sign}, rope.run)
}

type rope struct {
	turn        func(y, x, table *float32, heads, half int, sign uint32)
	y, x, table []float32
	s           device.RoPEShape
	sign        uint32
}

func (p rope) run(lo, hi int) {
	row := p.s.Heads * p.s.Dim
	for r := lo; r < hi; r++ {
		t := p.table[(p.s.Offset+r%p.s.Seq)*p.s.Dim:][:p.s.Dim]
		p.turn(&p.y[r*row], &p.x[r*row], &t[0], p.s.Heads, p.s.Dim/2, p.sign)
	}
}
