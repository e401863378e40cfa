package tensor

import "setun/device"

// Panels are weight codes (Out, In) in [-Levels, Levels] at two bits each, as products read them: see device.PackPanels.
type Panels struct {
	Out, In, Levels int

	bytes *Tensor
}

// NewPanels packs codes (out, in), row-major, on dev. Levels is 1 or 2.
func NewPanels(dev device.Device, codes []int8, out, in, levels int) *Panels {
	p := &Panels{Out: out, In: in, Levels: levels}
	host := make([]uint8, device.PanelBytes(out, in, levels))
	device.PackPanels(host, codes, out, in, levels)
	p.bytes = New(dev, device.U8, len(host))
	upload(p.bytes, host)
	return p
}

// Bytes is the memory that the codes take.
func (p *Panels) Bytes() int64 { return p.bytes.Bytes() }

// Device is where they are.
func (p *Panels) Device() device.Device { return p.bytes.Device() }

// Free gives the memory back.
func (p *Panels) Free() { p.bytes.Free() }

// Unpack writes the codes to codes (Out, In), I8.
func (p *Panels) Unpack(codes *Tensor) {
	check(codes.Type() == device.I8 && codes.Len() == p.Out*p.In, "Unpack", "is not made for the codes", codes)
	where("Unpack", codes, p.bytes).UnpackPanels(codes.mem, p.bytes.mem, p.Out, p.In, p.Levels)
}

// PackedLinear is QLinear with the codes as panels: the same bits from a quarter of the memory. y may have any shape of
// as many elements.
func PackedLinear(y, xq, xs *Tensor, w *Panels, ws, bias *Tensor) {
	m, k := xq.matrix()
	check(k == w.In, "PackedLinear", "does not fit the panels: x is (..., in)", xq)
	n := w.Out
	check(y.Len() == m*n, "PackedLinear", "do not fit the result", xq, y)
	checkScales(xs, ws, m, n)
	hasLen("PackedLinear", bias, n)
	where("PackedLinear", y, xq, xs, w.bytes, ws, bias).
		PackedLinear(y.mem, xq.mem, xs.mem, w.bytes.mem, ws.mem, bias.Mem(), m, n, k, w.Levels)
}
