package cuda

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"setun/device/cuda/driver"
)

// fake is a driver without kernels: launches are counted. Copies happen when somebody waits, so that staging memory
// which is used again too early shows.
type fake struct {
	mu       sync.Mutex
	memory   int // bytes
	used     int
	allocs   int
	blocks   map[driver.Ptr][]byte
	pinned   map[*byte][]byte
	modules  map[driver.Module]string
	events   map[driver.Event]int
	queue    []func()
	done     int
	last     uint64
	launches []string
	fail     error // of launches
	quiet    bool  // launches are not counted
	closed   bool
}

func newFake() *fake {
	return &fake{memory: 64 << 20, blocks: map[driver.Ptr][]byte{}, pinned: map[*byte][]byte{},
		modules: map[driver.Module]string{}, events: map[driver.Event]int{}}
}

func (f *fake) handle() uint64 { f.last++; return f.last << 8 }

func (f *fake) lock() func() { f.mu.Lock(); return f.mu.Unlock }

func (f *fake) run(n int) {
	for ; f.done < n; f.done++ {
		f.queue[f.done]()
		f.queue[f.done] = nil
	}
}

func (f *fake) span(p driver.Ptr, n int) []byte {
	for at, b := range f.blocks {
		if p >= at && p+driver.Ptr(n) <= at+driver.Ptr(len(b)) {
			return b[p-at:][:n]
		}
	}
	panic(fmt.Sprintf("fake: %d bytes at %#x are not device memory", n, p))
}

func (f *fake) isPinned(b []byte) bool {
	for _, h := range f.pinned {
		x := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(h)))
		if x+uintptr(len(b)) <= uintptr(len(h)) {
			return true
		}
	}
	return false
}

func (f *fake) Info() driver.Info {
	return driver.Info{Name: "fake", Major: 8, Multiprocessors: 2, Memory: f.memory}
}

func (f *fake) Alloc(bytes int) (driver.Ptr, error) {
	defer f.lock()()
	if f.used+bytes > f.memory {
		return 0, &driver.Error{Call: "cuMemAlloc_v2", Code: 2, Name: "CUDA_ERROR_OUT_OF_MEMORY", Text: "out of memory"}
	}
	f.used += bytes
	f.allocs++
	b := make([]byte, bytes)
	p := driver.Ptr(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	f.blocks[p] = b
	return p, nil
}

func (f *fake) Free(p driver.Ptr) error {
	defer f.lock()()
	f.run(len(f.queue))
	b, ok := f.blocks[p]
	if !ok {
		panic("fake: free of what is not allocated")
	}
	f.used -= len(b)
	delete(f.blocks, p)
	return nil
}

func (f *fake) HostAlloc(bytes int) ([]byte, error) {
	defer f.lock()()
	b := make([]byte, bytes)
	f.pinned[unsafe.SliceData(b)] = b
	return b, nil
}

func (f *fake) HostFree(b []byte) error {
	defer f.lock()()
	delete(f.pinned, unsafe.SliceData(b))
	return nil
}

func (f *fake) Memory() (free, total int, err error) {
	defer f.lock()()
	return f.memory - f.used, f.memory, nil
}

func (f *fake) copy(host, dst, src []byte) error {
	if host != nil && !f.isPinned(host) {
		return errors.New("fake: copy of memory that is not page-locked")
	}
	f.queue = append(f.queue, func() { copy(dst, src) })
	return nil
}

func (f *fake) Upload(dst driver.Ptr, src []byte) error {
	defer f.lock()()
	return f.copy(src, f.span(dst, len(src)), src)
}

func (f *fake) Download(dst []byte, src driver.Ptr) error {
	defer f.lock()()
	return f.copy(dst, dst, f.span(src, len(dst)))
}

func (f *fake) Copy(dst, src driver.Ptr, bytes int) error {
	defer f.lock()()
	return f.copy(nil, f.span(dst, bytes), f.span(src, bytes))
}

func (f *fake) Load(ptx string) (driver.Module, error) {
	defer f.lock()()
	m := driver.Module(f.handle())
	f.modules[m] = ptx
	return m, nil
}

func (f *fake) Unload(m driver.Module) error {
	defer f.lock()()
	delete(f.modules, m)
	return nil
}

func (f *fake) Function(m driver.Module, name string, shared int) (driver.Function, error) {
	defer f.lock()()
	if f.modules[m] == "" {
		return 0, errors.New("fake: no such module")
	}
	return driver.Function(f.handle()), nil
}

func (f *fake) Launch(fn driver.Function, grid, block driver.Dim, shared int, args []uint64) error {
	defer f.lock()()
	if f.fail != nil {
		return f.fail
	}
	if f.quiet {
		return nil
	}
	f.launches = append(f.launches, fmt.Sprint(grid, block, shared, args))
	return nil
}

func (f *fake) Record() (driver.Event, error) {
	defer f.lock()()
	e := driver.Event(f.handle())
	f.events[e] = len(f.queue)
	return e, nil
}

func (f *fake) Wait(e driver.Event) error {
	defer f.lock()()
	f.run(f.events[e])
	return nil
}

func (f *fake) Elapsed(from, to driver.Event) (float32, error) { return 0, nil }

func (f *fake) Forget(e driver.Event) error {
	defer f.lock()()
	delete(f.events, e)
	return nil
}

func (f *fake) Sync() error {
	defer f.lock()()
	f.run(len(f.queue))
	return nil
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

// leaks names what is not given back.
func (f *fake) leaks() string {
	return fmt.Sprintf("%d bytes, %d blocks, %d pinned, %d modules, %d events, closed %t", f.used, len(f.blocks),
		len(f.pinned), len(f.modules), len(f.events), f.closed)
}

const noLeaks = "0 bytes, 0 blocks, 0 pinned, 0 modules, 0 events, closed true"
