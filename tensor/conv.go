package tensor

import "setun/device"

// Im2Col unrolls the patches of images x (B, H, W, C) to cols (B*OutH*OutW, KH*KW*C).
func Im2Col(cols, x *Tensor, s device.ConvShape) {
	checkConv(cols, x, s)
	where("Im2Col", cols, x).Im2Col(cols.mem, x.mem, s)
}

// Col2Im: the gradient of Im2Col, dx += the patches folded back.
func Col2Im(dx, dcols *Tensor, s device.ConvShape) {
	if dx == nil {
		return
	}
	checkConv(dcols, dx, s)
	where("Col2Im", dx, dcols).Col2Im(dx.mem, dcols.mem, s)
}

func checkConv(cols, x *Tensor, s device.ConvShape) {
	check(s.KH > 0 && s.KW > 0 && s.Stride > 0 && s.Pad >= 0, "Im2Col", "needs a positive kernel and stride", x)
	check(s.H+2*s.Pad >= s.KH && s.W+2*s.Pad >= s.KW, "Im2Col", "is smaller than the kernel", x)
	h, w := s.Out()
	check(x.Len() == s.Batch*s.H*s.W*s.C && cols.Len() == s.Batch*h*w*s.KH*s.KW*s.C, "Im2Col", "do not fit", cols, x)
}
