package cuda

import (
	"math"

	"setun/device"
)

var (
	rmsNormForms       = rowFormsOf("rmsNorm")
	rmsNormGradForms   = rowFormsOf("rmsNormGrad")
	layerNormForms     = rowFormsOf("layerNorm")
	layerNormGradForms = rowFormsOf("layerNormGrad")
)

// perCol is 1/cols as an argument.
func perCol(cols int) uint64 { return math.Float64bits(1 / float64(cols)) }

func (d *Device) RMSNorm(y, inv, x, gain device.Mem, rows, cols int, eps float32) {
	if y.IsZero() && inv.IsZero() {
		return
	}
	d.shares(&rmsNormForms, rows, cols, kept, []device.Mem{y, x, gain},
		addr(y), addr(inv), addr(x), addr(gain), num(rows), num(cols), perCol(cols), f32(eps))
}

func (d *Device) RMSNormGrad(dx, dgain, dy, x, gain, inv device.Mem, rows, cols int, acc bool) {
	if !dx.IsZero() {
		d.shares(&rmsNormGradForms, rows, cols, kept, []device.Mem{dx, dy, x, gain},
			addr(dx), addr(dy), addr(x), addr(gain), addr(inv), flag(acc), num(rows), num(cols), perCol(cols))
	}
	d.columns("rmsGain", []device.Mem{dgain}, 1, 1, rows, cols, func(part uint64) []uint64 {
		return []uint64{addr(dgain), addr(dy), addr(x), addr(inv), part, num(rows), num(cols)}
	})
}

func (d *Device) LayerNorm(y, mean, inv, x, gain, bias device.Mem, rows, cols int, eps float32) {
	if y.IsZero() && mean.IsZero() && inv.IsZero() {
		return
	}
	d.shares(&layerNormForms, rows, cols, kept, []device.Mem{y, x, gain, bias}, addr(y), addr(mean), addr(inv), addr(x),
		addr(gain), addr(bias), num(rows), num(cols), perCol(cols), f32(eps))
}

func (d *Device) LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv device.Mem, rows, cols int) {
	if !dx.IsZero() {
		d.shares(&layerNormGradForms, rows, cols, kept, []device.Mem{dx, dy, x, gain},
			addr(dx), addr(dy), addr(x), addr(gain), addr(mean), addr(inv), num(rows), num(cols), perCol(cols))
	}
	d.columns("layerGain", []device.Mem{dgain, dbias}, 1, 1, rows, cols, func(part uint64) []uint64 {
		return []uint64{addr(dgain), addr(dbias), addr(dy), addr(x), addr(mean), addr(inv), part, num(rows), num(cols)}
	})
}
