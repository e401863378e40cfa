package tensor

import "setun/device"

// Maker makes the weights of layers: a device and a seeded generator. The n-th tensor of a Maker depends only on the
// seed and n, on every device.
type Maker struct {
	Device device.Device
	Seed   uint64
	n      uint64
}

// NewMaker makes weights on dev from seed.
func NewMaker(dev device.Device, seed uint64) *Maker { return &Maker{Device: dev, Seed: seed} }

func (m *Maker) next() uint64 {
	m.n++
	return Mix(m.Seed, m.n)
}

// Zeros is a tensor of 0.
func (m *Maker) Zeros(shape ...int) *Tensor { return Zeros(m.Device, shape...) }

// Fill is a tensor of v.
func (m *Maker) Fill(v float32, shape ...int) *Tensor {
	t := New(m.Device, device.F32, shape...)
	m.Device.Fill(t.mem, v)
	return t
}

// Normal draws from a normal distribution with mean 0 and standard deviation std.
func (m *Maker) Normal(std float32, shape ...int) *Tensor {
	t := New(m.Device, device.F32, shape...)
	m.Device.Normal(t.mem, m.next(), std)
	return t
}

// Uniform draws evenly from [lo, hi).
func (m *Maker) Uniform(lo, hi float32, shape ...int) *Tensor {
	t := New(m.Device, device.F32, shape...)
	m.Device.Uniform(t.mem, m.next(), lo, hi)
	return t
}

// Mix derives an independent seed from a seed and a counter (the finalizer of SplitMix64, Steele et al. 2014).
func Mix(seed, n uint64) uint64 {
	z := seed + n*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
