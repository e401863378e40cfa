package optim

import (
	"iter"
	"math"

	"setun/autograd"
	"setun/tensor"
)

// direction finds where to go; how far is for the trust region to say.
type direction interface {
	// fill sets u of each parameter with a gradient to the update of an optimizer at learning rate 1.
	fill(u map[*autograd.Value]*tensor.Tensor, gradScale float32)
	// nominal is what ||u|| is at most, or about: a smaller one is the direction's own doubt, which a radius must not undo.
	// 0: there is no such doubt.
	nominal(p Param) float64
	state() iter.Seq2[string, *tensor.Tensor]
	setSteps(n int)
	free()
}

func newDirection(c Config, ps []Param) direction {
	switch c.Trust.Direction {
	case "adamw":
		return adamDirection{newAdamW(c, 1, ps)}
	case "sgd":
		return sgdDirection{newSGD(c, ps)}
	case "gradient":
		c.Momentum = 0
		return sgdDirection{newSGD(c, ps)}
	}
	return muonDirection{newMuon(c, ps)}
}

type adamDirection struct{ *AdamW }

func (d adamDirection) fill(u map[*autograd.Value]*tensor.Tensor, gradScale float32) {
	s := d.next(d.lr, gradScale)
	for i, p := range d.ps {
		if p.Value.HasGrad() {
			tensor.Fill(u[p.Value], 0)
			tensor.AdamW(u[p.Value], d.m[i], d.v[i], p.Value.Grad, s)
		}
	}
}

func (d adamDirection) nominal(p Param) float64 {
	return float64(d.lr) * math.Sqrt(float64(p.Value.T.Len()))
}

func (d adamDirection) state() iter.Seq2[string, *tensor.Tensor] { return d.State() }
func (d adamDirection) setSteps(n int)                           { d.SetSteps(n) }
func (d adamDirection) free()                                    { d.Free() }

// muonDirection has the rates of matrices and other parameters in the proportion that Muon has them.
type muonDirection struct{ *Muon }

func (d muonDirection) fill(u map[*autograd.Value]*tensor.Tensor, gradScale float32) {
	adamDirection{d.rest}.fill(u, gradScale)
	d.directions(gradScale, func(p Param, x *tensor.Tensor, shape float32) { tensor.Scale(u[p.Value], -shape, x) })
}

func (d muonDirection) nominal(p Param) float64 {
	if IsMatrix(p) {
		return 0
	}
	return adamDirection{d.rest}.nominal(p)
}

func (d muonDirection) state() iter.Seq2[string, *tensor.Tensor] { return d.State() }
func (d muonDirection) setSteps(n int)                           { d.SetSteps(n) }
func (d muonDirection) free()                                    { d.Free() }

type sgdDirection struct{ *SGD }

func (d sgdDirection) fill(u map[*autograd.Value]*tensor.Tensor, gradScale float32) {
	d.steps++
	for i, p := range d.ps {
		if p.Value.HasGrad() {
			tensor.Scale(d.m[i], d.cfg.Momentum, d.m[i])
			tensor.Axpy(d.m[i], gradScale, p.Value.Grad)
			tensor.Scale(u[p.Value], -1, d.m[i])
		}
	}
}

func (d sgdDirection) nominal(Param) float64 { return 0 }

func (d sgdDirection) state() iter.Seq2[string, *tensor.Tensor] { return d.State() }
func (d sgdDirection) setSteps(n int)                           { d.SetSteps(n) }
func (d sgdDirection) free()                                    { d.Free() }
