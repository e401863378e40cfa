package tensor_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"setun/device"
	"setun/device/cpu"
	"setun/device/devicetest"
	"setun/tensor"
)

func count(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)
	}
	return x
}

func TestViews(t *testing.T) {
	for _, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		x := tensor.FromFloats(dev, count(24), 2, 3, 4)
		r := x.Reshape(-1, 4)
		if !slices.Equal(r.Shape(), []int{6, 4}) || r.Len() != 24 || r.Bytes() != 96 {
			t.Errorf("Reshape gave %v", r.Shape())
		}
		v := r.Rows(2, 5)
		if got := v.Floats(); !slices.Equal(v.Shape(), []int{3, 4}) || !slices.Equal(got, count(24)[8:20]) {
			t.Errorf("Rows gave %v of shape %v", got, v.Shape())
		}
	}
}

func TestViewsShareMemory(t *testing.T) {
	dev := cpu.New(0)
	x := tensor.FromFloats(dev, count(6), 2, 3)
	tensor.Fill(x.Rows(1, 2), 9)
	x.Reshape(6).Rows(0, 1).SetFloats([]float32{7})
	if got := x.Floats(); !slices.Equal(got, []float32{7, 1, 2, 9, 9, 9}) {
		t.Errorf("got %v", got)
	}
	e := x.Rows(1, 1)
	if e.Len() != 0 || len(e.Floats()) != 0 {
		t.Errorf("no rows are %v", e.Shape())
	}
	s := x.Rows(0, 1).Reshape(3).Rows(1, 2).Reshape()
	if s.Dims() != 0 || s.Len() != 1 || s.Float() != 1 {
		t.Errorf("scalar of shape %v is %g", s.Shape(), s.Float())
	}
	if x.Dim(0) != 2 || x.Dim(-1) != 3 || x.Dims() != 2 || x.Device() != device.Device(dev) {
		t.Error("wrong dimensions")
	}
}

func TestTypes(t *testing.T) {
	dev := cpu.New(0)
	ids, codes := tensor.FromInts(dev, []int32{3, -4}, 2), tensor.FromCodes(dev, []int8{-1, 0, 1}, 3)
	if !slices.Equal(ids.Ints(), []int32{3, -4}) || !slices.Equal(codes.Codes(), []int8{-1, 0, 1}) ||
		ids.Type() != device.I32 || codes.Type() != device.I8 || ids.Bytes() != 8 || codes.Bytes() != 3 {
		t.Errorf("got %v, %v", ids.Ints(), codes.Codes())
	}
	var none *tensor.Tensor
	if !none.Mem().IsZero() {
		t.Error("a nil tensor has memory")
	}
	// Memory that a device cannot give keeps its type, so that only the device's error is reported.
	huge := tensor.New(dev, device.I8, 1<<30, 1<<30)
	if huge.Type() != device.I8 || huge.Reshape(-1).Type() != device.I8 || dev.Sync() == nil {
		t.Errorf("a tensor without memory is of type %v, the device says %v", huge.Type(), dev.Sync())
	}
	p := tensor.NewPool(dev)
	big := p.Get(device.I32, 1<<30, 1<<30)
	if big.Type() != device.I32 || p.InUse() != 0 || p.Held() != 0 {
		t.Errorf("the pool counts %d bytes that it did not get", p.InUse())
	}
	p.Put(big)
	p.Close()
}

func TestPool(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	p := tensor.NewPool(dev)
	p.Poison = true
	a := p.Get(device.F32, 10, 10)
	if got := a.Floats(); !slices.ContainsFunc(got, func(v float32) bool { return v != v }) || len(got) != 100 {
		t.Error("memory handed out is not poisoned")
	}
	used := p.InUse()
	if used < 400 || used > 400+64*4 || p.Peak() != used || p.Held() != used {
		t.Errorf("in use %d, peak %d, held %d for 400 bytes", used, p.Peak(), p.Held())
	}
	tensor.Fill(a, 1)
	p.Put(a.Reshape(100)) // views own nothing
	p.Put(a.Rows(0, 10))
	p.Put(nil)
	p.Put(tensor.Zeros(dev, 100)) // nor do tensors of others
	if p.InUse() != used {
		t.Errorf("in use %d after views were put, want %d", p.InUse(), used)
	}
	view := a.Rows(0, 10)
	p.Put(a)
	if got := view.Floats(); got[0] == got[0] {
		t.Error("memory put back is not poisoned")
	}
	p.Put(a) // twice
	if p.InUse() != 0 || p.Held() != used {
		t.Errorf("in use %d, held %d after Put", p.InUse(), p.Held())
	}
	// A length of the same class reuses the memory, another type and a longer one do not.
	b := p.Get(device.F32, 97)
	if b.Len() != 97 || b.Mem().Len() != 97 || p.Held() != used {
		t.Errorf("97 elements took new memory: %d held", p.Held())
	}
	c := p.Get(device.I8, 97)
	d := p.Get(device.F32, 300)
	if c.Type() != device.I8 || p.Held() <= used+100 || p.Peak() != p.InUse() {
		t.Errorf("held %d, peak %d, in use %d", p.Held(), p.Peak(), p.InUse())
	}
	p.Put(d)
	peak := p.Peak()
	if p.ResetPeak(); p.Peak() >= peak || p.Peak() != p.InUse() {
		t.Errorf("peak %d after ResetPeak, %d in use", p.Peak(), p.InUse())
	}
	p.Close()
	if p.Held() != p.InUse() {
		t.Errorf("Close left %d bytes for %d in use", p.Held(), p.InUse())
	}
	p.Put(b)
	p.Put(c)
	p.Close()
	if p.Held() != 0 || dev.Live() != 1 { // the tensor of others
		t.Errorf("%d bytes held and %d allocations live after Close", p.Held(), dev.Live())
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}

// Classes waste at most an eighth, but for small tensors, and lengths that vary a little share them.
func TestPoolClasses(t *testing.T) {
	dev := device.NewNull()
	for _, n := range []int{0, 1, 64, 65, 100, 127, 128, 129, 1000, 4097, 1 << 20, 1<<20 + 1, 3_000_001} {
		p := tensor.NewPool(dev)
		p.Get(device.I8, n)
		if c := int(p.InUse()); c < n || (n > 512 && c > n+n/8) || (n <= 512 && c > n+64) {
			t.Errorf("%d elements take %d", n, c)
		}
	}
}

func TestMaker(t *testing.T) {
	draw := func(dev device.Device, seed uint64) [][]float32 {
		mk := tensor.NewMaker(dev, seed)
		ts := []*tensor.Tensor{mk.Normal(0.5, 100, 10), mk.Zeros(3), mk.Fill(2, 2), mk.Uniform(-1, 3, 1000),
			mk.Normal(0.5, 100, 10)}
		var x [][]float32
		for _, y := range ts {
			x = append(x, y.Floats())
		}
		return x
	}
	a := draw(cpu.New(1), 1)
	for i, dev := range []device.Device{cpu.New(0), devicetest.Opaque(cpu.New(1))} {
		if b := draw(dev, 1); !slices.EqualFunc(a, b, slices.Equal[[]float32]) {
			t.Errorf("device %d draws other numbers", i)
		}
	}
	if b := draw(cpu.New(1), 2); slices.Equal(a[0], b[0]) || slices.Equal(a[3], b[3]) || slices.Equal(a[0], a[4]) {
		t.Error("another seed, or another tensor, has the same numbers")
	}
	mean, dev := 0.0, 0.0
	for _, v := range a[0] {
		mean += float64(v) / 1000
		dev += float64(v) * float64(v) / 1000
	}
	if math.Abs(mean) > 0.06 || math.Abs(math.Sqrt(dev)-0.5) > 0.05 {
		t.Errorf("Normal(0.5) has mean %g and deviation %g", mean, math.Sqrt(dev))
	}
	if slices.Min(a[3]) < -1 || slices.Max(a[3]) >= 3 || slices.Min(a[3]) > -0.9 || slices.Max(a[3]) < 2.9 {
		t.Errorf("Uniform(-1, 3) draws from %g to %g", slices.Min(a[3]), slices.Max(a[3]))
	}
	if !slices.Equal(a[1], []float32{0, 0, 0}) || !slices.Equal(a[2], []float32{2, 2}) {
		t.Errorf("Zeros and Fill gave %v and %v", a[1], a[2])
	}
	seen := map[uint64]bool{}
	for seed := range uint64(100) {
		for n := range uint64(100) {
			seen[tensor.Mix(seed, n)] = true
		}
	}
	if len(seen) != 10000 {
		t.Errorf("Mix gave %d seeds of 10000", len(seen))
	}
}

func TestShapeErrorIsAnError(t *testing.T) {
	var err error = &tensor.ShapeError{Op: "MatMul", Why: "differ", Shapes: [][]int{{2, 3}, {4}, {}}}
	if got, want := err.Error(), "tensor: MatMul: [2, 3] and [4] and [] differ"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var e *tensor.ShapeError
	if !errors.As(err, &e) || e.Op != "MatMul" {
		t.Error("errors.As does not find it")
	}
}

// Gradients of one tensor in two places of an operation are two calls of the kernel.
func TestAliasedGradients(t *testing.T) {
	dev := devicetest.Opaque(cpu.New(1))
	g, u, dy, d := tensor.FromFloats(dev, count(4), 4), tensor.FromFloats(dev, count(4), 4), tensor.Zeros(dev,
		4), tensor.Zeros(dev, 4)
	tensor.Fill(dy, 1)
	tensor.GatedGrad(device.ReLU, d, d, dy, g, u, true)
	if got := d.Floats(); !slices.Equal(got, []float32{0, 2, 4, 6}) {
		t.Errorf("got %v", got)
	}
	if err := dev.Sync(); err != nil {
		t.Error(err)
	}
}
