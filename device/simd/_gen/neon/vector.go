package main

// elements is the code for a span at pointers: what is stored at the first.
type elements func(s span, p []R) V

// elementwise writes a routine over n elements at ptrs.
func elementwise(name, signature, doc string, unroll int, ptrs []string, begin func() elements) {
	routine(name, signature, doc)
	p := make([]R, len(ptrs))
	for i, name := range ptrs {
		p[i] = ptr(name)
	}
	n := ptr("n")
	body := begin()
	each(n, unroll, p, func(s span) { s.store(body(s, p), p[0]) })
	end()
}

func vectors() {
	const three, scaled = "func(y, a, b *float32, n int)", "func(y, x *float32, n int, alpha float32)"
	yab, yx := []string{"y", "a", "b"}, []string{"y", "x"}
	elementwise("add", three, "y[i] = a[i] + b[i]", 4, yab, func() elements {
		return func(s span, p []R) V {
			v := s.load(p[1])
			fadd(v, v, s.load(p[2]))
			return v
		}
	})
	elementwise("mul", three, "y[i] = a[i] * b[i]", 4, yab, func() elements {
		return func(s span, p []R) V {
			v := s.load(p[1])
			fmul(v, v, s.load(p[2]))
			return v
		}
	})
	elementwise("mulAdd", three, "y[i] += a[i] * b[i]", 4, yab, func() elements {
		return func(s span, p []R) V {
			d := s.load(p[0])
			fmla(d, s.load(p[1]), s.load(p[2]))
			return d
		}
	})
	elementwise("scale", scaled, "y[i] = alpha * x[i]", 4, yx, func() elements {
		alpha := arg("alpha")
		return func(s span, p []R) V {
			v := s.load(p[1])
			fmul(v, v, alpha)
			return v
		}
	})
	elementwise("axpy", scaled, "y[i] += alpha*x[i]", 4, yx, func() elements {
		alpha := arg("alpha")
		return func(s span, p []R) V {
			d := s.load(p[0])
			fmla(d, s.load(p[1]), alpha)
			return d
		}
	})
	elementwise("addScaled", "func(y, x, b *float32, n int, alpha float32)", "y[i] = x[i] + alpha*b[i]", 4,
		[]string{"y", "x", "b"}, func() elements {
			alpha := arg("alpha")
			return func(s span, p []R) V {
				d := s.load(p[1])
				fmla(d, s.load(p[2]), alpha)
				return d
			}
		})
	unary()
	gated()
	adamw()
	rope()
}

// An activation loads its constants and gives the code of f(x) and f'(x), which may change x.
type activation struct {
	name, value, slope string // Go
	code               func() (value, slope func(x V) V)
	unroll             int
}

var activations = []activation{
	{"silu", "x[i] * sigmoid(x[i])", "sigmoid(x[i]) * (1 + x[i]*(1-sigmoid(x[i])))", func() (value, slope func(x V) V) {
		s := newSigmoid()
		return s.silu, func(x V) V {
			_, slope := s.siluSlope(x)
			return slope
		}
	}, 1},
	{"relu", "max(x[i], 0)", "float32(x[i] > 0)", func() (value, slope func(x V) V) {
		zero, one := zero(), constant(1)
		return func(x V) V {
				fmax(x, x, zero)
				return x
			}, func(x V) V {
				fcmgt(x, x, zero)
				and(x, x, one)
				return x
			}
	}, 4},
	{"relu2", "max(x[i], 0) * max(x[i], 0)", "2 * max(x[i], 0)", func() (value, slope func(x V) V) {
		zero := zero()
		return func(x V) V {
				fmax(x, x, zero)
				fmul(x, x, x)
				return x
			}, func(x V) V {
				fmax(x, x, zero)
				fadd(x, x, x)
				return x
			}
	}, 4},
	{"gelu", "x[i] * Phi(x[i])", "Phi(x[i]) + x[i]*exp(-x[i]*x[i]/2)/sqrt(2*Pi)", func() (value, slope func(x V) V) {
		n := newNormal()
		return func(x V) V {
			phi, _ := n.of(x)
			fmul(x, x, phi)
			return x
		}, n.geluSlope
	}, 1},
	{"sigmoid", "1 / (1 + exp(-x[i]))", "sigmoid(x[i]) * (1 - sigmoid(x[i]))", func() (value, slope func(x V) V) {
		s := newSigmoid()
		return s.of, func(x V) V {
			_, slope := s.slope(x)
			return slope
		}
	}, 1},
	{"tanh", "tanh(x[i])", "1 - tanh(x[i])*tanh(x[i])", func() (value, slope func(x V) V) {
		h := newTanh()
		return h.of, h.slope
	}, 1},
	{"exp", "exp(x[i])", "exp(x[i])", func() (value, slope func(x V) V) {
		e := newExp()
		f := func(x V) V {
			e.of(x)
			return x
		}
		return f, f
	}, 1},
}

func unary() {
	for _, a := range activations {
		yx, ddyx := []string{"y", "x"}, []string{"d", "dy", "x"}
		elementwise(a.name, "func(y, x *float32, n int)", "y[i] = "+a.value, a.unroll, yx, func() elements {
			value, _ := a.code()
			return func(s span, p []R) V { return value(s.load(p[1])) }
		})
		elementwise(a.name+"Grad", "func(d, dy, x *float32, n int)", "d[i] += dy[i] * "+a.slope, a.unroll, ddyx,
			func() elements {
				_, slope := a.code()
				return func(s span, p []R) V {
					v := slope(s.load(p[2]))
					d := s.load(p[0])
					fmla(d, s.load(p[1]), v)
					return d
				}
			})
	}
}

func gated() {
	elementwise("swiglu", "func(y, gate, u *float32, n int)", "y[i] = gate[i] * sigmoid(gate[i]) * u[i]", 1,
		[]string{"y", "gate", "u"}, func() elements {
			f := newSigmoid()
			return func(s span, p []R) V {
				v := f.silu(s.load(p[1]))
				fmul(v, v, s.load(p[2]))
				return v
			}
		})
	elementwise("swigluGrad", "func(dg, du, dy, gate, u *float32, n int)",
		"dgate[i] += dy[i] * silu'(gate[i]) * u[i]; du[i] += dy[i] * silu(gate[i])", 1,
		[]string{"dg", "du", "dy", "gate", "u"}, func() elements {
			f := newSigmoid()
			return func(s span, p []R) V {
				value, slope := f.siluSlope(s.load(p[3]))
				d, a := s.load(p[2]), s.load(p[1])
				fmla(a, value, d)
				s.store(a, p[1])
				fmul(slope, slope, d)
				s.loadTo(a, p[0])
				fmla(a, slope, s.load(p[4]))
				return a
			}
		})
}

func adamw() {
	elementwise("adamw",
		"func(w, m, v, grad *float32, n int, scale, beta1, c1, beta2, c2, corr1, corr2, eps, lr, keep float32)",
		"h := scale*grad[i]; m[i] = beta1*m[i] + c1*h; v[i] = beta2*v[i] + c2*h*h;\n"+
			"w[i] = w[i]*keep - lr*(m[i]*corr1)/(sqrt(v[i]*corr2)+eps)", 1, []string{"w", "m", "v", "grad"},
		func() elements {
			scale, beta1, c1, beta2, c2 := arg("scale"), arg("beta1"), arg("c1"), arg("beta2"), arg("c2")
			corr1, corr2, eps, lr, keep := arg("corr1"), arg("corr2"), arg("eps"), arg("lr"), arg("keep")
			return func(s span, p []R) V {
				h, a, b, y := s.load(p[3]), vec(), vec(), s.load(p[0])
				fmul(h, h, scale)
				fmul(a, c1, h)
				fmla(a, s.load(p[1]), beta1)
				fmul(b, c2, h)
				fmul(b, b, h)
				fmla(b, s.load(p[2]), beta2)
				s.store(a, p[1])
				s.store(b, p[2])
				fmul(a, a, corr1)
				fmul(a, a, lr)
				fmul(b, b, corr2)
				fsqrt(b, b)
				fadd(b, b, eps)
				fdiv(a, a, b)
				fneg(a, a)
				fmla(a, y, keep)
				return a
			}
		})
}

// rope turns the heads of one row.
func rope() {
	for _, acc := range []bool{false, true} {
		name, op := "rope", "="
		if acc {
			name, op = "ropeAcc", "+="
		}
		routine(name, "func(y, x, table *float32, heads, half int, sign uint32)",
			"c, s := table[i], sign^table[half+i]; for each head of y and x, 2*half long:\n"+
				"y[i] "+op+" x[i]*c - x[half+i]*s; y[half+i] "+op+" x[half+i]*c + x[i]*s")
		y1, x1, half, sign := ptr("y"), ptr("x"), ptr("half"), arg("sign")
		times(ptr("heads"), func() {
			cos, n := ptr("table"), clone(half)
			sin, y2, x2 := sum(cos, 2, half), sum(y1, 2, half), sum(x1, 2, half)
			each(n, 1, []R{y1, y2, x1, x2, cos, sin}, func(s span) {
				c, sn, a, b := s.load(cos), s.load(sin), s.load(x1), s.load(x2)
				p, q := vec(), vec()
				eor(sn, sn, sign)
				fmul(p, a, c)
				fmls(p, b, sn)
				fmul(q, b, c)
				fmla(q, a, sn)
				if acc {
					fadd(p, p, s.load(y1))
					fadd(q, q, s.load(y2))
				}
				s.store(p, y1)
				s.store(q, y2)
			})
			move(y2, y1)
			move(x2, x1)
		})
		end()
	}
}
