package cuda

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"setun/device"
	"setun/device/cuda/driver"
	"setun/device/cuda/kernels"
)

const (
	blockSize = 256     // threads of a block in each and rows: BLOCK in setun.h
	mmaSize   = 128     // threads of a block of the products in mma.cu
	maxGrid   = 1 << 15 // in each dimension of a grid; y and z end at 65535
	maxArgs   = 24
)

// launch queues a kernel. Zero extents count as 1.
func (d *Device) launch(kernel string, grid, block driver.Dim, shared int, args ...uint64) {
	if d.failed() {
		return
	}
	f, err := d.function(kernel, shared)
	if err != nil {
		d.fail(kernel, err)
		return
	}
	// The variadic slice stays on the caller's stack, since it does not reach the interface.
	a := d.calls.Get().(*arguments)
	n := copy(a[:], args)
	if n < len(args) {
		err = fmt.Errorf("%d arguments, at most %d", len(args), maxArgs)
	} else {
		err = d.drv.Launch(f, whole(grid), whole(block), shared, a[:n])
	}
	d.calls.Put(a)
	if err != nil {
		d.fail(kernel, err)
	}
}

type arguments [maxArgs]uint64

func whole(x driver.Dim) driver.Dim {
	return driver.Dim{X: max(x.X, 1), Y: max(x.Y, 1), Z: max(x.Z, 1)}
}

// each queues a kernel whose threads share out n elements (EACH in setun.h). With n <= 0 it does nothing.
func (d *Device) each(kernel string, n int, args ...uint64) {
	if n <= 0 {
		return
	}
	blocks := min((n-1)/blockSize+1, 16*max(d.info.Multiprocessors, 1), d.maxGrid)
	d.launch(kernel, driver.Dim{X: blocks}, driver.Dim{X: blockSize}, 0, args...)
}

// rows queues a kernel with a block for each row; its blocks loop, since there may be more rows than blocks. With
// rows <= 0 it does nothing.
func (d *Device) rows(kernel string, rows int, args ...uint64) {
	if rows <= 0 {
		return
	}
	d.launch(kernel, driver.Dim{X: min(rows, d.maxGrid)}, driver.Dim{X: blockSize}, 0, args...)
}

// Arguments of kernels: the low bytes count.

// addr is the address of m's first element, 0 for the zero Mem.
func addr(m device.Mem) uint64 {
	if m.IsZero() {
		return 0
	}
	return uint64(m.Buffer().Addr) + uint64(m.Offset()*m.Type().Size())
}

func f32(x float32) uint64 { return uint64(math.Float32bits(x)) }

// num is an int or a long.
func num(n int) uint64 { return uint64(n) }

func u64(x uint64) uint64 { return x }

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// code is what the GPU has loaded: modules and functions, when they are first wanted.
type code struct {
	mu        sync.Mutex
	modules   map[string]driver.Module
	functions atomic.Pointer[map[string]function] // replaced as a whole: the launch path takes no lock
}

type function struct {
	f      driver.Function
	module driver.Module
	shared int // dynamic shared memory that it may ask for
}

// entries finds the module of each kernel in the PTX.
var entries = sync.OnceValue(func() map[string]string {
	in := map[string]string{}
	for module, ptx := range kernels.PTX {
		for rest := ptx; ; {
			_, after, ok := strings.Cut(rest, ".entry ")
			if !ok {
				break
			}
			name, _, _ := strings.Cut(after, "(")
			in[strings.TrimSpace(name)] = module
			rest = after
		}
	}
	return in
})

func (d *Device) function(kernel string, shared int) (driver.Function, error) {
	if m := d.code.functions.Load(); m != nil {
		if f, ok := (*m)[kernel]; ok && f.shared >= shared {
			return f.f, nil
		}
	}
	d.code.mu.Lock()
	defer d.code.mu.Unlock()
	now := map[string]function{}
	if m := d.code.functions.Load(); m != nil {
		for k, f := range *m {
			now[k] = f
		}
	}
	f, ok := now[kernel]
	if ok && f.shared >= shared {
		return f.f, nil
	}
	if !ok {
		name, known := entries()[kernel]
		if !known {
			return 0, fmt.Errorf("no module has a kernel of this name")
		}
		if f.module, ok = d.code.modules[name]; !ok {
			var err error
			if f.module, err = d.drv.Load(kernels.PTX[name]); err != nil {
				return 0, fmt.Errorf("module %s: %w", name, err)
			}
			if d.code.modules == nil {
				d.code.modules = map[string]driver.Module{}
			}
			d.code.modules[name] = f.module
		}
	}
	var err error
	if f.f, err = d.drv.Function(f.module, kernel, shared); err != nil {
		return 0, err
	}
	f.shared = shared
	now[kernel] = f
	d.code.functions.Store(&now)
	return f.f, nil
}

func (c *code) close(drv driver.Driver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.modules {
		drv.Unload(m)
	}
	c.modules = nil
	c.functions.Store(nil)
}
