package cuda

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"setun/device"
	"setun/device/cuda/driver"
	"setun/device/simd"
)

var _ device.Device = (*Device)(nil)

// A Device computes on one GPU. It is safe for concurrent use; calls of different goroutines queue on one stream.
type Device struct {
	device.Bridge // kernels without a native form

	drv   driver.Driver
	info  driver.Info
	host  device.Device // runs what is bridged
	err   atomic.Pointer[error]
	errs  uint64 // int[4] on the device: {kernel, row, id} of the first index outside its table
	code  code
	pool  pool
	up    uploads
	down  downloads
	calls sync.Pool     // of *arguments
	math  atomic.Uint32 // device.Math, see SetMath

	maxGrid int // blocks in each dimension of a grid; tests lower it, so that kernels loop

	mu      sync.Mutex
	bridged map[string]int
}

// Open opens the first GPU that the kernels run on; the environment variable CUDA_VISIBLE_DEVICES can choose another.
// The error is driver.ErrNone where there is no GPU to use, and says why.
func Open() (*Device, error) {
	drv, err := driver.Open()
	if err != nil {
		return nil, err
	}
	d, err := New(drv)
	if err != nil {
		drv.Close()
	}
	return d, err
}

// New makes a device of drv, which it then owns.
func New(drv driver.Driver) (*Device, error) {
	host, err := simd.New(0)
	if err != nil {
		return nil, err
	}
	d := &Device{drv: drv, info: drv.Info(), host: host, maxGrid: maxGrid, bridged: map[string]int{}}
	d.Bridge.Do = d.bridge
	d.calls.New = func() any { return new(arguments) }
	d.pool.init()
	d.errs = d.reserve(errsBytes)
	if d.errs != 0 {
		d.write(d.errs, make([]byte, errsBytes))
	}
	if err := d.Sync(); err != nil {
		return nil, err
	}
	return d, nil
}

// Name is "cuda".
func (d *Device) Name() string { return "cuda" }

// Info describes the GPU.
func (d *Device) Info() driver.Info { return d.info }

// Bridged is how often kernels ran on the host, by name, for want of a native form.
func (d *Device) Bridged() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.bridged)
}

// Sync waits for all work and returns the first error since the device was opened.
func (d *Device) Sync() error {
	d.read(nil, 0)
	if p := d.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Close waits for all work, gives back everything, the GPU included, and returns the error of Sync. The device and its
// memory must not be used any more.
func (d *Device) Close() error {
	err := d.Sync()
	d.drv.Sync() // staging memory may be in use even after an error
	d.up.close(d.drv)
	d.down.close(d.drv)
	d.pool.close(d.drv)
	d.code.close(d.drv)
	d.fail("", errors.New("the device is closed"))
	if e := d.drv.Close(); err == nil && e != nil {
		err = fmt.Errorf("cuda: %w", e)
	}
	return err
}

// failed reports whether the sticky error is set: kernels then do nothing.
func (d *Device) failed() bool { return d.err.Load() != nil }

// fail sets the sticky error, unless one is set.
func (d *Device) fail(what string, err error) {
	if what == "" {
		err = fmt.Errorf("cuda: %w", err)
	} else {
		err = fmt.Errorf("cuda: %s: %w", what, err)
	}
	d.err.CompareAndSwap(nil, &err)
}

// Indices outside their table, as kernels leave them in errs.
const errsBytes = 16

var indexed = [...]string{1: "Gather", 2: "ScatterAdd", 3: "CrossEntropy", 4: "CrossEntropyGrad"}

// complained makes what kernels left in errs the sticky error.
func (d *Device) complained(e [4]int32) {
	k := int(e[0])
	if k <= 0 || k >= len(indexed) {
		if k != 0 {
			d.fail("", fmt.Errorf("a kernel left the unknown complaint %v", e))
		}
		return
	}
	d.fail(indexed[k], fmt.Errorf("id %d at row %d is outside the table", e[2], e[1]))
}

// bridge runs a call on the host: its operands are copied there, its results back.
func (d *Device) bridge(c device.Call) {
	if d.failed() {
		return
	}
	d.mu.Lock()
	d.bridged[c.Kernel]++
	d.mu.Unlock()
	host := make([]device.Mem, len(c.Mems))
	for i, m := range c.Mems {
		if m.IsZero() {
			continue
		}
		for j := range i { // the same span stays the same span
			if c.Mems[j] == m {
				host[i] = host[j]
			}
		}
		if host[i].IsZero() {
			host[i] = device.Span(device.HostBuffer(m.Type(), m.Len()))
			d.Download(host[i], m)
		}
	}
	if d.failed() {
		return
	}
	c.Run(d.host, host)
	if err := d.host.Sync(); err != nil {
		d.fail("", err)
		return
	}
	for i, m := range c.Mems[:c.Results] {
		if !m.IsZero() {
			d.Upload(m, host[i])
		}
	}
}
