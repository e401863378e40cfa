package main

func caches() {
	for _, size := range []int{4, 2, 1} {
		r := cached{size}
		r.dots()
		r.mix()
	}
	convert()
}

// Rows of float32 (size 4), half precision (2) or int8 (1).
type cached struct{ size int }

func (r cached) suffix() (name, typ string) {
	switch r.size {
	case 4:
		return "", "*float32"
	case 2:
		return "Half", "*uint16"
	}
	return "Int8", "*int8"
}

// load reads 16 elements.
func (r cached) load(p R, off int) []V {
	v := vecs(4)
	switch r.size {
	case 4:
		loadRow(v, p, off)
	case 2:
		ldp(v[0], v[2], p, off)
		for i := 0; i < 4; i += 2 {
			fcvtlH(v[i+1], v[i], true)
			fcvtlH(v[i], v[i], false)
		}
	default:
		ldq(v[0], p, off)
		sxtlH(v[2], v[0], true)
		sxtlH(v[0], v[0], false)
		for i := 0; i < 4; i += 2 {
			sxtlS(v[i+1], v[i], true)
			sxtlS(v[i], v[i], false)
		}
		for _, v := range v {
			scvtf(v, v)
		}
	}
	return v
}

// dots of n rows, four at a time: n is not zero, d a multiple of 16.
func (r cached) dots() {
	name, typ := r.suffix()
	doc := "s[j] = scale * sum x[:d]*row[j*ld:], j < n; d is a multiple of 16"
	if r.size == 1 {
		doc = "s[j] = scale * sum x[:d]*row[j*ld:] * the float32 at row[j*ld+d], j < n; d is a multiple of 16"
	}
	routine("rowDots"+name, "func(s, x *float32, row "+typ+", ld, d, n int, scale float32)", doc)
	to, row, ld, n, scale := ptr("s"), ptr("row"), ptr("ld"), ptr("n"), arg("scale")
	if r.size > 1 {
		shift(r.size/2, ld)
	}
	for _, count := range []int{4, 1} {
		while(n, count, func() {
			x, d := ptr("x"), ptr("d")
			at := append([]R{clone(row)}, rowsOf(row, ld, count)[1:]...)
			next := sum(at[count-1], 0, ld)
			if count > 1 {
				next = sum(row, 2, ld)
			}
			acc := make([][]V, count)
			for i := range acc {
				acc[i] = zeros(2)
			}
			while(d, 16, func() {
				xv := vecs(4)
				loadRow(xv, x, 0)
				for i, p := range at {
					scope(func() {
						for j, v := range r.load(p, 0) {
							fmla(acc[i][j%2], v, xv[j])
						}
					})
					addi(16*r.size, p)
				}
				addi(64, x)
			})
			for _, a := range acc {
				fadd(a[0], a[0], a[1])
			}
			y, f := acc[0][0], vec()
			if count == 4 {
				faddp(y, y, acc[1][0])
				faddp(acc[2][0], acc[2][0], acc[3][0])
				faddp(y, y, acc[2][0])
			} else {
				faddp(y, y, y)
				faddp(y, y, y)
			}
			fmul(y, y, scale)
			if r.size == 1 { // the pointers are at the scales
				lds(f, at[0], 0)
				for i, p := range at[1:] {
					emit("VLD1 (%v), V%d.S[%d]", p, f, i+1)
				}
				fmul(y, y, f)
			}
			if count == 4 {
				stq(y, to, 0)
			} else {
				sts(y, to, 0)
			}
			addi(4*count, to)
			move(next, row)
		})
	}
	end()
}

// mix: strips of columns that fit the registers, each over all rows.
func (r cached) mix() {
	name, typ := r.suffix()
	doc := "y[i] = sum over j < n of p[j]*row[j*ld+i], i < d; d is a multiple of 16"
	if r.size == 1 {
		doc = "y[i] = sum over j < n of p[j]*row[j*ld+i] * the float32 at row[j*ld+d], i < d; d is a multiple of 16"
	}
	routine("rowMix"+name, "func(y, p *float32, row "+typ+", ld, d, n int)", doc)
	y, first, ld, d := ptr("y"), ptr("row"), ptr("ld"), ptr("d")
	if r.size > 1 {
		shift(r.size/2, ld)
	}
	scales := first // of the first row
	if r.size == 1 {
		scales = sum(first, 0, d)
	}
	for _, cols := range []int{64, 32, 16} {
		while(d, cols, func() {
			p, row, n, scale := ptr("p"), clone(first), ptr("n"), R(0)
			if r.size == 1 {
				scale = clone(scales)
			}
			acc := zeros(cols / 4)
			times(n, func() {
				f := vec()
				lds(f, p, 0)
				if r.size == 1 {
					s := vec()
					lds(s, scale, 0)
					fmul(f, f, s)
					addr(ld, scale)
				}
				for i := 0; i < cols/16; i++ {
					scope(func() {
						for j, v := range r.load(row, 16*i*r.size) {
							fmlaLane(acc[4*i+j], v, f, 0)
						}
					})
				}
				addi(4, p)
				addr(ld, row)
			})
			storeRow(acc, y, 0)
			addi(4*cols, y)
			addi(cols*r.size, first)
		})
	}
	end()
}

// convert changes whole vectors.
func convert() {
	routine("widen", "func(y *float32, x *uint16, n int)", "y[i] = half.FromF16(x[i]), i < n, a multiple of 16")
	y, x, n := ptr("y"), ptr("x"), ptr("n")
	while(n, 16, func() {
		storeRow(cached{2}.load(x, 0), y, 0)
		addi(32, x)
		addi(64, y)
	})
	end()
	routine("narrow", "func(y *uint16, x *float32, n int)", "y[i] = half.F16(x[i]), i < n, a multiple of 16")
	y, x, n = ptr("y"), ptr("x"), ptr("n")
	while(n, 16, func() {
		v := cached{4}.load(x, 0)
		for i := 0; i < 4; i += 2 {
			fcvtnH(v[i], v[i], false)
			fcvtnH(v[i], v[i+1], true)
		}
		stp(v[0], v[2], y, 0)
		addi(64, x)
		addi(32, y)
	})
	end()
}
