package cuda

import "setun/device"

var (
	softmaxForms     = rowFormsOf("softmax")
	softmaxGradForms = rowFormsOf("softmaxGrad")
)

func (d *Device) Softmax(y, x device.Mem, rows, cols int) {
	if y.Len() == 0 {
		return
	}
	d.shares(&softmaxForms, rows, cols, kept, []device.Mem{y, x}, addr(y), addr(x), num(rows), num(cols))
}

func (d *Device) SoftmaxGrad(dx, dy, y device.Mem, rows, cols int) {
	if dx.Len() == 0 {
		return
	}
	d.shares(&softmaxGradForms, rows, cols, kept, []device.Mem{dx, dy, y},
		addr(dx), addr(dy), addr(y), num(rows), num(cols))
}
