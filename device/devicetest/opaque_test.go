package devicetest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"setun/device"
	"setun/device/cpu"
)

func ExampleOpaque() {
	d := Opaque(cpu.New(1))
	x := d.Alloc(device.F32, 3)
	d.Upload(x, device.Wrap([]float32{1, 2, 3}))
	d.Scale(x, 2, x)
	fmt.Println("from outside:", x.F32())
	host := make([]float32, 3)
	d.Download(device.Wrap(host), x)
	fmt.Println("downloaded:", host)
	fmt.Println(d.Close())
	d.Free(x)
	fmt.Println(d.Close())
	// Output:
	// from outside: []
	// downloaded: [2 4 6]
	// opaque device: 1 allocations were not freed
	// <nil>
}

// TestOpaqueMisuse: every misuse of memory is an error of Sync that says what happened, and stays.
func TestOpaqueMisuse(t *testing.T) {
	tests := []struct {
		name, want string
		misuse     func(d *OpaqueDevice, x, y device.Mem)
	}{
		{"use after free", "Add: use of freed memory", func(d *OpaqueDevice, x, y device.Mem) {
			d.Free(y)
			d.Add(x, x, y)
		}},
		{"use of a slice after free", "Fill: use of freed memory", func(d *OpaqueDevice, x, y device.Mem) {
			s := y.Slice(1, 2)
			d.Free(y)
			d.Fill(s, 1)
		}},
		{"upload after free", "Upload: use of freed memory", func(d *OpaqueDevice, x, y device.Mem) {
			d.Free(y)
			d.Upload(y, device.Wrap(make([]float32, 8)))
		}},
		{"download after free", "Download: use of freed memory", func(d *OpaqueDevice, x, y device.Mem) {
			d.Free(y)
			d.Download(device.Wrap(make([]float32, 8)), y)
		}},
		{"double free", "Free: use of freed memory", func(d *OpaqueDevice, x, y device.Mem) {
			d.Free(y)
			d.Free(y)
		}},
		{"free of a part", "Free: 4 elements of an allocation of 8", func(d *OpaqueDevice, x, y device.Mem) {
			d.Free(y.Slice(0, 4))
		}},
		{"host memory", "Add: 8 f32s are not memory of this device", func(d *OpaqueDevice, x, y device.Mem) {
			d.Add(x, x, device.Wrap(make([]float32, 8)))
		}},
		{"memory of another device", "Add: unknown handle", func(d *OpaqueDevice, x, y device.Mem) {
			d.Add(x, x, Opaque(cpu.New(1)).Alloc(device.F32, 8))
		}},
		{"forged handle", "Fill: unknown handle 0x7000", func(d *OpaqueDevice, x, y device.Mem) {
			d.Fill(device.Span(&device.Buffer{Len: 8, Addr: 0x7000}), 1)
		}},
		{"span beyond the allocation", "Fill: f32s [0, 9) of an allocation of 8", func(d *OpaqueDevice, x, y device.Mem) {
			x.Buffer().Len = 9
			d.Fill(device.Span(x.Buffer()), 1)
		}},
		{"other type", "Fill: i8s [0, 8) of an allocation of 8 f32s", func(d *OpaqueDevice, x, y device.Mem) {
			x.Buffer().Type = device.I8
			d.Fill(x, 1)
		}},
		{"upload of another length", "Upload: 3 f32s to 8 f32s", func(d *OpaqueDevice, x, y device.Mem) {
			d.Upload(x, device.Wrap(make([]float32, 3)))
		}},
		{"download to another type", "Download: 8 f32s to 8 i32s", func(d *OpaqueDevice, x, y device.Mem) {
			d.Download(device.Wrap(make([]int32, 8)), x)
		}},
		{"partial overlap", "Add: memory 0 (a result) overlaps memory 1", func(d *OpaqueDevice, x, y device.Mem) {
			d.Add(x.Slice(0, 4), x.Slice(1, 5), y.Slice(0, 4))
		}},
		{"in place where it is not allowed", "MulAdd: memory 0 (a result) overlaps memory 2",
			func(d *OpaqueDevice, x, y device.Mem) { d.MulAdd(x, y, x) }},
		{"two results in one", "GatedGrad: memory 0 (a result) overlaps memory 1",
			func(d *OpaqueDevice, x, y device.Mem) {
				z := d.Alloc(device.F32, 8)
				d.GatedGrad(device.SiLU, x, x, y, z, z, true)
			}},
		{"operands too short", "Add: panic: runtime error", func(d *OpaqueDevice, x, y device.Mem) {
			d.Add(x, x, y.Slice(0, 2))
		}},
		{"error of the host", "cpu: Gather: id 99", func(d *OpaqueDevice, x, y device.Mem) {
			ids := d.Alloc(device.I32, 1)
			d.Upload(ids, device.Wrap([]int32{99}))
			d.Gather(x.Slice(0, 2), y, ids, 1, 2)
			d.Free(y)
			d.Free(y) // comes second
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Opaque(cpu.New(1))
			x, y := d.Alloc(device.F32, 8), d.Alloc(device.F32, 8)
			d.Fill(x, 1)
			d.Fill(y, 1)
			if err := d.Sync(); err != nil {
				t.Fatalf("before the misuse: %v", err)
			}
			tt.misuse(d, x, y)
			err := d.Sync()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Sync reports %v, want %q", err, tt.want)
			}
			d.Free(device.Span(&device.Buffer{Addr: 1})) // a second error
			if again := d.Close(); again == nil || again.Error() != err.Error() {
				t.Errorf("Close reports %v, want %v again", again, err)
			}
		})
	}
}

// TestOpaqueAllowed: reading one span twice, results side by side and in-place kernels are no misuse.
func TestOpaqueAllowed(t *testing.T) {
	d := Opaque(cpu.New(1))
	x, y := d.Alloc(device.F32, 8), d.Alloc(device.F32, 8)
	d.Fill(x, 1)
	d.Fill(y, 2)
	d.Mul(x, x, x)
	d.Softmax(x, x, 2, 4)
	d.MulAdd(x, y, y)
	d.GatedGrad(device.SiLU, x.Slice(0, 4), x.Slice(4, 8), y.Slice(0, 4), y.Slice(0, 4), y.Slice(2, 6), true)
	d.CopyRows(x.Slice(0, 4), 2, x.Slice(4, 8), 2, 2, 2, true)
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
}

// TestOpaquePoison: memory is poisoned when it comes and when it goes.
func TestOpaquePoison(t *testing.T) {
	host := &spy{Device: cpu.New(1)}
	d := Opaque(host)
	for typ := device.F32; typ <= device.U8; typ++ {
		m := d.Alloc(typ, 20_000)
		if m.F32() != nil || m.I32() != nil || m.I8() != nil || m.U8() != nil {
			t.Errorf("%s memory is readable from outside", typ)
		}
		back := device.Span(device.HostBuffer(typ, m.Len()))
		d.Download(back, m)
		if !poisoned(back) {
			t.Errorf("new %s memory is not poisoned", typ)
		}
		device.CopyHost(back, pattern(typ, m.Len()))
		d.Upload(m, back)
		d.Free(m)
		d.Sync()
		if !poisoned(host.freed) {
			t.Errorf("freed %s memory is not poisoned", typ)
		}
	}
}

// spy remembers what was freed.
type spy struct {
	*cpu.Device
	freed device.Mem
}

func (s *spy) Free(m device.Mem) { s.freed = m }

func poisoned(m device.Mem) bool {
	for i := range m.Len() {
		if v := elem(m, i); !math.IsNaN(v) && v != 0x7f && v != 0x7f7f7f7f {
			return false
		}
	}
	return true
}

// TestOpaqueAsync: a kernel call returns before the kernel runs.
func TestOpaqueAsync(t *testing.T) {
	gate := &gated{Device: cpu.New(1), open: make(chan bool)}
	d := Opaque(gate)
	x := d.Alloc(device.F32, 4)
	d.Fill(x, 1) // would wait for ever if calls waited for kernels
	src := []float32{1, 2, 3, 4}
	d.Upload(x, device.Wrap(src))
	clear(src) // the upload has its own copy
	d.Scale(x, 10, x)
	close(gate.open)
	got := make([]float32, 4)
	d.Download(device.Wrap(got), x)
	if got[0] != 10 || got[3] != 40 {
		t.Errorf("got %v, want 10 20 30 40", got)
	}
}

// gated has a Fill that waits.
type gated struct {
	*cpu.Device
	open chan bool
}

func (g *gated) Fill(dst device.Mem, v float32) {
	<-g.open
	g.Device.Fill(dst, v)
}

func TestOpaqueConcurrent(t *testing.T) {
	d := Opaque(cpu.New(2))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var err error
	for w := range 8 {
		wg.Go(func() {
			for range 50 {
				x := d.Alloc(device.F32, 32)
				d.Fill(x, float32(w))
				d.Add(x, x, x)
				var host [32]float32
				d.Download(device.Wrap(host[:]), x)
				d.Free(x)
				if host[31] != float32(2*w) {
					mu.Lock()
					err = errors.Join(err, fmt.Errorf("worker %d got %v", w, host[31]))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(err, d.Close()); err != nil {
		t.Error(err)
	}
}
