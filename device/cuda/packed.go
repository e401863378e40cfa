package cuda

import (
	"setun/device"
	"setun/device/cuda/driver"
)

func (d *Device) PackedLinear(y, xq, xs, panels, ws, bias device.Mem, m, n, k, levels int) {
	if y.IsZero() || m <= 0 || n <= 0 || d.failed() {
		return
	}
	x, ldx, free := d.codeRows(addr(xq), m, k)
	defer free()
	p := addr(panels)
	if p%16 != 0 {
		bytes := device.PanelBytes(n, k, levels)
		aligned, free := d.temp(bytes)
		defer free()
		d.move(aligned, p, bytes)
		p = aligned
	}
	q := codeProduct{y: addr(y), x: x, xs: addr(xs), codes: p, ws: addr(ws), bias: addr(bias), m: m, n: n, ldx: ldx,
		perColumn: ws.Len() > 1, levels: levels}
	if m > thinRows {
		d.codes(q)
		return
	}
	kernel := "packedRow"
	if m > 1 {
		kernel = "packedRows"
	}
	d.launch(kernel, driver.Dim{X: ceil(n, device.PanelRows/2)}, driver.Dim{X: blockSize}, 0, q.y, q.x, q.xs, q.codes, q.ws,
		q.bias, num(m), num(n), num(k), num(ldx), flag(q.perColumn), num(levels))
}

func (d *Device) UnpackPanels(codes, panels device.Mem, n, k, levels int) {
	if !codes.IsZero() {
		d.each("unpackPanels", n*k, addr(codes), addr(panels), num(n), num(k), num(levels))
	}
}
