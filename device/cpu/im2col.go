package cpu

import "setun/device"

func (d *Device) Im2Col(cols, x device.Mem, s device.ConvShape) {
	y, x0 := cols.F32(), x.F32()
	if d.Failed() || y == nil {
		return
	}
	oh, ow := s.Out()
	if oh <= 0 || ow <= 0 {
		return
	}
	run := s.KW * s.C // one kernel row of a patch
	d.par(s.Batch*oh, ow*s.KH*run*cheap, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			b, i := r/oh, r%oh
			for j := range ow {
				patch := y[(r*ow+j)*s.KH*run:][:s.KH*run]
				left := j*s.Stride - s.Pad
				// Kernel columns [k0, k1) are inside the image.
				k0, k1 := max(0, -left), min(s.KW, s.W-left)
				for kh := range s.KH {
					dst := patch[kh*run : (kh+1)*run]
					h := i*s.Stride - s.Pad + kh
					if h < 0 || h >= s.H || k0 >= k1 {
						clear(dst)
						continue
					}
					clear(dst[:k0*s.C])
					copy(dst[k0*s.C:k1*s.C], x0[((b*s.H+h)*s.W+left+k0)*s.C:])
					clear(dst[k1*s.C:])
				}
			}
		}
	})
}

// Col2Im gathers for each image row the patches that cover it, so that rows are independent.
func (d *Device) Col2Im(dx, dcols device.Mem, s device.ConvShape) {
	g, y := dx.F32(), dcols.F32()
	if d.Failed() || g == nil {
		return
	}
	oh, ow := s.Out()
	if oh <= 0 || ow <= 0 {
		return
	}
	run := s.KW * s.C
	d.par(s.Batch*s.H, ow*s.KH*run*cheap, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			b, h := r/s.H, r%s.H
			row := g[r*s.W*s.C : (r+1)*s.W*s.C]
			for kh := range s.KH {
				i := h + s.Pad - kh
				if i < 0 || i%s.Stride != 0 || i/s.Stride >= oh {
					continue
				}
				i /= s.Stride
				for j := range ow {
					left := j*s.Stride - s.Pad
					k0, k1 := max(0, -left), min(s.KW, s.W-left)
					if k0 >= k1 {
						continue
					}
					patch := y[(((b*oh+i)*ow+j)*s.KH+kh)*run:][:run]
					addTo(row[(left+k0)*s.C:(left+k1)*s.C], patch[k0*s.C:k1*s.C])
				}
			}
		}
	})
}
