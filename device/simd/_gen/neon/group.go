package main

// A group is 16 elements of a loop, four vectors, or one element of the tail in the low lane.
type group struct {
	spans []span
	tail  bool
}

// by16 is each in groups: it consumes n, advances floats by 4 bytes an element and bytes by 1.
func by16(n R, floats, bytes []R, body func(g group)) {
	groups(n, floats, bytes, body)
	while(n, 1, func() {
		body(group{[]span{{tail: true}}, true})
		for _, p := range floats {
			addi(4, p)
		}
		for _, p := range bytes {
			addi(1, p)
		}
	})
}

func groups(n R, floats, bytes []R, body func(g group)) {
	while(n, 16, func() {
		body(group{spans: []span{{off: 0}, {off: 16}, {off: 32}, {off: 48}}})
		for _, p := range floats {
			addi(64, p)
		}
		for _, p := range bytes {
			addi(16, p)
		}
	})
}

// local is memory of the frame.
func local(size int) R {
	frame += size
	r := gp()
	emit("MOVD $local%d-%d(SP), %v", frame, frame, r)
	return r
}

// copies emits the loop over n elements of the given bytes from src to dst, which it advances. It consumes n.
func copies(n, src, dst R, size int) {
	scope(func() {
		t, move := gp(), map[int]string{1: "MOVBU", 4: "MOVWU"}[size]
		while(n, 1, func() {
			emit("%s.P %d(%v), %v", move, size, src, t)
			emit("%s.P %v, %d(%v)", map[int]string{1: "MOVB", 4: "MOVW"}[size], t, size, dst)
		})
	})
}

// padded is by16 where every element has a lane of its own: the tail is a whole group of a copy, with zeros behind. It
// leaves the pointers anywhere.
func padded(n R, floats, bytes []R, body func(g group)) {
	groups(n, floats, bytes, body)
	done := fresh("done")
	emit("CBZ %v, %s", n, done)
	scope(func() {
		to := make([]R, len(bytes))
		for i, p := range bytes {
			to[i] = clone(p)
			scope(func() { move(local(16), p) })
		}
		for _, p := range floats {
			scope(func() {
				buf, z := local(64), zero()
				for off := 0; off < 64; off += 16 {
					stq(z, buf, off)
				}
				copies(clone(n), p, clone(buf), 4)
				move(buf, p)
			})
		}
		scope(func() { body(group{spans: []span{{off: 0}, {off: 16}, {off: 32}, {off: 48}}}) })
		for i, p := range bytes {
			copies(clone(n), p, to[i], 1)
		}
	})
	label(done)
}

// loads the vectors of a group.
func (g group) loads(p R) []V {
	v := make([]V, len(g.spans))
	for i, s := range g.spans {
		v[i] = s.load(p)
	}
	return v
}

// storeInt8 narrows int32 with saturation; it overwrites v.
func (g group) storeInt8(v []V, p R) {
	if g.tail {
		r := gp()
		emit("FMOVS F%d, %v", v[0], r)
		emit("MOVB %v, (%v)", r, p)
		return
	}
	sqxtnH(v[0], v[0], false)
	sqxtnH(v[0], v[1], true)
	sqxtnH(v[2], v[2], false)
	sqxtnH(v[2], v[3], true)
	sqxtnB(v[0], v[0], false)
	sqxtnB(v[0], v[2], true)
	stq(v[0], p, 0)
}

// loadInt8 widens to int32.
func (g group) loadInt8(p R) []V {
	v := vecs(len(g.spans))
	if g.tail {
		r := gp()
		emit("MOVB (%v), %v", p, r)
		emit("FMOVS %v, F%d", r, v[0])
		return v
	}
	ldq(v[0], p, 0)
	sxtlH(v[2], v[0], true)
	sxtlH(v[0], v[0], false)
	sxtlS(v[1], v[0], true)
	sxtlS(v[0], v[0], false)
	sxtlS(v[3], v[2], true)
	sxtlS(v[2], v[2], false)
	return v
}

// result32 returns the low 32 bits of v.
func result32(v V, float bool) {
	if float {
		emit("FMOVS F%d, ret+%d(FP)", v, result)
		return
	}
	r := gp()
	emit("FMOVS F%d, %v", v, r)
	emit("MOVW %v, ret+%d(FP)", r, result)
}

// fold adds, or so, the accumulators to the first.
func fold(acc []V, f func(d, n, m V)) V {
	for h := len(acc) / 2; h > 0; h /= 2 {
		for i := range h {
			f(acc[i], acc[i], acc[i+h])
		}
	}
	return acc[0]
}

// The 16 float64 accumulators of device.LaneSum.
func laneAdd(acc, v []V, f func(d V, acc V)) {
	for i, v := range v {
		scope(func() {
			lo, hi := vec(), vec()
			fcvtlD(lo, v, false)
			fcvtlD(hi, v, true)
			f(lo, acc[2*i])
			f(hi, acc[2*i+1])
		})
	}
}

func plain(d, acc V)   { faddD(acc, acc, d) }
func squared(d, acc V) { fmlaD(acc, d, d) }

// chunks emits body for the chunks of device.LaneSum in the argument n > 0, and writes the sums of the lanes to part.
func chunks(body func(n R, acc []V)) {
	left, part, acc := ptr("n"), ptr("part"), vecs(8)
	next := fresh("chunk")
	label(next)
	for _, v := range acc {
		clear(v)
	}
	scope(func() {
		n := gp()
		emit("MOVD $4096, %v", n)
		emit("CMP %v, %v", n, left)
		emit("CSEL LT, %v, %v, %v", left, n, n)
		emit("SUB %v, %v", n, left)
		body(n, acc)
	})
	v := fold(acc, faddD)
	faddpD(v, v)
	std(v, part, 0)
	addi(8, part)
	emit("CBNZ %v, %s", left, next)
}
