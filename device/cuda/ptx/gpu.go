package ptx

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"setun/device/cuda/driver"
)

var le = binary.LittleEndian

// Codes of CUresult.
const (
	codeInvalid    = 1
	codeMemory     = 2
	codeNoBinary   = 209
	codePTX        = 218
	codeHandle     = 400
	codeNotFound   = 500
	codeNotReady   = 600
	codeAddress    = 700
	codeResources  = 701
	codeTimeout    = 702
	codeMisaligned = 716
	codeLaunch     = 719
	codeTrap       = 719
)

// Config describes the GPU that is simulated. Zero values give one like an A100 that checks shared memory.
type Config struct {
	Memory          int   // bytes; 0: 1 GiB
	Major, Minor    int   // compute capability; 0.0: 8.0
	Multiprocessors int   // 0: 4
	SharedPerBlock  int   // the most shared memory of a block, bytes; 0: 166912 (163 KiB)
	Steps           int64 // the most instructions of a warp in a block; 0: 2^28

	// NoCheck turns off the search for races in shared memory and for reads of shared memory that nobody wrote.
	NoCheck bool
	// AllowUninitialised lets reads of shared memory that nobody wrote give NaN.
	AllowUninitialised bool
	// CheckBlocks also looks for global memory that one block of a launch writes and another touches, other than by
	// atomics on both sides. It knows no fences: blocks that hand data to each other have a race. Blocks run in order
	// then.
	CheckBlocks bool
}

// GPU implements [driver.Driver] by interpreting PTX over host memory.
type GPU struct {
	cfg Config

	mu       sync.Mutex
	mem      memory
	live     map[driver.Ptr]*alloc
	hosts    map[*byte]hostMem
	modules  map[driver.Module]*module
	funcs    map[driver.Function]*loaded
	queue    []func() error
	events   map[driver.Event]*event
	pool     map[stateKey][]*block
	handle   uintptr
	launches uint64
	counts   map[string]int
	err      error // sticks
	closed   bool
	clock    float32
}

type hostMem struct {
	b []byte
	// The slice that HostAlloc made may not move, and nothing else holds it.
}

type module struct {
	kernels map[string]*kernel
	allocs  []*alloc
	arch    int
}

type loaded struct {
	k      *kernel
	module driver.Module
	shared int
}

type event struct {
	done bool
	at   float32
}

var _ driver.Driver = (*GPU)(nil)

// Open makes a GPU.
func Open(cfg Config) *GPU {
	def := func(x *int, v int) {
		if *x == 0 {
			*x = v
		}
	}
	def(&cfg.Memory, 1<<30)
	if cfg.Major == 0 {
		cfg.Major, cfg.Minor = 8, 0
	}
	def(&cfg.Multiprocessors, 4)
	def(&cfg.SharedPerBlock, 163<<10)
	if cfg.Steps == 0 {
		cfg.Steps = 1 << 28
	}
	return &GPU{cfg: cfg, live: map[driver.Ptr]*alloc{}, hosts: map[*byte]hostMem{}, modules: map[driver.Module]*module{},
		funcs: map[driver.Function]*loaded{}, events: map[driver.Event]*event{}, pool: map[stateKey][]*block{},
		counts: map[string]int{}, handle: 1000}
}

func fail(call string, code int, name, format string, args ...any) error {
	return &driver.Error{Call: call, Code: code, Name: name, Text: fmt.Sprintf(format, args...)}
}

func invalid(call, format string, args ...any) error {
	return fail(call, codeInvalid, "CUDA_ERROR_INVALID_VALUE", format, args...)
}

// enter locks the GPU for a call, and gives the error that sticks.
func (g *GPU) enter(call string) error {
	g.mu.Lock()
	if g.closed {
		return fail(call, 201, "CUDA_ERROR_INVALID_CONTEXT", "the GPU is closed")
	}
	return g.err
}

// stick keeps the first error for all later calls.
func (g *GPU) stick(err error) error {
	if g.err == nil {
		g.err = err
	}
	return err
}

// drain does what is queued.
func (g *GPU) drain() error {
	queue := g.queue
	g.queue = nil
	for _, f := range queue {
		if g.err != nil {
			break
		}
		if err := f(); err != nil {
			g.stick(err)
		}
	}
	return g.err
}

func (g *GPU) newHandle() uintptr {
	g.handle++
	return g.handle
}

// Info describes the GPU.
func (g *GPU) Info() driver.Info {
	return driver.Info{Name: "PTX interpreter", Major: g.cfg.Major, Minor: g.cfg.Minor,
		Multiprocessors: g.cfg.Multiprocessors,
		SharedPerBlock:  g.cfg.SharedPerBlock, Memory: g.cfg.Memory, Version: 12000}
}

// Alloc implements driver.Driver. The memory is full of 0xff.
func (g *GPU) Alloc(bytes int) (driver.Ptr, error) {
	err := g.enter("cuMemAlloc_v2")
	defer g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if bytes <= 0 {
		return 0, invalid("cuMemAlloc_v2", "%d bytes", bytes)
	}
	if g.mem.used+bytes > g.cfg.Memory {
		if err := g.drain(); err != nil { // frees that are queued
			return 0, err
		}
	}
	if g.mem.used+bytes > g.cfg.Memory {
		return 0, fail("cuMemAlloc_v2", codeMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory: %d bytes of %d, %d in use",
			bytes,
			g.cfg.Memory, g.mem.used)
	}
	a := g.mem.alloc(bytes, fmt.Sprintf("allocation %d", len(g.mem.all)))
	g.live[driver.Ptr(a.base)] = a
	return driver.Ptr(a.base), nil
}

// Free implements driver.Driver: in the order of the queue.
func (g *GPU) Free(p driver.Ptr) error {
	err := g.enter("cuMemFree_v2")
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	a := g.live[p]
	if a == nil {
		return g.stick(invalid("cuMemFree_v2", "%#x is not allocated", uint64(p)))
	}
	delete(g.live, p)
	g.queue = append(g.queue, func() error {
		g.mem.free(a)
		return nil
	})
	return nil
}

// HostAlloc implements driver.Driver.
func (g *GPU) HostAlloc(bytes int) ([]byte, error) {
	err := g.enter("cuMemHostAlloc")
	defer g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if bytes <= 0 {
		return nil, invalid("cuMemHostAlloc", "%d bytes", bytes)
	}
	words := make([]uint64, (bytes+7)/8)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), bytes)
	for i := range b {
		b[i] = 0xff
	}
	g.hosts[&b[0]] = hostMem{b}
	return b, nil
}

// HostFree implements driver.Driver. It waits for the work that may use the memory.
func (g *GPU) HostFree(b []byte) error {
	err := g.enter("cuMemFreeHost")
	defer g.mu.Unlock()
	if len(b) == 0 || g.hosts[&b[0]].b == nil {
		return g.stick(invalid("cuMemFreeHost", "not of HostAlloc"))
	}
	if err == nil {
		err = g.drain()
	}
	delete(g.hosts, &b[0])
	for i := range b {
		b[i] = 0xff
	}
	return err
}

// host checks that a slice lies in memory of HostAlloc.
func (g *GPU) host(call string, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	at := uintptr(unsafe.Pointer(&b[0]))
	for p, h := range g.hosts {
		base := uintptr(unsafe.Pointer(p))
		if at >= base && at+uintptr(len(b)) <= base+uintptr(len(h.b)) {
			return nil
		}
	}
	return invalid(call, "the host memory is not of HostAlloc")
}

// device finds device memory for a copy.
func (g *GPU) device(call string, p driver.Ptr, n int) ([]byte, error) {
	a := g.mem.find(uint64(p), uint64(n))
	if a == nil {
		return nil, invalid(call, "%d bytes at %#x, %s", n, uint64(p), g.mem.where(uint64(p)))
	}
	off := uint64(p) - a.base
	return a.data[off : off+uint64(n)], nil
}

// Memory implements driver.Driver.
func (g *GPU) Memory() (free, total int, err error) {
	err = g.enter("cuMemGetInfo_v2")
	defer g.mu.Unlock()
	return g.cfg.Memory - g.mem.used, g.cfg.Memory, err
}

// Upload implements driver.Driver. The host memory is read when the copy is done, not before.
func (g *GPU) Upload(dst driver.Ptr, src []byte) error {
	const call = "cuMemcpyHtoDAsync_v2"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := g.host(call, src); err != nil {
		return g.stick(err)
	}
	g.queue = append(g.queue, func() error {
		d, err := g.device(call, dst, len(src))
		if err == nil {
			copy(d, src)
		}
		return err
	})
	return nil
}

// Download implements driver.Driver. Until the copy is done, dst holds 0xff.
func (g *GPU) Download(dst []byte, src driver.Ptr) error {
	const call = "cuMemcpyDtoHAsync_v2"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := g.host(call, dst); err != nil {
		return g.stick(err)
	}
	for i := range dst {
		dst[i] = 0xff
	}
	g.queue = append(g.queue, func() error {
		s, err := g.device(call, src, len(dst))
		if err == nil {
			copy(dst, s)
		}
		return err
	})
	return nil
}

// Copy implements driver.Driver.
func (g *GPU) Copy(dst, src driver.Ptr, bytes int) error {
	const call = "cuMemcpyDtoDAsync_v2"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	if bytes < 0 {
		return invalid(call, "%d bytes", bytes)
	}
	g.queue = append(g.queue, func() error {
		d, err := g.device(call, dst, bytes)
		if err != nil {
			return err
		}
		s, err := g.device(call, src, bytes)
		if err == nil {
			copy(d, s)
		}
		return err
	})
	return nil
}

// compiled keeps modules without memory of their own, by their PTX: tests open many GPUs.
var compiled sync.Map

// Load implements driver.Driver. What the interpreter does not know is an error that quotes the line.
func (g *GPU) Load(ptx string) (driver.Module, error) {
	const call = "cuModuleLoadDataEx"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	bad := func(err error) (driver.Module, error) {
		return 0, fail(call, codePTX, "CUDA_ERROR_INVALID_PTX", "%v", err)
	}
	if c, ok := compiled.Load(ptx); ok && c.(*module).arch <= 10*g.cfg.Major+g.cfg.Minor {
		h := driver.Module(g.newHandle())
		g.modules[h] = c.(*module)
		return h, nil
	}
	f, err := parse(ptx)
	if err != nil {
		return bad(err)
	}
	if f.arch > 10*g.cfg.Major+g.cfg.Minor {
		return 0, fail(call, codeNoBinary, "CUDA_ERROR_NO_BINARY_FOR_GPU", "the PTX is for sm_%d, the GPU is sm_%d%d",
			f.arch, g.cfg.Major,
			g.cfg.Minor)
	}
	m := &module{kernels: map[string]*kernel{}, arch: f.arch}
	addrs := map[string]uint64{}
	for _, v := range f.vars {
		if v.space == shared {
			continue
		}
		if g.mem.used+v.size > g.cfg.Memory {
			return 0, fail(call, codeMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory: %s of %d bytes", v.name, v.size)
		}
		a := g.mem.alloc(v.size, v.name)
		clear(a.data)
		copy(a.data, v.init)
		a.fixed = v.space == constant
		addrs[v.name] = a.base
		m.allocs = append(m.allocs, a)
	}
	i := 0
	for _, v := range f.vars {
		if v.space == shared {
			continue
		}
		for _, r := range v.refs {
			to, ok := addrs[r.name]
			if !ok {
				return bad(f.lex.errorf(v.line, "unknown name %s", r.name))
			}
			le.PutUint64(m.allocs[i].data[r.at:], to+uint64(r.off))
		}
		i++
	}
	for _, fn := range f.order {
		if !fn.entry {
			continue
		}
		k, err := compile(f, fn, addrs)
		if err != nil {
			return bad(err)
		}
		m.kernels[fn.name] = k
	}
	if len(m.allocs) == 0 {
		compiled.Store(ptx, m)
	}
	h := driver.Module(g.newHandle())
	g.modules[h] = m
	return h, nil
}

// Unload implements driver.Driver.
func (g *GPU) Unload(h driver.Module) error {
	err := g.enter("cuModuleUnload")
	defer g.mu.Unlock()
	m := g.modules[h]
	if m == nil {
		return g.stick(fail("cuModuleUnload", codeHandle, "CUDA_ERROR_INVALID_HANDLE", "no module %d", h))
	}
	if err == nil {
		err = g.drain()
	}
	for _, a := range m.allocs {
		g.mem.free(a)
	}
	for f, l := range g.funcs {
		if l.module == h {
			delete(g.funcs, f)
		}
	}
	clear(g.pool)
	delete(g.modules, h)
	return err
}

// Function implements driver.Driver.
func (g *GPU) Function(h driver.Module, name string, shared int) (driver.Function, error) {
	err := g.enter("cuModuleGetFunction")
	defer g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	m := g.modules[h]
	if m == nil {
		return 0, fail("cuModuleGetFunction", codeHandle, "CUDA_ERROR_INVALID_HANDLE", "no module %d", h)
	}
	k := m.kernels[name]
	if k == nil {
		return 0, fail("cuModuleGetFunction", codeNotFound, "CUDA_ERROR_NOT_FOUND", "no kernel %s", name)
	}
	if shared < 0 || k.shared+shared > g.cfg.SharedPerBlock {
		return 0, invalid("cuFuncSetAttribute", "kernel %s: %d static and %d dynamic bytes of shared memory, at most %d",
			name, k.shared,
			shared, g.cfg.SharedPerBlock)
	}
	f := driver.Function(g.newHandle())
	g.funcs[f] = &loaded{k, h, shared}
	return f, nil
}

// Launch implements driver.Driver. Mistakes in a launch stick too.
func (g *GPU) Launch(f driver.Function, grid, block driver.Dim, shared int, args []uint64) error {
	const call = "cuLaunchKernel"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	fn := g.funcs[f]
	if fn == nil {
		return g.stick(fail(call, codeHandle, "CUDA_ERROR_INVALID_HANDLE", "no function %d", f))
	}
	k := fn.k
	bad := func(format string, args ...any) error {
		return g.stick(invalid(call, "kernel %s: %s", k.name, fmt.Sprintf(format, args...)))
	}
	if len(args) != len(k.params) {
		return bad("%d arguments for %d parameters", len(args), len(k.params))
	}
	for _, p := range k.params {
		if p.size > 8 {
			return bad("parameter %s has %d bytes", p.name, p.size)
		}
	}
	if grid.X < 1 || grid.Y < 1 || grid.Z < 1 || grid.X > 1<<31-1 || grid.Y > 65535 || grid.Z > 65535 {
		return bad("grid %v", grid)
	}
	if block.X < 1 || block.Y < 1 || block.Z < 1 || block.X > 1024 || block.Y > 1024 || block.Z > 64 ||
		block.X*block.Y*block.Z > 1024 {
		return bad("block %v", block)
	}
	threads := block.X * block.Y * block.Z
	if k.maxTID > 0 && threads > k.maxTID {
		return g.stick(fail(call, codeResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "kernel %s: %d threads, at most %d",
			k.name,
			threads, k.maxTID))
	}
	if k.reqTID != [3]int{} && k.reqTID != [3]int{block.X, block.Y, block.Z} {
		return bad("block %v, but %v is required", block, k.reqTID)
	}
	allowed := max(fn.shared, 48<<10-k.shared)
	if shared < 0 || shared > allowed {
		return bad("%d bytes of dynamic shared memory, %d allowed", shared, allowed)
	}
	g.launches++
	g.counts[k.name]++
	l := &launch{k: k, gpu: g, grid: grid, block: block, shared: shared, args: slices.Clone(args), serial: g.launches}
	g.queue = append(g.queue, l.run)
	return nil
}

// Record implements driver.Driver.
func (g *GPU) Record() (driver.Event, error) {
	err := g.enter("cuEventRecord")
	defer g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	e := &event{}
	h := driver.Event(g.newHandle())
	g.events[h] = e
	g.queue = append(g.queue, func() error {
		g.clock++ // time is counted, not measured
		e.done, e.at = true, g.clock
		return nil
	})
	return h, nil
}

func (g *GPU) event(call string, h driver.Event) (*event, error) {
	e := g.events[h]
	if e == nil {
		return nil, g.stick(fail(call, codeHandle, "CUDA_ERROR_INVALID_HANDLE", "no event %d", h))
	}
	return e, nil
}

// Wait implements driver.Driver.
func (g *GPU) Wait(h driver.Event) error {
	err := g.enter("cuEventSynchronize")
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	e, err := g.event("cuEventSynchronize", h)
	if err != nil {
		return err
	}
	// Only what stands before the event: what comes after it may wait.
	for !e.done && len(g.queue) > 0 && g.err == nil {
		f := g.queue[0]
		g.queue = g.queue[1:]
		if err := f(); err != nil {
			g.stick(err)
		}
	}
	return g.err
}

// Elapsed implements driver.Driver. The interpreter's milliseconds count events.
func (g *GPU) Elapsed(from, to driver.Event) (float32, error) {
	const call = "cuEventElapsedTime"
	err := g.enter(call)
	defer g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	a, err := g.event(call, from)
	if err != nil {
		return 0, err
	}
	b, err := g.event(call, to)
	if err != nil {
		return 0, err
	}
	if !a.done || !b.done {
		return 0, fail(call, codeNotReady, "CUDA_ERROR_NOT_READY", "an event has not passed")
	}
	return b.at - a.at, nil
}

// Forget implements driver.Driver.
func (g *GPU) Forget(h driver.Event) error {
	err := g.enter("cuEventDestroy_v2")
	defer g.mu.Unlock()
	if _, e := g.event("cuEventDestroy_v2", h); e != nil {
		return e
	}
	delete(g.events, h)
	return err
}

// Sync implements driver.Driver: what is queued runs here.
func (g *GPU) Sync() error {
	err := g.enter("cuCtxSynchronize")
	defer g.mu.Unlock()
	if err != nil {
		return err
	}
	return g.drain()
}

// Live is the number of allocations that were not freed.
func (g *GPU) Live() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}

// Launches tells how often each kernel was launched.
func (g *GPU) Launches() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counts)
}

// Close implements driver.Driver.
func (g *GPU) Close() error {
	err := g.enter("cuDevicePrimaryCtxRelease_v2")
	defer g.mu.Unlock()
	if g.closed {
		return err
	}
	err = g.drain()
	g.closed = true
	return err
}
