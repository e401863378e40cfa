package driver

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// The least that the PTX of device/cuda/kernels asks for.
const (
	minVersion = 11010 // CUDA 11.1: PTX 7.1
	minMajor   = 8     // compute capability 8.0: bf16 and int8 mma, cp.async
)

// A library is the driver's library, or a fake one: entry points by name, and how to call them. A call returns the
// CUresult.
type library struct {
	find func(name string) (uintptr, error)
	call func(entry uintptr, args []uintptr) uintptr
}

// Entry points, by the names that fix their version.
const (
	cuInit = iota
	cuDriverGetVersion
	cuGetErrorName
	cuGetErrorString
	cuDeviceGetCount
	cuDeviceGet
	cuDeviceGetName
	cuDeviceGetAttribute
	cuDeviceTotalMem
	cuDevicePrimaryCtxRetain
	cuDevicePrimaryCtxRelease
	cuCtxSetCurrent
	cuStreamCreate
	cuStreamDestroy
	cuStreamSynchronize
	cuMemAlloc
	cuMemFree
	cuMemHostAlloc
	cuMemFreeHost
	cuMemGetInfo
	cuMemcpyHtoDAsync
	cuMemcpyDtoHAsync
	cuMemcpyDtoDAsync
	cuModuleLoadDataEx
	cuModuleUnload
	cuModuleGetFunction
	cuFuncSetAttribute
	cuLaunchKernel
	cuEventCreate
	cuEventDestroy
	cuEventRecord
	cuEventSynchronize
	cuEventElapsedTime
	entryPoints
)

var names = [entryPoints]string{
	cuInit:                    "cuInit",
	cuDriverGetVersion:        "cuDriverGetVersion",
	cuGetErrorName:            "cuGetErrorName",
	cuGetErrorString:          "cuGetErrorString",
	cuDeviceGetCount:          "cuDeviceGetCount",
	cuDeviceGet:               "cuDeviceGet",
	cuDeviceGetName:           "cuDeviceGetName",
	cuDeviceGetAttribute:      "cuDeviceGetAttribute",
	cuDeviceTotalMem:          "cuDeviceTotalMem_v2",
	cuDevicePrimaryCtxRetain:  "cuDevicePrimaryCtxRetain",
	cuDevicePrimaryCtxRelease: "cuDevicePrimaryCtxRelease_v2",
	cuCtxSetCurrent:           "cuCtxSetCurrent",
	cuStreamCreate:            "cuStreamCreate",
	cuStreamDestroy:           "cuStreamDestroy_v2",
	cuStreamSynchronize:       "cuStreamSynchronize",
	cuMemAlloc:                "cuMemAlloc_v2",
	cuMemFree:                 "cuMemFree_v2",
	cuMemHostAlloc:            "cuMemHostAlloc",
	cuMemFreeHost:             "cuMemFreeHost",
	cuMemGetInfo:              "cuMemGetInfo_v2",
	cuMemcpyHtoDAsync:         "cuMemcpyHtoDAsync_v2",
	cuMemcpyDtoHAsync:         "cuMemcpyDtoHAsync_v2",
	cuMemcpyDtoDAsync:         "cuMemcpyDtoDAsync_v2",
	cuModuleLoadDataEx:        "cuModuleLoadDataEx",
	cuModuleUnload:            "cuModuleUnload",
	cuModuleGetFunction:       "cuModuleGetFunction",
	cuFuncSetAttribute:        "cuFuncSetAttribute",
	cuLaunchKernel:            "cuLaunchKernel",
	cuEventCreate:             "cuEventCreate",
	cuEventDestroy:            "cuEventDestroy_v2",
	cuEventRecord:             "cuEventRecord",
	cuEventSynchronize:        "cuEventSynchronize",
	cuEventElapsedTime:        "cuEventElapsedTime",
}

// Constants of cuda.h.
const (
	attributeMultiprocessors = 16
	attributeMajor           = 75
	attributeMinor           = 76
	attributeSharedOptIn     = 97 // most shared memory of a block that asks for it

	noDevice = 100 // of CUresult

	functionMaxDynamicShared = 8
	streamNonBlocking        = 1
	jitErrorLog              = 5
	jitErrorLogBytes         = 6
)

// gpu is the Driver over a library. A context belongs to a thread, so each operation locks its thread and makes the
// context current. Nothing here has a finalizer: those run on threads of their own.
type gpu struct {
	lib    library
	at     [entryPoints]uintptr
	info   Info
	device uintptr
	ctx    uintptr
	stream uintptr
	frames sync.Pool // of *frame
	closed atomic.Bool

	mu   sync.Mutex
	idle []Event // forgotten, to be recorded again
}

// A frame is the memory of one operation. It is on the heap, where Go moves nothing: only addresses in it, of what it
// points to, and of page-locked memory, may be arguments. What is on the stack may move between two calls.
type frame struct {
	args   [11]uintptr // of the entry point
	out    [2]uint64   // what it writes
	values [32]uint64  // of the kernel
	at     [32]uintptr // &values[i]
	name   [256]byte
	jit    *jit
}

// jit is the memory of a compilation.
type jit struct {
	code    []byte
	options [2]int32
	values  [2]uintptr
	log     [4096]byte
}

func newFrame() any {
	f := &frame{}
	for i := range f.values {
		f.at[i] = address(&f.values[i])
	}
	return f
}

func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// pointer is memory that the library gave.
func pointer(p uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

func open(lib library) (Driver, error) {
	g := &gpu{lib: lib}
	g.frames.New = newFrame
	for e, name := range names {
		at, err := lib.find(name)
		if err != nil || at == 0 {
			return nil, fmt.Errorf("%w: NVIDIA's driver has no %s: it is older than CUDA %s; update it", ErrNone, name,
				version(minVersion))
		}
		g.at[e] = at
	}
	f := g.frames.Get().(*frame)
	defer g.frames.Put(f)
	if err := g.do(cuDriverGetVersion, f, address(&f.out[0])); err != nil {
		return nil, err
	}
	g.info.Version = f.int(0)
	if g.info.Version < minVersion {
		return nil, fmt.Errorf("%w: NVIDIA's driver is for CUDA %s, at least %s is needed; update it", ErrNone,
			version(g.info.Version), version(minVersion))
	}
	if err := g.do(cuInit, f, 0); err != nil {
		if e := (*Error)(nil); errors.As(err, &e) && e.Code == noDevice {
			return nil, fmt.Errorf("%w: %w; see whether nvidia-smi lists a GPU, and CUDA_VISIBLE_DEVICES", ErrNone, err)
		}
		return nil, fmt.Errorf("NVIDIA's driver does not start: %w; see what nvidia-smi says", err)
	}
	if err := g.choose(f); err != nil {
		return nil, err
	}
	if err := g.do(cuDevicePrimaryCtxRetain, f, address(&f.out[0]), g.device); err != nil {
		return nil, fmt.Errorf("%s: %w", g.info.Name, err)
	}
	g.ctx = uintptr(f.out[0])
	err := g.with(func(f *frame) error {
		err := g.do(cuStreamCreate, f, address(&f.out[0]), streamNonBlocking)
		g.stream = uintptr(f.out[0])
		return err
	})
	if err != nil {
		g.do(cuDevicePrimaryCtxRelease, f, g.device)
		return nil, fmt.Errorf("%s: %w", g.info.Name, err)
	}
	return g, nil
}

func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// choose takes the first GPU that the kernels run on.
func (g *gpu) choose(f *frame) error {
	if err := g.do(cuDeviceGetCount, f, address(&f.out[0])); err != nil {
		return err
	}
	count := f.int(0)
	if count == 0 {
		return fmt.Errorf("%w: the driver counts none; see whether nvidia-smi lists one, and CUDA_VISIBLE_DEVICES", ErrNone)
	}
	for i := range count {
		if err := g.describe(f, i); err != nil {
			return fmt.Errorf("GPU %d: %w", i, err)
		}
		if g.info.Major >= minMajor {
			return nil
		}
	}
	return fmt.Errorf("%w: %s has compute capability %d.%d, at least %d.0 is needed", ErrNone, g.info.Name, g.info.Major,
		g.info.Minor, minMajor)
}

func (g *gpu) describe(f *frame, ordinal int) error {
	if err := g.do(cuDeviceGet, f, address(&f.out[0]), uintptr(ordinal)); err != nil {
		return err
	}
	g.device = uintptr(f.int(0))
	if err := g.do(cuDeviceGetName, f, address(&f.name[0]), uintptr(len(f.name)), g.device); err != nil {
		return err
	}
	name, _, _ := bytes.Cut(f.name[:], []byte{0})
	g.info.Name = string(name)
	if err := g.do(cuDeviceTotalMem, f, address(&f.out[0]), g.device); err != nil {
		return err
	}
	g.info.Memory = int(f.out[0])
	for attribute, x := range map[uintptr]*int{
		attributeMultiprocessors: &g.info.Multiprocessors,
		attributeMajor:           &g.info.Major,
		attributeMinor:           &g.info.Minor,
		attributeSharedOptIn:     &g.info.SharedPerBlock,
	} {
		if err := g.do(cuDeviceGetAttribute, f, address(&f.out[0]), attribute, g.device); err != nil {
			return err
		}
		*x = f.int(0)
	}
	return nil
}

// int is a C int that the library wrote to out.
func (f *frame) int(i int) int { return int(*(*int32)(unsafe.Pointer(&f.out[i]))) }

// do calls an entry point.
func (g *gpu) do(entry int, f *frame, args ...uintptr) error {
	n := copy(f.args[:], args)
	r := g.lib.call(g.at[entry], f.args[:n])
	runtime.KeepAlive(f)
	if code := int32(r); code != 0 {
		return g.error(entry, code)
	}
	return nil
}

func (g *gpu) error(entry int, code int32) error {
	e := &Error{Call: names[entry], Code: int(code), Name: "CUDA_ERROR", Text: "no such error is known"}
	f := g.frames.Get().(*frame)
	defer g.frames.Put(f)
	for entry, text := range map[int]*string{cuGetErrorName: &e.Name, cuGetErrorString: &e.Text} {
		f.args[0], f.args[1] = uintptr(code), address(&f.out[0])
		if r := g.lib.call(g.at[entry], f.args[:2]); int32(r) == 0 && f.out[0] != 0 {
			*text = cString(pointer(f.out[0]))
		}
	}
	runtime.KeepAlive(f)
	return e
}

func cString(p unsafe.Pointer) string {
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}

var errClosed = errors.New("the GPU is closed")

// enter makes the context current on this thread, until leave.
func (g *gpu) enter() (*frame, error) {
	if g.closed.Load() {
		return nil, errClosed
	}
	runtime.LockOSThread()
	f := g.frames.Get().(*frame)
	if err := g.do(cuCtxSetCurrent, f, g.ctx); err != nil {
		g.leave(f)
		return nil, err
	}
	return f, nil
}

func (g *gpu) leave(f *frame) {
	g.frames.Put(f)
	runtime.UnlockOSThread()
}

func (g *gpu) with(do func(f *frame) error) error {
	f, err := g.enter()
	if err != nil {
		return err
	}
	defer g.leave(f)
	return do(f)
}

// simple is an operation of one call.
func (g *gpu) simple(entry int, args ...uintptr) error {
	f, err := g.enter()
	if err != nil {
		return err
	}
	err = g.do(entry, f, args...)
	g.leave(f)
	return err
}

func (g *gpu) Info() Info { return g.info }

func (g *gpu) Alloc(bytes int) (p Ptr, err error) {
	err = g.with(func(f *frame) error {
		err := g.do(cuMemAlloc, f, address(&f.out[0]), uintptr(bytes))
		p = Ptr(f.out[0])
		return err
	})
	if err != nil {
		return 0, err
	}
	return p, nil
}

func (g *gpu) Free(p Ptr) error { return g.simple(cuMemFree, uintptr(p)) }

func (g *gpu) HostAlloc(bytes int) (b []byte, err error) {
	err = g.with(func(f *frame) error {
		if err := g.do(cuMemHostAlloc, f, address(&f.out[0]), uintptr(bytes), 0); err != nil {
			return err
		}
		b = unsafe.Slice((*byte)(pointer(f.out[0])), bytes)
		return nil
	})
	return b, err
}

func (g *gpu) HostFree(b []byte) error { return g.simple(cuMemFreeHost, address(unsafe.SliceData(b))) }

func (g *gpu) Memory() (free, total int, err error) {
	err = g.with(func(f *frame) error {
		err := g.do(cuMemGetInfo, f, address(&f.out[0]), address(&f.out[1]))
		free, total = int(f.out[0]), int(f.out[1])
		return err
	})
	return free, total, err
}

func (g *gpu) Upload(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	return g.simple(cuMemcpyHtoDAsync, uintptr(dst), address(&src[0]), uintptr(len(src)), g.stream)
}

func (g *gpu) Download(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	return g.simple(cuMemcpyDtoHAsync, address(&dst[0]), uintptr(src), uintptr(len(dst)), g.stream)
}

func (g *gpu) Copy(dst, src Ptr, bytes int) error {
	if bytes == 0 {
		return nil
	}
	return g.simple(cuMemcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(bytes), g.stream)
}

// Load keeps the compiler's own words, which say more than the error.
func (g *gpu) Load(ptx string) (m Module, err error) {
	err = g.with(func(f *frame) error {
		j := &jit{code: append([]byte(ptx), 0), options: [2]int32{jitErrorLog, jitErrorLogBytes}}
		f.jit = j
		defer func() { f.jit = nil }()
		j.values = [2]uintptr{address(&j.log[0]), uintptr(len(j.log) - 1)}
		err := g.do(cuModuleLoadDataEx, f, address(&f.out[0]), address(&j.code[0]), uintptr(len(j.options)),
			address(&j.options[0]), address(&j.values[0]))
		if log, _, _ := bytes.Cut(j.log[:], []byte{0}); err != nil && len(log) > 0 {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(log))
		}
		m = Module(f.out[0])
		return err
	})
	if err != nil {
		return 0, err
	}
	return m, nil
}

func (g *gpu) Unload(m Module) error { return g.simple(cuModuleUnload, uintptr(m)) }

func (g *gpu) Function(m Module, name string, shared int) (fn Function, err error) {
	err = g.with(func(f *frame) error {
		n := copy(f.name[:], name)
		if n == len(f.name) {
			return fmt.Errorf("cuModuleGetFunction: the name of the kernel is longer than %d bytes", n-1)
		}
		f.name[n] = 0
		if err := g.do(cuModuleGetFunction, f, address(&f.out[0]), uintptr(m), address(&f.name[0])); err != nil {
			return err
		}
		fn = Function(f.out[0])
		if shared > 0 {
			return g.do(cuFuncSetAttribute, f, uintptr(fn), functionMaxDynamicShared, uintptr(shared))
		}
		return nil
	})
	return fn, err
}

func (g *gpu) Launch(fn Function, grid, block Dim, shared int, args []uint64) error {
	f, err := g.enter()
	if err != nil {
		return err
	}
	if copy(f.values[:], args) < len(args) {
		err = fmt.Errorf("cuLaunchKernel: %d arguments, at most %d", len(args), len(f.values))
	} else {
		err = g.do(cuLaunchKernel, f, uintptr(fn), uintptr(grid.X), uintptr(grid.Y), uintptr(grid.Z), uintptr(block.X),
			uintptr(block.Y), uintptr(block.Z), uintptr(shared), g.stream, address(&f.at[0]), 0)
	}
	g.leave(f)
	return err
}

func (g *gpu) Record() (e Event, err error) {
	g.mu.Lock()
	if n := len(g.idle); n > 0 {
		e, g.idle = g.idle[n-1], g.idle[:n-1]
	}
	g.mu.Unlock()
	err = g.with(func(f *frame) error {
		if e == 0 {
			if err := g.do(cuEventCreate, f, address(&f.out[0]), 0); err != nil {
				return err
			}
			e = Event(f.out[0])
		}
		return g.do(cuEventRecord, f, uintptr(e), g.stream)
	})
	if err != nil {
		g.Forget(e)
		return 0, err
	}
	return e, nil
}

func (g *gpu) Wait(e Event) error { return g.simple(cuEventSynchronize, uintptr(e)) }

func (g *gpu) Elapsed(from, to Event) (ms float32, err error) {
	err = g.with(func(f *frame) error {
		err := g.do(cuEventElapsedTime, f, address(&f.out[0]), uintptr(from), uintptr(to))
		ms = *(*float32)(unsafe.Pointer(&f.out[0]))
		return err
	})
	return ms, err
}

func (g *gpu) Forget(e Event) error {
	if e != 0 {
		g.mu.Lock()
		g.idle = append(g.idle, e)
		g.mu.Unlock()
	}
	return nil
}

func (g *gpu) Sync() error { return g.simple(cuStreamSynchronize, g.stream) }

func (g *gpu) Close() error {
	if g.closed.Load() {
		return nil
	}
	err := g.with(func(f *frame) error {
		err := g.do(cuStreamSynchronize, f, g.stream)
		for _, e := range g.idle {
			err = errors.Join(err, g.do(cuEventDestroy, f, uintptr(e)))
		}
		err = errors.Join(err, g.do(cuStreamDestroy, f, g.stream), g.do(cuCtxSetCurrent, f, 0))
		return errors.Join(err, g.do(cuDevicePrimaryCtxRelease, f, g.device))
	})
	g.closed.Store(true)
	return err
}
