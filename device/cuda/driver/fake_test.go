package driver

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// fake is the driver's library in Go, over host memory. Copies happen when somebody waits, so that host memory which is
// used again too early shows. A call that ends an operation takes the context off its thread again: an operation that
// relies on an earlier one to have made it current fails with 201, as it would on another thread.
type fake struct {
	t       *testing.T
	mu      sync.Mutex
	missing string // this entry point does not exist
	version int32
	devices []fakeDevice
	memory  uint64
	used    uint64
	initial int32            // what cuInit returns
	fail    map[string]int32 // what the entry point returns from now on
	lost    int32            // what every later call returns

	current  map[int]uintptr // by thread
	retained int
	blocks   map[uint64][]byte // device memory
	pinned   map[uint64][]byte
	streams  map[uint64]bool
	modules  map[uint64]string
	events   map[uint64]int // work queued before it
	queue    []func()
	done     int
	last     uint64
	shared   map[uint64]int32
	strings  map[string][]byte
	launches []fakeLaunch
}

type fakeDevice struct {
	name  string
	major int32
}

type fakeLaunch struct {
	name      string
	dims      [6]uint32
	shared    uint32
	arguments []uint64
}

const (
	fakeContext = 0xc0de
	kernelArgs  = 3 // of every kernel
)

func newFake(t *testing.T) *fake {
	return &fake{
		t: t, version: 12040, devices: []fakeDevice{{"Fake 80", 8}}, memory: 1 << 20,
		fail: map[string]int32{}, current: map[int]uintptr{}, blocks: map[uint64][]byte{}, pinned: map[uint64][]byte{},
		streams: map[uint64]bool{}, modules: map[uint64]string{}, events: map[uint64]int{}, shared: map[uint64]int32{},
		strings: map[string][]byte{}, last: 1 << 20,
	}
}

func (f *fake) handle() uint64 { f.last += 1 << 12; return f.last }

func put[T any](p uintptr, v T) { *(*T)(pointer(uint64(p))) = v }

func (f *fake) bytes(p uintptr, n uintptr) []byte {
	return unsafe.Slice((*byte)(pointer(uint64(p))), n)
}

// device is n bytes of device memory at p, nil if they are not inside one block.
func (f *fake) device(p, n uintptr) []byte {
	for at, b := range f.blocks {
		if uint64(p) >= at && uint64(p+n) <= at+uint64(len(b)) {
			return b[uint64(p)-at:][:n]
		}
	}
	return nil
}

func (f *fake) host(p, n uintptr) bool {
	for at, b := range f.pinned {
		if uint64(p) >= at && uint64(p+n) <= at+uint64(len(b)) {
			return true
		}
	}
	return false
}

func (f *fake) run(n int) {
	for ; f.done < n; f.done++ {
		f.queue[f.done]()
	}
}

func (f *fake) text(p uintptr, s string) int32 {
	if f.strings[s] == nil {
		f.strings[s] = append([]byte(s), 0)
	}
	put(p, uint64(address(&f.strings[s][0])))
	return 0
}

// functions are the entry points, of the arity that C has.
func (f *fake) functions() map[string]any {
	type u = uintptr
	attributes := map[u]int32{attributeMultiprocessors: 108, attributeMinor: 0, attributeSharedOptIn: 163 << 10}
	return map[string]any{
		"cuInit":             func(flags u) int32 { return f.initial },
		"cuDriverGetVersion": func(p u) int32 { put(p, f.version); return 0 },
		"cuGetErrorName": func(code, p u) int32 {
			return f.text(p, map[u]string{2: "CUDA_ERROR_OUT_OF_MEMORY", 100: "CUDA_ERROR_NO_DEVICE",
				201: "CUDA_ERROR_INVALID_CONTEXT", 700: "CUDA_ERROR_ILLEGAL_ADDRESS"}[code])
		},
		"cuGetErrorString": func(code, p u) int32 { return f.text(p, fmt.Sprintf("words for %d", code)) },
		"cuDeviceGetCount": func(p u) int32 { put(p, int32(len(f.devices))); return 0 },
		"cuDeviceGet":      func(p, i u) int32 { put(p, int32(i)); return 0 },
		"cuDeviceGetName": func(p, n, i u) int32 {
			copy(f.bytes(p, n), f.devices[i].name+"\x00")
			return 0
		},
		"cuDeviceTotalMem_v2": func(p, i u) int32 { put(p, f.memory); return 0 },
		"cuDeviceGetAttribute": func(p, attribute, i u) int32 {
			if attribute == attributeMajor {
				put(p, f.devices[i].major)
			} else {
				put(p, attributes[attribute])
			}
			return 0
		},
		"cuDevicePrimaryCtxRetain":     func(p, i u) int32 { f.retained++; put(p, u(fakeContext)); return 0 },
		"cuDevicePrimaryCtxRelease_v2": func(i u) int32 { f.retained--; return 0 },
		"cuCtxSetCurrent":              func(c u) int32 { f.current[thread()] = c; return 0 },
		"cuStreamCreate": func(p, flags u) int32 {
			h := f.handle()
			f.streams[h] = true
			put(p, h)
			return 0
		},
		"cuStreamDestroy_v2":  func(s u) int32 { delete(f.streams, uint64(s)); return 0 },
		"cuStreamSynchronize": func(s u) int32 { f.run(len(f.queue)); return 0 },
		"cuMemAlloc_v2": func(p, n u) int32 {
			if n == 0 || f.used+uint64(n) > f.memory {
				return 2
			}
			b := make([]byte, n)
			h := uint64(address(&b[0]))
			f.blocks[h] = b
			f.used += uint64(n)
			put(p, h)
			return 0
		},
		"cuMemFree_v2": func(p u) int32 {
			f.run(len(f.queue))
			b, ok := f.blocks[uint64(p)]
			if !ok {
				return 1
			}
			f.used -= uint64(len(b))
			delete(f.blocks, uint64(p))
			return 0
		},
		"cuMemHostAlloc": func(p, n, flags u) int32 {
			b := make([]byte, n)
			f.pinned[uint64(address(&b[0]))] = b
			put(p, uint64(address(&b[0])))
			return 0
		},
		"cuMemFreeHost":   func(p u) int32 { delete(f.pinned, uint64(p)); return 0 },
		"cuMemGetInfo_v2": func(p, q u) int32 { put(p, f.memory-f.used); put(q, f.memory); return 0 },
		"cuMemcpyHtoDAsync_v2": func(dst, src, n, s u) int32 {
			d := f.device(dst, n)
			if d == nil || !f.host(src, n) || !f.streams[uint64(s)] {
				return 1
			}
			f.queue = append(f.queue, func() { copy(d, f.bytes(src, n)) })
			return 0
		},
		"cuMemcpyDtoHAsync_v2": func(dst, src, n, s u) int32 {
			d := f.device(src, n)
			if d == nil || !f.host(dst, n) || !f.streams[uint64(s)] {
				return 1
			}
			f.queue = append(f.queue, func() { copy(f.bytes(dst, n), d) })
			return 0
		},
		"cuMemcpyDtoDAsync_v2": func(dst, src, n, s u) int32 {
			d, x := f.device(dst, n), f.device(src, n)
			if d == nil || x == nil || !f.streams[uint64(s)] {
				return 1
			}
			f.queue = append(f.queue, func() { copy(d, x) })
			return 0
		},
		"cuModuleLoadDataEx": func(p, code, n, options, values u) int32 {
			ptx := cString(pointer(uint64(code)))
			if !strings.HasPrefix(ptx, ".version") {
				v := unsafe.Slice((*u)(pointer(uint64(values))), n)
				copy(f.bytes(v[0], v[1]), "ptxas: line 1: bad\x00")
				return 218
			}
			h := f.handle()
			f.modules[h] = ptx
			put(p, h)
			return 0
		},
		"cuModuleUnload": func(m u) int32 { delete(f.modules, uint64(m)); return 0 },
		"cuModuleGetFunction": func(p, m, name u) int32 {
			s := cString(pointer(uint64(name)))
			if !strings.Contains(f.modules[uint64(m)], ".entry "+s) {
				return 500
			}
			return f.text(p, s) // the handle of a function is its name
		},
		"cuFuncSetAttribute": func(fn, attribute, v u) int32 { f.shared[uint64(fn)] = int32(v); return 0 },
		"cuLaunchKernel": func(fn, gx, gy, gz, bx, by, bz, shared, s, params, extra u) int32 {
			if shared > 48<<10 && f.shared[uint64(fn)] < int32(shared) {
				return 1
			}
			l := fakeLaunch{name: cString(pointer(uint64(fn))), shared: uint32(shared)}
			for i, d := range []u{gx, gy, gz, bx, by, bz} {
				l.dims[i] = uint32(d)
			}
			for _, p := range unsafe.Slice((*u)(pointer(uint64(params))), kernelArgs) {
				l.arguments = append(l.arguments, *(*uint64)(pointer(uint64(p))))
			}
			f.queue = append(f.queue, func() {
				f.launches = append(f.launches, l)
				if l.name == "crash" {
					f.lost = 700
				}
			})
			return 0
		},
		"cuEventCreate": func(p, flags u) int32 {
			h := f.handle()
			f.events[h] = 0
			put(p, h)
			return 0
		},
		"cuEventDestroy_v2":  func(e u) int32 { delete(f.events, uint64(e)); return 0 },
		"cuEventRecord":      func(e, s u) int32 { f.events[uint64(e)] = len(f.queue); return 0 },
		"cuEventSynchronize": func(e u) int32 { f.run(f.events[uint64(e)]); return 0 },
		"cuEventElapsedTime": func(p, from, to u) int32 {
			put(p, float32(f.events[uint64(to)]-f.events[uint64(from)]))
			return 0
		},
	}
}

// free are the entry points that need no context.
var free = map[string]bool{"cuInit": true, "cuDriverGetVersion": true, "cuGetErrorName": true, "cuGetErrorString": true,
	"cuDeviceGetCount": true, "cuDeviceGet": true, "cuDeviceGetName": true, "cuDeviceGetAttribute": true,
	"cuDeviceTotalMem_v2": true, "cuDevicePrimaryCtxRetain": true, "cuDevicePrimaryCtxRelease_v2": true,
	"cuCtxSetCurrent": true}

// more are the calls after which an operation may go on.
var more = map[string]bool{"cuEventCreate": true, "cuModuleGetFunction": true, "cuStreamSynchronize": true,
	"cuEventDestroy_v2": true, "cuStreamDestroy_v2": true}

// before is what every call checks, with mu held: a code that is not 0 is what it returns.
func (f *fake) before(name string) int32 {
	if strings.HasPrefix(name, "cuGetError") {
		return 0
	}
	if f.fail[name] != 0 {
		return f.fail[name]
	}
	if !free[name] && f.current[thread()] != fakeContext {
		return 201
	}
	if name != "cuCtxSetCurrent" && !more[name] {
		delete(f.current, thread())
	}
	return f.lost
}

// library calls the functions directly.
func (f *fake) library() library {
	var all []string
	functions := f.functions()
	return library{
		find: func(name string) (uintptr, error) {
			if functions[name] == nil || name == f.missing {
				return 0, fmt.Errorf("undefined symbol: %s", name)
			}
			all = append(all, name)
			return uintptr(len(all)), nil
		},
		call: func(entry uintptr, args []uintptr) uintptr {
			f.mu.Lock()
			defer f.mu.Unlock()
			name := all[entry-1]
			if code := f.before(name); code != 0 {
				return uintptr(code)
			}
			in := make([]reflect.Value, len(args))
			for i, a := range args {
				in[i] = reflect.ValueOf(a)
			}
			code := int32(reflect.ValueOf(functions[name]).Call(in)[0].Int())
			if code == 0 && !free[name] {
				code = f.lost
			}
			if name == "cuCtxSetCurrent" {
				f.mu.Unlock()
				runtime.Gosched() // a goroutine that is not locked to its thread may go on elsewhere
				f.mu.Lock()
			}
			return uintptr(code)
		},
	}
}

// leaks names what is not given back.
func (f *fake) leaks() string {
	return fmt.Sprintf("%d contexts, %d bytes, %d blocks, %d pinned, %d streams, %d modules, %d events", f.retained,
		f.used, len(f.blocks), len(f.pinned), len(f.streams), len(f.modules), len(f.events))
}

const noLeaks = "0 contexts, 0 bytes, 0 blocks, 0 pinned, 0 streams, 0 modules, 0 events"
