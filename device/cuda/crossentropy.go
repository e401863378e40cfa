package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

var (
	crossEntropyForms     = rowFormsOf("crossEntropy")
	crossEntropyGradForms = rowFormsOf("crossEntropyGrad")
)

func (d *Device) CrossEntropy(loss, rowLoss, stats, logits, targets device.Mem, rows, cols int) {
	if stats.Len() == 0 {
		return
	}
	losses := addr(rowLoss)
	if losses == 0 {
		var free func()
		losses, free = d.temp(4 * rows)
		defer free()
	}
	if d.failed() {
		return
	}
	d.shares(&crossEntropyForms, rows, cols, unkept, []device.Mem{logits},
		losses, addr(stats), addr(logits), addr(targets), num(rows), num(cols), d.errs)
	d.launch("meanLoss", driver.Dim{}, driver.Dim{X: blockSize}, 0,
		addr(loss), addr(stats), losses, addr(targets), num(rows))
}

func (d *Device) CrossEntropyGrad(dlogits, dloss, stats, logits, targets device.Mem, rows, cols int) {
	if dlogits.Len() == 0 {
		return
	}
	d.shares(&crossEntropyGradForms, rows, cols, unkept, []device.Mem{dlogits, logits},
		addr(dlogits), addr(dloss), addr(stats), addr(logits), addr(targets), num(rows), num(cols), d.errs)
}
