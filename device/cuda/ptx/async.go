package ptx

import (
	"math/bits"
	"slices"
)

// An asyncCopy is a cp.async under way. Its source is read at once; what it writes is seen only after the thread has
// waited for its group, so that a missing wait is found: until then the bytes are neither to be read nor to be written.
type asyncCopy struct {
	lanes uint32
	off   col64 // in shared memory
	size  int
	line  int32
	data  [32][16]byte
}

// A group is what lanes have committed together.
type group struct {
	lanes  uint32
	copies []*asyncCopy
}

func (c *compiler) cp() {
	if !c.m.has("async") {
		c.fail("unknown instruction %s", c.s.full)
	}
	switch {
	case c.m.has("commit_group"):
		c.done()
		c.nargs(0)
		c.run(func(w *warp, m uint32) { w.commit(m) })
		return
	case c.m.has("wait_all"):
		c.done()
		c.nargs(0)
		c.run(func(w *warp, m uint32) {
			w.commit(m)
			w.await(m, 0)
		})
		return
	case c.m.has("wait_group"):
		c.done()
		c.nargs(1)
		if c.s.args[0].kind != aInt {
			c.fail("expected a number")
		}
		n := int(min(c.s.args[0].bits, 1<<20))
		c.run(func(w *warp, m uint32) { w.await(m, n) })
		return
	}
	mode := c.m.oneOf("ca", "cg")
	isShared := c.m.has("shared") || c.m.has("shared::cta")
	isGlobal := c.m.has("global")
	c.m.oneOf("L2::64B", "L2::128B", "L2::256B")
	c.done()
	c.nargs(3, 4)
	args := c.s.args
	if mode == "" || !isShared || !isGlobal || args[2].kind != aInt {
		c.fail("unknown instruction %s", c.s.full)
	}
	size := int(args[2].bits)
	if size != 16 && (mode == "cg" || size != 4 && size != 8) {
		c.fail("cp.async.%s of %d bytes", mode, size)
	}
	dst := c.operand(args[0], shared, size, true)
	src := c.operand(args[1], global, size, false)
	srcSize, ignore, not := int32(-1), int32(-1), false
	if len(args) == 4 {
		if r, ok := c.fn.regs[args[3].name]; args[3].kind == aReg && ok && r == "pred" {
			ignore, not = c.srcP(args[3])
		} else {
			srcSize = c.src(args[3], "u32")
		}
	}
	c.run(func(w *warp, m uint32) {
		a := &asyncCopy{lanes: m, size: size, line: w.line}
		// Lanes that read less than all of it get zeros for the rest; those that read nothing may name any address.
		part := [32]int{}
		var whole uint32
		for l := m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			part[i] = size
			if srcSize >= 0 {
				if n := w.r32[srcSize][i]; n < uint32(size) {
					part[i] = int(n)
				} else if n > uint32(size) {
					w.fail(codeLaunch, i, "cp.async reads %d bytes and writes %d", n, size)
				}
			}
			if ignore >= 0 && pmask(w.p[ignore], not)>>i&1 != 0 {
				part[i] = 0
			}
			if part[i] == size {
				whole |= 1 << i
			}
		}
		for l := whole; l != 0; {
			data, g := src.resolve(w, l)
			l &^= g
			for ; g != 0; g &= g - 1 {
				i := bits.TrailingZeros32(g) & 31
				copy(a.data[i][:size], data[w.off[i]:])
			}
		}
		for l := m &^ whole; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			if part[i] == 0 {
				continue
			}
			one := *src
			one.size = 1
			for k := range part[i] {
				one.off = src.off + uint64(k)
				data, _ := one.resolve(w, 1<<i)
				a.data[i][k] = data[w.off[i]]
			}
		}
		s := &w.blk.shadow
		s.async = true
		dst.resolve(w, m)
		s.async, s.same = false, 0
		a.off = w.off
		w.pending = append(w.pending, a)
	})
}

// commit makes the copies that lanes have begun a group.
func (w *warp) commit(m uint32) {
	g := group{lanes: m}
	var rest []*asyncCopy
	for _, a := range w.pending {
		if l := a.lanes & m; l == a.lanes {
			g.copies = append(g.copies, a)
		} else if l != 0 {
			b := *a
			b.lanes = l
			g.copies = append(g.copies, &b)
			a.lanes &^= l
			rest = append(rest, a)
		} else {
			rest = append(rest, a)
		}
	}
	w.pending = rest
	w.groups = append(w.groups, g)
}

// await completes all groups of lanes but each one's last n.
func (w *warp) await(m uint32, n int) {
	var newer [32]int
	last := 0
	for j := len(w.groups) - 1; j >= 0; j-- {
		g := &w.groups[j]
		var done uint32
		for l := g.lanes & m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			if newer[i] >= n {
				done |= 1 << i
			}
			newer[i]++
		}
		if done == 0 {
			continue
		}
		g.lanes &^= done
		for _, a := range g.copies {
			w.complete(a, a.lanes&done)
			a.lanes &^= done
		}
		if g.lanes == 0 {
			last++
		}
	}
	if last > 0 {
		w.groups = slices.DeleteFunc(w.groups, func(g group) bool { return g.lanes == 0 })
	}
}

// complete writes what a copy brings.
func (w *warp) complete(a *asyncCopy, m uint32) {
	s := &w.blk.shadow
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		copy(w.blk.shared[a.off[i]:], a.data[i][:a.size])
		if !s.on {
			continue
		}
		now := w.stamp()&^(0xffffff<<lineShift) | uint64(a.line&0xffffff)<<lineShift | uint64(i)
		for g := int(a.off[i] >> s.shift); g < (int(a.off[i])+a.size)>>s.shift; g++ {
			s.writes[g] = now
		}
	}
}

// forget drops the copies that nobody has waited for when a block ends.
func (w *warp) forget() {
	drop := func(a *asyncCopy) { w.complete(a, a.lanes) }
	for _, a := range w.pending {
		drop(a)
	}
	for _, g := range w.groups {
		for _, a := range g.copies {
			drop(a)
		}
	}
	w.pending, w.groups = nil, nil
}
