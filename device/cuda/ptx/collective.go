package ptx

import "math/bits"

// The members of a collective instruction are the lanes that its mask names. All of them that have not exited must
// come to the instruction, and all that come must name the same mask, with themselves in it.
func (c *compiler) memberMask(a arg) {
	if a.kind == aInt { // the usual case
		members := uint32(a.bits)
		c.members = func(w *warp, m uint32) uint32 {
			if m&^members != 0 {
				w.fail(codeLaunch, bits.TrailingZeros32(m&^members), "lanes %#x are here, but not among the members %#x",
					m&^members,
					members)
			}
			return members
		}
		return
	}
	r := c.src(a, "b32")
	c.members = func(w *warp, m uint32) uint32 {
		if m == 0 {
			return 0
		}
		first := bits.TrailingZeros32(m) & 31
		members := w.r32[r][first]
		for l := m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			if w.r32[r][i] != members {
				w.fail(codeLaunch, i, "lanes name different members: %#x and %#x", w.r32[r][i], members)
			}
		}
		if m&^members != 0 {
			w.fail(codeLaunch, bits.TrailingZeros32(m&^members), "lanes %#x are here, but not among the members %#x",
				m&^members, members)
		}
		return members
	}
}

// checked runs f after the check of members.
func (c *compiler) checked(f func(w *warp, m uint32)) {
	members := c.members
	c.run(func(w *warp, m uint32) {
		members(w, m)
		f(w, m)
	})
}

func (c *compiler) shfl() {
	t := c.last()
	sync := c.m.has("sync")
	mode := c.m.oneOf("up", "down", "bfly", "idx")
	c.done()
	if !sync || mode == "" || t != "b32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.nargs(5)
	c.memberMask(c.s.args[4])
	a := c.src(c.s.args[1], t)
	b, cc := c.src(c.s.args[2], "u32"), c.src(c.s.args[3], "u32")
	dst, p := c.s.args[0], int32(-1)
	if dst.kind == aPair {
		p = c.dstP(dst.list[1])
		dst = dst.list[0]
	}
	d := c.dst(dst, t)
	// Where the lanes are constants the sources are too.
	var table [32]uint8
	known := c.s.args[2].kind == aInt && c.s.args[3].kind == aInt && p < 0
	if known {
		for i := range table {
			j, _ := shuffleFrom(mode, uint32(i), uint32(c.s.args[2].bits), uint32(c.s.args[3].bits))
			table[i] = uint8(j)
		}
	}
	c.checked(func(w *warp, m uint32) {
		src := w.r32[a]
		if known && m == allLanes {
			d := &w.r32[d]
			for i := range d {
				d[i] = src[table[i]&31]
			}
			return
		}
		d, b, cc := &w.r32[d], w.r32[b], w.r32[cc]
		var inRange uint32
		for l := m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			j, ok := shuffleFrom(mode, uint32(i), b[i], cc[i])
			if ok {
				inRange |= 1 << i
			}
			if m>>j&1 == 0 {
				w.fail(codeLaunch, i, "shuffle from lane %d, which is not here: only lanes %#x are", j, m)
			}
			d[i] = src[j]
		}
		if p >= 0 {
			w.p[p] = w.p[p]&^m | inRange
		}
	})
}

// shuffleFrom is the lane that a lane reads, and whether that is in its segment: else it is the lane itself.
func shuffleFrom(mode string, lane, b, c uint32) (j uint32, ok bool) {
	seg, clamp, n := c>>8&31, c&31, b&31
	maxLane := lane&seg | clamp&^seg
	switch mode {
	case "up":
		j = lane - n
		ok = int32(j) >= int32(maxLane)
	case "down":
		j = lane + n
		ok = j <= maxLane
	case "bfly":
		j = lane ^ n
		ok = j <= maxLane
	default:
		j = lane&seg | n&^seg
		ok = j <= maxLane
	}
	if !ok {
		j = lane
	}
	return j, ok
}

func (c *compiler) vote() {
	t := c.last()
	sync := c.m.has("sync")
	mode := c.m.oneOf("all", "any", "uni", "ballot")
	c.done()
	if !sync || mode == "" || (mode == "ballot") != (t == "b32") || t != "b32" && t != "pred" {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.nargs(3)
	c.memberMask(c.s.args[2])
	p, not := c.srcP(c.s.args[1])
	var d int32
	if t == "b32" {
		d = c.dst(c.s.args[0], t)
	} else {
		d = c.dstP(c.s.args[0])
	}
	c.checked(func(w *warp, m uint32) {
		x := pmask(w.p[p], not) & m
		r := false
		switch mode {
		case "ballot":
			for l := m; l != 0; l &= l - 1 {
				w.r32[d][bits.TrailingZeros32(l)&31] = x
			}
			return
		case "all":
			r = x == m
		case "any":
			r = x != 0
		case "uni":
			r = x == m || x == 0
		}
		w.p[d] &^= m
		if r {
			w.p[d] |= m
		}
	})
}

func (c *compiler) match() {
	t := c.last()
	sync := c.m.has("sync")
	mode := c.m.oneOf("all", "any")
	c.done()
	if !sync || mode == "" || t != "b32" && t != "b64" {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.nargs(3)
	c.memberMask(c.s.args[2])
	a := c.src(c.s.args[1], t)
	dst, p := c.s.args[0], int32(-1)
	if dst.kind == aPair {
		if mode == "any" {
			c.fail("unknown instruction %s", c.s.full)
		}
		p = c.dstP(dst.list[1])
		dst = dst.list[0]
	}
	d := c.dst(dst, "b32")
	get := func(w *warp, i int) uint64 {
		if t == "b64" {
			return w.r64[a][i]
		}
		return uint64(w.r32[a][i])
	}
	c.checked(func(w *warp, m uint32) {
		var res col32
		for l := m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			for k := m; k != 0; k &= k - 1 {
				if j := bits.TrailingZeros32(k) & 31; get(w, i) == get(w, j) {
					res[i] |= 1 << j
				}
			}
		}
		if mode == "all" {
			all := res[bits.TrailingZeros32(m)&31] == m
			for i := range res {
				if !all {
					res[i] = 0
				}
			}
			if p >= 0 {
				w.p[p] &^= m
				if all {
					w.p[p] |= m
				}
			}
		}
		merge32(&w.r32[d], &res, m)
	})
}

func (c *compiler) activemask() {
	t := c.last()
	c.done()
	c.nargs(1)
	if t != "b32" {
		c.fail("unknown instruction %s", c.s.full)
	}
	d := c.dst(c.s.args[0], t)
	c.run(func(w *warp, m uint32) {
		for l := m; l != 0; l &= l - 1 {
			w.r32[d][bits.TrailingZeros32(l)&31] = m
		}
	})
}

func (c *compiler) redux() {
	t := c.last()
	sync := c.m.has("sync")
	op := c.m.oneOf("add", "min", "max", "and", "or", "xor")
	c.done()
	f := atomicOp(op, t)
	if !sync || f == nil || typeSizes[t] != 4 || t == "f32" || t == "f16x2" {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.nargs(3)
	c.memberMask(c.s.args[2])
	a, d := c.src(c.s.args[1], t), c.dst(c.s.args[0], t)
	c.checked(func(w *warp, m uint32) {
		first := bits.TrailingZeros32(m) & 31
		r := uint64(w.r32[a][first])
		for l := m & (m - 1); l != 0; l &= l - 1 {
			r = f(r, uint64(w.r32[a][bits.TrailingZeros32(l)&31]), 0)
		}
		for l := m; l != 0; l &= l - 1 {
			w.r32[d][bits.TrailingZeros32(l)&31] = uint32(r)
		}
	})
}

// warpSync compiles bar.warp.sync: its lanes meet, and see each other's memory.
func (c *compiler) warpSync() {
	sync := c.m.has("sync")
	c.done()
	if !sync {
		c.fail("unknown instruction %s", c.s.full)
	}
	c.nargs(1)
	c.memberMask(c.s.args[0])
	c.checked(func(w *warp, m uint32) { w.blk.shadow.lanes(w, m) })
}

// wholeWarp is for instructions of all 32 lanes.
func (c *compiler) wholeWarp(f func(w *warp)) {
	c.members = func(w *warp, m uint32) uint32 { return allLanes }
	c.run(func(w *warp, m uint32) {
		if m != allLanes {
			w.fail(codeLaunch, bits.TrailingZeros32(m), "needs all 32 lanes, only %#x are here", m)
		}
		f(w)
	})
}
