package devicetest

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/device"
	"setun/internal/half"
)

// Run checks a device. open gives a fresh device each time: one for the kernels, others for and after the errors that
// stick.
func Run(t *testing.T, open func() device.Device) {
	t.Helper()
	run(goT{t}, open, nil, all.orShort(), 1)
}

// RunSimulated is Run for devices that are simulated: without the sizeable products, and of the other cases one in every
// of each kernel, at least one.
func RunSimulated(t *testing.T, open func() device.Device, every int) {
	t.Helper()
	run(goT{t}, open, nil, noProducts.orShort(), every)
}

// An extent says which cases are left out for their size.
type extent uint8

const (
	all        extent = iota
	noProducts        // the sizeable products, attention among them
	small             // all sizeable cases
)

func (e extent) orShort() extent {
	if testing.Short() {
		return small
	}
	return e
}

// T is what the suite needs of *testing.T, so that its own tests can watch it fail.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Run(name string, f func(T)) bool
}

type goT struct{ *testing.T }

func (t goT) Run(name string, f func(T)) bool {
	return t.T.Run(name, func(t *testing.T) { f(goT{t}) })
}

// run runs the suite, or the kernels and specials that only names; one case in every of each kernel.
func run(t T, open func() device.Device, only map[string]bool, size extent, every int) {
	dev := open()
	for _, tb := range tables() {
		if only != nil && !only[tb.kernel] {
			continue
		}
		t.Run(tb.kernel, func(t T) {
			for _, c := range tb.pick(size, every) {
				if dev.Sync() != nil { // the error of an earlier case sticks
					dev = open()
				}
				t.Run(c.name, func(t T) { check(t, dev, c) })
			}
		})
	}
	for _, s := range specials {
		if only == nil || only[s.name] {
			t.Run(s.name, func(t T) { s.run(t, open) })
		}
	}
}

// specials are the checks that are not one call against one oracle.
var specials = []struct {
	name string
	run  func(t T, open func() device.Device)
}{
	{"Memory", testMemory},
	{"Errors", testErrors},
	{"Moments", testMoments},
	{"Concurrent", testConcurrent},
}

// A table is the cases of one kernel.
type table struct {
	kernel string
	cases  []kase
}

// pick gives the cases to run.
func (tb table) pick(size extent, every int) (ks []kase) {
	fit := slices.DeleteFunc(slices.Clone(tb.cases), func(k kase) bool {
		return k.sizeable && (size == small || size == noProducts && k.build().mulAdds > 0)
	})
	for i := max(min(every/2, len(fit)-1), 0); i < len(fit); i += every {
		ks = append(ks, fit[i])
	}
	return ks
}

// tables lists the suite, a kernel a table.
func tables() []table {
	var all []table
	for _, family := range []func() []table{
		memoryTables, elementwiseTables, unaryTables, reduceTables, softmaxTables, normTables, crossEntropyTables,
		indexTables, gemmTables, convTables, ropeTables, attentionTables, quantTables, qlinearTables, adamwTables,
		randomTables,
	} {
		all = append(all, family()...)
	}
	for _, tb := range all {
		for i := range tb.cases {
			tb.cases[i].kernel = tb.kernel
		}
	}
	return all
}

// A kase names a call and makes it when it is wanted.
type kase struct {
	kernel, name string
	sizeable     bool // worth timing; skipped by -short
	make         func(g gen) call
}

// A call is one kernel call with its oracle.
type call struct {
	ops []operand // in the order of the kernel's Mems
	run func(k device.Kernels, m []device.Mem)
	// write is run without acc: the first fresh operands, which run adds to, are overwritten.
	write func(k device.Kernels, m []device.Mem)
	fresh int
	// ref computes the results in place: x[i] holds operand i in float64, nil if it is left out (not all results are).
	// Results to overwrite start as NaN, which stays wherever ref writes nothing.
	ref func(x [][]float64)
	// tol bounds |got-want| / (1+|want|); with 0, float32 results are the oracle's rounded once, bit for bit.
	tol float64
	// alias lists the operands that may be the same span as operand 0.
	alias []int
	// diff gives gradients by central differences of the forward oracle, by operand.
	diff    func(x [][]float64) map[int][]float64
	mulAdds int // for Bench; 0 measures bytes
}

type mode uint8

const (
	input  mode = iota
	output      // overwritten
	update      // read and written
)

// An operand is a Mem of a call.
type operand struct {
	name     string
	mode     mode
	optional bool
	val      device.Mem // host memory
}

func in[E float32 | int32 | int8 | uint8 | uint16](name string, x []E) operand {
	return operand{name, input, false, device.Wrap(x)}
}

func out(name string, n int) operand {
	return operand{name, output, false, device.Wrap(make([]float32, n))}
}

func outCodes(name string, n int) operand {
	return operand{name, output, false, device.Wrap(make([]int8, n))}
}

func inout(name string, x []float32) operand { return operand{name, update, false, device.Wrap(x)} }

// grad is an accumulated result: always optional.
func grad(name string, x []float32) operand { return operand{name, update, true, device.Wrap(x)} }

func (o operand) opt() operand {
	o.optional = true
	return o
}

// pick is overwritten, or with acc added to.
func pick(acc bool, name string, x []float32) operand {
	if acc {
		return inout(name, x)
	}
	return out(name, len(x))
}

// ignored stands in an oracle's result where any value is right.
var ignored = math.Float64frombits(0x7ff8000000abcdef)

func isIgnored(v float64) bool { return math.Float64bits(v) == math.Float64bits(ignored) }

// adding gives c a kernel that adds to the first n operands, or overwrites them.
func (c call) adding(n int, run func(k device.Kernels, m []device.Mem, acc bool)) call {
	c.fresh = n
	c.run = func(k device.Kernels, m []device.Mem) { run(k, m, true) }
	c.write = func(k device.Kernels, m []device.Mem) { run(k, m, false) }
	return c
}

// A variant is one way to lay out and call the same case.
type variant struct {
	pad     int   // guard elements on both sides of each span
	absent  uint  // bit set of operands left out
	aliased []int // operands that share the span of operand 0
	fresh   bool  // without acc
}

func (v variant) describe(c call) string {
	s := fmt.Sprintf("spans at offset %d", v.pad)
	for i, o := range c.ops {
		if v.absent>>i&1 != 0 {
			s += ", without " + o.name
		}
	}
	for _, i := range v.aliased {
		s += fmt.Sprintf(", %s is %s", c.ops[0].name, c.ops[i].name)
	}
	if v.fresh {
		s += ", without acc"
	}
	return s
}

// check runs a case in its variants: all operands, twice for determinism; every combination of operands left out; every
// allowed aliasing; with and without acc. Sizeable cases run in the first only.
func check(t T, dev device.Device, k kase) {
	t.Helper()
	c := k.build()
	first := variant{pad: 5}
	got, ok := exec(t, dev, c, first)
	if !ok || !compare(t, c, first, got) {
		return
	}
	again, ok := exec(t, dev, c, first)
	if !ok {
		return
	}
	for i, o := range c.ops {
		if j := diffBits(got[i], again[i]); j >= 0 {
			t.Errorf("%s[%d] is %v, then %v: not deterministic", o.name, j, elem(got[i], j), elem(again[i], j))
			return
		}
	}
	if k.sizeable {
		return
	}
	vs := []variant{{pad: 16}}
	optional := uint(0)
	for i, o := range c.ops {
		if o.optional {
			optional |= 1 << i
		}
	}
	for sub := optional; sub != 0; sub = (sub - 1) & optional {
		vs = append(vs, variant{pad: 16, absent: sub})
	}
	for i := range c.alias {
		vs = append(vs, variant{pad: 5, aliased: c.alias[i : i+1]})
	}
	if len(c.alias) > 1 {
		vs = append(vs, variant{pad: 5, aliased: c.alias})
	}
	if c.write != nil {
		for _, v := range slices.Clone(vs) {
			v.fresh = true
			vs = append(vs, v)
		}
	}
	for _, v := range vs {
		if got, ok := exec(t, dev, c, v); !ok || !compare(t, c, v, got) {
			return
		}
	}
	if c.diff != nil {
		checkDiff(t, c, got)
	}
}

func (k kase) build() call {
	h := fnv.New64a()
	h.Write([]byte(k.kernel + "/" + k.name))
	return k.make(gen{rand.New(rand.NewPCG(h.Sum64(), 0))})
}

// exec calls the kernel on spans between guards and gives back the contents of each span; nil for absent operands. It
// reports errors of the device, writes to guards and writes to inputs. Guards are NaN, so that reading one shows too.
func exec(t T, dev device.Device, c call, v variant) ([]device.Mem, bool) {
	t.Helper()
	n := len(c.ops)
	whole, host, args := make([]device.Mem, n), make([]device.Mem, n), make([]device.Mem, n)
	owner := make([]int, n) // the operand whose memory operand i uses
	for i := range owner {
		owner[i] = i
	}
	for _, i := range v.aliased {
		owner[i] = 0
	}
	for i, o := range c.ops {
		if v.absent>>i&1 != 0 || owner[i] != i {
			continue
		}
		size := o.val.Len() + 2*v.pad
		host[i] = device.Span(device.HostBuffer(o.val.Type(), size))
		fillPoison(host[i])
		src := o.val
		if i == 0 && len(v.aliased) > 0 {
			src = c.ops[v.aliased[0]].val
		}
		if (o.mode != output || src != o.val) && !(v.fresh && i < c.fresh) {
			device.CopyHost(host[i].Slice(v.pad, size-v.pad), src)
		}
		whole[i] = dev.Alloc(o.val.Type(), size)
		dev.Upload(whole[i], host[i])
	}
	for i := range args {
		w := whole[owner[i]]
		if !w.IsZero() {
			args[i] = w.Slice(v.pad, w.Len()-v.pad)
		}
	}
	run := c.run
	if v.fresh {
		run = c.write
	}
	run(dev, args)
	got := make([]device.Mem, n)
	for i, w := range whole {
		if !w.IsZero() {
			back := device.Span(device.HostBuffer(w.Type(), w.Len()))
			dev.Download(back, w)
			dev.Free(w)
			got[i] = back
		}
	}
	if err := dev.Sync(); err != nil {
		t.Errorf("%s: %v", v.describe(c), err)
		return nil, false
	}
	for i, o := range c.ops {
		if got[i].IsZero() {
			continue
		}
		size := got[i].Len()
		for _, g := range [][2]int{{0, v.pad}, {size - v.pad, size}} {
			if j := diffBits(got[i].Slice(g[0], g[1]), host[i].Slice(g[0], g[1])); j >= 0 {
				t.Errorf("%s: wrote %v to %s[%d], outside its %d elements", v.describe(c),
					elem(got[i], g[0]+j), o.name, g[0]+j-v.pad, o.val.Len())
				return nil, false
			}
		}
		got[i] = got[i].Slice(v.pad, size-v.pad)
		if o.mode == input {
			if j := diffBits(got[i], host[i].Slice(v.pad, size-v.pad)); j >= 0 {
				t.Errorf("%s: changed the input %s[%d] to %v", v.describe(c), o.name, j, elem(got[i], j))
				return nil, false
			}
		}
	}
	return got, true
}

// compare checks the results against the oracle.
func compare(t T, c call, v variant, got []device.Mem) bool {
	t.Helper()
	x := c.operands(v)
	if wanted := slices.ContainsFunc(x[:c.results()], func(y []float64) bool { return y != nil }); !wanted {
		return true
	}
	c.ref(x)
	ok := true
	for i, o := range c.ops {
		if o.mode == input || x[i] == nil {
			continue
		}
		ok = match(t, fmt.Sprintf("%s: %s", v.describe(c), o.name), got[i], x[i], c.tol) && ok
	}
	return ok
}

// results is the number of results: they come first.
func (c call) results() int {
	n := 0
	for n < len(c.ops) && c.ops[n].mode != input {
		n++
	}
	return n
}

// operands gives the values the oracle starts from.
func (c call) operands(v variant) [][]float64 {
	x := make([][]float64, len(c.ops))
	for i, o := range c.ops {
		if v.absent>>i&1 != 0 {
			continue
		}
		x[i] = floats(o.val)
		switch {
		case o.mode == output:
			for j := range x[i] {
				x[i][j] = math.NaN()
			}
		case v.fresh && i < c.fresh:
			clear(x[i])
		}
	}
	if len(v.aliased) > 0 && c.ops[0].mode == update {
		copy(x[0], x[v.aliased[0]])
	}
	for _, i := range v.aliased {
		copy(x[i], floats(c.ops[v.aliased[0]].val))
	}
	return x
}

// match reports the first elements of got that are not want.
func match(t T, what string, got device.Mem, want []float64, tol float64) bool {
	t.Helper()
	var lines []string
	bad := 0
	for j, w := range want {
		if isIgnored(w) {
			continue
		}
		g := elem(got, j)
		if float := got.Type() == device.F32 || got.Type() == device.F16; float && near(g, w, tol) || !float && g == w {
			continue
		}
		if bad++; bad <= 3 {
			lines = append(lines, fmt.Sprintf("[%d] = %v, want %v", j, g, w))
		}
	}
	if bad > 0 {
		t.Errorf("%s%s (%d of %d wrong, tolerance %g)", what, strings.Join(lines, "; "), bad, len(want), tol)
	}
	return bad == 0
}

// near compares a float32 with an oracle's float64.
func near(got, want, tol float64) bool {
	w := float64(float32(want))
	switch {
	case math.IsNaN(want):
		return math.IsNaN(got)
	case got == w:
		return true
	case math.IsNaN(got) || math.IsInf(got, 0) || math.IsInf(w, 0):
		return false
	}
	return math.Abs(got-want) <= tol*(1+math.Abs(want))
}

// checkDiff compares what a gradient kernel added with central differences.
func checkDiff(t T, c call, got []device.Mem) {
	t.Helper()
	for i, want := range c.diff(c.operands(variant{})) {
		start := floats(c.ops[i].val)
		for j := range want {
			want[j] += start[j]
		}
		match(t, "central differences: "+c.ops[i].name, got[i], want, c.tol+1e-6)
	}
}

// central is the gradient of f by x, (f(x+h) - f(x-h)) / 2h.
func central(x []float64, f func() float64) []float64 {
	const h = 1e-5
	d := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		hi := f()
		x[i] = v - h
		d[i] = (hi - f()) / (2 * h)
		x[i] = v
	}
	return d
}

func dot(a, b []float64) float64 {
	s := 0.0
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

// floats copies host memory of any type; never nil.
func floats(m device.Mem) []float64 {
	x := make([]float64, m.Len())
	for i := range x {
		x[i] = elem(m, i)
	}
	return x
}

func elem(m device.Mem, i int) float64 {
	switch m.Type() {
	case device.I32:
		return float64(m.I32()[i])
	case device.I8:
		return float64(m.I8()[i])
	case device.U8:
		return float64(m.U8()[i])
	case device.F16:
		return float64(half.FromF16(m.F16()[i]))
	}
	return float64(m.F32()[i])
}

// diffBits is the first index at which a and b differ in a bit, -1 if none.
func diffBits(a, b device.Mem) int {
	for i := range a.Len() {
		if a.Type() == device.F32 {
			if math.Float32bits(a.F32()[i]) != math.Float32bits(b.F32()[i]) {
				return i
			}
		} else if a.Type() == device.F16 {
			if a.F16()[i] != b.F16()[i] {
				return i
			}
		} else if elem(a, i) != elem(b, i) {
			return i
		}
	}
	return -1
}

// narrow is the exact inverse of floats on float32 operands.
func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// gen makes the values of a case.
type gen struct{ *rand.Rand }

// normal gives n standard normal values.
func (g gen) normal(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(g.NormFloat64())
	}
	return x
}

// halves gives n standard normal values in half precision.
func (g gen) halves(n int) []uint16 {
	x := make([]uint16, n)
	for i, v := range g.normal(n) {
		x[i] = half.F16(v)
	}
	return x
}

// uniform gives n values in [lo, hi).
func (g gen) uniform(n int, lo, hi float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(lo + (hi-lo)*g.Float64())
	}
	return x
}

// codes gives n codes in [-levels, levels].
func (g gen) codes(n, levels int) []int8 {
	x := make([]int8, n)
	for i := range x {
		x[i] = int8(g.IntN(2*levels+1) - levels)
	}
	return x
}

// ids gives n indices in [lo, hi).
func (g gen) ids(n, lo, hi int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(lo + g.IntN(hi-lo))
	}
	return x
}

// sizes are the lengths of vectors: nothing, one, around the widths of registers, primes, blocks. The last ones cross
// the chunks of LaneSum and of parallel loops.
var sizes = []int{0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000, 4099}

// shapes are (rows, cols) with at least one column.
var shapes = [][2]int{
	{0, 5}, {1, 1}, {1, 16}, {2, 3}, {3, 15}, {5, 17}, {16, 31}, {7, 33}, {2, 64}, {13, 65}, {33, 7}, {65, 1}, {3, 1000},
}

const large = 200_003 // elements of a sizeable vector

var nan, inf = float32(math.NaN()), float32(math.Inf(1))
