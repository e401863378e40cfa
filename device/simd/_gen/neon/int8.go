package main

import "fmt"

func int8s() {
	for rows := 1; rows <= 6; rows++ {
		qtile(rows)
	}
	packCols()
	qdot()
	sumCodes()
	for _, scaled := range []bool{false, true} {
		gradRow(scaled)
	}
	gradColMax()
	gradCol()
	packed1()
	packed4()
}

// shifted moves p by n*r bytes.
func shifted(p, r R, n int) {
	scope(func() {
		t := gp()
		emit("MOVD $%d, %v", n, t)
		emit("MADD %v, %v, %v, %v", t, p, r, p)
	})
}

// An output is a row of float32 of a tile, or, where it is narrower than the tile, a copy of it.
type output struct {
	at, buf, cols R
	width         int
}

func newOutput(cols, at R, width int) output {
	return output{at: at, buf: local(4 * width), cols: cols, width: width}
}

// row emits body for the row at o.at; with read, it reads the row first.
func (o output) row(read func(skip string), body func(p R)) {
	scope(func() {
		p, whole, done := clone(o.at), fresh("whole"), fresh("done")
		emit("CMP $%d, %v", o.width, o.cols)
		emit("BEQ %s", whole)
		if read != nil {
			skip := fresh("skip")
			read(skip)
			copies(clone(o.cols), p, clone(o.buf), 4)
			label(skip)
		}
		move(o.buf, p)
		label(whole)
		body(p)
		emit("CMP $%d, %v", o.width, o.cols)
		emit("BEQ %s", done)
		copies(clone(o.cols), p, clone(o.at), 4)
		label(done)
	})
}

// qtile is the product of rows x groups of four codes and 16 columns: a step multiplies words of four codes.
func qtile(rows int) {
	routine(fmt.Sprintf("qtile%d", rows), "func(c *float32, ldc int, a *int8, ars, aks int, b *uint8, groups int, "+
		"comp *int32, rs, cs, bias *float32, mode, cols, tiles int)",
		fmt.Sprintf(`c[i,j] = float32(comp[i] + sum a[i,:]*b[:,j]) * rs[i] * cs[j]; mode 1 adds bias[j], mode 2 c[i,j].
i < %d*tiles, j < cols <= 16; b is of int8. Group g, row i of a begins at g*aks + i*ars; group g of b at g*256.`, rows))
	c, a, comp, rs, tiles := ptr("c"), ptr("a"), ptr("comp"), ptr("rs"), ptr("tiles")
	out := newOutput(ptr("cols"), c, 16)
	acc := make([][]V, rows)
	for i := range acc {
		acc[i] = vecs(4)
	}
	times(tiles, func() {
		for _, row := range acc {
			for _, v := range row {
				clear(v)
			}
		}
		scope(func() {
			groups, b, aks, ars := ptr("groups"), ptr("b"), ptr("aks"), ptr("ars")
			pa, off := rowsOf(a, ars, rows), gp()
			bv, x := vecs(4), vecs(4)
			emit("MOVD ZR, %v", off)
			step := func() {
				loadRow(bv, b, 0)
				for i, p := range pa {
					x := x[i%len(x)]
					emit("FMOVS (%v)(%v), F%d", p, off, x)
					for j := range bv {
						sdotLane(acc[i][j], bv[j], x, 0)
					}
				}
				addi(256, b)
				addr(aks, off)
			}
			while(groups, 4, func() {
				for range 4 {
					step()
				}
			})
			while(groups, 1, step)
			emit("ADD %v, %v, %v", ars, pa[rows-1], a)
		})
		scope(func() {
			mode, cs, bytes := ptr("mode"), ptr("cs"), ptr("ldc")
			cv, s, t := vecs(4), vecs(2), vecs(2)
			loadRow(cv, cs, 0)
			shift(2, bytes)
			for _, row := range acc {
				out.row(func(skip string) {
					emit("CMP $2, %v", mode)
					emit("BNE %s", skip)
				}, func(p R) {
					ld1r(s[0], comp)
					ld1r(s[1], rs)
					for j, v := range row {
						add(v, v, s[0])
						scvtf(v, v)
						fmul(v, v, s[1])
						fmul(v, v, cv[j])
					}
					scope(func() {
						from, put := ptr("bias"), fresh("put")
						emit("CBZ %v, %s", mode, put)
						emit("CMP $2, %v", mode)
						emit("CSEL EQ, %v, %v, %v", p, from, from)
						for j := 0; j < 4; j += 2 {
							ldp(t[0], t[1], from, 16*j)
							fadd(row[j], row[j], t[0])
							fadd(row[j+1], row[j+1], t[1])
						}
						label(put)
					})
					storeRow(row, p, 0)
				})
				addi(4, comp)
				addi(4, rs)
				addr(bytes, c)
			}
		})
	})
	end()
}

func packCols() {
	routine("packCols", "func(dst *uint8, src *int8, ld, groups, n int)",
		"dst[g*256+4*c+r] = src[(4*g+r)*ld+c], r < 4, c < 16*n")
	dst, ld, groups := ptr("dst"), ptr("ld"), ptr("groups")
	src := ptr("src")
	times(groups, func() {
		p, to, n, v := rowsOf(src, ld, 4), clone(dst), ptr("n"), vecs(4)
		end := sum(p[3], 0, ld)
		p[0] = clone(src)
		times(n, func() {
			for i := range v {
				ldq(v[i], p[i], 0)
				addi(16, p[i])
			}
			emit("VST4.P [V%d.B16, V%d.B16, V%d.B16, V%d.B16], 64(%v)", v[0], v[1], v[2], v[3], to)
		})
		addi(256, dst)
		move(end, src)
	})
	end()
}

func qdot() {
	routine("qdot", "func(sum *int32, x, codes *int8, ld, k, n int)",
		"sum[j] = sum x[:]*codes[j*ld:], j < 4*n, k a multiple of 16")
	to, codes, ld, n := ptr("sum"), ptr("codes"), ptr("ld"), ptr("n")
	times(n, func() {
		k, x := ptr("k"), ptr("x")
		p := append([]R{clone(codes)}, rowsOf(codes, ld, 4)[1:]...)
		next := sum(p[3], 0, ld)
		acc := [2][]V{zeros(4), zeros(4)}
		for _, unroll := range []int{2, 1} {
			while(k, 16*unroll, func() {
				for u := range unroll {
					scope(func() {
						xv := vec()
						ldq(xv, x, 16*u)
						for j, p := range p {
							scope(func() {
								v := vec()
								ldq(v, p, 16*u)
								sdot(acc[u][j], v, xv)
							})
						}
					})
				}
				for _, p := range append([]R{x}, p...) {
					addi(16*unroll, p)
				}
			})
		}
		a := acc[0]
		for j, v := range a {
			add(v, v, acc[1][j])
		}
		addp(a[0], a[0], a[1])
		addp(a[2], a[2], a[3])
		addp(a[0], a[0], a[2])
		stq(a[0], to, 0)
		addi(16, to)
		move(next, codes)
	})
	end()
}

func sumCodes() {
	routine("sumCodes", "func(x *int8, n int) int32", "sum x[i], n a multiple of 16")
	x, n, ones, acc := ptr("x"), ptr("n"), bits(0x01010101), zero()
	while(n, 16, func() {
		v := vec()
		ldq(v, x, 0)
		sdot(acc, v, ones)
		addi(16, x)
	})
	addv(acc, acc)
	result32(acc, false)
	end()
}

func gradRow(scaled bool) {
	name, params, h, ptrs := "", "x *float32, ", "x[j]", []string{"x"}
	if scaled {
		name, params, h, ptrs = "Scaled", "x, ws *float32, ", "x[j]*ws[j]", []string{"x", "ws"}
	}
	load := func(s span, p []R) V {
		v := s.load(p[0])
		if scaled {
			fmul(v, v, s.load(p[1]))
		}
		return v
	}
	start := func() (p []R) {
		for _, name := range ptrs {
			p = append(p, ptr(name))
		}
		return p
	}
	routine("gradRowMax"+name, "func("+params+"n int) uint32", "max of the bits of |"+h+"|")
	p, n, acc := start(), ptr("n"), zeros(4)
	each(n, 4, p, func(s span) {
		v := load(s, p)
		fabs(v, v)
		umax(acc[s.index()], acc[s.index()], v)
	})
	top := fold(acc, umax)
	umaxv(top, top)
	result32(top, false)
	end()

	routine("gradRow"+name, "func(q *int8, "+params+"n int, s float32) int32", "q[j] = roundEven("+h+"*s); the sum of q")
	q, n := ptr("q"), ptr("n")
	p = start()
	s, total := arg("s"), zero()
	by16(n, p, []R{q}, func(g group) {
		v := make([]V, len(g.spans))
		for i, sp := range g.spans {
			v[i] = load(sp, p)
			fmul(v[i], v[i], s)
			fcvtns(v[i], v[i])
			add(total, total, v[i])
		}
		g.storeInt8(v, q)
	})
	addv(total, total)
	result32(total, false)
	end()
}

func gradColMax() {
	routine("gradColMax", "func(top, x *float32, ld int, xs *float32, n int)",
		"top[j] = max as bits of top[j] and, over i < 4, |x[i*ld+j]*xs[i]|; j < n")
	top, ld, xs, n := ptr("top"), ptr("ld"), ptr("xs"), ptr("n")
	shift(2, ld)
	x, s := rowsOf(ptr("x"), ld, 4), vecs(4)
	for i := range s {
		ld1r(s[i], xs)
		addi(4, xs)
	}
	each(n, 1, append([]R{top}, x...), func(sp span) {
		t := sp.load(top)
		for i, p := range x {
			v := sp.load(p)
			fmul(v, v, s[i])
			fabs(v, v)
			umax(t, t, v)
		}
		sp.store(t, top)
	})
	end()
}

func gradCol() {
	routine("gradCol", "func(dst *int8, stride int, sum *int32, x *float32, ld int, xs, s *float32, n int)",
		"dst[j/48*stride+4*(j%48)+i] = roundEven(x[i*ld+j]*xs[i]*s[j]), i < 4, j < n, 0 beyond n in its block;\n"+
			"sum[j] += the sum over i")
	dst, sums, ld, xs, scale, left := ptr("dst"), ptr("sum"), ptr("ld"), ptr("xs"), ptr("s"), ptr("n")
	shift(2, ld)
	x, xsv := rowsOf(ptr("x"), ld, 4), vecs(4)
	for i := range xsv {
		ld1r(xsv[i], xs)
		addi(4, xs)
	}
	while(left, 1, func() {
		n, rest, to := gp(), gp(), clone(dst)
		emit("MOVD $48, %v", rest)
		emit("CMP %v, %v", rest, left)
		emit("CSEL LT, %v, %v, %v", left, rest, n)
		emit("SUB %v, %v", n, rest)
		emit("SUB %v, %v", n, left)
		addi(1, left) // while takes one
		each(n, 1, append([]R{to, sums, scale}, x...), func(sp span) {
			s, t, v := sp.load(scale), sp.load(sums), make([]V, 4)
			for i, p := range x {
				v[i] = sp.load(p)
				fmul(v[i], v[i], xsv[i])
				fmul(v[i], v[i], s)
				fcvtns(v[i], v[i])
				add(t, t, v[i])
				if i > 0 {
					sli(v[0], v[i], 8*i)
				}
			}
			sp.store(v[0], to)
			sp.store(t, sums)
		})
		while(rest, 1, func() { emit("MOVW.P ZR, 4(%v)", to) })
		addr(ptr("stride"), dst)
	})
	end()
}

const (
	packedArgs = "func(y *float32, ldy int, x *int8, ldx int, panel *uint8, blocks int, comp *int32, " +
		"xs, ws, bias *float32, cols int)"
	packedDoc = "y[i,j] = float32(comp[i] + sum x[i,:]*(panel[j,:]+1)) * xs[i] * ws[j], + bias[j] unless that is nil,\n"
)

// columns gives a pointer to cols float32 at p, at most width, or to a copy of that width where they are fewer.
func columns(p, cols R, width int) R {
	scope(func() {
		buf, whole := local(4*width), fresh("whole")
		emit("CMP $%d, %v", width, cols)
		emit("BEQ %s", whole)
		copies(clone(cols), p, clone(buf), 4)
		move(buf, p)
		label(whole)
	})
	return p
}

// packedPut scales and stores the sums.
func packedPut(sums [][]V) {
	width := 4 * len(sums[0])
	y, ldy, cols, comp, xs := ptr("y"), ptr("ldy"), ptr("cols"), ptr("comp"), ptr("xs")
	ws, bias, noCopy := columns(ptr("ws"), cols, width), ptr("bias"), fresh("nobias")
	emit("CBZ %v, %s", bias, noCopy)
	columns(bias, cols, width)
	label(noCopy)
	shift(2, ldy)
	out := newOutput(cols, y, width)
	for _, row := range sums {
		out.row(nil, func(p R) {
			c, s, t := vec(), vec(), vecs(2)
			ld1r(c, comp)
			ld1r(s, xs)
			for j, v := range row {
				add(v, v, c)
				scvtf(v, v)
				fmul(v, v, s)
				ldq(t[j%2], ws, 16*j)
				fmul(v, v, t[j%2])
			}
			put := fresh("put")
			emit("CBZ %v, %s", bias, put)
			for j, v := range row {
				ldq(t[j%2], bias, 16*j)
				fadd(v, v, t[j%2])
			}
			label(put)
			storeRow(row, p, 0)
		})
		addi(4, comp)
		addi(4, xs)
		addr(ldy, y)
	}
}

// packed1 masks planes 1 and 2 where they are: their sums are 4 and 16 times too large, and have vectors of their own.
func packed1() {
	routine("packed1", packedArgs, packedDoc+"i < 1, j < cols <= 32")
	sums := [3][]V{zeros(8), zeros(8), zeros(8)}
	scope(func() {
		x, panel, blocks := ptr("x"), ptr("panel"), ptr("blocks")
		masks := []V{bits(0x03030303), bits(0x0c0c0c0c), bits(0x30303030)}
		some, n := fresh("some"), gp()
		label(some) // 2^15 blocks at most: 16 times their sum is an int32
		emit("MOVD $32768, %v", n)
		emit("CMP %v, %v", n, blocks)
		emit("CSEL LT, %v, %v, %v", blocks, n, n)
		emit("SUB %v, %v", n, blocks)
		times(n, func() {
			xv, line, codes := vec(), vecs(2), vecs(2)
			ldq(xv, x, 0)
			for j := range 8 {
				l, c := line[j%2], codes[j%2]
				if j%2 == 0 {
					ldp(line[0], line[1], panel, 16*j)
				}
				for p, m := range masks {
					and(c, l, m)
					sdotLane(sums[p][j], c, xv, p)
				}
				ushrBytes(c, l, 6)
				sdotLane(sums[0][j], c, xv, 3)
			}
			addi(16, x)
			addi(128, panel)
		})
		for j, v := range sums[0] {
			for p := 1; p < 3; p++ {
				sshr(sums[p][j], sums[p][j], 2*p)
				add(v, v, sums[p][j])
				clear(sums[p][j])
			}
		}
		emit("CBNZ %v, %s", blocks, some)
	})
	packedPut(sums[:1])
	end()
}

// packed4: planes are shifted down, and then multiply all rows.
func packed4() {
	routine("packed4", packedArgs, packedDoc+"i < 4, j < cols <= 16; j are 16 rows of a panel")
	var sums [][]V
	for range 4 {
		sums = append(sums, zeros(4))
	}
	scope(func() {
		ldx, panel, blocks := ptr("ldx"), ptr("panel"), ptr("blocks")
		px, low := rowsOf(ptr("x"), ldx, 4), bits(0x03030303)
		times(blocks, func() {
			xv, line, codes := vecs(4), vecs(4), vecs(2)
			for i, p := range px {
				ldq(xv[i], p, 0)
				addi(16, p)
			}
			loadRow(line, panel, 0)
			addi(128, panel)
			for p := range 4 {
				for j, l := range line {
					c := codes[j%2]
					switch p {
					case 0:
						and(c, l, low)
					case 3:
						ushrBytes(c, l, 6)
					default:
						ushrBytes(c, l, 2*p)
						and(c, c, low)
					}
					for i := range sums {
						sdotLane(sums[i][j], c, xv[i], p)
					}
				}
			}
		})
	})
	packedPut(sums)
	end()
}
