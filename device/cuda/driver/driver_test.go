package driver

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestDriver(t *testing.T) {
	f := newFake(t)
	testDriver(t, f, f.library())
}

const module = ".version 7.1\n.visible .entry good(\n.visible .entry crash("

// testDriver uses every operation once or more.
func testDriver(t *testing.T, f *fake, lib library) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := open(lib)
	must(err)
	want := Info{"Fake 80", 8, 0, 108, 163 << 10, 1 << 20, 12040}
	if d.Info() != want {
		t.Errorf("Info is %+v, want %+v", d.Info(), want)
	}
	if s := d.Info().String(); s != "Fake 80 (sm_80, 108 multiprocessors, 1 MiB, driver 12.4)" {
		t.Errorf("Info prints as %s", s)
	}
	p, err := d.Alloc(1000)
	must(err)
	q, err := d.Alloc(1000)
	must(err)
	if free, total, err := d.Memory(); free != 1<<20-2000 || total != 1<<20 || err != nil {
		t.Errorf("Memory is %d, %d, %v", free, total, err)
	}
	host, err := d.HostAlloc(2000)
	must(err)
	for i := range 1000 {
		host[i] = byte(i * 7)
	}
	from, err := d.Record()
	must(err)
	must(d.Upload(p, host[:1000]))
	must(d.Copy(q, p, 1000))
	must(d.Download(host[1000:], q))
	to, err := d.Record()
	must(err)
	must(d.Wait(to))
	if !bytes.Equal(host[:1000], host[1000:]) {
		t.Error("bytes came back changed")
	}
	if ms, err := d.Elapsed(from, to); ms != 3 || err != nil {
		t.Errorf("Elapsed is %v, %v", ms, err)
	}
	must(d.Forget(from))
	must(d.Forget(to))
	again, err := d.Record()
	must(err)
	if again != to && again != from {
		t.Error("a forgotten event is not used again")
	}
	must(d.Forget(again))
	must(d.Upload(p, nil))
	must(d.Download(nil, p))
	must(d.Copy(p, q, 0))

	if _, err := d.Load("nonsense"); err == nil || !strings.Contains(err.Error(), "ptxas: line 1: bad") {
		t.Errorf("Load of nonsense: %v", err)
	}
	m, err := d.Load(module)
	must(err)
	if _, err := d.Function(m, "absent", 0); err == nil || !strings.Contains(err.Error(), "cuModuleGetFunction") {
		t.Errorf("Function of no kernel: %v", err)
	}
	fn, err := d.Function(m, "good", 100<<10)
	must(err)
	args := []uint64{uint64(p), 0x12345678, 1<<63 + 5}
	must(d.Launch(fn, Dim{4, 5, 6}, Dim{32, 2, 1}, 100<<10, args))
	args[1] = 0 // may be reused at once
	must(d.Sync())
	l := f.launches[0]
	if l.name != "good" || l.dims != [6]uint32{4, 5, 6, 32, 2, 1} || l.shared != 100<<10 || l.arguments[0] != uint64(p) ||
		l.arguments[1] != 0x12345678 || l.arguments[2] != 1<<63+5 {
		t.Errorf("launched %+v", l)
	}
	if err := d.Launch(fn, Dim{1, 1, 1}, Dim{1, 1, 1}, 0, make([]uint64, 33)); err == nil {
		t.Error("33 arguments accepted")
	}
	must(d.Unload(m))
	must(d.Free(p))
	must(d.Free(q))
	must(d.HostFree(host))
	must(d.Close())
	must(d.Close())
	if f.leaks() != noLeaks {
		t.Errorf("after Close: %s", f.leaks())
	}
	if _, err := d.Alloc(1); !errors.Is(err, errClosed) {
		t.Errorf("Alloc after Close: %v", err)
	}
}

// TestNone is every reason for which there is no GPU to use.
func TestNone(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(f *fake)
		says string
	}{
		{"symbol", func(f *fake) { f.missing = "cuMemAlloc_v2" }, "has no cuMemAlloc_v2: it is older than CUDA 11.1; update"},
		{"version", func(f *fake) { f.version = 10020 }, "is for CUDA 10.2, at least 11.1 is needed; update it"},
		{"init", func(f *fake) { f.initial = 100 }, "cuInit: CUDA_ERROR_NO_DEVICE (100): words for 100; see"},
		{"count", func(f *fake) { f.devices = nil }, "CUDA_VISIBLE_DEVICES"},
		{"capability", func(f *fake) { f.devices[0] = fakeDevice{"Old", 7} }, "Old has compute capability 7.0, at least 8.0"},
	} {
		f := newFake(t)
		c.set(f)
		d, err := open(f.library())
		if d != nil || !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error of ErrNone that says %q", c.name, err, c.says)
		}
		if f.leaks() != noLeaks {
			t.Errorf("%s: %s", c.name, f.leaks())
		}
	}
}

// TestOpenFails: a GPU that is there and does not open is an error of its own, and leaves nothing behind.
func TestOpenFails(t *testing.T) {
	for want, set := range map[string]func(f *fake){
		"does not start: cuInit:":     func(f *fake) { f.initial = 802 },
		"GPU 0: cuDeviceGetAttribute": func(f *fake) { f.fail["cuDeviceGetAttribute"] = 1 },
		"cuDeviceGetCount":            func(f *fake) { f.fail["cuDeviceGetCount"] = 1 },
		"cuDriverGetVersion":          func(f *fake) { f.fail["cuDriverGetVersion"] = 1 },
	} {
		f := newFake(t)
		set(f)
		if d, err := open(f.library()); d != nil || errors.Is(err, ErrNone) || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	for _, call := range []string{"cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate"} {
		f := newFake(t)
		f.fail[call] = 2
		d, err := open(f.library())
		if d != nil || errors.Is(err, ErrNone) || !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "Fake 80: ") {
			t.Errorf("%s fails: %v", call, err)
		}
		if f.leaks() != noLeaks {
			t.Errorf("%s fails: %s", call, f.leaks())
		}
	}
}

func TestOpenHere(t *testing.T) {
	d, err := Open()
	if err == nil {
		t.Log(d.Info())
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	t.Log(err)
	if e := (*Error)(nil); !errors.Is(err, ErrNone) && !errors.As(err, &e) {
		t.Errorf("Open: %v", err)
	}
}

func TestSecondGPU(t *testing.T) {
	f := newFake(t)
	f.devices = []fakeDevice{{"Old", 7}, {"New", 9}}
	d, err := open(f.library())
	if err != nil || d.Info().Name != "New" {
		t.Errorf("opened %v, %v; want the GPU that the kernels run on", d, err)
	}
}

func TestMemory(t *testing.T) {
	f := newFake(t)
	d, _ := open(f.library())
	_, err := d.Alloc(2 << 20)
	if !errors.Is(err, ErrMemory) || err.Error() != "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): words for 2" {
		t.Errorf("Alloc of too much: %v", err)
	}
	if p, err := d.Alloc(1 << 20); p == 0 || err != nil {
		t.Errorf("Alloc after it: %v", err)
	}
}

// TestSticks: the error of a kernel comes with a later call, and stays.
func TestSticks(t *testing.T) {
	f := newFake(t)
	d, _ := open(f.library())
	m, _ := d.Load(module)
	fn, _ := d.Function(m, "crash", 0)
	if err := d.Launch(fn, Dim{1, 1, 1}, Dim{1, 1, 1}, 0, []uint64{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var e *Error
		err := d.Sync()
		if !errors.As(err, &e) || e.Code != 700 || e.Name != "CUDA_ERROR_ILLEGAL_ADDRESS" || errors.Is(err, ErrMemory) {
			t.Errorf("Sync after a crash: %v", err)
		}
	}
	if _, err := d.Alloc(8); err == nil {
		t.Error("Alloc works in a lost context")
	}
	if err := d.Close(); err == nil {
		t.Error("Close of a lost context reports nothing")
	}
}

// TestThreads: every operation makes the context current on its own thread.
func TestThreads(t *testing.T) {
	f := newFake(t)
	d, err := open(f.library())
	if err != nil {
		t.Fatal(err)
	}
	g := d.(*gpu)
	fr := newFrame().(*frame)
	var e *Error
	if err := g.do(cuMemAlloc, fr, address(&fr.out[0]), 8); !errors.As(err, &e) || e.Code != 201 {
		t.Errorf("a call without a context: %v, want 201", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for range 200 {
				p, err := d.Alloc(16)
				errs[i] = errors.Join(errs[i], err, d.Copy(p, p, 8), d.Free(p))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
			break
		}
	}
	if err := d.Close(); err != nil || f.leaks() != noLeaks {
		t.Errorf("Close: %v, %s", err, f.leaks())
	}
}

// TestNoGarbage: the launch path allocates nothing.
func TestNoGarbage(t *testing.T) {
	zero := func(uintptr, []uintptr) uintptr { return 0 }
	f := newFake(t)
	d, _ := open(f.library())
	d.(*gpu).lib.call = zero
	args := []uint64{1, 2, 3}
	if n := testing.AllocsPerRun(100, func() { d.Launch(1, Dim{1, 1, 1}, Dim{1, 1, 1}, 0, args) }); n > 0 {
		t.Errorf("a launch allocates %v times", n)
	}
}

func ExampleError() {
	err := &Error{"cuMemAlloc_v2", 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}
	fmt.Println(err)
	fmt.Println(errors.Is(err, ErrMemory), errors.Is(err, ErrNone))
	// Output:
	// cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory
	// true false
}
