package ptx

import (
	"fmt"
	"math/bits"
)

// Shadow memory tells which accesses to shared memory may meet without a synchronisation between them.
//
// A warp counts its synchronisations: barriers of the block, bar.warp.sync. For each granule (the smallest access of the
// kernel) shadow memory has the thread and time of the last write, and for each warp the time of its last read. An access
// is ordered after one of warp v at time t if t <= seen[v], what the warp knows of v's time through barriers. Lanes of
// a warp may run apart, so they too need a synchronisation, unless the two accesses are one instruction. As in
// vector-clock detectors (Flanagan and Freund, FastTrack), a race is found whatever the order in which threads happen to
// run.
type shadow struct {
	on     bool
	uninit bool // reading what nobody wrote is an error
	shift  uint
	warps  int
	// time<<12 | atomic<<11 | thread; async for copies under way, outside for red zones.
	writes []uint64
	reads  []uint32 // time<<6 | lane, or 32 for several; by granule and warp
	lines  []int32  // of the writes
	base   uint32   // times up to here are of other blocks
	same   int      // a store wrote one granule by several lanes
	// What kind of access the next one is.
	atomic, async bool
	whole         bool // a read by all lanes of the warp, whichever names the address
}

const (
	atomicBit = 1 << 11
	asyncBit  = 1 << 63
	outside   = 1<<64 - 1
	several   = 32
	lastTime  = 1<<26 - 1<<20 // reads have 26 bits of time
)

// clock is what a warp knows of the others' times.
type clock struct {
	now  uint32
	seen []uint32
	safe uint64 // writes up to here are ordered, of whichever warp
	// Synchronisations of some lanes: when lanes i and j last met. Made when the first comes.
	met *[32][32]uint32
}

func (s *shadow) start(b *block) {
	for _, w := range b.warps {
		if w.clock.now > s.base {
			s.base = w.clock.now
		}
	}
	if s.base > lastTime {
		clear(s.reads)
		for i, x := range s.writes {
			if x != outside {
				s.writes[i] = 0
			}
		}
		s.base = 0
	}
	for _, w := range b.warps {
		w.clock.now = s.base + 1
		for v := range w.clock.seen {
			w.clock.seen[v] = s.base
		}
		w.clock.met = nil
		w.clock.settle()
	}
}

func (c *clock) settle() {
	low := c.now
	for _, t := range c.seen {
		low = min(low, t)
	}
	c.safe = uint64(low)<<12 | 0xfff
}

// barrier orders everything before it in some warps before everything after it.
func (s *shadow) barrier(ws []*warp) {
	if !s.on {
		return
	}
	for v := range ws[0].clock.seen {
		t := uint32(0)
		for _, w := range ws {
			x := w.clock.seen[v]
			if w.id == v {
				x = w.clock.now
			}
			t = max(t, x)
		}
		for _, w := range ws {
			w.clock.seen[v] = t
		}
	}
	for _, w := range ws {
		w.clock.now++
		w.clock.settle()
	}
}

// lanes orders accesses of some lanes of a warp: all of them, or those that then met.
func (s *shadow) lanes(w *warp, m uint32) {
	if !s.on {
		return
	}
	c := &w.clock
	if m == w.alive {
		c.seen[w.id] = c.now
	} else {
		if c.met == nil {
			c.met = new([32][32]uint32)
		}
		for i := range 32 {
			for j := range 32 {
				if m>>i&1 != 0 && m>>j&1 != 0 {
					c.met[i][j] = c.now
				}
			}
		}
	}
	c.now++
	c.settle()
}

// ordered reports whether an access of lane at time t in warp v comes before what lane me of w does now.
func (w *warp) ordered(v, lane int, t uint32, me int) bool {
	c := &w.clock
	if t <= c.seen[v] {
		return true
	}
	if v != w.id {
		return false
	}
	return lane == me || lane < several && me < several && c.met != nil && c.met[lane][me] >= t
}

func (s *shadow) read(w *warp, off *col64, m uint32, size uint64) {
	if !s.on {
		return
	}
	n := int(size >> s.shift)
	safe := w.clock.safe
	now := w.clock.now << 6
	first := uint64(0)
	if s.uninit {
		first = uint64(s.base+1) << 12
	}
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		g := int(off[i] >> s.shift)
		for end := g + n; g < end; g++ {
			if x := s.writes[g]; x-first > safe-first || first > safe {
				s.checkRead(w, g, i, x)
			}
			r := &s.reads[g*s.warps+w.id]
			if t := now | uint32(i); *r != t {
				if *r >= now || s.whole {
					t = now | several
				}
				*r = t
			}
		}
	}
}

func (s *shadow) checkRead(w *warp, g, lane int, x uint64) {
	if x == outside {
		s.fail(w, g, lane, "read")
	}
	if x&asyncBit != 0 {
		s.race(w, g, lane, "reads", x&^asyncBit, "an asynchronous copy under way of")
	}
	t := uint32(x >> 12)
	if t <= s.base {
		if s.uninit {
			at := g << s.shift
			w.fail(codeLaunch, lane, "read of uninitialised shared memory at offset %d, %s", at, w.blk.variable(int64(at)))
		}
		return
	}
	th := int(x & 0x3ff)
	me := lane
	if s.whole {
		me = several + 1
	}
	if !w.ordered(th>>5, th&31, t, me) {
		s.race(w, g, lane, "reads", x, "written by")
	}
}

func (s *shadow) write(w *warp, off *col64, m uint32, size uint64) {
	if !s.on {
		return
	}
	kind := uint64(0)
	switch {
	case s.atomic:
		kind = atomicBit
	case s.async:
		kind = asyncBit
	}
	s.mark(w, off, m, size, kind)
}

// mark checks and notes writes; kind is atomicBit, asyncBit or 0.
func (s *shadow) mark(w *warp, off *col64, m uint32, size uint64, kind uint64) {
	n := int(size >> s.shift)
	safe := w.clock.safe
	id := uint64(w.id << 5)
	now := uint64(w.clock.now)<<12 | id | kind
	s.same = 0
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		g := int(off[i] >> s.shift)
		for end := g + n; g < end; g++ {
			if x := s.writes[g]; x > safe {
				s.checkWrite(w, g, i, x, kind)
			}
			for v, r := range s.reads[g*s.warps : (g+1)*s.warps] {
				if t := r >> 6; t > w.clock.seen[v] {
					s.checkReader(w, g, i, v, r)
				}
			}
		}
	}
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		g := int(off[i] >> s.shift)
		for end := g + n; g < end; g++ {
			x := s.writes[g]
			if x&^0x1f == now && x != now|uint64(i) && s.lines[g] == w.line {
				s.same++
			}
			s.writes[g] = now | uint64(i)
			s.lines[g] = w.line
		}
	}
}

func (s *shadow) checkWrite(w *warp, g, lane int, x, kind uint64) {
	if x == outside {
		s.fail(w, g, lane, "write")
	}
	th, t := int(x&0x3ff), uint32(x&^asyncBit>>12)
	if x&asyncBit != 0 {
		s.race(w, g, lane, "writes", x&^asyncBit, "an asynchronous copy under way of")
	}
	if kind == atomicBit && x&atomicBit != 0 || w.ordered(th>>5, th&31, t, lane) {
		return
	}
	s.race(w, g, lane, "writes", x, "written by")
}

func (s *shadow) checkReader(w *warp, g, lane, v int, r uint32) {
	if w.ordered(v, int(r&63), r>>6, lane) {
		return
	}
	who := fmt.Sprintf("warp %d", v)
	if r&63 < several {
		who = "thread " + w.blk.thread(v<<5|int(r&63))
	}
	at := g << s.shift
	w.fail(codeLaunch, lane, "race: writes shared memory at offset %d, %s, which %s has read, with no barrier between", at,
		w.blk.variable(int64(at)), who)
}

func (s *shadow) race(w *warp, g, lane int, verb string, x uint64, how string) {
	at := g << s.shift
	w.fail(codeLaunch, lane, "race: %s shared memory at offset %d, %s, %s thread %s at line %d (%s), with no barrier between",
		verb, at, w.blk.variable(int64(at)), how, w.blk.thread(int(x&0x3ff)), s.lines[g], w.k.text(s.lines[g]))
}

func (s *shadow) fail(w *warp, g, lane int, verb string) {
	at := g << s.shift
	w.fail(codeAddress, lane, "%s outside of the variables of shared memory, at offset %d, %s", verb, at, w.blk.variable(int64(at)))
}

// agree checks that lanes that wrote the same bytes in one instruction wrote the same.
func (s *shadow) agree(w *warp, data []byte, m uint32, size int, value func(lane, k int) byte) {
	s.same = 0
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		for k := range size {
			if data[w.off[i]+uint64(k)] != value(i, k) {
				w.fail(codeLaunch, i, "race: lanes of one instruction write different values to shared memory at offset %d, %s",
					w.off[i], w.blk.variable(int64(w.off[i])))
			}
		}
	}
}
