package ptx

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"setun/device/cuda/driver"
	"setun/internal/half"
)

// eval runs one piece of PTX for each row of operands: registers %a, %b, %c of the types in src, the result in %d of
// type dst ("pred" too). It runs for whole warps and again for every third lane, and checks that the others keep what
// they had.
func eval(t *testing.T, body, dst string, src []string, rows [][]uint64) []uint64 {
	t.Helper()
	var s strings.Builder
	s.WriteString(`.version 7.1
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 in, .param .u32 n, .param .u32 every)
{
	.reg .pred %skip, %p, %q;
	.reg .b32 %i, %n, %m, %x;
	.reg .b64 %o, %s, %w;
`)
	decl := func(name, ty string) {
		r := map[int]string{0: "pred", 1: "b16", 2: "b16", 4: "b32", 8: "b64"}[typeSizes[ty]]
		fmt.Fprintf(&s, "\t.reg .%s %s;\n", r, name)
	}
	decl("%d", dst)
	for i, ty := range src {
		decl([]string{"%a", "%b", "%c"}[i], ty)
	}
	s.WriteString(`
	ld.param.u64 %o, [out];
	ld.param.u64 %s, [in];
	ld.param.u32 %n, [n];
	ld.param.u32 %m, [every];
	mov.u32 %i, %tid.x;
	mov.u32 %x, %ctaid.x;
	mad.lo.s32 %i, %x, 64, %i;
	setp.ge.u32 %skip, %i, %n;
	@%skip bra done;
	mad.wide.u32 %o, %i, 8, %o;
	mad.wide.u32 %s, %i, 24, %s;
`)
	narrow := func(ty, to, from string) {
		switch typeSizes[ty] {
		case 0:
			fmt.Fprintf(&s, "\tsetp.ne.u64 %s, %s, 0;\n", to, from)
		case 8:
			fmt.Fprintf(&s, "\tmov.b64 %s, %s;\n", to, from)
		default:
			fmt.Fprintf(&s, "\tcvt.u%d.u64 %s, %s;\n", max(16, 8*typeSizes[ty]), to, from)
		}
	}
	for i, ty := range src {
		fmt.Fprintf(&s, "\tld.global.u64 %%w, [%%s+%d];\n", 8*i)
		narrow(ty, []string{"%a", "%b", "%c"}[i], "%w")
	}
	s.WriteString("\tmov.u64 %w, 0x5555555555555555;\n")
	narrow(dst, "%d", "%w")
	s.WriteString("\trem.u32 %x, %i, %m;\n\tsetp.ne.u32 %skip, %x, 0;\n\t@%skip bra store;\n\t" + body + "\nstore:\n")
	switch typeSizes[dst] {
	case 0:
		s.WriteString("\tselp.u64 %w, 1, 0, %d;\n\tst.global.u64 [%o], %w;\n")
	case 8:
		s.WriteString("\tst.global.u64 [%o], %d;\n")
	default:
		fmt.Fprintf(&s, "\tcvt.u64.u%d %%w, %%d;\n\tst.global.u64 [%%o], %%w;\n", max(16, 8*typeSizes[dst]))
	}
	s.WriteString("done:\n\tret;\n}\n")
	g := Open(Config{})
	m, err := g.Load(s.String())
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	f, err := g.Function(m, "k", 0)
	if err != nil {
		t.Fatal(err)
	}
	n := len(rows)
	host, _ := g.HostAlloc(24 * n)
	for i, r := range rows {
		for j, v := range r {
			le.PutUint64(host[24*i+8*j:], v)
		}
	}
	in, _ := g.Alloc(24 * n)
	out, _ := g.Alloc(8 * n)
	res, _ := g.HostAlloc(8 * n)
	g.Upload(in, host)
	var got []uint64
	for _, every := range []int{1, 3} {
		g.Launch(f, driver.Dim{X: (n + 63) / 64, Y: 1, Z: 1}, driver.Dim{X: 64, Y: 1, Z: 1}, 0,
			[]uint64{uint64(out), uint64(in), uint64(n), uint64(every)})
		g.Download(res, out)
		if err := g.Sync(); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		sentinel := uint64(0x5555555555555555)
		switch size := typeSizes[dst]; size {
		case 0:
			sentinel = 1
		case 8:
		default:
			sentinel &= 1<<(8*max(2, size)) - 1
		}
		for i := range rows {
			v := le.Uint64(res[8*i:])
			if every == 1 {
				got = append(got, v)
			} else if i%every != 0 && v != sentinel || i%every == 0 && v != got[i] {
				t.Fatalf("%s: lane %d of a divergent warp has %#x", body, i, v)
			}
		}
	}
	return got
}

// check compares a piece of PTX with a Go function.
func check(t *testing.T, body, dst string, src []string, rows [][]uint64, want func(a, b, c uint64) uint64) {
	t.Helper()
	got := eval(t, body, dst, src, rows)
	bad := 0
	for i, r := range rows {
		a, b, c := pad(r)
		if w := want(a, b, c); got[i] != w {
			t.Errorf("%s of %#x: %#x, want %#x", body, r, got[i], w)
			if bad++; bad > 3 {
				return
			}
		}
	}
}

func pad(r []uint64) (a, b, c uint64) {
	r = append(slices.Clone(r), 0, 0, 0)
	return r[0], r[1], r[2]
}

// values are interesting bits of a type, masked to its size: corners first, then random.
func values(ty string, n int, r *rand.Rand) []uint64 {
	var v []uint64
	switch ty {
	case "pred":
		return []uint64{0, 1}
	case "f16":
		v = []uint64{0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x3555, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00,
			0xfe01, 0x6400}
	case "bf16":
		v = []uint64{0, 0x8000, 1, 0x8001, 0x7f, 0x80, 0x3f80, 0xbf80, 0x3eab, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0xffc1}
	case "f32":
		for _, x := range []float64{0, 1, 0.1, 1.5, 2.5, 0.5, 3, 0x1p-149, 0x1p-126, 0x1.fffffep-127, 0x1p-75, 0x1p-50,
			0x1.000002p0,
			1e10, 2147483647, 2147483648, 4294967296, 65504, 65519.99, 65520, 1e-7,
			0x1.fffffep127, math.Inf(1), 127.5, 0x1p63, 0x1p64} {
			v = append(v, uint64(math.Float32bits(float32(x))), uint64(math.Float32bits(-float32(x))))
		}
		v = append(v, 0x7fc00000, 0xffc00001, 0x7f800001)
	case "f64":
		for _, x := range []float64{0, 1, 0.1, 1.5, 2.5, 0.5, 3, 0x1p-1074, 0x1p-1022, 0x1p-149, 0x1p-150, 0x1.8p-149,
			0x1.0000001p-150,
			0x1.0000010000001p0, 0x1.000001p0, 0x1.000003p0, 1e300, 2147483647.5, 2147483648, 1e19,
			0x1.fffffffp127, 0x1.ffffffp127,
			math.MaxFloat64, math.Inf(1), 65519.99999, 65520, 0x1p63, 0x1p64, 0x1p-25, 0x1.0000001p-25} {
			v = append(v, math.Float64bits(x), math.Float64bits(-x))
		}
		v = append(v, 0x7ff8000000000000, 0xfff8000000000001)
	default:
		v = []uint64{0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 32767, 32768, 65535, 65536,
			1<<31 - 1, 1 << 31,
			1<<32 - 1, 1 << 32, 1<<53 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 2, 1<<64 - 127, 1<<64 - 128, 0x123456789abcdef}
	}
	for len(v) < n {
		x := r.Uint64()
		switch {
		case ty == "f64" && r.IntN(2) == 0:
			x = math.Float64bits(r.NormFloat64())
		case ty == "f32" && r.IntN(2) == 0:
			x = uint64(math.Float32bits(float32(r.NormFloat64())))
		case ty[0] != 'f' && ty[0] != 'b' && r.IntN(2) == 0:
			x >>= r.IntN(64)
		}
		v = append(v, x)
	}
	if size := typeSizes[ty]; size < 8 {
		for i := range v {
			v[i] &= 1<<(8*max(size, 2)) - 1
		}
	}
	return v
}

// operands gives rows: all pairs of corners for two operands, and random triples.
func operands(src []string, n int) [][]uint64 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	cols := make([][]uint64, len(src))
	for i, ty := range src {
		cols[i] = values(ty, 40, r)
	}
	var rows [][]uint64
	if len(src) == 2 {
		for _, a := range cols[0] {
			for _, b := range cols[1] {
				rows = append(rows, []uint64{a, b})
			}
		}
	}
	for i, ty := range src {
		cols[i] = values(ty, 2000, r)
	}
	for k := range n {
		row := make([]uint64, len(src))
		for i := range row {
			if k < len(cols[i]) && len(src) == 1 {
				row[i] = cols[i][k]
			} else {
				row[i] = cols[i][r.IntN(len(cols[i]))]
				if r.IntN(3) == 0 {
					row[i] = cols[i][r.IntN(min(40, len(cols[i])))]
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// integer is the value of bits as a type has them.
func integer(x uint64, ty string) *big.Int {
	size := typeSizes[ty]
	if size < 8 {
		x &= 1<<(8*size) - 1
	}
	v := new(big.Int).SetUint64(x)
	if ty[0] == 's' && x>>(8*size-1) != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	return v
}

// lowBits is v modulo 2^(8 size).
func lowBits(v *big.Int, size int) uint64 {
	m := new(big.Int).Lsh(big.NewInt(1), uint(8*size))
	return new(big.Int).Mod(v, m).Uint64()
}

func TestIntegers(t *testing.T) {
	for _, size := range []int{2, 4, 8} {
		for _, sign := range []string{"s", "u"} {
			ty := fmt.Sprint(sign, 8*size)
			two := []string{ty, ty}
			three := []string{ty, ty, ty}
			bin := func(op string, f func(z, a, b *big.Int)) {
				check(t, op+"."+ty+" %d, %a, %b;", ty, two, operands(two, 500), func(a, b, _ uint64) uint64 {
					z := new(big.Int)
					f(z, integer(a, ty), integer(b, ty))
					return lowBits(z, size)
				})
			}
			bin("add", func(z, a, b *big.Int) { z.Add(a, b) })
			bin("sub", func(z, a, b *big.Int) { z.Sub(a, b) })
			bin("mul.lo", func(z, a, b *big.Int) { z.Mul(a, b) })
			hi := func(z, a, b *big.Int) { z.Rsh(z.Mul(a, b), uint(8*size)) }
			bin("mul.hi", hi)
			bin("min", func(z, a, b *big.Int) {
				if z.Set(a); b.Cmp(a) < 0 {
					z.Set(b)
				}
			})
			bin("max", func(z, a, b *big.Int) {
				if z.Set(a); b.Cmp(a) > 0 {
					z.Set(b)
				}
			})
			rows := slices.DeleteFunc(operands(two, 500), func(r []uint64) bool { return r[1] == 0 })
			for _, op := range []string{"div", "rem"} {
				check(t, op+"."+ty+" %d, %a, %b;", ty, two, rows, func(a, b, _ uint64) uint64 {
					x, y := integer(a, ty), integer(b, ty)
					if op == "div" {
						return lowBits(x.Quo(x, y), size)
					}
					return lowBits(x.Rem(x, y), size)
				})
			}
			for _, part := range []string{"lo", "hi"} {
				check(t, "mad."+part+"."+ty+" %d, %a, %b, %c;", ty, three, operands(three, 500), func(a, b, c uint64) uint64 {
					z := new(big.Int).Mul(integer(a, ty), integer(b, ty))
					if part == "hi" {
						z.Rsh(z, uint(8*size))
					}
					return lowBits(z.Add(z, integer(c, ty)), size)
				})
			}
			if size < 8 {
				wide := fmt.Sprint(sign, 16*size)
				check(t, "mul.wide."+ty+" %d, %a, %b;", wide, two, operands(two, 500), func(a, b, _ uint64) uint64 {
					return lowBits(new(big.Int).Mul(integer(a, ty), integer(b, ty)), 2*size)
				})
				src := []string{ty, ty, wide}
				check(t, "mad.wide."+ty+" %d, %a, %b, %c;", wide, src, operands(src, 500), func(a, b, c uint64) uint64 {
					z := new(big.Int).Mul(integer(a, ty), integer(b, ty))
					return lowBits(z.Add(z, integer(c, wide)), 2*size)
				})
			}
			one := []string{ty}
			if sign == "s" {
				check(t, "neg."+ty+" %d, %a;", ty, one, operands(one, 100), func(a, _, _ uint64) uint64 {
					return lowBits(new(big.Int).Neg(integer(a, ty)), size)
				})
				check(t, "abs."+ty+" %d, %a;", ty, one, operands(one, 100), func(a, _, _ uint64) uint64 {
					return lowBits(new(big.Int).Abs(integer(a, ty)), size)
				})
			}
			shift := []string{ty, "u32"}
			check(t, "shr."+ty+" %d, %a, %b;", ty, shift, operands(shift, 500), func(a, b, _ uint64) uint64 {
				return lowBits(new(big.Int).Rsh(integer(a, ty), uint(min(b, 64))), size)
			})
			check(t, fmt.Sprintf("shl.b%d %%d, %%a, %%b;", 8*size), ty, shift, operands(shift, 500), func(a, b,
				_ uint64) uint64 {
				return lowBits(new(big.Int).Lsh(integer(a, ty), uint(min(b, 64))), size)
			})
			if size >= 4 {
				check(t, "sad."+ty+" %d, %a, %b, %c;", ty, three, operands(three, 300), func(a, b, c uint64) uint64 {
					z := new(big.Int).Sub(integer(a, ty), integer(b, ty))
					return lowBits(z.Add(z.Abs(z), integer(c, ty)), size)
				})
			}
		}
		b := fmt.Sprint("b", 8*size)
		two := []string{b, b}
		mask := ^uint64(0) >> (64 - 8*size)
		check(t, "and."+b+" %d, %a, %b;", b, two, operands(two, 100), func(a, b, _ uint64) uint64 { return a & b })
		check(t, "or."+b+" %d, %a, %b;", b, two, operands(two, 100), func(a, b, _ uint64) uint64 { return a | b })
		check(t, "xor."+b+" %d, %a, %b;", b, two, operands(two, 100), func(a, b, _ uint64) uint64 { return a ^ b })
		check(t, "not."+b+" %d, %a;", b, two[:1], operands(two[:1], 100), func(a, _, _ uint64) uint64 { return ^a & mask })
		check(t, "cnot."+b+" %d, %a;", b, two[:1], operands(two[:1], 100), func(a, _,
			_ uint64) uint64 {
			return uint64(b2u(a == 0))
		})
	}
	sat := func(x int64) uint64 { return uint64(uint32(max(math.MinInt32, min(math.MaxInt32, x)))) }
	s := []string{"s32", "s32"}
	check(t, "add.sat.s32 %d, %a, %b;", "s32", s, operands(s, 100), func(a, b, _ uint64) uint64 {
		return sat(int64(int32(a)) + int64(int32(b)))
	})
	check(t, "sub.sat.s32 %d, %a, %b;", "s32", s, operands(s, 100), func(a, b, _ uint64) uint64 {
		return sat(int64(int32(a)) - int64(int32(b)))
	})
	check(t, "mul24.lo.s32 %d, %a, %b;", "s32", s, operands(s, 100), func(a, b, _ uint64) uint64 {
		return uint64(uint32(int64(int32(a)<<8>>8) * int64(int32(b)<<8>>8)))
	})
	// 128 bits by the condition code.
	w := []string{"u64", "u64", "u64"}
	check(t, "add.cc.u64 %w, %a, %b; addc.u64 %d, %c, 0;", "u64", w, operands(w, 300), func(a, b, c uint64) uint64 {
		_, carry := bits.Add64(a, b, 0)
		return c + carry
	})
	check(t, "sub.cc.u64 %w, %a, %b; subc.u64 %d, %c, 5;", "u64", w, operands(w, 300), func(a, b, c uint64) uint64 {
		_, borrow := bits.Sub64(a, b, 0)
		return c - 5 - borrow
	})
	u := []string{"u32", "u32", "u32"}
	check(t, "mad.lo.cc.u32 %x, %a, %b, %c; madc.hi.u32 %d, %a, %b, 7;", "u32", u, operands(u, 300), func(a, b,
		c uint64) uint64 {
		return (a*b + c + 7<<32) >> 32 & 0xffffffff
	})
}

func TestBits(t *testing.T) {
	bit := func(x uint64, i int) uint64 { return x >> i & 1 }
	for _, size := range []int{4, 8} {
		b := fmt.Sprint("b", 8*size)
		n := 8 * size
		one := []string{b}
		rows := operands(one, 300)
		check(t, "brev."+b+" %d, %a;", b, one, rows, func(a, _, _ uint64) (r uint64) {
			for i := range n {
				r |= bit(a, i) << (n - 1 - i)
			}
			return r
		})
		check(t, "popc."+b+" %d, %a;", "u32", one, rows, func(a, _, _ uint64) (r uint64) {
			for i := range n {
				r += bit(a, i)
			}
			return r
		})
		clz := func(a uint64) (r uint64) {
			for i := n - 1; i >= 0 && bit(a, i) == 0; i-- {
				r++
			}
			return r
		}
		check(t, "clz."+b+" %d, %a;", "u32", one, rows, func(a, _, _ uint64) uint64 { return clz(a) })
		for _, sign := range []string{"u", "s"} {
			find := func(a uint64) uint64 {
				if sign == "s" && bit(a, n-1) == 1 {
					a = ^a & (^uint64(0) >> (64 - n))
				}
				return uint64(uint32(n - 1 - int(clz(a))))
			}
			check(t, fmt.Sprintf("bfind.%s%d %%d, %%a;", sign, n), "u32", one, rows, func(a, _,
				_ uint64) uint64 {
				return find(a)
			})
			check(t, fmt.Sprintf("bfind.shiftamt.%s%d %%d, %%a;", sign, n), "u32", one, rows, func(a, _, _ uint64) uint64 {
				if p := find(a); p != 0xffffffff {
					return uint64(n-1) - p
				}
				return 0xffffffff
			})
			// The definition of the PTX manual.
			src := []string{b, "u32", "u32"}
			check(t, fmt.Sprintf("bfe.%s%d %%d, %%a, %%b, %%c;", sign, n), b, src, operands(src, 2000), func(a, b,
				c uint64) (r uint64) {
				pos, length := int(b&0xff), int(c&0xff)
				sbit := uint64(0)
				if sign == "s" && length != 0 {
					sbit = bit(a, min(pos+length-1, n-1))
				}
				for i := range n {
					if i < length && pos+i < n {
						r |= bit(a, pos+i) << i
					} else {
						r |= sbit << i
					}
				}
				return r
			})
		}
		src := []string{b, b, "u32"}
		for _, length := range []int{0, 1, 8, 24, 31, 32, 63, 64, 255} {
			check(t, fmt.Sprintf("bfi.%s %%d, %%a, %%b, %%c, %d;", b, length), b, src, operands(src, 200), func(a, b,
				c uint64) uint64 {
				pos := int(c & 0xff)
				for i := 0; i < length && pos+i < n; i++ {
					b = b&^(1<<(pos+i)) | bit(a, i)<<(pos+i)
				}
				return b
			})
		}
	}
	u := []string{"u32", "u32", "u32"}
	rows := operands(u, 1000)
	check(t, "prmt.b32 %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) (r uint64) {
		for i := range 4 {
			sel := int(c >> (4 * i) & 15)
			v := (b<<32 | a) >> (8 * (sel & 7)) & 0xff
			if sel > 7 {
				v = v >> 7 * 0xff
			}
			r |= v << (8 * i)
		}
		return r
	})
	// Bytes of the manual's table, highest first.
	for mode, table := range map[string][4][4]int{
		"f4e": {{3, 2, 1, 0}, {4, 3, 2, 1}, {5, 4, 3, 2}, {6, 5, 4, 3}}, "b4e": {{5, 6, 7, 0}, {6, 7, 0, 1}, {7, 0, 1, 2},
			{0, 1, 2, 3}},
		"rc8": {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}}, "ecl": {{3, 2, 1, 0}, {3, 2, 1, 1}, {3, 2, 2, 2},
			{3, 3, 3, 3}},
		"ecr": {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 1, 0}, {3, 2, 1, 0}}, "rc16": {{1, 0, 1, 0}, {3, 2, 3, 2}, {1, 0, 1, 0},
			{3, 2, 3, 2}},
	} {
		check(t, "prmt.b32."+mode+" %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) (r uint64) {
			for i, k := range table[c&3] {
				r |= (b<<32 | a) >> (8 * k) & 0xff << (8 * (3 - i))
			}
			return r
		})
	}
	for _, table := range []int{0, 0x80, 0xfe, 0x96, 0xe8, 0x1b, 0xff} {
		check(t, fmt.Sprintf("lop3.b32 %%d, %%a, %%b, %%c, %d;", table), "u32", u, rows, func(a, b, c uint64) (r uint64) {
			for i := range 32 {
				r |= bit(uint64(table), int(bit(a, i)<<2|bit(b, i)<<1|bit(c, i))) << i
			}
			return r
		})
	}
	for _, mode := range []string{"wrap", "clamp"} {
		amount := func(c uint64) uint64 {
			if mode == "wrap" {
				return c & 31
			}
			return min(c, 32)
		}
		check(t, "shf.l."+mode+".b32 %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) uint64 {
			n := amount(c)
			return (b<<n | a>>(32-n)) & 0xffffffff
		})
		check(t, "shf.r."+mode+".b32 %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) uint64 {
			n := amount(c)
			return (b<<(32-n) | a>>n) & 0xffffffff
		})
	}
	for _, ta := range []string{"s32", "u32"} {
		for _, tb := range []string{"s32", "u32"} {
			part := func(x uint64, i, width int, ty string) int64 {
				x = x >> (width * i) & (1<<width - 1)
				if ty == "s32" && x>>(width-1) != 0 {
					return int64(x) - 1<<width
				}
				return int64(x)
			}
			check(t, "dp4a."+ta+"."+tb+" %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) uint64 {
				for i := range 4 {
					c += uint64(part(a, i, 8, ta) * part(b, i, 8, tb))
				}
				return c & 0xffffffff
			})
			check(t, "dp2a.hi."+ta+"."+tb+" %d, %a, %b, %c;", "u32", u, rows, func(a, b, c uint64) uint64 {
				for i := range 2 {
					c += uint64(part(a, i, 16, ta) * part(b, 2+i, 8, tb))
				}
				return c & 0xffffffff
			})
		}
	}
}

// number is the value of a float's bits: exact, or nil for NaN.
func number(x uint64, ty string) float64 {
	switch ty {
	case "f16":
		return float64(half.FromF16(uint16(x)))
	case "bf16":
		return float64(half.FromBF16(uint16(x)))
	case "f32":
		return float64(math.Float32frombits(uint32(x)))
	}
	return math.Float64frombits(x)
}

func isNaN(x uint64, ty string) bool { v := number(x, ty); return v != v }

var nans = map[string]uint64{"f16": 0x7fff, "bf16": 0x7fff, "f32": 0x7fffffff, "f64": 0x7ff8000000000000}

// nearest rounds an exact value to a type, by looking at all its neighbours: an independent rounding. zero is its sign
// when the value is zero.
func nearest(v *big.Float, zero bool, ty string) uint64 {
	sign := uint64(1) << (8*typeSizes[ty] - 1)
	inf := map[string]uint64{"f16": 0x7c00, "bf16": 0x7f80, "f32": 0x7f800000, "f64": 0x7ff << 52}[ty]
	if v.Sign() == 0 {
		if zero {
			return sign
		}
		return 0
	}
	neg := v.Sign() < 0
	a := new(big.Float).Abs(v)
	if a.IsInf() {
		if neg {
			return inf | sign
		}
		return inf
	}
	lo, hi := uint64(0), inf // the largest finite value not above a, by bisection on the bits
	for hi-lo > 1 {
		mid := lo + (hi-lo)/2
		if big.NewFloat(number(mid, ty)).Cmp(a) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	below := new(big.Float).SetPrec(4000).SetFloat64(number(lo, ty))
	var above *big.Float
	if hi == inf { // as if the exponents went on
		top := new(big.Float).SetPrec(4000).SetFloat64(number(lo, ty))
		prev := new(big.Float).SetPrec(4000).SetFloat64(number(lo-1, ty))
		above = new(big.Float).SetPrec(4000).Add(top, new(big.Float).SetPrec(4000).Sub(top, prev))
	} else {
		above = new(big.Float).SetPrec(4000).SetFloat64(number(hi, ty))
	}
	d1, d2 := new(big.Float).SetPrec(4000).Sub(a, below), new(big.Float).SetPrec(4000).Sub(above, a)
	r := lo
	if c := d1.Cmp(d2); c > 0 || c == 0 && lo&1 == 1 {
		r = hi
	}
	if neg {
		r |= sign
	}
	return r
}

func exact(x float64) *big.Float { return new(big.Float).SetPrec(4000).SetFloat64(x) }

func TestFloats(t *testing.T) {
	for _, ty := range []string{"f32", "f64", "f16", "bf16"} {
		two, three := []string{ty, ty}, []string{ty, ty, ty}
		rows := operands(two, 1000)
		// Sums and products of finite numbers are exact in big.Float; the rest follows IEEE 754 in float64.
		arith := func(op string, special func(a, b float64) float64, f func(a, b *big.Float) *big.Float) {
			check(t, op+"."+ty+" %d, %a, %b;", ty, two, rows, func(x, y, _ uint64) uint64 {
				a, b := number(x, ty), number(y, ty)
				s := special(a, b)
				switch {
				case s != s:
					return nans[ty]
				case a-a != 0 || b-b != 0:
					return nearest(exact(s), math.Signbit(s), ty)
				}
				if v := f(exact(a), exact(b)); v != nil {
					return nearest(v, math.Signbit(s), ty)
				}
				return nearest(exact(s), math.Signbit(s), ty)
			})
		}
		if ty != "bf16" {
			arith("add.rn", func(a, b float64) float64 { return a + b }, func(a, b *big.Float) *big.Float { return a.Add(a, b) })
			arith("sub.rn", func(a, b float64) float64 { return a - b }, func(a, b *big.Float) *big.Float { return a.Sub(a, b) })
			arith("mul.rn", func(a, b float64) float64 { return a * b }, func(a, b *big.Float) *big.Float { return a.Mul(a, b) })
		}
		if ty == "f32" || ty == "f64" {
			arith("div.rn", func(a, b float64) float64 { return a / b }, func(a, b *big.Float) *big.Float {
				if b.Sign() == 0 || a.Sign() == 0 {
					return nil
				}
				return new(big.Float).SetPrec(4000).Quo(a, b)
			})
			one := []string{ty}
			check(t, "rcp.rn."+ty+" %d, %a;", ty, one, operands(one, 1000), func(x, _, _ uint64) uint64 {
				a := number(x, ty)
				switch {
				case a != a:
					return nans[ty]
				case a == 0 || a-a != 0:
					return nearest(exact(1/a), math.Signbit(a), ty)
				}
				return nearest(new(big.Float).SetPrec(4000).Quo(exact(1), exact(a)), false, ty)
			})
			check(t, "sqrt.rn."+ty+" %d, %a;", ty, one, operands(one, 1000), func(x, _, _ uint64) uint64 {
				a := number(x, ty)
				switch {
				case a != a || a < 0:
					return nans[ty]
				case a == 0 || a-a != 0:
					return x
				}
				return nearest(new(big.Float).SetPrec(300).Sqrt(exact(a)), false, ty)
			})
		}
		check(t, "fma.rn."+ty+" %d, %a, %b, %c;", ty, three, operands(three, 6000), func(x, y, z uint64) uint64 {
			a, b, c := number(x, ty), number(y, ty), number(z, ty)
			if a-a != 0 || b-b != 0 || c-c != 0 {
				s := a*b + c
				if s != s {
					return nans[ty]
				}
				if c-c == 0 { // infinite, whatever the product of finite numbers would be in float64
					return nearest(exact(a*b), false, ty)
				}
				return nearest(exact(c), false, ty)
			}
			v := exact(a)
			v.Add(v.Mul(v, exact(b)), exact(c))
			// The sign of an exact zero: both -0, or a sum that cancels.
			neg := (math.Signbit(a) != math.Signbit(b)) && math.Signbit(c) && (a == 0 || b == 0) && c == 0
			return nearest(v, neg, ty)
		})
		for _, op := range []string{"min", "max", "min.NaN", "max.NaN"} {
			if op == "min.NaN" && ty == "f64" {
				break
			}
			check(t, op+"."+ty+" %d, %a, %b;", ty, two, rows, func(x, y, _ uint64) uint64 {
				a, b := number(x, ty), number(y, ty)
				switch {
				case a != a && b != b, strings.HasSuffix(op, "NaN") && (a != a || b != b):
					return nans[ty]
				case a != a:
					return y
				case b != b:
					return x
				}
				less := a < b || a == b && math.Signbit(a)
				if less == strings.HasPrefix(op, "min") {
					return x
				}
				return y
			})
		}
		top := uint64(1) << (8*typeSizes[ty] - 1)
		one := []string{ty}
		neg := func(a, _, _ uint64) uint64 {
			if isNaN(a, ty) && typeSizes[ty] == 2 {
				return nans[ty]
			}
			return a ^ top
		}
		check(t, "neg."+ty+" %d, %a;", ty, one, operands(one, 100), neg)
		check(t, "abs."+ty+" %d, %a;", ty, one, operands(one, 100), func(a, _, _ uint64) uint64 { return a &^ top })
		if typeSizes[ty] >= 4 {
			check(t, "copysign."+ty+" %d, %a, %b;", ty, two, rows, func(a, b, _ uint64) uint64 { return b&^top | a&top })
		}
	}
	f := []string{"f32", "f32"}
	flushed := func(x uint64) float32 { return math.Float32frombits(flush(uint32(x))) }
	check(t, "mul.ftz.f32 %d, %a, %b;", "f32", f, operands(f, 500), func(a, b, _ uint64) uint64 {
		return uint64(flush(math.Float32bits(canon(flushed(a) * flushed(b)))))
	})
	check(t, "add.sat.f32 %d, %a, %b;", "f32", f, operands(f, 500), func(a, b, _ uint64) uint64 {
		x := math.Float32frombits(uint32(a)) + math.Float32frombits(uint32(b))
		if !(x > 0) {
			return 0
		}
		return uint64(math.Float32bits(min(x, 1)))
	})
	// Pairs.
	pair := []string{"b32", "b32", "b32"}
	halves := func(f func(a, b, c uint64) uint64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 {
			return f(a&0xffff, b&0xffff, c&0xffff) | f(a>>16, b>>16, c>>16)<<16
		}
	}
	check(t, "fma.rn.f16x2 %d, %a, %b, %c;", "b32", pair, operands(pair, 500), halves(func(x, y, z uint64) uint64 {
		v := math.FMA(number(x, "f16"), number(y, "f16"), number(z, "f16"))
		if v != v {
			return 0x7fff
		}
		return nearest(exact(v), math.Signbit(v), "f16")
	}))
	check(t, "max.bf16x2 %d, %a, %b;", "b32", pair[:2], operands(pair[:2], 500), halves(func(x, y, _ uint64) uint64 {
		a, b := number(x, "bf16"), number(y, "bf16")
		switch {
		case a != a && b != b:
			return 0x7fff
		case a != a || b > a || a == b && math.Signbit(a):
			return y
		}
		return x
	}))
}

func TestApproximate(t *testing.T) {
	one := []string{"f32"}
	for op, f := range map[string]func(x float64) float64{
		"ex2.approx.f32": math.Exp2, "ex2.approx.ftz.f32": math.Exp2, "lg2.approx.f32": math.Log2, "sin.approx.f32": math.Sin,
		"cos.approx.f32": math.Cos, "tanh.approx.f32": math.Tanh,
		"rsqrt.approx.f32":   func(x float64) float64 { return 1 / math.Sqrt(x) },
		"rcp.approx.ftz.f32": func(x float64) float64 { return 1 / x }, "sqrt.approx.f32": math.Sqrt,
	} {
		ftz := strings.Contains(op, "ftz")
		check(t, op+" %d, %a;", "f32", one, operands(one, 300), func(a, _, _ uint64) uint64 {
			if ftz {
				a = uint64(flush(uint32(a)))
			}
			r := math.Float32bits(canon(float32(f(number(a, "f32")))))
			if ftz {
				r = flush(r)
			}
			return uint64(r)
		})
	}
	two := []string{"f32", "f32"}
	for _, op := range []string{"div.approx.f32", "div.full.f32"} {
		check(t, op+" %d, %a, %b;", "f32", two, operands(two, 300), func(a, b, _ uint64) uint64 {
			return uint64(math.Float32bits(canon(math.Float32frombits(uint32(a)) / math.Float32frombits(uint32(b)))))
		})
	}
}

func TestComparisons(t *testing.T) {
	cmp := map[string]func(c int) bool{"eq": func(c int) bool { return c == 0 }, "ne": func(c int) bool { return c != 0 },
		"lt": func(c int) bool { return c < 0 }, "le": func(c int) bool { return c <= 0 },
		"gt": func(c int) bool { return c > 0 },
		"ge": func(c int) bool { return c >= 0 }}
	unsigned := map[string]string{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
	for _, ty := range []string{"s16", "u16", "b16", "s32", "u32", "b32", "s64", "u64", "b64"} {
		two := []string{ty, ty}
		for _, op := range []string{"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"} {
			f := cmp[op]
			if u := unsigned[op]; u != "" {
				f = cmp[u]
				if ty[0] != 'u' {
					continue
				}
			}
			if ty[0] == 'b' && op != "eq" && op != "ne" {
				continue
			}
			check(t, "setp."+op+"."+ty+" %d, %a, %b;", "pred", two, operands(two, 100), func(a, b, _ uint64) uint64 {
				return uint64(b2u(f(integer(a, ty).Cmp(integer(b, ty)))))
			})
		}
	}
	for _, ty := range []string{"f32", "f64", "f16"} {
		two := []string{ty, ty}
		for op, f := range cmp {
			for _, u := range []bool{false, true} {
				name := op
				if u {
					name += "u"
				}
				check(t, "setp."+name+"."+ty+" %d, %a, %b;", "pred", two, operands(two, 100), func(a, b, _ uint64) uint64 {
					if isNaN(a, ty) || isNaN(b, ty) {
						return uint64(b2u(u))
					}
					return uint64(b2u(f(exact(number(a, ty)).Cmp(exact(number(b, ty))))))
				})
			}
		}
		check(t, "setp.num."+ty+" %d, %a, %b;", "pred", two, operands(two, 100), func(a, b, _ uint64) uint64 {
			return uint64(b2u(!isNaN(a, ty) && !isNaN(b, ty)))
		})
		check(t, "setp.nan."+ty+" %d, %a, %b;", "pred", two, operands(two, 100), func(a, b, _ uint64) uint64 {
			return uint64(b2u(isNaN(a, ty) || isNaN(b, ty)))
		})
	}
	s := []string{"s32", "s32", "pred"}
	lt := func(a, b uint64) bool { return int32(a) < int32(b) }
	rows := operands(s, 200)
	check(t, "setp.lt.and.s32 %d, %a, %b, %c;", "pred", s, rows, func(a, b, c uint64) uint64 {
		return uint64(b2u(lt(a,
			b))) & c
	})
	check(t, "setp.lt.or.s32 %d, %a, %b, !%c;", "pred", s, rows, func(a, b, c uint64) uint64 {
		return uint64(b2u(lt(a,
			b))) | (1 - c)
	})
	check(t, "setp.lt.xor.s32 %p|%d, %a, %b, %c;", "pred", s, rows, func(a, b, c uint64) uint64 {
		return uint64(b2u(!lt(a, b))) ^ c
	})
	check(t, "setp.lt.s32 %p|%q, %a, %b; xor.pred %d, %p, %q;", "pred", s, rows, func(a, b, c uint64) uint64 { return 1 })
	check(t, "and.pred %p, %c, %c; not.pred %q, %p; or.pred %d, %q, !%p; mov.pred %d, %d;", "pred", s, rows,
		func(a, b, c uint64) uint64 { return 1 - c })
	check(t, "mov.pred %p, -1; mov.pred %q, 0; selp.u32 %x, 1, 0, %q; selp.u32 %d, 2, %x, %p;", "u32", s, rows,
		func(a, b, c uint64) uint64 { return 2 })
	check(t, "set.lt.u32.s32 %d, %a, %b;", "u32", s, rows, func(a, b, c uint64) uint64 {
		return uint64(b2u(lt(a,
			b))) * 0xffffffff
	})
	check(t, "set.lt.f32.s32 %d, %a, %b;", "u32", s, rows, func(a, b, c uint64) uint64 {
		return uint64(b2u(lt(a,
			b))) * 0x3f800000
	})
	pick := func(a, b, c uint64) uint64 { return a*c + b*(1-c) }
	check(t, "selp.b32 %d, %a, %b, %c;", "u32", s, rows, pick)
	check(t, "selp.b32 %d, %b, %a, !%c;", "u32", s, rows, pick)
	check(t, "selp.u32 %d, 1, 0, %c;", "u32", s, rows, func(a, b, c uint64) uint64 { return c })
	w := []string{"u64", "u64", "pred"}
	check(t, "selp.b64 %d, %a, %b, %c;", "u64", w, operands(w, 100), pick)
	v := []string{"u32", "u32", "s32"}
	check(t, "slct.u32.s32 %d, %a, %b, %c;", "u32", v, operands(v, 200), func(a, b, c uint64) uint64 {
		if int32(c) >= 0 {
			return a
		}
		return b
	})
	f := []string{"f32"}
	for op, g := range map[string]func(x float64) bool{
		"finite": func(x float64) bool { return x-x == 0 }, "infinite": func(x float64) bool { return math.IsInf(x, 0) },
		"number": func(x float64) bool { return x == x }, "notanumber": func(x float64) bool { return x != x },
		"normal":    func(x float64) bool { return x-x == 0 && math.Abs(x) >= 0x1p-126 },
		"subnormal": func(x float64) bool { return x != 0 && math.Abs(x) < 0x1p-126 },
	} {
		check(t, "testp."+op+".f32 %d, %a;", "pred", f, operands(f, 100), func(a, _, _ uint64) uint64 {
			return uint64(b2u(g(number(a, "f32"))))
		})
	}
}

// TestGuards runs an instruction of each kind for some lanes only.
func TestGuards(t *testing.T) {
	s := []string{"u32", "u32", "pred"}
	rows := operands(s, 200)
	for body, f := range map[string]func(a, b uint64) uint64{
		"add.u32 %d, %a, %b;":                               func(a, b uint64) uint64 { return a + b },
		"selp.u32 %d, %a, %b, %c;":                          func(a, b uint64) uint64 { return a },
		"div.u32 %d, %a, 3;":                                func(a, b uint64) uint64 { return a / 3 },
		"cvt.u32.u64 %d, %w;":                               func(a, b uint64) uint64 { return 0x55555555 },
		"mov.b32 %d, %a;":                                   func(a, b uint64) uint64 { return a },
		"{ .reg .b32 %t; mov.b32 %t, %b; mov.b32 %d, %t; }": func(a, b uint64) uint64 { return b },
	} {
		guarded := "mov.u32 %d, 9; @%c " + body
		if body[0] == '{' {
			guarded = "mov.u32 %d, 9; { .reg .b32 %t; mov.b32 %t, %b; @%c mov.b32 %d, %t; }"
		}
		check(t, guarded, "u32", s, rows, func(a, b, c uint64) uint64 {
			if c == 0 {
				return 9
			}
			return f(a, b) & 0xffffffff
		})
	}
	check(t, "setp.lt.u32 %p, %a, %b; @!%c setp.eq.u32 %p, 0, 0; selp.u32 %d, 1, 0, %p;", "u32", s, rows, func(a, b,
		c uint64) uint64 {
		return uint64(b2u(c == 0 || a < b))
	})
}

func TestMoves(t *testing.T) {
	w := []string{"u64"}
	check(t, "{ .reg .b32 %lo, %hi; mov.b64 {%lo, %hi}, %a; mov.b64 %d, {%hi, %lo}; }", "u64", w, operands(w, 100),
		func(a, _, _ uint64) uint64 { return a>>32 | a<<32 })
	check(t, "{ .reg .b16 %e<4>; mov.b64 {%e0, %e1, %e2, %e3}, %a; mov.b64 %d, {%e3, %e2, %e1, %e0}; }", "u64", w,
		operands(w, 100),
		func(a, _, _ uint64) uint64 { return a>>48 | a>>16&0xffff0000 | a&0xffff0000<<16 | a<<48 })
	u := []string{"u32"}
	check(t, "{ .reg .b16 %lo; mov.b32 {%lo, _}, %a; mov.b32 %d, {%lo, %lo}; }", "u32", u, operands(u, 100),
		func(a, _, _ uint64) uint64 { return a & 0xffff * 0x10001 })
	check(t, "mov.b32 %d, 0f3F800000;", "u32", u, operands(u, 10), func(a, _, _ uint64) uint64 { return 0x3f800000 })
	check(t, "mov.b32 %d, -5;", "u32", u, operands(u, 10), func(a, _, _ uint64) uint64 { return 1<<32 - 5 })
	check(t, "mov.f64 %d, 0d4008000000000000;", "u64", w, operands(w, 10), func(a, _,
		_ uint64) uint64 {
		return 0x4008 << 48
	})
}

func TestConvert(t *testing.T) {
	ints := []string{"s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"}
	floats := []string{"f16", "bf16", "f32", "f64"}
	whole := func(x float64, mode string) float64 {
		return map[string]func(float64) float64{"rni": math.RoundToEven, "rzi": math.Trunc, "rmi": math.Floor,
			"rpi": math.Ceil}[mode](x)
	}
	for _, from := range ints {
		one := []string{from}
		rows := operands(one, 300)
		for _, to := range ints {
			// The register may be wider than the type: the sign goes on to its end.
			reg := max(2, typeSizes[to])
			check(t, "cvt."+to+"."+from+" %d, %a;", to, one, rows, func(a, _, _ uint64) uint64 {
				v := integer(a, from)
				r := integer(lowBits(v, 8), to)
				return lowBits(r, reg)
			})
			check(t, "cvt.sat."+to+"."+from+" %d, %a;", to, one, rows, func(a, _, _ uint64) uint64 {
				return lowBits(clampTo(integer(a, from), to), reg)
			})
		}
		for _, to := range []string{"f16", "f32", "f64"} {
			for _, mode := range []string{"rn", "rz", "rm", "rp"} {
				check(t, "cvt."+mode+"."+to+"."+from+" %d, %a;", to, one, rows, func(a, _, _ uint64) uint64 {
					return rounded(new(big.Float).SetPrec(4000).SetInt(integer(a, from)), false, to, mode)
				})
			}
		}
	}
	for _, from := range floats {
		one := []string{from}
		rows := operands(one, 1500)
		for _, to := range ints {
			if from == "bf16" {
				break
			}
			for _, mode := range []string{"rni", "rzi", "rmi", "rpi"} {
				reg := max(2, typeSizes[to])
				check(t, "cvt."+mode+"."+to+"."+from+" %d, %a;", to, one, rows, func(a, _, _ uint64) uint64 {
					x := number(a, from)
					if x != x {
						if from == "f64" || typeSizes[to] == 8 {
							return lowBits(integer(1<<(8*typeSizes[to]-1), to), reg)
						}
						return 0
					}
					if math.IsInf(x, 0) {
						x = math.Copysign(1e30, x)
					}
					v, _ := exact(whole(x, mode)).Int(nil)
					return lowBits(clampTo(v, to), reg)
				})
			}
		}
		for _, to := range floats {
			modes := []string{"rn", "rz"}
			switch {
			case to == "bf16" && from != "f32", from == "bf16" && to != "f32":
				continue
			case from == to:
				modes = []string{"rni", "rzi", "rmi", "rpi"}
			case typeSizes[from] < typeSizes[to]:
				modes = []string{""}
			case to != "bf16":
				modes = []string{"rn", "rz", "rm", "rp"}
			}
			for _, mode := range modes {
				op := "cvt." + mode + "." + to + "." + from
				check(t, strings.Replace(op, "..", ".", 1)+" %d, %a;", to, one, rows, func(a, _, _ uint64) uint64 {
					x := number(a, from)
					if x != x {
						return nans[to]
					}
					if len(mode) == 3 {
						x = whole(x, mode)
					}
					return rounded(exact(x), math.Signbit(x), to, mode)
				})
			}
		}
	}
	f := []string{"f32", "f32"}
	for _, ty := range []string{"f16", "bf16"} {
		check(t, "cvt.rn."+ty+"x2.f32 %d, %a, %b;", "b32", f, operands(f, 300), func(a, b, _ uint64) uint64 {
			one := func(x uint64) uint64 {
				v := number(x, "f32")
				if v != v {
					return 0x7fff
				}
				return nearest(exact(v), math.Signbit(v), ty)
			}
			return one(a)<<16 | one(b)
		})
	}
	check(t, "cvt.rna.tf32.f32 %d, %a;", "b32", f[:1], operands(f[:1], 300), func(a, _, _ uint64) uint64 {
		x := number(a, "f32")
		if x != x {
			return nans["f32"]
		}
		if x-x != 0 {
			return a
		}
		return (a + 1<<12) &^ (1<<13 - 1)
	})
	check(t, "cvt.sat.f32.f32 %d, %a;", "f32", f[:1], operands(f[:1], 300), func(a, _, _ uint64) uint64 {
		x := math.Float32frombits(uint32(a))
		if !(x > 0) {
			return 0
		}
		return uint64(math.Float32bits(min(x, 1)))
	})
	check(t, "cvt.rn.relu.bf16.f32 %d, %a;", "bf16", f[:1], operands(f[:1], 300), func(a, _, _ uint64) uint64 {
		x := number(a, "f32")
		switch {
		case x != x:
			return 0x7fff
		case x <= 0:
			return 0
		}
		return nearest(exact(x), false, "bf16")
	})
}

func clampTo(v *big.Int, ty string) *big.Int {
	n := uint(8 * typeSizes[ty])
	lo, hi := new(big.Int), new(big.Int).Lsh(big.NewInt(1), n)
	if ty[0] == 's' {
		hi.Rsh(hi, 1)
		lo.Neg(hi)
	}
	hi.Sub(hi, big.NewInt(1))
	switch {
	case v.Cmp(lo) < 0:
		return lo
	case v.Cmp(hi) > 0:
		return hi
	}
	return v
}

// rounded rounds an exact value in any mode: the nearest, or its neighbour on the right side.
func rounded(v *big.Float, zero bool, ty, mode string) uint64 {
	r := nearest(v, zero, ty)
	if mode == "rn" || mode == "" || len(mode) == 3 || v.Sign() == 0 || v.IsInf() {
		return r
	}
	sign := uint64(1) << (8*typeSizes[ty] - 1)
	mag := r &^ sign
	neg := v.Sign() < 0
	a := new(big.Float).Abs(v)
	inf := math.IsInf(number(mag, ty), 0)
	c := -1 // a against the rounded magnitude
	if !inf {
		c = a.Cmp(exact(number(mag, ty)))
	}
	up := mode == "rp" && !neg || mode == "rm" && neg // away from zero
	switch {
	case c < 0 && !up:
		mag--
	case c > 0 && up:
		mag++
	}
	if neg {
		mag |= sign
	}
	return mag
}
