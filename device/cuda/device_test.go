package cuda

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"setun/device"
	"setun/device/cuda/driver"
)

func openFake(t *testing.T) (*Device, *fake) {
	f := newFake()
	d, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	return d, f
}

// TestCopies moves more than the staging memory holds, and many small spans, of every alignment.
func TestCopies(t *testing.T) {
	d, f := openFake(t)
	r := rand.NewChaCha8([32]byte{1})
	var mems []device.Mem
	var want [][]uint8
	for _, n := range []int{1, 3, 64, 4095, 4 << 20, 4<<20 - 16, 4<<20 + 1, 9<<20 + 5, 5, 0, 100, 3 << 20, 3 << 20} {
		src := make([]uint8, n)
		r.Read(src)
		m := d.Alloc(device.U8, n)
		d.Upload(m, device.Wrap(src))
		mems, want = append(mems, m), append(want, slices.Clone(src))
		clear(src) // may be used again
	}
	for i, m := range mems {
		got := make([]uint8, m.Len())
		d.Download(device.Wrap(got), m)
		if !slices.Equal(got, want[i]) {
			t.Errorf("%d bytes came back changed", m.Len())
		}
	}
	n := len(want[7])
	got := make([]uint8, n-14)
	d.Download(device.Wrap(got), mems[7].Slice(7, n-7))
	if !slices.Equal(got, want[7][7:n-7]) {
		t.Error("a part came back changed")
	}
	if err := d.Close(); err != nil || f.leaks() != noLeaks {
		t.Errorf("Close: %v, %s", err, f.leaks())
	}
}

func TestCopyErrors(t *testing.T) {
	for _, c := range []func(d *Device, m device.Mem){
		func(d *Device, m device.Mem) { d.Upload(m, device.Wrap(make([]float32, 3))) },
		func(d *Device, m device.Mem) { d.Upload(m, device.Wrap(make([]int32, 4))) },
		func(d *Device, m device.Mem) { d.Download(device.Wrap(make([]float32, 5)), m) },
		func(d *Device, m device.Mem) { d.Download(device.Wrap(make([]int32, 4)), m) },
		func(d *Device, m device.Mem) { d.Free(m.Slice(0, 3)) },
		func(d *Device, m device.Mem) { d.Free(m); d.Free(m) },
	} {
		d, _ := openFake(t)
		c(d, d.Alloc(device.F32, 4))
		if d.Sync() == nil {
			t.Error("no error")
		}
	}
}

func TestPool(t *testing.T) {
	d, f := openFake(t)
	before := f.allocs
	a := d.Alloc(device.F32, 1000)
	d.Free(a)
	b := d.Alloc(device.I32, 990)
	if addr(a) != addr(b) || f.allocs != before+1 {
		t.Error("freed memory is not used again")
	}
	if c := d.Alloc(device.F32, 1000); addr(c) == addr(b) {
		t.Error("memory in use is handed out")
	}
	// Most of the memory is freed and kept, in another size: it goes back under pressure.
	var ms []device.Mem
	for range 15 {
		ms = append(ms, d.Alloc(device.U8, 4<<20))
	}
	for _, m := range ms {
		d.Free(m)
	}
	big := d.Alloc(device.U8, 50<<20)
	if big.IsZero() || d.Sync() != nil {
		t.Fatalf("Alloc under pressure: %v", d.Sync())
	}
	if m := d.Alloc(device.U8, 20<<20); !m.IsZero() {
		t.Error("more memory than there is")
	}
	err := d.Sync()
	if !errors.Is(err, driver.ErrMemory) || !strings.HasPrefix(err.Error(), "cuda: cuMemAlloc_v2: ") ||
		!strings.Contains(err.Error(), "20971520 bytes wanted, ") || !strings.Contains(err.Error(), "of 67108864 free") {
		t.Errorf("out of memory: %v", err)
	}
	if err2 := d.Close(); err2 != err || f.leaks() != noLeaks {
		t.Errorf("Close: %v, %s", err2, f.leaks())
	}
	d.Free(big) // of a closed device: nothing
}

func TestSizeClass(t *testing.T) {
	for n := 0; n < 100_000; n++ {
		c := sizeClass(n)
		if c < n || c%256 != 0 || c > 256 && c > n+max(256, n/8) || sizeClass(c) != c {
			t.Fatalf("sizeClass(%d) = %d", n, c)
		}
	}
}

func TestPoolConcurrent(t *testing.T) {
	d, f := openFake(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				n := 1 + (i*37+w)%500
				m := d.Alloc(device.I32, n)
				p, free := d.temp(n)
				d.move(p, addr(m), min(n, 4))
				free()
				src, got := make([]int32, n), make([]int32, n)
				for j := range src {
					src[j] = int32(w<<16 + i<<8 + j)
				}
				d.Upload(m, device.Wrap(src))
				d.Download(device.Wrap(got), m)
				if !slices.Equal(src, got) {
					t.Errorf("worker %d: memory is shared", w)
				}
				d.Free(m)
			}
		})
	}
	wg.Wait()
	if err := d.Close(); err != nil || f.leaks() != noLeaks {
		t.Errorf("Close: %v, %s", err, f.leaks())
	}
}

// TestBridge calls kernels past their native form.
func TestBridge(t *testing.T) {
	d, f := openFake(t)
	x, y := d.Alloc(device.F32, 4), d.Alloc(device.F32, 2)
	d.Upload(x, device.Wrap([]float32{1, 2, 3, 4}))
	d.Bridge.Add(x, x, x)
	d.Bridge.Add(y, x.Slice(0, 2), x.Slice(1, 3))
	d.Bridge.SumRows(y, device.Mem{}, 1, 0, 0, 0)
	got := make([]float32, 4)
	d.Download(device.Wrap(got), x)
	if !slices.Equal(got, []float32{2, 4, 6, 8}) {
		t.Errorf("x + x = %v", got)
	}
	d.Download(device.Wrap(got[:2]), y)
	if !slices.Equal(got[:2], []float32{6, 10}) {
		t.Errorf("x[:2] + x[1:3] = %v", got[:2])
	}
	same := func(_ device.Kernels, m []device.Mem) {
		if m[0] != m[1] || !m[2].IsZero() {
			t.Error("the same span is another one on the host, or the zero Mem is memory")
		}
	}
	d.bridge(device.Call{Kernel: "Add", Mems: []device.Mem{x, x, {}}, Results: 1, Run: same})
	if b := d.Bridged(); !maps.Equal(b, map[string]int{"Add": 3, "SumRows": 1}) {
		t.Errorf("bridged %v", b)
	}
	ids := d.Alloc(device.I32, 2)
	d.Upload(ids, device.Wrap([]int32{0, 7}))
	d.Bridge.Gather(x, y, ids, 2, 2)
	if err := d.Sync(); err == nil || !strings.Contains(err.Error(), "Gather: id 7 at row 1") {
		t.Errorf("an error of the host: %v", err)
	}
	d.Bridge.Add(x, x, x)
	if d.Bridged()["Add"] != 3 {
		t.Error("a kernel ran after the error")
	}
	d.Close()
	if f.leaks() != noLeaks {
		t.Error(f.leaks())
	}
}

// aKernel is one that has a native form.
func aKernel(t *testing.T) string {
	for name := range entries() {
		return name
	}
	t.Fatal("no kernels")
	return ""
}

func TestLaunch(t *testing.T) {
	d, f := openFake(t)
	k := aKernel(t)
	d.each(k, 0, 1)
	d.rows(k, 0, 1)
	d.each(k, 1, f32(1.5), num(-1), flag(true), flag(false), u64(1<<63))
	d.each(k, 257, 1)
	d.each(k, 1<<20, 1)
	d.rows(k, 70000, 1)
	d.launch(k, driver.Dim{X: 2, Y: 3}, driver.Dim{X: 32}, 1000, 5)
	want := []string{
		"{1 1 1} {256 1 1} 0 [1069547520 18446744073709551615 1 0 9223372036854775808]",
		"{2 1 1} {256 1 1} 0 [1]",
		"{32 1 1} {256 1 1} 0 [1]",
		"{32768 1 1} {256 1 1} 0 [1]",
		"{2 3 1} {32 1 1} 1000 [5]",
	}
	if !slices.Equal(f.launches, want) {
		t.Errorf("launched\n%s\nwant\n%s", strings.Join(f.launches, "\n"), strings.Join(want, "\n"))
	}
	f.quiet = true
	if n := testing.AllocsPerRun(100, func() { d.each(k, 1000, 1, 2, 3) }); n > 0 {
		t.Errorf("a launch allocates %v times", n)
	}
	f.quiet = false
	f.fail = &driver.Error{Call: "cuLaunchKernel", Code: 700, Name: "CUDA_ERROR_ILLEGAL_ADDRESS", Text: "bad"}
	d.each(k, 1, 1)
	f.fail, f.launches = nil, nil
	d.each(k, 1, 1)
	if len(f.launches) > 0 {
		t.Error("a kernel ran after the error")
	}
	if err := d.Sync(); err == nil || err.Error() != "cuda: "+k+": cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS (700): bad" {
		t.Errorf("a launch that fails: %v", err)
	}
	d.Close()
	if f.leaks() != noLeaks {
		t.Error(f.leaks())
	}
	for _, bad := range []func(d *Device){
		func(d *Device) { d.each("absent", 1) },
		func(d *Device) { d.each(k, 1, make([]uint64, maxArgs+1)...) },
	} {
		d, _ := openFake(t)
		bad(d)
		if d.Sync() == nil {
			t.Error("no error")
		}
	}
}

func TestComplaint(t *testing.T) {
	d, _ := openFake(t)
	d.write(d.errs, asBytes([]int32{2, 17, -3, 0}))
	if err := d.Sync(); err == nil || err.Error() != "cuda: ScatterAdd: id -3 at row 17 is outside the table" {
		t.Errorf("Sync: %v", err)
	}
}
