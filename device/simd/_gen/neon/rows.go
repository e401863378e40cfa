package main

import "math"

func rowwise() {
	expRow()
	maxRow()
	probGrad()
	dot()
	softmax()
	softmaxGrad()
	logSumExp()
	crossEntropyGrad()
	rmsNorm()
	rmsNormGrad()
	rmsNormGain()
	layerNorm()
	layerNormGrad()
	layerNormGain()
	sumRows()
}

// total is the sum of the lanes of the accumulators, in every lane.
func total(acc []V) V {
	v := fold(acc, fadd)
	faddp(v, v, v)
	faddp(v, v, v)
	return v
}

// largest is the code of maxRow, in the low lane. It consumes x and n.
func largest(x, n R) V {
	top := vecs(4)
	for _, v := range top {
		scope(func() {
			r := gp()
			emit("MOVD $0x%08x, %v", math.Float32bits(float32(math.Inf(-1))), r)
			emit("VDUP %v, V%d.S4", r, v)
		})
	}
	each(n, 4, []R{x}, func(s span) {
		v, t := s.load(x), top[s.index()]
		if s.tail {
			dup(v, v, 0)
		}
		fmaxnm(t, t, v)
	})
	v := fold(top, fmaxnm)
	fmaxnmv(v, v)
	return v
}

// products accumulates a*b in four registers. It consumes a, b and n.
func products(a, b, n R) []V {
	acc := zeros(4)
	ptrs := []R{a}
	if a != b {
		ptrs = append(ptrs, b)
	}
	each(n, 4, ptrs, func(s span) {
		u := s.load(a)
		v := u
		if a != b {
			v = s.load(b)
		}
		fmla(acc[s.index()], u, v)
	})
	return acc
}

func expRow() {
	routine("expRow", "func(y, x *float32, n int, scale, top float32) float32",
		"y[i] = exp(x[i]*scale - top); returns the sum of y")
	y, x, n, scale, top := ptr("y"), ptr("x"), ptr("n"), arg("scale"), arg("top")
	e, acc := newExp(), zeros(4)
	fneg(top, top)
	each(n, 4, []R{y, x}, func(s span) {
		v := vec()
		copyV(v, top)
		fmla(v, s.load(x), scale)
		e.of(v)
		s.keep(v)
		s.store(v, y)
		fadd(acc[s.index()], acc[s.index()], v)
	})
	result32(total(acc), true)
	end()
}

func maxRow() {
	routine("maxRow", "func(x *float32, n int) float32", "the largest x[i] that is not NaN, -Inf without any")
	x, n := ptr("x"), ptr("n")
	result32(largest(x, n), true)
	end()
}

func probGrad() {
	routine("probGrad", "func(p, ds *float32, n int, scale, lse, delta float32)",
		"p[i] = exp(p[i]*scale - lse); ds[i] = p[i] * (ds[i]-delta)")
	p, ds, n, scale, lse, delta := ptr("p"), ptr("ds"), ptr("n"), arg("scale"), arg("lse"), arg("delta")
	e := newExp()
	fneg(lse, lse)
	each(n, 2, []R{p, ds}, func(s span) {
		v := vec()
		copyV(v, lse)
		fmla(v, s.load(p), scale)
		e.of(v)
		s.store(v, p)
		d := s.load(ds)
		fsub(d, d, delta)
		fmul(d, d, v)
		s.store(d, ds)
	})
	end()
}

func dot() {
	routine("dot", "func(a, b *float32, n int) float32", "the sum of a[i]*b[i]")
	a, b, n := ptr("a"), ptr("b"), ptr("n")
	result32(total(products(a, b, n)), true)
	end()
}

func softmax() {
	routine("softmax", "func(y, x *float32, rows, cols int)", "y[i,:] = exp(x[i,:] - max) / sum of the same; rows > 0")
	y, x, e := ptr("y"), ptr("x"), newExp()
	rows([]R{y, x}, func(cols func() R) {
		top := vec()
		scope(func() { dup(top, largest(clone(x), cols()), 0) })
		acc := zeros(4)
		px, py := clone(x), clone(y)
		each(cols(), 4, []R{px, py}, func(s span) {
			v := s.load(px)
			fsub(v, v, top)
			e.of(v)
			s.keep(v)
			s.store(v, py)
			fadd(acc[s.index()], acc[s.index()], v)
		})
		r := total(acc)
		fdiv(r, e.one, r)
		py = clone(y)
		each(cols(), 4, []R{py}, func(s span) {
			v := s.load(py)
			fmul(v, v, r)
			s.store(v, py)
		})
	})
	end()
}

func softmaxGrad() {
	routine("softmaxGrad", "func(dx, dy, y *float32, rows, cols int)",
		"dx[i,j] += y[i,j] * (dy[i,j] - sum of dy[i,:]*y[i,:]); rows > 0")
	dx, dy, y := ptr("dx"), ptr("dy"), ptr("y")
	rows([]R{dx, dy, y}, func(cols func() R) {
		mean := total(products(clone(dy), clone(y), cols()))
		pdx, pdy, py := clone(dx), clone(dy), clone(y)
		each(cols(), 4, []R{pdx, pdy, py}, func(s span) {
			g, p, d := s.load(pdy), s.load(py), s.load(pdx)
			fsub(g, g, mean)
			fmla(d, g, p)
			s.store(d, pdx)
		})
	})
	end()
}

func logSumExp() {
	routine("logSumExp", "func(top, sum, x *float32, rows, cols int)",
		"top[i] = max x[i,:], 0 if that is infinite; sum[i] = sum of exp(x[i,:] - top[i]); rows > 0")
	top, sums, x, e := ptr("top"), ptr("sum"), ptr("x"), newExp()
	infinite := constant(float32(math.Inf(1)))
	rows([]R{x}, func(cols func() R) {
		m, t := vec(), vec()
		scope(func() { dup(m, largest(clone(x), cols()), 0) })
		fabs(t, m)
		fcmgt(t, infinite, t)
		and(m, m, t)
		sts(m, top, 0)
		acc, px := zeros(4), clone(x)
		each(cols(), 4, []R{px}, func(s span) {
			v := s.load(px)
			fsub(v, v, m)
			e.of(v)
			s.keep(v)
			fadd(acc[s.index()], acc[s.index()], v)
		})
		sts(total(acc), sums, 0)
		addi(4, top)
		addi(4, sums)
	})
	end()
}

func crossEntropyGrad() {
	routine("crossEntropyGrad", "func(dx, lse, x *float32, targets *int32, rows, cols int, scale float32)",
		"dx[i,j] += scale * (exp(x[i,j] - lse[i]) - [j = targets[i]]) where targets[i] >= 0; rows > 0")
	dx, lse, x, targets, scale, e := ptr("dx"), ptr("lse"), ptr("x"), ptr("targets"), arg("scale"), newExp()
	rows([]R{dx, x}, func(cols func() R) {
		skip, t, m := fresh("skip"), gp(), vec()
		emit("MOVW (%v), %v", targets, t)
		emit("TBNZ $63, %v, %s", t, skip)
		ld1r(m, lse)
		pdx, px := clone(dx), clone(x)
		each(cols(), 4, []R{pdx, px}, func(s span) {
			v, d := s.load(px), s.load(pdx)
			fsub(v, v, m)
			e.of(v)
			fmla(d, v, scale)
			s.store(d, pdx)
		})
		at := sum(dx, 2, t)
		lds(m, at, 0)
		fsub(m, m, scale)
		sts(m, at, 0)
		label(skip)
		addi(4, targets)
		addi(4, lse)
	})
	end()
}

// rsqrt: x = 1/sqrt(x + eps), eps an argument.
func rsqrt(x V) {
	fadd(x, x, arg("eps"))
	fsqrt(x, x)
	fdiv(x, constant(1), x)
}

func rmsNorm() {
	routine("rmsNorm", "func(y, inv, x, gain *float32, rows, cols int, recip, eps float32)",
		"inv[i] = 1/sqrt(recip * sum of x[i,:]^2 + eps); y[i,j] = x[i,j]*inv[i] * gain[j]; rows > 0")
	y, inv, x := ptr("y"), ptr("inv"), ptr("x")
	rows([]R{y, x}, func(cols func() R) {
		px := clone(x)
		r := total(products(px, px, cols()))
		fmul(r, r, arg("recip"))
		rsqrt(r)
		sts(r, inv, 0)
		px, py, gain := clone(x), clone(y), ptr("gain")
		each(cols(), 4, []R{px, py, gain}, func(s span) {
			v := s.load(px)
			fmul(v, v, r)
			fmul(v, v, s.load(gain))
			s.store(v, py)
		})
		addi(4, inv)
	})
	end()
}

func rmsNormGrad() {
	routine("rmsNormGrad", "func(dx, dy, x, gain, inv *float32, rows, cols int, recip float32)",
		"with h = dy*gain, c = inv^2 * recip * sum of h[i,:]*x[i,:]: dx[i,j] += inv[i] * (h[i,j] - x[i,j]*c); rows > 0")
	dx, dy, x, inv := ptr("dx"), ptr("dy"), ptr("x"), ptr("inv")
	rows([]R{dx, dy, x}, func(cols func() R) {
		acc := zeros(4)
		pdy, px, gain := clone(dy), clone(x), ptr("gain")
		each(cols(), 4, []R{pdy, px, gain}, func(s span) {
			h := s.load(pdy)
			fmul(h, h, s.load(gain))
			fmla(acc[s.index()], h, s.load(px))
		})
		c, r := total(acc), vec()
		ld1r(r, inv)
		fmul(c, c, arg("recip"))
		fmul(c, c, r)
		fmul(c, c, r)
		pdx, pdy, px, gain := clone(dx), clone(dy), clone(x), ptr("gain")
		each(cols(), 4, []R{pdx, pdy, px, gain}, func(s span) {
			h, d := s.load(pdy), s.load(pdx)
			fmul(h, h, s.load(gain))
			fmls(h, s.load(px), c)
			fmla(d, h, r)
			s.store(d, pdx)
		})
		addi(4, inv)
	})
	end()
}

// strips is each for columns: body gets a strip of widths[0] vectors, then of widths[1], ... (the last is 1), at last
// single elements.
func strips(n R, widths []int, ptrs []R, body func(strip []span)) {
	for _, k := range widths {
		while(n, 4*k, func() {
			strip := make([]span, k)
			for i := range strip {
				strip[i].off = 16 * i
			}
			scope(func() { body(strip) })
			for _, p := range ptrs {
				addi(16*k, p)
			}
		})
	}
	while(n, 1, func() {
		scope(func() { body([]span{{tail: true}}) })
		for _, p := range ptrs {
			addi(4, p)
		}
	})
}

func rmsNormGain() {
	routine("rmsNormGain", "func(sum, dy, x, inv *float32, rows, cols int)",
		"sum[j] = sum over i of dy[i,j]*x[i,j]*inv[i]; rows > 0")
	to, dy, x := ptr("sum"), ptr("dy"), ptr("x")
	strips(ptr("cols"), []int{8, 2, 1}, []R{to, dy, x}, func(strip []span) {
		acc := zeros(len(strip))
		pdy, px, inv, bytes := clone(dy), clone(x), ptr("inv"), ptr("cols")
		shift(2, bytes)
		times(ptr("rows"), func() {
			r := vec()
			ld1r(r, inv)
			for i, s := range strip {
				scope(func() {
					v := s.load(px)
					fmul(v, v, r)
					fmla(acc[i], s.load(pdy), v)
				})
			}
			addr(bytes, pdy)
			addr(bytes, px)
			addi(4, inv)
		})
		for i, s := range strip {
			s.store(acc[i], to)
		}
	})
	end()
}

func layerNorm() {
	routine("layerNorm", "func(y, mean, inv, x, gain, bias *float32, rows, cols int, recip, eps float32)",
		`m = recip * sum of x[i,:], then improved by d = recip * sum of x[i,:]-m;
mean[i] = m+d; inv[i] = 1/sqrt(recip * sum of (x[i,:]-m)^2 - d^2 + eps); y[i,j] = (x[i,j]-m-d)*inv[i]*gain[j] + bias[j];
rows > 0`)
	y, mean, inv, x := ptr("y"), ptr("mean"), ptr("inv"), ptr("x")
	rows([]R{y, x}, func(cols func() R) {
		acc, px, recip := zeros(4), clone(x), arg("recip")
		each(cols(), 4, []R{px}, func(s span) { fadd(acc[s.index()], acc[s.index()], s.load(px)) })
		m := total(acc)
		fmul(m, m, recip)
		sums, squares := zeros(4), zeros(4)
		px = clone(x)
		each(cols(), 4, []R{px}, func(s span) {
			v := s.load(px)
			fsub(v, v, m)
			s.keep(v)
			fadd(sums[s.index()], sums[s.index()], v)
			fmla(squares[s.index()], v, v)
		})
		d, r := total(sums), total(squares)
		fmul(d, d, recip)
		fmul(r, r, recip)
		fmls(r, d, d)
		fmax(r, r, zero())
		rsqrt(r)
		sts(r, inv, 0)
		px, py, gain, bias := clone(x), clone(y), ptr("gain"), ptr("bias")
		each(cols(), 4, []R{px, py, gain, bias}, func(s span) {
			v, b := s.load(px), s.load(bias)
			fsub(v, v, m)
			fsub(v, v, d)
			fmul(v, v, r)
			fmla(b, v, s.load(gain))
			s.store(b, py)
		})
		fadd(m, m, d)
		sts(m, mean, 0)
		addi(4, mean)
		addi(4, inv)
	})
	end()
}

func layerNormGrad() {
	routine("layerNormGrad", "func(dx, dy, x, gain, mean, inv *float32, rows, cols int, recip float32)",
		`with h = dy*gain, n = (x-mean)*inv and means over a row (recip * sum):
dx[i,j] += inv[i] * (h[i,j] - mean(h) - n[i,j]*mean(h*n)); rows > 0`)
	dx, dy, x, mean, inv := ptr("dx"), ptr("dy"), ptr("x"), ptr("mean"), ptr("inv")
	rows([]R{dx, dy, x}, func(cols func() R) {
		m, r := vec(), vec()
		ld1r(m, mean)
		ld1r(r, inv)
		sh, shx := zeros(4), zeros(4)
		pdy, px, gain := clone(dy), clone(x), ptr("gain")
		each(cols(), 4, []R{pdy, px, gain}, func(s span) {
			h, v := s.load(pdy), s.load(px)
			fsub(v, v, m)
			fmul(h, h, s.load(gain)) // lanes that are not there are 0
			fadd(sh[s.index()], sh[s.index()], h)
			fmla(shx[s.index()], h, v)
		})
		a, b, recip := total(sh), total(shx), arg("recip")
		fmul(a, a, recip)
		fmul(b, b, recip)
		fmul(b, b, r)
		fmul(b, b, r)
		pdx, pdy, px, gain := clone(dx), clone(dy), clone(x), ptr("gain")
		each(cols(), 4, []R{pdx, pdy, px, gain}, func(s span) {
			h, v, d := s.load(pdy), s.load(px), s.load(pdx)
			fsub(v, v, m)
			fmul(h, h, s.load(gain))
			fsub(h, h, a)
			fmls(h, v, b)
			fmla(d, h, r)
			s.store(d, pdx)
		})
		addi(4, mean)
		addi(4, inv)
	})
	end()
}

func layerNormGain() {
	routine("layerNormGain", "func(gain, bias, dy, x, mean, inv *float32, rows, cols int)",
		"gain[j] = sum over i of dy[i,j]*(x[i,j]-mean[i])*inv[i]; bias[j] = sum over i of dy[i,j]; rows > 0")
	gain, bias, dy, x := ptr("gain"), ptr("bias"), ptr("dy"), ptr("x")
	strips(ptr("cols"), []int{4, 2, 1}, []R{gain, bias, dy, x}, func(strip []span) {
		sg, sb := zeros(len(strip)), zeros(len(strip))
		pdy, px, mean, inv, bytes := clone(dy), clone(x), ptr("mean"), ptr("inv"), ptr("cols")
		shift(2, bytes)
		times(ptr("rows"), func() {
			m, r := vec(), vec()
			ld1r(m, mean)
			ld1r(r, inv)
			for i, s := range strip {
				scope(func() {
					g, v := s.load(pdy), s.load(px)
					fsub(v, v, m)
					fmul(v, v, r)
					fmla(sg[i], g, v)
					fadd(sb[i], sb[i], g)
				})
			}
			addr(bytes, pdy)
			addr(bytes, px)
			addi(4, mean)
			addi(4, inv)
		})
		for i, s := range strip {
			s.store(sg[i], gain)
			s.store(sb[i], bias)
		}
	})
	end()
}

func sumRows() {
	routine("sumRows", "func(sum, x *float32, rows, cols, stride int)", "sum[j] = sum over i of x[i*stride+j]; rows > 0")
	to, x := ptr("sum"), ptr("x")
	strips(ptr("cols"), []int{8, 2, 1}, []R{to, x}, func(strip []span) {
		acc := zeros(len(strip))
		px, bytes := clone(x), ptr("stride")
		shift(2, bytes)
		times(ptr("rows"), func() {
			for i, s := range strip {
				scope(func() { fadd(acc[i], acc[i], s.load(px)) })
			}
			addr(bytes, px)
		})
		for i, s := range strip {
			s.store(acc[i], to)
		}
	})
	end()
}
