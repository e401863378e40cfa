package ptx

import (
	"fmt"
	"math/bits"
)

// Registers are columns: a value for each lane of the warp. 16-bit registers live in col32, zero above; predicates are
// masks of lanes.
type (
	col32 [32]uint32
	col64 [32]uint64
)

const allLanes = 0xffffffff

type instKind uint8

const (
	k32  instKind = iota // f32, a function of columns
	k64                  // f64
	kp32                 // p32 gives a predicate
	kp64
	kw32 // w32: any operands, a col32 result in all lanes
	kw64
	kwp
	kRun // run: everything else, for the lanes of a mask
)

// inst is a compiled instruction. Functions of columns compute all lanes, of which the inactive ones are thrown away.
type inst struct {
	kind       instKind
	guard      int32 // 1 + predicate, negative when it is inverted, 0 without
	d, a, b, c int32
	line       int32
	f32        func(d, a, b, c *col32)
	f64        func(d, a, b, c *col64)
	p32        func(a, b *col32) uint32
	p64        func(a, b *col64) uint32
	w32        func(w *warp, d *col32)
	w64        func(w *warp, d *col64)
	wp         func(w *warp) uint32
	run        func(w *warp, m uint32)
}

type endKind uint8

const (
	endFall   endKind = iota
	endBranch         // to target where the guard holds, else on
	endSwitch         // brx.idx
	endExit
	endTrap
	endBar // a barrier; then on
)

// basic is a basic block. A collective instruction, which needs lanes to meet, is the first of its block.
type basic struct {
	code    []inst
	end     endKind
	guard   int32
	line    int32
	target  int32
	targets []int32 // of a switch
	index   int32   // its register
	uniform bool    // bra.uni
	exit    int     // the number of blocks
	join    int32   // immediate post-dominator, or -1: the lanes never meet again
	members func(w *warp, m uint32) uint32
	bar     *barInst
}

// A frag is lanes of a warp that go together.
type frag struct {
	bb    int32
	skip  int32 // instructions of bb that are done
	mask  uint32
	up    *join
	state fragState
	bar   int // barrier waited for
}

type fragState uint8

const (
	ready fragState = iota
	waitLanes
	waitAligned // a barrier that needs the whole warp
	waitBar
	gone
)

// A join is where lanes that a branch has parted meet again.
type join struct {
	bb         int32
	want, have uint32
	up         *join
}

// A fault stops a kernel.
type fault struct {
	code int
	msg  string
	lane int
}

type warp struct {
	k       *kernel
	blk     *block
	id      int
	exist   uint32
	alive   uint32
	frags   []*frag
	r32     []col32
	r64     []col64
	p       []uint32
	t32     col32
	t64     col64
	off     col64 // offsets of a memory instruction
	carry   uint32
	line    int32
	steps   int64
	cache   []*alloc
	local   []byte
	pending []*asyncCopy // begun, in no group yet
	groups  []group
	clock   clock
}

func (w *warp) fail(code int, lane int, format string, args ...any) {
	panic(&fault{code, fmt.Sprintf(format, args...), lane})
}

func (w *warp) start() {
	w.alive = w.exist
	w.frags = append(w.frags[:0], &frag{mask: w.exist})
	w.forget()
	w.carry, w.steps = 0, 0
}

// guarded is m less the lanes that guard turns off.
func (w *warp) guarded(guard int32, m uint32) uint32 {
	switch {
	case guard > 0:
		return m & w.p[guard-1]
	case guard < 0:
		return m &^ w.p[-guard-1]
	}
	return m
}

// step runs the warp until all its lanes wait or are gone, and reports whether anything ran.
func (w *warp) step() bool {
	ran := false
	for {
		var f *frag
		for i := len(w.frags) - 1; i >= 0; i-- {
			switch g := w.frags[i]; g.state {
			case gone:
				w.frags = append(w.frags[:i], w.frags[i+1:]...)
			case ready:
				f = g
			}
			if f != nil {
				break
			}
		}
		if f == nil {
			if !w.meet() {
				return ran
			}
			continue
		}
		ran = true
		w.run(f)
	}
}

// meet lets waiting fragments go on that have become whole: a barrier, or lanes that a collective instruction needs.
func (w *warp) meet() bool {
	for _, f := range w.frags {
		switch f.state {
		case waitAligned:
			if f.mask == w.alive {
				f.state = waitBar
			}
		case waitLanes:
			b := &w.k.blocks[f.bb]
			var union uint32
			for _, g := range w.frags {
				if g.state == waitLanes && g.bb == f.bb {
					union |= g.mask
				}
			}
			in := &b.code[0]
			w.line = in.line
			m := w.guarded(in.guard, union)
			need := b.members(w, m) & w.alive
			if need&^m != 0 {
				continue
			}
			w.exec(in, m)
			for _, g := range w.frags {
				if g.state == waitLanes && g.bb == f.bb {
					g.state, g.skip = ready, 1
				}
			}
			return true
		}
	}
	return false
}

// run runs a fragment until it waits, meets others, or its lanes are gone.
func (w *warp) run(f *frag) {
	blocks := w.k.blocks
	for {
		if f.up != nil && f.bb == f.up.bb && f.skip == 0 {
			if f = w.arrive(f); f == nil {
				return
			}
			continue
		}
		b := &blocks[f.bb]
		code := b.code
		if b.members != nil && f.skip == 0 && f.mask != w.exist {
			in := &code[0]
			w.line = in.line
			m := w.guarded(in.guard, f.mask)
			if m != 0 && b.members(w, m)&w.alive&^m != 0 {
				f.state = waitLanes
				return
			}
		}
		w.steps += int64(len(code)) + 1
		if w.steps > w.blk.budget {
			w.line = b.line
			w.fail(codeTimeout, bits.TrailingZeros32(f.mask), "still running after %d instructions of a warp", w.steps)
		}
		m := f.mask
		full := m == w.alive
		for i := int(f.skip); i < len(code); i++ {
			in := &code[i]
			if full && in.guard == 0 {
				switch in.kind {
				case k32:
					in.f32(&w.r32[in.d], &w.r32[in.a], &w.r32[in.b], &w.r32[in.c])
				case k64:
					in.f64(&w.r64[in.d], &w.r64[in.a], &w.r64[in.b], &w.r64[in.c])
				case kp32:
					w.p[in.d] = in.p32(&w.r32[in.a], &w.r32[in.b])
				case kp64:
					w.p[in.d] = in.p64(&w.r64[in.a], &w.r64[in.b])
				case kw32:
					in.w32(w, &w.r32[in.d])
				case kw64:
					in.w64(w, &w.r64[in.d])
				case kwp:
					w.p[in.d] = in.wp(w)
				default:
					w.line = in.line
					in.run(w, m)
				}
				continue
			}
			if g := w.guarded(in.guard, m); g != 0 {
				w.line = in.line
				w.exec(in, g)
			}
		}
		f.skip = 0
		switch b.end {
		case endFall:
			f.bb++
		case endBranch:
			t := w.guarded(b.guard, m)
			switch {
			case t == m:
				f.bb = b.target
			case t == 0:
				f.bb++
			default:
				if b.uniform {
					w.line = b.line
					w.fail(codeLaunch, bits.TrailingZeros32(t), "bra.uni parts the warp: lanes %#x of %#x take it", t, m)
				}
				w.part(f, b.join)
				w.add(&frag{bb: b.target, mask: t, up: f.up})
				f.mask, f.bb = m&^t, f.bb+1
			}
		case endSwitch:
			w.line = b.line
			idx := &w.r32[b.index]
			first := true
			here := *f
			for left := m; left != 0; {
				lane := bits.TrailingZeros32(left)
				v := idx[lane]
				var t uint32
				for l := left; l != 0; l &= l - 1 {
					if i := bits.TrailingZeros32(l); idx[i] == v {
						t |= 1 << i
					}
				}
				if int64(v) >= int64(len(b.targets)) {
					w.fail(codeAddress, lane, "brx.idx with index %d of %d targets", v, len(b.targets))
				}
				left &^= t
				switch {
				case t == m:
					f.bb = b.targets[v]
				case first:
					w.part(f, b.join)
					here = *f
					f.bb, f.mask = b.targets[v], t
				default:
					w.add(&frag{bb: b.targets[v], mask: t, up: here.up})
				}
				first = false
			}
		case endExit:
			t := w.guarded(b.guard, m)
			w.exit(f, t)
			if f.mask == 0 {
				f.state = gone
				return
			}
			f.bb++
		case endTrap:
			if t := w.guarded(b.guard, m); t != 0 {
				w.line = b.line
				w.fail(codeTrap, bits.TrailingZeros32(t), "trap")
			}
			f.bb++
		case endBar:
			w.line = b.line
			if w.barrier(f, b) {
				return
			}
		}
	}
}

// exec runs one instruction for some lanes.
func (w *warp) exec(in *inst, m uint32) {
	switch in.kind {
	case k32:
		in.f32(&w.t32, &w.r32[in.a], &w.r32[in.b], &w.r32[in.c])
		merge32(&w.r32[in.d], &w.t32, m)
	case k64:
		in.f64(&w.t64, &w.r64[in.a], &w.r64[in.b], &w.r64[in.c])
		merge64(&w.r64[in.d], &w.t64, m)
	case kp32:
		w.p[in.d] = w.p[in.d]&^m | in.p32(&w.r32[in.a], &w.r32[in.b])&m
	case kp64:
		w.p[in.d] = w.p[in.d]&^m | in.p64(&w.r64[in.a], &w.r64[in.b])&m
	case kw32:
		in.w32(w, &w.t32)
		merge32(&w.r32[in.d], &w.t32, m)
	case kw64:
		in.w64(w, &w.t64)
		merge64(&w.r64[in.d], &w.t64, m)
	case kwp:
		w.p[in.d] = w.p[in.d]&^m | in.wp(w)&m
	default:
		in.run(w, m)
	}
}

func merge32(d, s *col32, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = s[i]
	}
}

func merge64(d, s *col64, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = s[i]
	}
}

func (w *warp) add(f *frag) { w.frags = append(w.frags, f) }

// part makes the join of lanes that a branch parts. A loop that lanes leave one by one needs only one.
func (w *warp) part(f *frag, at int32) {
	if at < 0 || f.up != nil && f.up.bb == at {
		return
	}
	f.up = &join{bb: at, want: f.mask, up: f.up}
}

// arrive gives the lanes of f to its join and returns the fragment that goes on, if all are there.
func (w *warp) arrive(f *frag) *frag {
	j := f.up
	j.have |= f.mask
	if j.have != j.want {
		f.state = gone
		return nil
	}
	f.mask, f.up = j.have, j.up
	return f
}

// exit ends lanes of f, and lets others go on that waited for them.
func (w *warp) exit(f *frag, lanes uint32) {
	w.alive &^= lanes
	f.mask &^= lanes
	for j := f.up; j != nil; j = j.up {
		j.want &^= lanes
		if j.want != 0 && j.have == j.want {
			w.add(&frag{bb: j.bb, mask: j.want, up: j.up})
			j.want, j.have = 0, 0
		}
	}
}
