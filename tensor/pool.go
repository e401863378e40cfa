package tensor

import (
	"math"
	"math/bits"

	"setun/device"
)

// Pool hands out tensors and takes them back, so that a training step in its steady state allocates nothing. A Pool
// belongs to one goroutine.
type Pool struct {
	Device device.Device
	// Poison fills every tensor that is handed out or put back with NaN, so that a read of freed or unwritten memory
	// shows. For tests.
	Poison bool

	free  map[poolKey][]*Tensor
	inUse map[*Tensor]device.Mem // as allocated, before it was cut to the length asked for
	now   int64
	peak  int64
	held  int64
}

type poolKey struct {
	typ device.Type
	n   int
}

// NewPool makes an empty pool on dev.
func NewPool(dev device.Device) *Pool {
	return &Pool{Device: dev, free: map[poolKey][]*Tensor{}, inUse: map[*Tensor]device.Mem{}}
}

// class rounds a length up to a sixteenth of its power of two, so that lengths that vary a little share memory.
func class(n int) int {
	if n <= 64 {
		return 64
	}
	step := 1 << max(6, bits.Len(uint(n-1))-5)
	return (n + step - 1) / step * step
}

func bytes(m device.Mem) int64 { return int64(m.Len()) * int64(m.Type().Size()) }

// Get hands out a tensor with undefined contents.
func (p *Pool) Get(typ device.Type, shape ...int) *Tensor {
	n := size(shape)
	k := poolKey{typ, class(n)}
	var t *Tensor
	var m device.Mem
	if l := p.free[k]; len(l) > 0 {
		t = l[len(l)-1]
		p.free[k] = l[:len(l)-1]
		m = t.mem
	} else {
		m = p.Device.Alloc(typ, k.n)
		t = &Tensor{dev: p.Device, typ: typ}
		p.held += bytes(m)
	}
	t.setShape(shape)
	t.mem = m
	if !m.IsZero() {
		t.mem = m.Slice(0, n)
	}
	p.inUse[t] = m
	p.now += bytes(m)
	p.peak = max(p.peak, p.now)
	if p.Poison && typ == device.F32 {
		p.Device.Fill(m, float32(math.NaN()))
	}
	return t
}

// Put takes back a tensor that Get handed out. Tensors of others, and nil, are ignored: views own nothing.
func (p *Pool) Put(t *Tensor) {
	if t == nil {
		return
	}
	m, ok := p.inUse[t]
	if !ok {
		return
	}
	delete(p.inUse, t)
	t.mem = m
	k := poolKey{t.typ, m.Len()}
	p.now -= bytes(m)
	if p.Poison && k.typ == device.F32 {
		p.Device.Fill(m, float32(math.NaN()))
	}
	p.free[k] = append(p.free[k], t)
}

// InUse is the number of bytes handed out now.
func (p *Pool) InUse() int64 { return p.now }

// Peak is the most bytes handed out at once since the last ResetPeak.
func (p *Pool) Peak() int64 { return p.peak }

// Held is the number of bytes the pool has taken from the device.
func (p *Pool) Held() int64 { return p.held }

// ResetPeak makes Peak start again at InUse.
func (p *Pool) ResetPeak() { p.peak = p.now }

// Close frees all memory that is not handed out.
func (p *Pool) Close() {
	for _, l := range p.free {
		for _, t := range l {
			p.Device.Free(t.mem)
			p.held -= bytes(t.mem)
		}
	}
	clear(p.free)
}
