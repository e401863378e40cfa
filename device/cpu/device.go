package cpu

import (
	"fmt"
	"math"
	"sync/atomic"

	"setun/device"
	"setun/internal/par"
)

var _ device.Device = (*Device)(nil)

// A Device computes on the host in portable Go. The zero value is ready to use. Other host devices embed a *Device and
// override the kernels they do better.
type Device struct {
	// Threads is the most goroutines a kernel uses; 0 means GOMAXPROCS. Results do not depend on it.
	Threads int

	err atomic.Pointer[error]
}

// New returns a device that uses at most threads goroutines per kernel, GOMAXPROCS if threads is 0.
func New(threads int) *Device { return &Device{Threads: threads} }

// Name is "cpu".
func (d *Device) Name() string { return "cpu" }

// Sync returns the first error since the device was made. Kernels are done when they return, so it never waits.
func (d *Device) Sync() error {
	if p := d.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Fail keeps err for Sync unless an earlier error is kept already.
func (d *Device) Fail(err error) { d.err.CompareAndSwap(nil, &err) }

// Failed reports whether an error is kept: kernels then do nothing.
func (d *Device) Failed() bool { return d.err.Load() != nil }

// Costs of an element, in units of about a nanosecond, for par.
const (
	cheap  = 1 // load, add, store
	costly = 8 // exp, erf, random words
	task   = 1 << 14
)

// par splits n items of the given cost into ranges worth a goroutine.
func (d *Device) par(n, cost int, f func(lo, hi int)) {
	par.For(d.Threads, n, max(1, task/max(cost, 1)), f)
}

// indexed reports whether all ids lie in [0, rows), and fails the device if not. With skip, negative ids pass.
func (d *Device) indexed(kernel string, ids []int32, rows int, skip bool) bool {
	for i, id := range ids {
		if int(id) >= rows || id < 0 && !skip {
			d.Fail(fmt.Errorf("cpu: %s: id %d at row %d is outside the table of %d rows", kernel, id, i, rows))
			return false
		}
	}
	return true
}

// column is x[i], or x[0] when x has one element.
func column(x []float32, i int) float32 {
	if len(x) == 1 {
		return x[0]
	}
	return x[i]
}

// finite reports whether x is neither NaN nor infinite.
func finite(x float32) bool { return math.Float32bits(x)&0x7f800000 != 0x7f800000 }
