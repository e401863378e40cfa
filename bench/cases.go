package main

import "setun/device"

// cases lists everything, with small sizes if quick.
func cases(quick bool) []benchmark {
	var all []benchmark
	for _, family := range []func(quick bool) []benchmark{products, packed, kernels, training, clustering} {
		all = append(all, family(quick)...)
	}
	return all
}

// A pen allocates the operands of a case and frees them together.
type pen struct {
	device.Device
	mems []device.Mem
}

func (p *pen) alloc(t device.Type, n int) device.Mem {
	m := p.Alloc(t, n)
	p.mems = append(p.mems, m)
	return m
}

// normal draws n standard normal numbers.
func (p *pen) normal(n int) device.Mem {
	m := p.alloc(device.F32, n)
	p.Normal(m, uint64(len(p.mems)), 1)
	return m
}

// ids draws n indices below limit.
func (p *pen) ids(n, limit int) device.Mem {
	m := p.alloc(device.I32, n)
	p.Upload(m, device.Wrap(randomInts(n, limit)))
	return m
}

func (p *pen) free() {
	for _, m := range p.mems {
		p.Free(m)
	}
}

// kernel makes a setup of a function that prepares operands and returns the call.
func kernel(prepare func(p *pen) func()) func(device.Device) (call, free func(), err error) {
	return func(dev device.Device) (call, free func(), err error) {
		p := &pen{Device: dev}
		call = prepare(p)
		return call, p.free, dev.Sync()
	}
}
