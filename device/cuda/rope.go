package cuda

import "setun/device"

func (d *Device) RoPE(y, x, table device.Mem, s device.RoPEShape) {
	if y.Len() == 0 {
		return
	}
	d.rows("rope", s.Rows, addr(y), addr(x), addr(table), num(s.Rows), num(s.Seq), num(s.Heads), num(s.Dim/2),
		num(s.Offset), flag(s.Inverse), flag(s.Acc))
}
