package ptx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"setun/internal/half"
)

// TestMMA multiplies matrices with each shape of mma. The fragments are laid out by the formulas of the PTX manual,
// element by element, and compared with a plain product.
func TestMMA(t *testing.T) {
	// The manual's rows and columns of element i of a thread's fragment. g is lane>>2, t is lane%4.
	type place func(g, t, i int) (row, col int)
	upper := func(i, of int) int { return i / of % 2 }
	a16816 := func(g, t, i int) (int, int) { return g + 8*upper(i, 2), t*2 + i&1 + 8*(i/4) }
	b16816 := func(g, t, i int) (int, int) { return t*2 + i&1 + 8*(i/2), g }
	a1688 := func(g, t, i int) (int, int) { return g + 8*(i/2), t*2 + i&1 }
	b1688 := func(g, t, i int) (int, int) { return t*2 + i, g }
	a1688tf := func(g, t, i int) (int, int) { return g + 8*(i%2), t + 4*(i/2) }
	b1688tf := func(g, t, i int) (int, int) { return t + 4*i, g }
	a1684 := func(g, t, i int) (int, int) { return g + 8*i, t }
	b1684 := func(g, t, i int) (int, int) { return t, g }
	a16832 := func(g, t, i int) (int, int) { return g + 8*upper(i, 4), t*4 + i&3 + 16*(i/8) }
	b16832 := func(g, t, i int) (int, int) { return t*4 + i&3 + 16*(i/4), g }
	a16816b := func(g, t, i int) (int, int) { return g + 8*(i/4), t*4 + i&3 }
	b16816b := func(g, t, i int) (int, int) { return t*4 + i, g }
	c168 := func(g, t, i int) (int, int) { return g + 8*(i/2), t*2 + i&1 }
	for _, c := range []struct {
		shape, types string
		k            int
		a, b         place
		na, nb       int // elements of a fragment
		bits         int // of an element
	}{
		{"m16n8k16", "f32.bf16.bf16.f32", 16, a16816, b16816, 8, 4, 16},
		{"m16n8k16", "f32.f16.f16.f32", 16, a16816, b16816, 8, 4, 16},
		{"m16n8k16", "f16.f16.f16.f16", 16, a16816, b16816, 8, 4, 16},
		{"m16n8k8", "f32.bf16.bf16.f32", 8, a1688, b1688, 4, 2, 16},
		{"m16n8k8", "f32.f16.f16.f32", 8, a1688, b1688, 4, 2, 16},
		{"m16n8k8", "f32.tf32.tf32.f32", 8, a1688tf, b1688tf, 4, 2, 32},
		{"m16n8k4", "f32.tf32.tf32.f32", 4, a1684, b1684, 2, 1, 32},
		{"m16n8k32", "s32.s8.s8.s32", 32, a16832, b16832, 16, 8, 8},
		{"m16n8k32", "s32.u8.s8.s32", 32, a16832, b16832, 16, 8, 8},
		{"m16n8k32", "s32.s8.u8.s32", 32, a16832, b16832, 16, 8, 8},
		{"m16n8k32", "s32.u8.u8.s32", 32, a16832, b16832, 16, 8, 8},
		{"m16n8k16", "s32.s8.u8.s32", 16, a16816b, b16816b, 8, 4, 8},
		{"m16n8k32", "satfinite.s32.s8.s8.s32", 32, a16832, b16832, 16, 8, 8},
	} {
		name := "mma.sync.aligned." + c.shape + ".row.col." + c.types
		types := strings.Split(strings.TrimPrefix(c.types, "satfinite."), ".")
		rng := rand.New(rand.NewPCG(uint64(c.k), 9))
		element := func(ty string, n int) ([]uint32, []float64) {
			raw, val := make([]uint32, n), make([]float64, n)
			for i := range raw {
				v := rng.IntN(255) - 127
				switch ty {
				case "bf16":
					raw[i], val[i] = uint32(half.BF16(float32(v)/8)), float64(v)/8
				case "f16":
					raw[i], val[i] = uint32(half.F16(float32(v)/8)), float64(v)/8
				case "tf32": // with low bits that do not count
					raw[i], val[i] = math.Float32bits(float32(v)/8)|uint32(rng.IntN(1<<13)), float64(v)/8
				case "s8":
					v -= rng.IntN(2)
					raw[i], val[i] = uint32(v)&0xff, float64(v)
				case "u8":
					v += 128
					raw[i], val[i] = uint32(v), float64(v)
				}
			}
			return raw, val
		}
		ra, a := element(types[1], 16*c.k)
		rb, b := element(types[2], c.k*8)
		cc := make([]float64, 16*8)
		for i := range cc {
			cc[i] = float64(rng.IntN(64) - 32)
		}
		if strings.HasPrefix(c.types, "sat") {
			cc[3] = math.MaxInt32 - 5
			cc[77] = math.MinInt32 + 5
			for i := range c.k { // large products of one sign there
				a[i], ra[i] = 100, 100
				b[i*8+3], rb[i*8+3] = 100, 100
				a[77/8*c.k+i], ra[77/8*c.k+i] = 0x80-256, 0x80
				b[i*8+77%8], rb[i*8+77%8] = 100, 100
			}
		}
		// Registers of each lane: words of A, B, C.
		var in []int32
		wa, wb, wc := c.na*c.bits/32, c.nb*c.bits/32, 4
		if types[0] == "f16" {
			wc = 2
		}
		words := make([]uint32, 32*(wa+wb+wc))
		for lane := range 32 {
			w := words[lane*(wa+wb+wc):]
			set := func(w []uint32, i, bits int, v uint32) { w[i*bits/32] |= v << (i * bits % 32) }
			for i := range c.na {
				r, k := c.a(lane>>2, lane%4, i)
				set(w, i, c.bits, ra[r*c.k+k])
			}
			for i := range c.nb {
				k, n := c.b(lane>>2, lane%4, i)
				set(w[wa:], i, c.bits, rb[k*8+n])
			}
			for i := range 4 {
				r, n := c168(lane>>2, lane%4, i)
				switch types[0] {
				case "f32":
					w[wa+wb+i] = math.Float32bits(float32(cc[r*8+n]))
				case "s32":
					w[wa+wb+i] = uint32(int32(cc[r*8+n]))
				case "f16":
					set(w[wa+wb:], i, 16, uint32(half.F16(float32(cc[r*8+n]))))
				}
			}
		}
		for _, w := range words {
			in = append(in, int32(w))
		}
		list := func(prefix string, n int) string {
			var s []string
			for i := range n {
				s = append(s, fmt.Sprint(prefix, i))
			}
			return "{" + strings.Join(s, ", ") + "}"
		}
		var load, store strings.Builder
		for i := range wa + wb + wc {
			fmt.Fprintf(&load, "\tld.global.u32 %s, [%%s+%d];\n",
				append(append(names("%a", wa), names("%b", wb)...), names("%c", wc)...)[i], 4*i)
		}
		for i := range wc {
			fmt.Fprintf(&store, "\tst.global.u32 [%%o+%d], %%d%d;\n", 4*i, i)
		}
		r := newRig(t, Config{}, entry("\t.reg .b32 %a<4>, %b<4>, %c<4>, %d<4>;\n", fmt.Sprintf(`
	mad.wide.u32 %%s, %%i, %d, %%s;
	mad.wide.u32 %%o, %%i, %d, %%o;
%s	%s %s, %s, %s, %s;
%s`, 4*(wa+wb+wc), 4*wc, load.String(), name, list("%d", wc), list("%a", wa), list("%b", wb),
			list("%c", wc), store.String())))
		out := r.ints(make([]int32, 32*wc)...)
		r.must(r.launch("k", dim(1), dim(32), 0, out, r.ints(in...)))
		got := r.words(out, 32*wc)
		for lane := range 32 {
			for i := range 4 {
				row, n := c168(lane>>2, lane%4, i)
				want := cc[row*8+n]
				for k := range c.k {
					want += a[row*c.k+k] * b[k*8+n]
				}
				var have float64
				switch types[0] {
				case "f32":
					have = float64(math.Float32frombits(got[lane*wc+i]))
				case "s32":
					have = float64(int32(got[lane*wc+i]))
					want = max(math.MinInt32, min(math.MaxInt32, want))
				case "f16":
					have = float64(half.FromF16(uint16(got[lane*wc+i/2] >> (16 * (i % 2)))))
					want = float64(half.FromF16(half.F16(float32(want))))
				}
				if have != want {
					t.Fatalf("%s: row %d column %d is %v, want %v", name, row, n, have, want)
				}
			}
		}
	}
	// Part of a warp.
	r := newRig(t, Config{}, entry("", `
	mov.u32 %r1, 0;
	setp.lt.u32 %p, %i, 31;
	@!%p bra done;
	mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r2, %r3, %r4, %r5}, {%r1, %r1}, {%r1}, {%r1, %r1, %r1, %r1};
done:`))
	if err := r.launch("k", dim(1), dim(32), 0, 0, 0); err == nil || !strings.Contains(err.Error(),
		"0x80000000, which never come") {
		t.Error(err)
	}
}

func names(prefix string, n int) []string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprint(prefix, i))
	}
	return s
}

func TestMMA64(t *testing.T) {
	r := newRig(t, Config{}, entry("\t.reg .f64 %f<6>;\n", `
	mad.wide.u32 %s, %i, 32, %s;
	mad.wide.u32 %o, %i, 16, %o;
	ld.global.v2.f64 {%f0, %f1}, [%s];
	ld.global.v2.f64 {%f2, %f3}, [%s+16];
	mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%f4, %f5}, {%f0}, {%f1}, {%f2, %f3};
	st.global.v2.f64 [%o], {%f4, %f5};`))
	a, b, c := randomFloats(32), randomFloats(40)[8:], randomFloats(104)[40:]
	in := make([]byte, 32*32)
	for lane := range 32 {
		for i, v := range []float32{a[lane], b[lane], c[lane/4*8+lane%4*2], c[lane/4*8+lane%4*2+1]} {
			le.PutUint64(in[32*lane+8*i:], math.Float64bits(float64(v)))
		}
	}
	out := r.bytes(make([]byte, 512))
	r.must(r.launch("k", dim(1), dim(32), 0, out, r.bytes(in)))
	w := r.words(out, 128)
	for row := range 8 {
		for col := range 8 {
			want := c[row*8+col]
			for k := range 4 { // A: row lane>>2, column lane%4; B: row lane%4, column lane>>2
				want += a[row*4+k] * b[col*4+k]
			}
			i := (row*4+col/2)*2 + col%2
			got := math.Float64frombits(uint64(w[2*i+1])<<32 | uint64(w[2*i]))
			if got != float64(want) {
				t.Fatalf("row %d column %d is %v, want %v", row, col, got, want)
			}
		}
	}
}

func TestLdmatrix(t *testing.T) {
	for _, n := range []int{1, 2, 4} {
		for _, trans := range []string{"", ".trans"} {
			regs := "{" + strings.Join(names("%d", n), ", ") + "}"
			var store strings.Builder
			for i := range n {
				fmt.Fprintf(&store, "\tst.global.u32 [%%o+%d], %%d%d;\n", 4*i, i)
			}
			code := func(sync string) string {
				return entry("\t.reg .b32 %d<4>;\n\t.shared .align 16 .b8 t[512];\n", `
	mov.u32 %r1, t;
	mad.lo.u32 %r2, %i, 16, %r1;
	mul.lo.u32 %r3, %i, 8;
	mad.lo.u32 %r3, %r3, 0x10000, %r3;
	add.u32 %r3, %r3, 0x10000;
	add.u32 %r4, %r3, 0x20002;
	add.u32 %r5, %r3, 0x40004;
	add.u32 %r6, %r3, 0x60006;
	st.shared.v4.u32 [%r2], {%r3, %r4, %r5, %r6};
`+sync+`
	ldmatrix.sync.aligned.m8n8.x`+itoa(n)+trans+`.shared.b16 `+regs+`, [%r2];
	mad.wide.u32 %o, %i, `+itoa(4*n)+`, %o;
`+store.String())
			}
			r := newRig(t, Config{}, code("bar.warp.sync -1;"))
			out := r.ints(make([]int32, 32*n)...)
			r.must(r.launch("k", dim(1), dim(32), 0, out, 0))
			got := r.words(out, 32*n)
			for lane := range 32 {
				for m := range n {
					var want uint32
					for j := range 2 {
						row, col := lane/4, lane%4*2+j
						if trans != "" {
							row, col = col, row
						}
						want |= uint32((8*m+row)*8+col) << (16 * j)
					}
					if got[lane*n+m] != want {
						t.Fatalf("x%d%s: lane %d register %d is %#x, want %#x", n, trans, lane, m, got[lane*n+m], want)
					}
				}
			}
			r = newRig(t, Config{}, code(""))
			if err := r.launch("k", dim(1), dim(32), 0, out, 0); err == nil || !strings.Contains(err.Error(), "race") {
				t.Errorf("without bar.warp.sync: %v", err)
			}
		}
	}
}

// TestAsyncCopy: two buffers, of which the older is waited for; and what happens without the wait, or without the
// barrier.
func TestAsyncCopy(t *testing.T) {
	code := func(wait, barrier, size string) string {
		return entry("\t.shared .align 16 .b8 t[2048];\n", `
	mov.u32 %r1, t;
	mad.lo.u32 %r2, %i, 16, %r1;
	mad.wide.u32 %s, %i, 16, %s;
	cp.async.cg.shared.global [%r2], [%s], 16;
	cp.async.commit_group;
	cp.async.ca.shared.global [%r2+1024], [%s], 16`+size+`;
	cp.async.commit_group;
	`+wait+`
	`+barrier+`
	xor.b32 %r3, %i, 1;
	mad.lo.u32 %r2, %r3, 16, %r1;
	ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r2];
	cp.async.wait_all;
	`+barrier+`
	ld.shared.v4.u32 {%r8, %r9, %r10, %r11}, [%r2+1024];
	mad.wide.u32 %o, %r3, 32, %o;
	st.global.v4.u32 [%o], {%r4, %r5, %r6, %r7};
	st.global.v4.u32 [%o+16], {%r8, %r9, %r10, %r11};`)
	}
	var in []int32
	for i := range int32(256) {
		in = append(in, i+1)
	}
	for _, c := range []struct {
		wait, barrier, size string
		bytes               int
		want                string
	}{
		{"cp.async.wait_group 1;", "bar.sync 0;", "", 16, ""},
		{"cp.async.wait_group 1;", "bar.sync 0;", ", 8", 8, ""},
		{"cp.async.wait_group 1;", "bar.sync 0;", ", 0", 0, ""},
		{"cp.async.wait_group 1;", "", "", 16, "race: reads"},
		{"cp.async.wait_group 2;", "bar.sync 0;", "", 16, "an asynchronous copy under way of thread (1,0,0)"},
		{"", "bar.sync 0;", "", 16, "an asynchronous copy under way"},
	} {
		r := newRig(t, Config{}, code(c.wait, c.barrier, c.size))
		out := r.ints(make([]int32, 512)...)
		err := r.launch("k", dim(1), dim(64), 0, out, r.ints(in...))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v", c, err)
			}
			continue
		}
		r.must(err)
		for i, w := range r.words(out, 512) {
			want := uint32(i/8*4 + i%4 + 1)
			if i%8 >= 4 && i%4 >= c.bytes/4 {
				want = 0
			}
			if w != want {
				t.Fatalf("%v: word %d is %d, want %d", c, i, w, want)
			}
		}
	}
	// A copy into what others may still read.
	r := newRig(t, Config{}, entry("\t.shared .align 16 .b8 t[1024];\n", `
	mov.u32 %r1, t;
	mad.lo.u32 %r2, %i, 16, %r1;
	st.shared.v4.u32 [%r2], {%i, %i, %i, %i};
	bar.sync 0;
	xor.b32 %r3, %i, 32;
	mad.lo.u32 %r4, %r3, 16, %r1;
	ld.shared.u32 %r5, [%r4];
	cp.async.ca.shared.global [%r2], [%s], 4;
	cp.async.wait_all;`))
	if err := r.launch("k", dim(1), dim(64), 0, 0, r.ints(1)); err == nil || !strings.Contains(err.Error(), "race") {
		t.Error(err)
	}
}
