package ptx

import (
	"fmt"
	"math/bits"
)

// Shadow memory tells which accesses to shared memory may meet without a synchronisation between them.
//
// A warp counts its synchronisations: barriers of the block, bar.warp.sync. For each granule (the smallest access of
// the kernel) shadow memory has the thread and time of the last write, and for each warp the time of its last read. An
// access is ordered after one of warp v at time t if t <= seen[v], what the warp knows of v's time through barriers.
// Lanes of a warp may run apart, so they too need a synchronisation, unless the two accesses are one instruction. As in
// vector-clock detectors (Flanagan and Freund, FastTrack), a race is found whatever the order in which threads happen
// to run.
type shadow struct {
	on     bool
	uninit bool // reading what nobody wrote is an error
	shift  uint
	// time<<36 | line<<12 | atomic<<11 | thread; async for copies under way, outside for red zones.
	writes []uint64
	reads  [][]uint32 // by warp: time<<6 | lane, or 32 for several lanes
	latest []uint32   // the latest of reads, over all warps
	base   uint32     // times up to here are of other blocks
	same   int        // how many granules a store wrote by several lanes
	// What kind of access the next one is.
	atomic, async bool
	whole         bool // a read by all lanes of the warp, whichever names the address
}

const (
	timeShift = 36
	lineShift = 12
	atomicBit = 1 << 11
	asyncBit  = 1 << 63
	outside   = 1<<64 - 1
	several   = 32
	lastTime  = 1<<26 - 1<<20 // reads have 26 bits of time
)

// pattern is what the addresses of a warp's lanes look like.
type pattern uint8

const (
	scattered pattern = iota
	uniform           // all the same
	sequence          // all 32 lanes, one after the other
)

// clock is what a warp knows of the others' times.
type clock struct {
	now  uint32
	seen []uint32
	low  uint32 // the least of seen
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
		for _, r := range s.reads {
			clear(r)
		}
		clear(s.latest)
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
	c.low = c.now
	for _, t := range c.seen {
		c.low = min(c.low, t)
	}
	c.safe = uint64(c.low+1)<<timeShift - 1
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

// read checks and notes the reads of lanes m.
func (s *shadow) read(w *warp, off *col64, m uint32, size uint64, p pattern) {
	if !s.on {
		return
	}
	// The usual case: written at a time from first to first+span.
	first, span := uint64(0), w.clock.safe
	if s.uninit {
		if first = uint64(s.base+1) << timeShift; first > span {
			first, span = asyncBit, first // nothing is
		}
		span -= first
	}
	now := w.clock.now << 6
	many := now | several
	shift := s.shift & 63
	n := int(size >> shift)
	reads := s.reads[w.id]
	if p == sequence && !s.whole {
		g := int(off[0] >> shift)
		writes := s.writes[g : g+32*n]
		for k, x := range writes {
			if x-first > span {
				s.checkRead(w, g+k, k/n, x)
			}
		}
		reads := reads[g : g+32*n]
		lane, left := now, n
		for k, r := range reads {
			if r < now {
				reads[k] = lane
				s.latest[g+k] = max(s.latest[g+k], now)
			} else if r != lane {
				reads[k] = many
			}
			if left--; left == 0 {
				lane, left = lane+1, n
			}
		}
		return
	}
	several := s.whole
	if p == uniform && m&(m-1) != 0 {
		several = true
		m &= -m
	}
	writes := s.writes
	for i := range off {
		if m>>i&1 == 0 {
			continue
		}
		t := now | uint32(i)
		if several {
			t = many
		}
		g := int(off[i] >> shift)
		for end := g + n; g < end; g++ {
			if x := writes[g]; x-first > span {
				s.checkRead(w, g, i, x)
			}
			if r := &reads[g]; *r < now {
				*r = t
				s.latest[g] = max(s.latest[g], now)
			} else if *r != t && *r != many {
				*r = many
			}
		}
	}
}

func (s *shadow) checkRead(w *warp, g, lane int, x uint64) {
	if x == outside {
		s.fail(w, g, lane, "read")
	}
	if x&asyncBit != 0 {
		s.race(w, g, lane, "reads", x, "an asynchronous copy under way of")
	}
	t := uint32(x >> timeShift)
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

// write checks and notes the writes of lanes m.
func (s *shadow) write(w *warp, off *col64, m uint32, size uint64, p pattern) {
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
	shift := s.shift & 63
	n := int(size >> shift)
	safe := w.clock.safe
	fresh := (w.clock.low + 1) << 6 // reads before this are ordered, of whichever warp
	now := w.stamp() | kind
	s.same = 0
	writes, latest := s.writes, s.latest
	if p == sequence {
		g := int(off[0] >> shift)
		writes, latest := writes[g:g+32*n], latest[g:g+32*n]
		for k, x := range writes {
			if x > safe && (x&^0xffffff000 != now&^0xffffff000|uint64(k/n)) {
				s.checkWrite(w, g+k, k/n, x, kind)
			}
			if latest[k] >= fresh {
				s.checkReads(w, g+k, k/n)
			}
		}
		left := n
		for k := range writes {
			writes[k] = now
			if left--; left == 0 {
				now, left = now+1, n
			}
		}
		return
	}
	for i := range off {
		if m>>i&1 == 0 {
			continue
		}
		g := int(off[i] >> shift)
		for end := g + n; g < end; g++ {
			if x := writes[g]; x > safe {
				s.checkWrite(w, g, i, x, kind)
			}
			if latest[g] >= fresh {
				s.checkReads(w, g, i)
			}
		}
	}
	for i := range off {
		if m>>i&1 == 0 {
			continue
		}
		g := int(off[i] >> shift)
		t := now | uint64(i)
		for end := g + n; g < end; g++ {
			if x := writes[g]; x&^0x1f == now && x != t {
				s.same++
			}
			writes[g] = t
		}
	}
}

// stamp is what a write of lane 0 of w now leaves in shadow memory.
func (w *warp) stamp() uint64 {
	return uint64(w.clock.now)<<timeShift | uint64(w.line&0xffffff)<<lineShift | uint64(w.id<<5)
}

func (s *shadow) checkWrite(w *warp, g, lane int, x, kind uint64) {
	if x == outside {
		s.fail(w, g, lane, "write")
	}
	if x&asyncBit != 0 {
		s.race(w, g, lane, "writes", x, "an asynchronous copy under way of")
	}
	th, t := int(x&0x3ff), uint32(x>>timeShift)
	if kind == atomicBit && x&atomicBit != 0 || w.ordered(th>>5, th&31, t, lane) {
		return
	}
	s.race(w, g, lane, "writes", x, "written by")
}

func (s *shadow) checkReads(w *warp, g, lane int) {
	for v, reads := range s.reads {
		r := reads[g]
		if w.ordered(v, int(r&63), r>>6, lane) {
			continue
		}
		who := fmt.Sprintf("warp %d", v)
		if r&63 < several {
			who = "thread " + w.blk.thread(v<<5|int(r&63))
		}
		at := g << s.shift
		w.fail(codeLaunch, lane, "race: writes shared memory at offset %d, %s, which %s has read, with no barrier between",
			at,
			w.blk.variable(int64(at)), who)
	}
}

func (s *shadow) race(w *warp, g, lane int, verb string, x uint64, how string) {
	at := g << s.shift
	line := int32(x >> lineShift & 0xffffff)
	w.fail(codeLaunch, lane,
		"race: %s shared memory at offset %d, %s, %s thread %s at line %d (%s), with no barrier between",
		verb, at, w.blk.variable(int64(at)), how, w.blk.thread(int(x&0x3ff)), line, w.k.text(line))
}

func (s *shadow) fail(w *warp, g, lane int, verb string) {
	at := g << s.shift
	w.fail(codeAddress, lane, "%s outside of the variables of shared memory, at offset %d, %s", verb, at,
		w.blk.variable(int64(at)))
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
