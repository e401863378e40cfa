package main

func random() {
	uniform()
	dropout(false)
	dropout(true)
}

// philox emits the loop over n float32, a multiple of 16, at ptrs; body gets the Philox4x32-10 words of four counters:
// vector i has word i of each, as VLD4 reads and VST4 writes elements. The arguments counter, k0 and k1 are the first
// counter and the key.
func philox(n R, ptrs []R, body func(words []V)) {
	lo, hi, step := vec(), vec(), vec() // counters 0 and 1, 2 and 3
	scope(func() {
		c := ptr("counter")
		for _, v := range []V{lo, hi} {
			for i := range 2 {
				emit("VMOV %v, V%d.D[%d]", c, v, i)
				addi(1, c)
			}
		}
		emit("MOVD $4, %v", c)
		emit("VDUP %v, V%d.D2", c, step)
	})
	mul := []V{bits(0xD2511F53), bits(0xCD9E8D57)}
	weyl := []V{bits(0x9E3779B9), bits(0xBB67AE85)}
	first := []V{arg("k0"), arg("k1")}
	while(n, 16, func() {
		key, c, t := vecs(2), vecs(4), vecs(4)
		for i := range key {
			copyV(key[i], first[i])
		}
		uzp1(c[0], lo, hi)
		uzp2(c[1], lo, hi)
		clear(c[2])
		clear(c[3])
		addD(lo, lo, step)
		addD(hi, hi, step)
		for r := range 10 {
			if r > 0 {
				for i := range key {
					add(key[i], key[i], weyl[i])
				}
			}
			for i := range 2 {
				umull(t[2*i], c[2*i], mul[i], false)
				umull(t[2*i+1], c[2*i], mul[i], true)
			}
			eor(c[1], c[1], key[0])
			eor(c[3], c[3], key[1])
			uzp2(c[0], t[2], t[3])
			eor(c[0], c[0], c[1])
			uzp1(c[1], t[2], t[3])
			uzp2(c[2], t[0], t[1])
			eor(c[2], c[2], c[3])
			uzp1(c[3], t[0], t[1])
		}
		body(c)
		for _, p := range ptrs {
			addi(64, p)
		}
	})
}

func uniform() {
	routine("uniform", "func(y *float32, n int, counter uint64, k0, k1 uint32, lo, width float32)",
		"y[i] = lo + width*Unit(Philox(k1<<32|k0, counter+i/4)[i%4]), n a multiple of 64")
	y, n, lo, width, unit, v := ptr("y"), ptr("n"), arg("lo"), arg("width"), constant(1.0/(1<<24)), vecs(4)
	philox(n, []R{y}, func(words []V) {
		for i, w := range words {
			ushr(w, w, 8)
			scvtf(w, w)
			fmul(w, w, unit)
			fmul(w, w, width)
			fadd(v[i], w, lo)
		}
		emit("VST4 [V%d.S4, V%d.S4, V%d.S4, V%d.S4], (%v)", v[0], v[1], v[2], v[3], y)
	})
	end()
}

func dropout(acc bool) {
	name, op := "dropout", "="
	if acc {
		name, op = "dropoutAcc", "+="
	}
	routine(name, "func(y, x *float32, n int, counter uint64, k0, k1 uint32, least int32, scale float32)",
		"if Philox(k1<<32|k0, counter+i/4)[i%4]>>8 > least { y[i] "+op+" scale*x[i] } else { y[i] "+op+
			" 0 }, n a multiple of 64")
	v, d := vecs(4), vecs(4)
	y, x, n, least, scale := ptr("y"), ptr("x"), ptr("n"), vec(), arg("scale")
	scope(func() { emit("VDUP %v, V%d.S4", word("least"), least) })
	philox(n, []R{y, x}, func(words []V) {
		emit("VLD4 (%v), [V%d.S4, V%d.S4, V%d.S4, V%d.S4]", x, v[0], v[1], v[2], v[3])
		if acc {
			emit("VLD4 (%v), [V%d.S4, V%d.S4, V%d.S4, V%d.S4]", y, d[0], d[1], d[2], d[3])
		}
		for i, w := range words {
			ushr(w, w, 8)
			cmgt(w, w, least)
			fmul(v[i], v[i], scale)
			and(v[i], v[i], w)
			if acc {
				fadd(v[i], v[i], d[i])
			}
		}
		emit("VST4 [V%d.S4, V%d.S4, V%d.S4, V%d.S4], (%v)", v[0], v[1], v[2], v[3], y)
	})
	end()
}
