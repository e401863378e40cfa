package ptx

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"setun/device/cuda/driver"
)

// A rig is a GPU with a module, for tests.
type rig struct {
	t *testing.T
	g *GPU
	m driver.Module
}

func newRig(t *testing.T, cfg Config, src string) *rig {
	t.Helper()
	g := Open(cfg)
	m, err := g.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, g, m}
}

func testdata(t *testing.T, cfg Config) *rig {
	t.Helper()
	src, err := os.ReadFile("testdata/kernels.ptx")
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, cfg, string(src))
}

// floats puts numbers into device memory; ints does so too.
func (r *rig) floats(x ...float32) uint64 {
	b := make([]byte, 4*len(x))
	for i, v := range x {
		le.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return r.bytes(b)
}

func (r *rig) ints(x ...int32) uint64 {
	b := make([]byte, 4*len(x))
	for i, v := range x {
		le.PutUint32(b[4*i:], uint32(v))
	}
	return r.bytes(b)
}

func (r *rig) bytes(b []byte) uint64 {
	r.t.Helper()
	p, err := r.g.Alloc(len(b))
	if err != nil {
		r.t.Fatal(err)
	}
	h, _ := r.g.HostAlloc(len(b))
	copy(h, b)
	r.g.Upload(p, h)
	return uint64(p)
}

// launch runs a kernel and gives the error of the wait.
func (r *rig) launch(name string, grid, block driver.Dim, shared int, args ...uint64) error {
	r.t.Helper()
	f, err := r.g.Function(r.m, name, shared)
	if err != nil {
		r.t.Fatal(err)
	}
	r.g.Launch(f, grid, block, shared, args)
	return r.g.Sync()
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) words(p uint64, n int) []uint32 {
	r.t.Helper()
	h, _ := r.g.HostAlloc(4 * n)
	r.must(r.g.Download(h, driver.Ptr(p)))
	r.must(r.g.Sync())
	out := make([]uint32, n)
	for i := range out {
		out[i] = le.Uint32(h[4*i:])
	}
	return out
}

func (r *rig) read(p uint64, n int) []float32 {
	r.t.Helper()
	out := make([]float32, n)
	for i, w := range r.words(p, n) {
		out[i] = math.Float32frombits(w)
	}
	return out
}

func dim(x ...int) driver.Dim {
	x = append(x, 1, 1)
	return driver.Dim{X: x[0], Y: x[1], Z: x[2]}
}

func randomFloats(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.IntN(17) - 8)
	}
	return x
}

// Every committed kernel compiles.
func TestCommittedKernels(t *testing.T) {
	files, err := filepath.Glob("../kernels/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatal("no kernels", err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{}).Load(string(src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMatmul(t *testing.T) {
	m, n, k := 33, 40, 50
	a, b := randomFloats(m*k), randomFloats(k*n)
	want := make([]float32, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				want[i*n+j] += a[i*k+l] * b[l*n+j]
			}
		}
	}
	for kernel, bug := range map[string]string{"matmulRight": "", "matmulNoFirstBarrier": "reads shared memory",
		"matmulNoSecondBarrier": "writes shared memory"} {
		r := testdata(t, Config{})
		c := r.floats(make([]float32, m*n)...)
		err := r.launch(kernel, dim((n+15)/16, (m+15)/16), dim(256), 0, c, r.floats(a...), r.floats(b...), uint64(m),
			uint64(n), uint64(k))
		if bug != "" {
			if err == nil || !strings.Contains(err.Error(), "race: "+bug) {
				t.Errorf("%s: %v", kernel, err)
			}
			continue
		}
		r.must(err)
		for i, got := range r.read(c, m*n) {
			if got != want[i] {
				t.Fatalf("element %d is %v, want %v", i, got, want[i])
			}
		}
	}
}

func TestReduction(t *testing.T) {
	r := testdata(t, Config{})
	n := 12345
	x := randomFloats(n)
	out := r.floats(make([]float32, 3)...)
	r.must(r.launch("blockSum", dim(3), dim(192), 0, out, r.floats(x...), uint64(n)))
	want, got := float32(0), float32(0)
	for _, v := range x {
		want += v
	}
	for _, v := range r.read(out, 3) {
		got += v
	}
	if got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestHistogram(t *testing.T) {
	r := testdata(t, Config{})
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]byte, 5000)
	var want [64]int32
	for i := range x {
		x[i] = byte(rng.IntN(64))
		want[x[i]]++
	}
	counts := r.ints(make([]int32, 64)...)
	r.must(r.launch("histogram", dim(4), dim(128), 0, counts, r.bytes(x), uint64(len(x))))
	for i, v := range r.words(counts, 64) {
		if int32(v) != want[i] {
			t.Errorf("%d stands %d times, want %d", i, v, want[i])
		}
	}
	if n := r.g.Launches(); n["histogram"] != 1 || n["reverse"] != 0 {
		t.Error(n)
	}
	err := r.launch("histogramNoBarrier", dim(1), dim(128), 0, counts, r.bytes(x), uint64(len(x)))
	if err == nil || !strings.Contains(err.Error(), "race: reads") {
		t.Error(err)
	}
}

func TestDynamicShared(t *testing.T) {
	r := testdata(t, Config{})
	x := randomFloats(200)
	y := r.floats(make([]float32, 200)...)
	r.must(r.launch("reverse", dim(2), dim(100), 400, y, r.floats(x...)))
	for i, v := range r.read(y, 200) {
		if want := x[i/100*100+99-i%100]; v != want {
			t.Fatalf("%d: %v, want %v", i, v, want)
		}
	}
	err := r.launch("reverse", dim(2), dim(100), 396, y, r.floats(x...))
	if err == nil || !strings.Contains(err.Error(), "thread (99,0,0)") || !strings.Contains(err.Error(),
		"dynamic shared memory") {
		t.Error(err)
	}
}

func TestCalls(t *testing.T) {
	r := testdata(t, Config{})
	var x []int32
	for i := range int32(300) {
		x = append(x, i*37)
	}
	y := r.ints(make([]int32, len(x))...)
	r.must(r.launch("palindromes", dim(2), dim(160), 0, y, r.ints(x...), uint64(len(x))))
	reversed := func(v int32) (w int32) {
		for ; v > 0; v /= 10 {
			w = w*10 + v%10
		}
		return w
	}
	for i, got := range r.words(y, len(x)) {
		want := int32(-1)
		if reversed(x[i]) == x[i] {
			want = reversed(x[i] / 7)
		}
		if int32(got) != want {
			t.Fatalf("%d gives %d, want %d", x[i], int32(got), want)
		}
	}
}

func TestDivergence(t *testing.T) {
	r := testdata(t, Config{})
	var x []int32
	for i := range int32(500) {
		x = append(x, i+1)
	}
	y := r.ints(make([]int32, len(x))...)
	r.must(r.launch("collatz", dim(3), dim(192), 0, y, r.ints(x...), uint64(len(x))))
	for i, got := range r.words(y, len(x)) {
		want, v := int32(0), x[i]
		for v != 1 {
			if want > 200 {
				want = -1
				break
			}
			if v%2 == 1 {
				if v = 3*v + 1; v%4 == 0 {
					continue
				}
			} else {
				v /= 2
			}
			want++
		}
		if int32(got) != want {
			t.Fatalf("%d takes %d steps, want %d", x[i], int32(got), want)
		}
	}
}

func TestModuleMemory(t *testing.T) {
	r := testdata(t, Config{})
	y := r.ints(0, 0, 0)
	r.must(r.launch("lookup", dim(1), dim(3), 0, y, r.ints(7, 0, 3)))
	if got := r.words(y, 3); got[0] != 149 || got[1] != 100 || got[2] != 109 {
		t.Error(got)
	}
	if err := r.launch("lookup", dim(1), dim(3), 0, y, r.ints(7, 8, 3)); err == nil || !strings.Contains(err.Error(),
		"past the end of squares") {
		t.Error(err)
	}
}

// TestBugs keeps what the interpreter must find. The text must say where.
func TestBugs(t *testing.T) {
	x := make([]float32, 64)
	for i := range x {
		x[i] = float32(i - 20)
	}
	one := func(kernel string, threads int, extra ...uint64) func(r *rig) error {
		return func(r *rig) error {
			y := r.floats(make([]float32, 64)...)
			return r.launch(kernel, dim(1), dim(threads), 0, append([]uint64{y, r.floats(x...)}, extra...)...)
		}
	}
	for _, c := range []struct {
		name string
		cfg  Config
		run  func(r *rig) error
		want []string // "" for none
	}{
		{"out of bounds", Config{}, one("offByOne", 64, 64), []string{"offByOne", "thread (63,0,0)", "ld.global",
			"read of 4 bytes",
			"0 bytes past the end of allocation", "256 bytes", "ILLEGAL_ADDRESS"}},
		{"in bounds", Config{}, one("offByOne", 64, 63), nil},
		{"null pointer", Config{}, func(r *rig) error {
			return r.launch("nullPointer", dim(1), dim(1), 0, r.floats(1), 0)
		}, []string{"null pointer"}},
		{"use after free", Config{}, func(r *rig) error {
			p := r.floats(x...)
			r.must(r.g.Free(driver.Ptr(p)))
			return r.launch("offByOne", dim(1), dim(32), 0, r.floats(x...), p, 32)
		}, []string{"freed"}},
		{"barrier in a divergent branch", Config{}, one("divergentBarrier", 64), []string{"barrier in a divergent branch",
			"bar.sync"}},
		{"different barriers", Config{}, one("otherBarrier", 64, 64), []string{"different barrier instructions"}},
		{"misaligned", Config{}, one("misaligned", 32), []string{"misaligned read of 16 bytes", "thread (1,0,0)",
			"MISALIGNED"}},
		{"uninitialised", Config{}, one("uninitialised", 64), []string{"read of uninitialised shared memory", "byte 252",
			"thread (0,0,0)"}},
		{"uninitialised, allowed", Config{AllowUninitialised: true}, one("uninitialised", 64), nil},
		{"absent lanes", Config{}, one("absentLanes", 32, 20), []string{"lanes 0xfffff", "wait for lanes 0xfff00000",
			"shfl.sync"}},
		{"absent lanes of a short block", Config{}, one("absentLanes", 20, 20),
			[]string{"shuffle from lane 20, which is not here"}},
		{"all lanes", Config{}, one("absentLanes", 32, 32), nil},
		{"lanes run apart", Config{}, one("noWarpSync", 32), []string{"race: reads", "written by thread (31,0,0)"}},
		{"lanes meet", Config{}, one("warpSync", 32), nil},
		{"different values", Config{}, func(r *rig) error {
			return r.launch("sameWord", dim(1), dim(32), 0, r.ints(make([]int32, 32)...))
		}, []string{"different values"}},
		{"different values, unchecked", Config{NoCheck: true}, func(r *rig) error {
			return r.launch("sameWord", dim(1), dim(32), 0, r.ints(make([]int32, 32)...))
		}, nil},
		{"no end", Config{Steps: 10000}, func(r *rig) error {
			return r.launch("endless", dim(1), dim(32), 0, r.ints(make([]int32, 32)...))
		}, []string{"still running", "LAUNCH_TIMEOUT"}},
		{"no end, with barriers", Config{Steps: 10000}, func(r *rig) error {
			return newRig(r.t, r.g.cfg, entry("", "again: bar.sync 0;\n bra again;")).launch("k", dim(1), dim(64), 0, 0, 0)
		}, []string{"still running"}},
		{"shared overrun", Config{}, func(r *rig) error {
			return r.launch("sharedOverrun", dim(1), dim(32), 0, r.floats(x...), 1)
		}, []string{"shared memory", "sharedOverrun"}},
		{"local overrun", Config{}, func(r *rig) error {
			return r.launch("bigStack", dim(1), dim(32), 0, r.ints(make([]int32, 32)...), 8)
		}, []string{"local memory"}},
		{"too few arguments", Config{}, func(r *rig) error {
			return r.launch("scale4", dim(1), dim(32), 0, r.floats(x...), r.floats(x...), 1)
		}, []string{"3 arguments for 4 parameters"}},
		{"too much shared memory", Config{}, func(r *rig) error {
			f, err := r.g.Function(r.m, "reverse", 0)
			r.must(err)
			y := r.floats(x...)
			r.g.Launch(f, dim(1), dim(32), 50<<10, []uint64{y, y})
			return r.g.Sync()
		}, []string{"51200 bytes of dynamic shared memory, 49152 allowed"}},
		{"too many threads", Config{}, func(r *rig) error {
			return r.launch("reverse", dim(1), dim(32, 33), 0, r.floats(x...), r.floats(x...))
		}, []string{"block {32 33 1}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testdata(t, c.cfg)
			err := c.run(r)
			if c.want == nil {
				r.must(err)
				return
			}
			if err == nil {
				t.Fatal("not found")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if strings.HasPrefix(c.name, "no end, with") {
				return
			}
			if again := r.g.Sync(); !errors.Is(again, err) {
				t.Errorf("the error does not stick: %v", again)
			}
			if _, e := r.g.Alloc(4); e == nil {
				t.Error("the error does not stick in Alloc")
			}
		})
	}
}

func TestVectors(t *testing.T) {
	r := testdata(t, Config{})
	x := randomFloats(400)
	y := r.floats(make([]float32, 400)...)
	r.must(r.launch("scale4", dim(2), dim(64), 0, y, r.floats(x...), uint64(math.Float32bits(3)), 100))
	for i, v := range r.read(y, 400) {
		if v != 3*x[i] {
			t.Fatalf("%d: %v, want %v", i, v, 3*x[i])
		}
	}
}

// entry is a module with one kernel k of pointers out and in, %o and %s, and thread index %i.
func entry(decl, body string) string {
	return `.version 7.1
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 in)
{
	.reg .pred %p, %q;
	.reg .b32 %i, %r<20>;
	.reg .b64 %o, %s, %rd<8>;
` + decl + `
	ld.param.u64 %o, [out];
	ld.param.u64 %s, [in];
	mov.u32 %i, %tid.x;
` + body + `
	ret;
}
`
}

// TestShuffles compares with CUDA's definition by segments of a width.
func TestShuffles(t *testing.T) {
	for _, mode := range []string{"up", "down", "bfly", "idx"} {
		for _, width := range []int{32, 16, 8, 4, 2, 1} {
			for _, n := range []int{0, 1, 3, 5, 16, 31} {
				c := (32 - width) << 8
				if mode != "up" {
					c |= 31
				}
				r := newRig(t, Config{}, entry("", `
	mul.lo.u32 %r1, %i, 7;
	shfl.sync.`+mode+`.b32 %r2|%p, %r1, `+itoa(n)+`, `+itoa(c)+`, -1;
	selp.u32 %r3, 1000, 0, %p;
	add.u32 %r2, %r2, %r3;
	mad.wide.u32 %o, %i, 4, %o;
	st.global.u32 [%o], %r2;`))
				out := r.ints(make([]int32, 32)...)
				r.must(r.launch("k", dim(1), dim(32), 0, out, 0))
				for lane, got := range r.words(out, 32) {
					first := lane / width * width
					from, ok := 0, true
					switch mode {
					case "up":
						from = lane - n
						ok = from >= first
					case "down":
						from = lane + n
						ok = from < first+width
					case "bfly":
						from = lane ^ n
						ok = from < first+width
					case "idx":
						from = first + n%width
					}
					want := 1000 + 7*from
					if !ok {
						want = 7 * lane
					}
					if int(got) != want {
						t.Fatalf("%s by %d in %d: lane %d has %d, want %d", mode, n, width, lane, got, want)
					}
				}
			}
		}
	}
}

func itoa(n int) string { return string(appendInt(nil, n)) }

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

func TestVotes(t *testing.T) {
	r := newRig(t, Config{}, entry("", `
	setp.lt.u32 %p, %i, 10;
	vote.sync.ballot.b32 %r1, %p, -1;
	vote.sync.any.pred %q, %p, -1;
	selp.u32 %r2, 1, 0, %q;
	vote.sync.all.pred %q, %p, -1;
	selp.u32 %r3, 2, 0, %q;
	vote.sync.all.pred %q, !%p, -1;
	selp.u32 %r4, 4, 0, %q;
	vote.sync.uni.pred %q, %p, -1;
	selp.u32 %r5, 8, 0, %q;
	add.u32 %r2, %r2, %r3;
	add.u32 %r2, %r2, %r4;
	add.u32 %r2, %r2, %r5;
	shr.u32 %r6, %i, 3;
	match.any.sync.b32 %r7, %r6, -1;
	match.all.sync.b32 %r8|%q, %r6, -1;
	redux.sync.add.s32 %r9, %i, -1;
	redux.sync.max.u32 %r10, %i, -1;
	mov.u32 %r11, 0;
	@!%p bra rest;
	activemask.b32 %r11;
	vote.sync.all.pred %q, %p, 0x3ff;
	@%q redux.sync.min.u32 %r9, %i, 0x3ff;
	bar.warp.sync 0x3ff;
rest:
	mad.wide.u32 %o, %i, 32, %o;
	st.global.v4.u32 [%o], {%r1, %r2, %r7, %r8};
	st.global.v4.u32 [%o+16], {%r9, %r10, %r11, 0};`))
	out := r.ints(make([]int32, 32*8)...)
	r.must(r.launch("k", dim(1), dim(32), 0, out, 0))
	w := r.words(out, 32*8)
	for lane := range 32 {
		want := [8]uint32{0x3ff, 1, 0xff << (lane / 8 * 8), 0, 496, 31}
		if lane < 10 {
			want[4], want[6] = 0, 0x3ff
		}
		if got := [8]uint32(w[8*lane:]); got != want {
			t.Errorf("lane %d: %#x, want %#x", lane, got, want)
		}
	}
}

// TestBarriers: barriers of some warps, reductions over the block, and barrier.sync in branches.
func TestBarriers(t *testing.T) {
	r := newRig(t, Config{}, entry("\t.shared .align 4 .b8 t[512];\n", `
	shr.u32 %r1, %i, 5;
	setp.lt.u32 %p, %i, 40;
	barrier.red.popc.u32 %r2, 0, %p;
	bar.red.or.pred %q, 0, %p;
	selp.u32 %r3, 100, 0, %q;
	bar.red.and.pred %q, 0, %p;
	selp.u32 %r4, 1000, 0, %q;
	add.u32 %r2, %r2, %r3;
	add.u32 %r2, %r2, %r4;
	// Warps 0 and 1 exchange at barrier 1, warps 2 and 3 at barrier 2.
	shr.u32 %r5, %r1, 1;
	add.u32 %r5, %r5, 1;
	mov.u32 %r6, t;
	mad.lo.u32 %r7, %i, 4, %r6;
	st.shared.u32 [%r7], %i;
	bar.sync %r5, 64;
	xor.b32 %r8, %i, 32;
	mad.lo.u32 %r7, %r8, 4, %r6;
	ld.shared.u32 %r9, [%r7];
	// Lanes of a warp at one barrier in two places.
	setp.lt.u32 %p, %i, 7;
	@%p bra left;
	barrier.sync 0;
	bra done;
left:
	barrier.sync 0;
done:
	mad.wide.u32 %o, %i, 8, %o;
	st.global.v2.u32 [%o], {%r2, %r9};`))
	out := r.ints(make([]int32, 256)...)
	r.must(r.launch("k", dim(1), dim(128), 0, out, 0))
	for i, w := range r.words(out, 256) {
		if want := uint32([]int{140, i/2 ^ 32}[i%2]); w != want {
			t.Fatalf("%d: %d, want %d", i, w, want)
		}
	}
	// Who meets at different barriers has not met.
	r = newRig(t, Config{}, entry("\t.shared .align 4 .b8 t[256];\n", `
	shr.u32 %r1, %i, 5;
	mov.u32 %r6, t;
	mad.lo.u32 %r7, %i, 4, %r6;
	st.shared.u32 [%r7], %i;
	bar.sync %r1, 32;
	xor.b32 %r8, %i, 32;
	mad.lo.u32 %r7, %r8, 4, %r6;
	ld.shared.u32 %r9, [%r7];`))
	if err := r.launch("k", dim(1), dim(64), 0, 0, 0); err == nil || !strings.Contains(err.Error(), "race") {
		t.Error(err)
	}
}

func TestAtomics(t *testing.T) {
	for _, c := range []struct {
		op         string
		start, arg uint64
		f          func(old, i uint64) uint64
	}{
		{"add.u32", 5, 0, func(o, i uint64) uint64 { return uint64(uint32(o + i)) }},
		{"min.s32", 0xffffffff, 0, func(o, i uint64) uint64 { return uint64(uint32(min(int32(o), int32(i)-9))) }},
		{"max.u32", 3, 0, func(o, i uint64) uint64 { return max(o, i) }},
		{"and.b32", 0xff, 0, func(o, i uint64) uint64 { return o & i }},
		{"or.b32", 0xf00, 0, func(o, i uint64) uint64 { return o | i }},
		{"xor.b32", 0xf00, 0, func(o, i uint64) uint64 { return o ^ i }},
		{"exch.b32", 1, 0, func(o, i uint64) uint64 { return i }},
		{"inc.u32", 3, 0, func(o, i uint64) uint64 {
			if o >= i {
				return 0
			}
			return o + 1
		}},
		{"dec.u32", 3, 0, func(o, i uint64) uint64 {
			if o == 0 || o > i {
				return i
			}
			return o - 1
		}},
		{"add.f32", 0x3f800000, 0, nil},
	} {
		arg := "%i"
		pre := ""
		f := c.f
		if c.op == "min.s32" {
			pre, arg = "sub.u32 %r3, %i, 9;\n", "%r3"
		}
		if c.op == "add.f32" {
			pre, arg = "cvt.rn.f32.u32 %r3, %i;\n", "%r3"
			f = func(o, i uint64) uint64 {
				return uint64(math.Float32bits(math.Float32frombits(uint32(o)) + float32(i)))
			}
		}
		r := newRig(t, Config{}, entry("", pre+`
	atom.global.`+c.op+` %r1, [%s], `+arg+`;
	mad.wide.u32 %o, %i, 4, %o;
	st.global.u32 [%o], %r1;`))
		p, out := r.ints(int32(c.start)), r.ints(make([]int32, 40)...)
		r.must(r.launch("k", dim(1), dim(40), 0, out, p))
		old := c.start
		for i, got := range r.words(out, 40) {
			if uint64(got) != old {
				t.Errorf("%s: thread %d got %#x, want %#x", c.op, i, got, old)
			}
			old = f(old, uint64(i))
		}
		if got := r.words(p, 1)[0]; uint64(got) != old {
			t.Errorf("%s: %#x, want %#x", c.op, got, old)
		}
	}
	// A lock-free list: each thread takes the place that compare-and-swap gives it.
	r := newRig(t, Config{}, entry("", `
	mov.u32 %r1, 0;
again:
	add.u32 %r2, %r1, 1;
	atom.cas.b32 %r3, [%s], %r1, %r2;
	setp.ne.u32 %p, %r3, %r1;
	mov.u32 %r1, %r3;
	@%p bra again;
	red.global.add.u64 [%s+8], 3;
	mad.wide.u32 %o, %r3, 4, %o;
	st.global.u32 [%o], 1;`))
	p, out := r.ints(0, 0, 0, 0), r.ints(make([]int32, 100)...)
	r.must(r.launch("k", dim(2), dim(50), 0, out, p))
	for i, w := range r.words(out, 100) {
		if w != 1 {
			t.Errorf("nobody took place %d", i)
		}
	}
	if w := r.words(p, 4); w[0] != 100 || w[2] != 300 {
		t.Error(w)
	}
}

func TestGenericAddresses(t *testing.T) {
	r := newRig(t, Config{}, entry("\t.shared .align 8 .b8 t[256];\n\t.local .align 8 .b8 l[16];\n", `
	mov.u64 %rd1, t;
	cvta.shared.u64 %rd1, %rd1;
	mad.wide.u32 %rd1, %i, 8, %rd1;
	mov.u64 %rd2, l;
	cvta.local.u64 %rd2, %rd2;
	mad.wide.u32 %rd3, %i, 8, %o;
	isspacep.shared %p, %rd1;
	isspacep.global %q, %rd3;
	and.pred %p, %p, %q;
	isspacep.local %q, %rd2;
	and.pred %p, %p, %q;
	selp.u32 %r1, 1, 0, %p;
	st.u32 [%rd1], %i;
	st.u32 [%rd2+4], %r1;
	// Lanes with addresses in three spaces.
	rem.u32 %r2, %i, 3;
	setp.eq.u32 %p, %r2, 1;
	selp.b64 %rd4, %rd1, %rd3, %p;
	setp.eq.u32 %p, %r2, 2;
	add.u64 %rd5, %rd2, 4;
	selp.b64 %rd4, %rd5, %rd4, %p;
	st.global.u32 [%rd3], 77;
	ld.u32 %r3, [%rd4];
	st.global.u32 [%rd3], %r3;
	st.global.u32 [%rd3+4], %r1;`))
	out := r.ints(make([]int32, 64)...)
	r.must(r.launch("k", dim(1), dim(32), 0, out, 0))
	for i, w := range r.words(out, 64) {
		want := uint32(1)
		if i%2 == 0 {
			want = []uint32{77, uint32(i / 2), 1}[i/2%3]
		}
		if w != want {
			t.Errorf("%d: %d, want %d", i, w, want)
		}
	}
}

// TestSizes loads and stores all sizes into registers of all sizes.
func TestSizes(t *testing.T) {
	r := newRig(t, Config{}, entry("\t.reg .b16 %h<4>;\n", `
	ld.global.s8 %r1, [%s];
	ld.global.u8 %r2, [%s];
	ld.global.s8 %h1, [%s];
	cvt.u32.u16 %r3, %h1;
	ld.global.s16 %r4, [%s];
	ld.global.u16 %r5, [%s];
	ld.global.s32 %rd1, [%s];
	ld.global.s8 %rd2, [%s+1];
	ld.global.u32 %rd3, [%s];
	ld.global.v2.u8 {%h2, %h3}, [%s];
	st.global.v4.u32 [%o], {%r1, %r2, %r3, %r4};
	st.global.u32 [%o+16], %r5;
	st.global.v2.b16 [%o+20], {%h2, %h3};
	st.global.v2.u64 [%o+32], {%rd1, %rd2};
	st.global.u64 [%o+48], %rd3;
	st.global.u8 [%o+24], %r1;
	st.global.u8 [%o+25], %h2;
	st.global.u16 [%o+26], %rd1;
	st.global.u32 [%o+28], %rd2;`))
	out := r.ints(make([]int32, 14)...)
	r.must(r.launch("k", dim(1), dim(1), 0, out, r.bytes([]byte{0x81, 0x92, 0xa3, 0xb4})))
	want := []uint32{0xffffff81, 0x81, 0xff81, 0xffff9281, 0x9281, 0x920081, 0x92818181, 0xffffff92, 0xb4a39281,
		0xffffffff,
		0xffffff92, 0xffffffff, 0xb4a39281, 0}
	for i, w := range r.words(out, 14) {
		if w != want[i] {
			t.Errorf("word %d: %#x, want %#x", i, w, want[i])
		}
	}
}

func TestSwitch(t *testing.T) {
	r := newRig(t, Config{}, entry("", `
	rem.u32 %r1, %i, 3;
	mov.u32 %r2, 5;
	brx.idx %r1, list;
list: .branchtargets zero, one, two;
one:
	add.u32 %r2, %r2, 10;
	bra done;
zero:
	add.u32 %r2, %r2, 1;
two:
	add.u32 %r2, %r2, 100;
done:
	mad.wide.u32 %o, %i, 4, %o;
	st.global.u32 [%o], %r2;`))
	out := r.ints(make([]int32, 32)...)
	r.must(r.launch("k", dim(1), dim(32), 0, out, 0))
	for i, w := range r.words(out, 32) {
		if want := []uint32{106, 15, 105}[i%3]; w != want {
			t.Errorf("%d: %d, want %d", i, w, want)
		}
	}
}

func TestSpecialRegisters(t *testing.T) {
	r := newRig(t, Config{}, entry("", `
	mov.u32 %r1, %tid.y;
	mov.u32 %r2, %ntid.x;
	mad.lo.u32 %r1, %r1, %r2, %i;
	mov.u32 %r3, %ctaid.z;
	mov.u32 %r4, %nctaid.y;
	mov.u32 %r5, %ctaid.y;
	mad.lo.u32 %r5, %r3, %r4, %r5;
	mov.u32 %r6, %laneid;
	mov.u32 %r7, %warpid;
	mad.lo.u32 %r7, %r7, WARP_SZ, %r6;
	sub.u32 %r7, %r7, %r1;
	mov.u32 %r8, %lanemask_lt;
	popc.b32 %r8, %r8;
	sub.u32 %r8, %r8, %r6;
	mad.lo.u32 %r9, %r5, 40, %r1;
	mad.wide.u32 %o, %r9, 16, %o;
	st.global.v4.u32 [%o], {%r1, %r5, %r7, %r8};`))
	out := r.ints(make([]int32, 40*6*4)...)
	r.must(r.launch("k", dim(1, 2, 3), dim(10, 4), 0, out, 0))
	for i, w := range r.words(out, 40*6*4) {
		if want := []uint32{uint32(i / 4 % 40), uint32(i / 160), 0, 0}[i%4]; w != want {
			t.Fatalf("%d: %d, want %d", i, w, want)
		}
	}
}

// TestBlocks: memory that blocks of a launch share without atomics.
func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		name, body, want string
	}{
		{"each its own",
			"mad.wide.u32 %o, %r1, 4, %o; st.global.u32 [%o], %r1; ld.global.u32 %r2, [%s]; ld.global.u32 %r2, [%o];", ""},
		{"bytes of a word", "cvt.u64.u32 %rd1, %r1; add.u64 %o, %o, %rd1; st.global.u8 [%o], %r1;", ""},
		{"all write", "st.global.u32 [%o], %r1;", "block (0,0,0) has written"},
		{"one writes, all read", "ld.global.u32 %r2, [%o]; setp.eq.u32 %p, %r1, 3; @%p st.global.u32 [%o], %r1;",
			"another block has read"},
		{"all read what one wrote", "setp.eq.u32 %p, %r1, 0; @%p st.global.u32 [%o], %r1; ld.u32 %r2, [%o];",
			"block (0,0,0) has written"},
		{"atomics", "red.global.add.u32 [%o], %r1;", ""},
		{"atomics and a read", "red.global.add.u32 [%o], %r1; ld.global.u32 %r2, [%o];", "another block has written"},
	} {
		r := newRig(t, Config{CheckBlocks: true}, entry("", "mov.u32 %r1, %ctaid.x;\n"+c.body))
		out := r.ints(make([]int32, 16)...)
		for range 2 { // a second launch may touch what the first did
			err := r.launch("k", dim(4), dim(1), 0, out, r.ints(1))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v", c.name, err)
			}
			if err != nil {
				break
			}
		}
	}
}
