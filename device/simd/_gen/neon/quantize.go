package main

// each row of the arguments rows and cols: body, then ptrs move on by a row.
func rows(ptrs []R, body func(cols func() R)) {
	times(ptr("rows"), func() {
		scope(func() { body(func() R { return ptr("cols") }) })
		bytes := ptr("cols")
		shift(2, bytes)
		for _, p := range ptrs {
			addr(bytes, p)
		}
	})
}

func quantize() {
	sumAbs()
	sumSquares()
	quantizeRows()
	ternary()
	signs()
	encode()
	dequantize()
	lsq()
}

func sumAbs() {
	routine("sumAbs", "func(part *float64, x *float32, n int)",
		"part[c] = device.ChunkSum of |x| over chunk c of device.LaneChunk elements; n > 0")
	x := ptr("x")
	chunks(func(n R, acc []V) {
		padded(n, []R{x}, nil, func(g group) {
			v := g.loads(x)
			for _, v := range v {
				fabs(v, v)
			}
			laneAdd(acc, v, plain)
		})
	})
	end()
}

func sumSquares() {
	routine("sumSquares", "func(part *float64, x *float32, n int)",
		"part[c] = device.ChunkSum of x*x over chunk c of device.LaneChunk elements; n > 0")
	x := ptr("x")
	chunks(func(n R, acc []V) {
		padded(n, []R{x}, nil, func(g group) { laneAdd(acc, g.loads(x), squared) })
	})
	end()
}

func quantizeRows() {
	routine("quantizeRows", "func(q *int8, scale, x *float32, rows, cols int)",
		"a = max(max|x[i,:]|, 1e-5); scale[i] = a/127; q[i,j] = roundEven(x[i,j] * (127/a))\n"+
			"(anything if a is not finite); rows > 0")
	q, scale, x := ptr("q"), ptr("scale"), ptr("x")
	least, full := constant(1e-5), constant(127)
	rows([]R{x}, func(cols func() R) {
		top := zeros(4)
		scope(func() {
			px := clone(x)
			each(cols(), 4, []R{px}, func(s span) {
				v := s.load(px)
				fabs(v, v)
				umax(top[s.index()], top[s.index()], v) // bits order as the numbers do, NaN last
			})
		})
		a, s := fold(top, umax), vec()
		umaxv(a, a)
		umax(a, a, least)
		fdiv(s, full, a)
		fdiv(a, a, full)
		sts(a, scale, 0)
		dup(s, s, 0)
		px := clone(x)
		by16(cols(), []R{px}, []R{q}, func(g group) {
			v := g.loads(px)
			for _, v := range v {
				fmul(v, v, s)
				fcvtns(v, v)
			}
			g.storeInt8(v, q)
		})
		addi(4, scale)
	})
	end()
}

// ternaryOf makes v the codes sign(v)*(|v| > cuts[0]) + sign(v)*(|v| > cuts[1]) + ..., and gives |v|; with kept, it is
// zeroed where no cut is passed.
func ternaryOf(v V, kept bool, cuts ...V) V {
	m, t := vec(), vec()
	fabs(m, v)
	sshr(v, v, 31)
	not(v, v) // -1 if positive
	for i, cut := range cuts {
		c := t
		if i > 0 {
			c = vec()
		}
		fcmgt(c, m, cut)
		if kept {
			and(m, m, c)
		}
		if i > 0 {
			add(t, t, c)
		}
	}
	eor(t, t, v) // minus the count, turned
	sub(v, t, v)
	return m
}

func ternary() {
	routine("ternary", "func(q *int8, w *float32, n int, cut1, cut2 float32) uint32",
		"q[i] = sign(w[i]) * ([|w[i]| > cut1] + [|w[i]| > cut2]); returns the bits of max |w|, NaN last")
	q, x, n := ptr("q"), ptr("w"), ptr("n")
	cut1, cut2, top := arg("cut1"), arg("cut2"), zero()
	by16(n, []R{x}, []R{q}, func(g group) {
		v := g.loads(x)
		for _, v := range v {
			scope(func() { umax(top, top, ternaryOf(v, false, cut1, cut2)) })
		}
		g.storeInt8(v, q)
	})
	umaxv(top, top)
	result32(top, false)
	end()
}

func signs() {
	routine("signs", "func(q *int8, part *float64, w *float32, n int, cut float32) uint32",
		"q[i] = sign(w[i]) where |w[i]| > cut, else 0; part[c] = device.ChunkSum of the kept |w| of chunk c;\n"+
			"returns how many are kept; n > 0")
	q, x, cut, kept := ptr("q"), ptr("w"), arg("cut"), zero()
	chunks(func(n R, acc []V) {
		padded(n, []R{x}, []R{q}, func(g group) {
			v, m := g.loads(x), make([]V, 4)
			for i, v := range v {
				m[i] = ternaryOf(v, true, cut)
				scope(func() {
					c := vec()
					iabs(c, v)
					add(kept, kept, c)
				})
			}
			laneAdd(acc, m, plain)
			g.storeInt8(v, q)
		})
	})
	addv(kept, kept)
	result32(kept, false)
	end()
}

func encode() {
	routine("encode", "func(q *int8, w *float32, n int, scale, top float32) uint32",
		"q[i] = roundEven(min(max(w[i]/scale, -top), top)), of NaN 0; returns the bits of max |w|, NaN last")
	q, x, n := ptr("q"), ptr("w"), ptr("n")
	scale, top, low, most := arg("scale"), arg("top"), bits(1<<31), zero()
	eor(low, low, top)
	by16(n, []R{x}, []R{q}, func(g group) {
		v := g.loads(x)
		for _, v := range v {
			scope(func() {
				m := vec()
				fabs(m, v)
				umax(most, most, m)
			})
			fdiv(v, v, scale)
			fmin(v, v, top)
			fmax(v, v, low)
			fcvtns(v, v)
		}
		g.storeInt8(v, q)
	})
	umaxv(most, most)
	result32(most, false)
	end()
}

func dequantize() {
	routine("dequantize", "func(y *float32, q *int8, scale *float32, rows, cols, step int)",
		"y[i,j] = q[i,j] * scale[i*step]; rows > 0")
	y, q, scale, step, s := ptr("y"), ptr("q"), ptr("scale"), ptr("step"), vec()
	shift(2, step)
	times(ptr("rows"), func() {
		ld1r(s, scale)
		by16(ptr("cols"), []R{y}, []R{q}, func(g group) {
			for i, v := range g.loadInt8(q) {
				scvtf(v, v)
				fmul(v, v, s)
				g.spans[i].store(v, y)
			}
		})
		addr(step, scale)
	})
	end()
}

func lsq() {
	routine("lsq", "func(part *float64, dq, w *float32, n int, scale, top float32)",
		"with v = w/scale: part[c] = sum over chunk c of dq * (roundEven(v) - v if |v| < top, else ±top); n > 0")
	dq, x, scale, top, sign := ptr("dq"), ptr("w"), arg("scale"), arg("top"), bits(1<<31)
	chunks(func(n R, acc []V) {
		padded(n, []R{x, dq}, nil, func(g group) {
			v := g.loads(x)
			for i, v := range v {
				scope(func() {
					c, m, t := vec(), vec(), vec()
					fdiv(v, v, scale)
					frintn(c, v)
					fsub(c, c, v)
					fabs(m, v)
					fcmge(m, m, top)
					and(t, v, sign)
					orr(t, t, top)
					bsl(m, t, c)
					fmul(v, g.spans[i].load(dq), m)
				})
			}
			laneAdd(acc, v, plain)
		})
	})
	end()
}
