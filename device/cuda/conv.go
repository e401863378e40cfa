package cuda

import "setun/device"

func (d *Device) Im2Col(cols, x device.Mem, s device.ConvShape) {
	if h, w := s.Out(); h > 0 && w > 0 && !cols.IsZero() {
		d.patches("im2col", s.Batch*h*w*s.KH*s.KW*s.C, cols, x, s, h, w)
	}
}

func (d *Device) Col2Im(dx, dcols device.Mem, s device.ConvShape) {
	if h, w := s.Out(); h > 0 && w > 0 && !dx.IsZero() {
		d.patches("col2im", s.Batch*s.H*s.W*s.C, dx, dcols, s, h, w)
	}
}

func (d *Device) patches(kernel string, n int, dst, src device.Mem, s device.ConvShape, h, w int) {
	d.each(kernel, n, addr(dst), addr(src), num(n), num(s.H), num(s.W), num(s.C), num(s.KH), num(s.KW), num(s.Stride),
		num(s.Pad), num(h), num(w))
}
