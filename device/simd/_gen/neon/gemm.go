package main

import "fmt"

func gemm() {
	for _, rows := range []int{6, 4, 2, 1} {
		for v := 4; v > 0; v-- {
			tile(rows, v)
		}
	}
	dots(2)
	dots(1)
	copyPanel()
	compact()
	turn8()
}

// rowsOf gives pointers to n rows, stride bytes apart.
func rowsOf(p, stride R, n int) []R {
	rows := []R{p}
	for range n - 1 {
		rows = append(rows, sum(rows[len(rows)-1], 0, stride))
	}
	return rows
}

// loadRow reads adjacent vectors in pairs.
func loadRow(v []V, p R, off int) {
	i := 0
	for ; i+1 < len(v); i += 2 {
		ldp(v[i], v[i+1], p, off+16*i)
	}
	if i < len(v) {
		ldq(v[i], p, off+16*i)
	}
}

func storeRow(v []V, p R, off int) {
	i := 0
	for ; i+1 < len(v); i += 2 {
		stp(v[i], v[i+1], p, off+16*i)
	}
	if i < len(v) {
		stq(v[i], p, off+16*i)
	}
}

// lastOf does 4 lanes at p+off or, of last < 4, one by one: first the low lane, then by lanes through a pointer.
func lastOf(last, p R, off int, all, first func(), lane func(q R, i int)) {
	some, done := fresh("some"), fresh("done")
	emit("CMP $4, %v", last)
	emit("BNE %s", some)
	all()
	emit("B %s", done)
	label(some)
	first()
	scope(func() {
		q := gp()
		emit("CMP $2, %v", last)
		emit("BLT %s", done)
		emit("ADD $%d, %v, %v", off+4, p, q)
		lane(q, 1)
		emit("BEQ %s", done)
		emit("ADD $4, %v", q)
		lane(q, 2)
	})
	label(done)
}

// loadCols reads vectors of a row, of which the last one has last lanes; the others are not touched.
func loadCols(v []V, p, last R) {
	n := len(v) - 1
	loadRow(v[:n], p, 0)
	lastOf(last, p, 16*n, func() { ldq(v[n], p, 16*n) }, func() { lds(v[n], p, 16*n) },
		func(q R, i int) { emit("VLD1 (%v), V%d.S[%d]", q, v[n], i) })
}

func storeCols(v []V, p, last R) {
	n := len(v) - 1
	storeRow(v[:n], p, 0)
	lastOf(last, p, 16*n, func() { stq(v[n], p, 16*n) }, func() { sts(v[n], p, 16*n) },
		func(q R, i int) { emit("VST1 V%d.S[%d], (%v)", v[n], i, q) })
}

// tile is the product of rows x k and k x 4v, all sums in registers. One k step loads v vectors of B and multiplies them
// by one element of each row of A.
func tile(rows, v int) {
	routine(fmt.Sprintf("tile%dx%d", rows, v), "func(k int, a *float32, ars, acs int, b *float32, bs int, "+
		"c *float32, cs, last int, alpha, beta float32, bias *float32)",
		fmt.Sprintf(`C[i][j] = alpha * sum over l < k of A[i][l]*B[l][j] + beta*C[i][j] + bias[j] for i < %d and
j < %d+last, 0 < last <= 4. Element (i, l) of A lies i*ars + l*acs bytes from a, row l of B l*bs bytes from b, row i of C
i*cs bytes from c. C is not read if beta is 0; bias may be nil.`, rows, 4*(v-1)))
	acc := make([][]V, rows)
	for i := range acc {
		acc[i] = zeros(v)
	}
	bv := vecs(v)
	c, cs := ptr("c"), ptr("cs")
	scope(func() {
		p := clone(c)
		for i := range rows {
			if i > 0 {
				addr(cs, p)
			}
			emit("PRFM (%v), PLDL1KEEP", p)
		}
	})
	scope(func() {
		k, acs, b, bs := ptr("k"), ptr("acs"), ptr("b"), ptr("bs")
		pa := rowsOf(ptr("a"), ptr("ars"), rows)
		off, x := gp(), vecs(min(rows, 4))
		emit("MOVD ZR, %v", off)
		step := func() {
			loadRow(bv, b, 0)
			for i, a := range pa {
				x := x[i%len(x)]
				emit("FMOVS (%v)(%v), F%d", a, off, x)
				for j := range bv {
					fmlaLane(acc[i][j], bv[j], x, 0)
				}
			}
			addr(bs, b)
			addr(acs, off)
		}
		while(k, 4, func() {
			for range 4 {
				step()
			}
		})
		while(k, 1, step)
	})
	last := ptr("last")
	scope(func() {
		alpha := arg("alpha")
		for i := range acc {
			for j := range bv {
				fmul(acc[i][j], acc[i][j], alpha)
			}
		}
	})
	bias, noBias := ptr("bias"), fresh("nobias")
	emit("CBZ %v, %s", bias, noBias)
	loadCols(bv, bias, last)
	for i := range acc {
		for j := range bv {
			fadd(acc[i][j], acc[i][j], bv[j])
		}
	}
	label(noBias)
	bits, beta := word("beta"), arg("beta")
	emit("LSLW $1, %v", bits) // 0 for both zeros
	for i := range acc {
		noBeta := fresh("nobeta")
		emit("CBZW %v, %s", bits, noBeta)
		loadCols(bv, c, last)
		for j := range bv {
			fmla(acc[i][j], bv[j], beta)
		}
		label(noBeta)
		storeCols(acc[i], c, last)
		if i+1 < rows {
			addr(cs, c)
		}
	}
	end()
}

// dots is the product of a few rows of A with four rows of B, both with k contiguous: for products too small to pack B.
func dots(rows int) {
	routine(fmt.Sprintf("dots%dx4", rows), "func(k int, a *float32, as int, b *float32, bs int, sum *float32)",
		fmt.Sprintf(`sum[4*i+j] = sum over l < k of A[i][l]*B[j][l] for i < %d and j < 4; rows of A and B lie as and bs
bytes apart.`, rows))
	k, to := ptr("k"), ptr("sum")
	pa, pb := rowsOf(ptr("a"), ptr("as"), rows), rowsOf(ptr("b"), ptr("bs"), 4)
	var acc [2][][]V
	for u := range acc {
		for range rows {
			acc[u] = append(acc[u], zeros(4))
		}
	}
	each(k, 2, append(append([]R{}, pa...), pb...), func(s span) {
		av := make([]V, rows)
		for i := range av {
			av[i] = s.load(pa[i])
		}
		for j := range 4 {
			scope(func() {
				bv := s.load(pb[j])
				for i := range av {
					fmla(acc[s.index()][i][j], av[i], bv)
				}
			})
		}
	})
	for i := range rows {
		a := acc[0][i]
		for j, v := range a {
			fadd(v, v, acc[1][i][j])
		}
		faddp(a[0], a[0], a[1])
		faddp(a[2], a[2], a[3])
		faddp(a[0], a[0], a[2])
		stq(a[0], to, 16*i)
	}
	end()
}

// copyPanel gathers a column strip of a row-major matrix.
func copyPanel() {
	routine("copyPanel", "func(dst, src *float32, stride, rows int)",
		"dst[i][j] = src[i][j], j < 16; rows of dst are dense, rows of src stride bytes apart")
	dst, src, stride, rows, v := ptr("dst"), ptr("src"), ptr("stride"), ptr("rows"), vecs(4)
	while(rows, 1, func() {
		loadRow(v, src, 0)
		storeRow(v, dst, 0)
		addr(stride, src)
		addi(64, dst)
	})
	end()
}

// compact is copyPanel for any width.
func compact() {
	routine("compact", "func(dst, src *float32, stride, rows, n int)",
		"dst[i][j] = src[i][j], j < n; rows of dst are dense, rows of src stride bytes apart")
	dst, src, stride, rows := ptr("dst"), ptr("src"), ptr("stride"), ptr("rows")
	while(rows, 1, func() {
		p, n := clone(src), ptr("n")
		each(n, 4, []R{p, dst}, func(s span) { s.store(s.load(p), dst) })
		addr(stride, src)
	})
	end()
}

// turn4 transposes 4 x 4 words.
func turn4(r []V) []V {
	t, d := vecs(4), vecs(4)
	zip1(t[0], r[0], r[2])
	zip2(t[1], r[0], r[2])
	zip1(t[2], r[1], r[3])
	zip2(t[3], r[1], r[3])
	zip1(d[0], t[0], t[2])
	zip2(d[1], t[0], t[2])
	zip1(d[2], t[1], t[3])
	zip2(d[3], t[1], t[3])
	return d
}

// turn8 transposes 8 columns at a time.
func turn8() {
	routine("turn8x", "func(dst *float32, ds int, src *float32, ss, n int)",
		"dst[l][j] = src[j][l] for j < 8, l < 8n; rows of dst and src lie ds and ss bytes apart")
	dst, ds, n := ptr("dst"), ptr("ds"), ptr("n")
	src := rowsOf(ptr("src"), ptr("ss"), 8)
	shift(1, n)
	while(n, 1, func() {
		r := vecs(8)
		for i, p := range src {
			ldq(r[i], p, 0)
			addi(16, p)
		}
		a, b := turn4(r[:4]), turn4(r[4:])
		for i := range 4 {
			stp(a[i], b[i], dst, 0)
			addr(ds, dst)
		}
	})
	end()
}
