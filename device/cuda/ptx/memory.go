package ptx

import (
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strings"
)

// alloc is memory of the device. Addresses are never used again, so that those of freed memory stay wrong.
type alloc struct {
	base  uint64
	size  uint64
	data  []byte
	name  string
	freed bool
	fixed bool // .const
	// For CheckBlocks, by byte: which block wrote or read it last, block.id. An access of another block sets others.
	writer, reader []uint64
}

// others marks bytes that several blocks read, or write by atomics.
const others = 0xffffffff

const (
	firstAddress = 0x100000000
	// Between allocations, so that a small mistake in an index hits nothing.
	gap = 1 << 20
)

// space holds all that was ever allocated, by address.
type memory struct {
	all  []*alloc
	next uint64
	used int
}

func (m *memory) alloc(bytes int, name string) *alloc {
	if m.next == 0 {
		m.next = firstAddress
	}
	a := &alloc{base: m.next, size: uint64(bytes), data: make([]byte, bytes), name: name}
	for i := range a.data {
		a.data[i] = 0xff // NaN
	}
	m.next += (uint64(bytes) + 2*gap - 1) / gap * gap
	m.all = append(m.all, a)
	m.used += bytes
	return a
}

func (m *memory) free(a *alloc) {
	m.used -= int(a.size)
	a.freed, a.data, a.size = true, nil, 0
}

// find is the live allocation that holds [addr, addr+size).
func (m *memory) find(addr, size uint64) *alloc {
	i := sort.Search(len(m.all), func(i int) bool { return m.all[i].base > addr })
	if i == 0 {
		return nil
	}
	a := m.all[i-1]
	if off := addr - a.base; a.freed || off > a.size || a.size-off < size {
		return nil
	}
	return a
}

// where says what lies near an address that no allocation holds.
func (m *memory) where(addr uint64) string {
	i := sort.Search(len(m.all), func(i int) bool { return m.all[i].base > addr })
	describe := func(a *alloc) string {
		return fmt.Sprintf("%s at %#x of %d bytes", a.name, a.base, a.size)
	}
	if addr < firstAddress/2 {
		return "a null pointer, or nearly"
	}
	if i > 0 {
		a := m.all[i-1]
		if a.freed {
			return fmt.Sprintf("in or behind %s at %#x, which was freed", a.name, a.base)
		}
		s := fmt.Sprintf("%d bytes past the end of %s", int64(addr-a.base-a.size), describe(a))
		if i < len(m.all) && m.all[i].base-addr < addr-a.base-a.size {
			s = fmt.Sprintf("%d bytes before %s", m.all[i].base-addr, describe(m.all[i]))
		}
		return s
	}
	if i < len(m.all) {
		return fmt.Sprintf("%d bytes before %s", m.all[i].base-addr, describe(m.all[i]))
	}
	return "nothing is allocated"
}

// A memInst is a load or store before its addresses are known.
type memInst struct {
	space space
	base  int32 // register; -1: absolute
	wide  bool  // of 64 bits
	off   uint64
	size  uint64 // bytes of a lane
	slot  int
	write bool
}

// address parses the memory operand of a load, store or atomic.
func (c *compiler) operand(a arg, sp space, size int, write bool) *memInst {
	if a.kind != aMem {
		c.fail("expected an address in brackets")
	}
	mi := &memInst{space: sp, base: -1, off: uint64(a.off), size: uint64(size), write: write, slot: c.k.mems}
	c.k.mems++
	if sp == shared || sp == generic {
		c.minMem = min(c.minMem, size)
	}
	if a.reg {
		r := c.register(arg{kind: aReg, name: a.name})
		switch {
		case r.bank == bank64:
			mi.wide = true
		case r.bank == bank32 && r.size == 4 && (sp == shared || sp == local):
		default:
			c.fail("%s is no address", a.name)
		}
		c.uses = append(c.uses, use{r.bank, r.index})
		mi.base = r.index
		return mi
	}
	if a.name != "" {
		if v := c.vars[a.name]; v != nil && v.space != sp && !(v.space == local && sp == parameter) {
			c.fail("%s is in .%s memory", a.name, v.space)
		}
		mi.off += c.address(a.name)
	}
	if sp == parameter {
		mi.space = local // parameters of device functions
	}
	return mi
}

// resolve turns the addresses of lanes m into offsets in one piece of memory, w.off, and says which lanes lie there:
// the others need another call.
func (mi *memInst) resolve(w *warp, m uint32) ([]byte, uint32) {
	off := &w.off
	if mi.base < 0 {
		for i := range off {
			off[i] = mi.off
		}
	} else if mi.wide {
		k := mi.off
		a := &w.r64[mi.base]
		if mi.space == global { // the usual case in one loop: all lanes in the allocation of the last time
			al := w.cache[mi.slot]
			k -= al.base
			limit := al.size - mi.size
			var bad, all uint64
			for i := range off {
				o := a[i] + k
				off[i] = o
				bad |= o | (limit - o)
				all |= o
			}
			if int64(bad) >= 0 && all&(mi.size-1) == 0 && al.size >= mi.size {
				if w.blk.watch {
					mi.watch(w, al, m)
				}
				return al.data, m
			}
			k = mi.off
		}
		for i := range off {
			off[i] = a[i] + k
		}
	} else {
		k := mi.off
		a := &w.r32[mi.base]
		for i := range off {
			off[i] = uint64(a[i]+uint32(k)) & 0xffffffff
		}
	}
	switch mi.space {
	case global, constant:
		return mi.global(w, m)
	case shared:
		mi.shared(w, m, 0)
		return w.blk.shared, m
	case local:
		mi.local(w, m, 0)
		return w.local, m
	}
	first := bits.TrailingZeros32(m) & 31
	sp := spaceOf(off[first])
	for l := m; l != 0; l &= l - 1 {
		if i := bits.TrailingZeros32(l) & 31; spaceOf(off[i]) != sp {
			m &^= 1 << i
		}
	}
	switch sp {
	case shared:
		mi.shared(w, m, sharedWindow)
		return w.blk.shared, m
	case local:
		mi.local(w, m, localWindow)
		return w.local, m
	}
	return mi.global(w, m)
}

func (mi *memInst) verb() string {
	if mi.write {
		return "write"
	}
	return "read"
}

func (mi *memInst) global(w *warp, m uint32) ([]byte, uint32) {
	off := &w.off
	first := bits.TrailingZeros32(m) & 31
	a := w.cache[mi.slot]
	in := func(a *alloc, o uint64) bool {
		return o >= a.base && o-a.base <= a.size && a.size-(o-a.base) >= mi.size
	}
	if !in(a, off[first]) {
		if a = w.blk.mem.find(off[first], mi.size); a == nil {
			w.fail(codeAddress, first, "%s of %d bytes at %#x, %s", mi.verb(), mi.size, off[first], w.blk.mem.where(off[first]))
		}
		w.cache[mi.slot] = a
	}
	if mi.write && a.fixed {
		w.fail(codeAddress, first, "write to constant %s", a.name)
	}
	var group uint32
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		if !in(a, off[i]) {
			continue
		}
		if off[i]&(mi.size-1) != 0 {
			w.fail(codeMisaligned, i, "misaligned %s of %d bytes at %#x in %s at %#x", mi.verb(), mi.size, off[i], a.name,
				a.base)
		}
		group |= 1 << i
		off[i] -= a.base
	}
	if w.blk.watch {
		mi.watch(w, a, group)
	}
	return a.data, group
}

// watch looks for bytes that another block of this launch has touched.
func (mi *memInst) watch(w *warp, a *alloc, m uint32) {
	if a.fixed {
		return
	}
	if a.writer == nil {
		a.writer, a.reader = make([]uint64, a.size), make([]uint64, a.size)
	}
	id, atomic := w.blk.id, w.blk.shadow.atomic
	launch := id &^ others
	race := func(i int, o, other uint64, what string) {
		who := "another block"
		if other&others != others {
			n, g := int(other&others), w.blk.launch.grid
			who = fmt.Sprintf("block (%d,%d,%d)", n%g.X, n/g.X%g.Y, n/g.X/g.Y)
		}
		w.fail(codeLaunch, i, "race between blocks: %ss %#x in %s at %#x, which %s has %s in this launch", mi.verb(),
			a.base+o, a.name,
			a.base, who, what)
	}
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		for o := w.off[i]; o < w.off[i]+mi.size; o++ {
			wr, rd := &a.writer[o], &a.reader[o]
			if *wr >= launch && *wr != id && !(atomic && *wr == launch|others) {
				race(i, o, *wr, "written")
			}
			if !mi.write {
				if *rd >= launch && *rd != id {
					*rd = launch | others
				} else {
					*rd = id
				}
				continue
			}
			if *rd >= launch && *rd != id {
				race(i, o, *rd, "read")
			}
			*wr = id
			if atomic {
				*wr = launch | others
			}
		}
	}
}

// local memory of the lanes lies one after the other.
func (mi *memInst) local(w *warp, m uint32, window uint64) {
	off := &w.off
	size := uint64(w.k.local)
	for l := m; l != 0; l &= l - 1 {
		i := bits.TrailingZeros32(l) & 31
		o := off[i] - window - origin
		if o > size || size-o < mi.size {
			w.fail(codeAddress, i, "%s of %d bytes at offset %d of %d bytes of local memory", mi.verb(), mi.size, int64(o), size)
		}
		if o&(mi.size-1) != 0 {
			w.fail(codeMisaligned, i, "misaligned %s of %d bytes at offset %d of local memory", mi.verb(), mi.size, o)
		}
		off[i] = o + uint64(i)*size
	}
}

// shared checks and notes accesses to the block's memory.
func (mi *memInst) shared(w *warp, m uint32, window uint64) {
	off := &w.off
	size := uint64(len(w.blk.shared))
	window += origin
	var bad, all, diff, step uint64
	limit, first := size-mi.size, off[bits.TrailingZeros32(m)&31]-window
	next := first
	for i := range off {
		o := off[i] - window
		off[i] = o
		bad |= o | (limit - o)
		all |= o
		diff |= o ^ first
		step |= o ^ next
		next += mi.size
	}
	p := scattered
	if diff == 0 {
		p = uniform
	} else if step == 0 && m == allLanes {
		p = sequence
	}
	if int64(bad) < 0 || all&(mi.size-1) != 0 || size < mi.size {
		for l := m; l != 0; l &= l - 1 {
			i := bits.TrailingZeros32(l) & 31
			o := off[i]
			if o > size || size-o < mi.size {
				w.fail(codeAddress, i, "%s of %d bytes at offset %d of shared memory, %s", mi.verb(), mi.size, int64(o),
					w.blk.variable(int64(o)))
			}
			if o&(mi.size-1) != 0 {
				w.fail(codeMisaligned, i, "misaligned %s of %d bytes at offset %d of shared memory", mi.verb(), mi.size, o)
			}
		}
	}
	if mi.write {
		w.blk.shadow.write(w, off, m, mi.size, p)
	} else {
		w.blk.shadow.read(w, off, m, mi.size, p)
	}
}

var loadHints = []string{"weak", "volatile", "relaxed", "acquire", "release", "cta", "gpu", "sys", "ca", "cg", "cs",
	"lu", "cv",
	"wb", "wt", "nc", "L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate",
	"L2::64B", "L2::128B", "L2::256B"}

func (c *compiler) hints() {
	for _, h := range loadHints {
		c.m.has(h)
	}
}

func (c *compiler) space(extra ...string) space {
	for _, s := range []string{"global", "shared", "local", "const", "param"} {
		if c.m.has(s) {
			if (s == "const" || s == "param") && !slices.Contains(extra, s) {
				c.fail("space .%s is not supported here", s)
			}
			return spaces[s]
		}
	}
	for i, m := range c.m { // shared::cta is shared
		if m == "shared::cta" {
			c.m = slices.Delete(c.m, i, i+1)
			return shared
		}
	}
	return generic
}

// accessType takes the vector and type of a load or store.
func (c *compiler) accessType() (t string, n int) {
	t = c.last()
	n = 1
	switch c.m.oneOf("v2", "v4") {
	case "v2":
		n = 2
	case "v4":
		n = 4
	}
	size := typeSizes[t]
	if size == 0 || strings.HasSuffix(t, "x2") || t == "tf32" || t == "f16" || t == "bf16" {
		c.fail("unknown type .%s", t)
	}
	if n*size > 16 {
		c.fail("more than 16 bytes")
	}
	return t, n
}

func (c *compiler) elements(a arg, n int) []arg {
	if n == 1 {
		return []arg{a}
	}
	if a.kind != aVec || len(a.list) != n {
		c.fail("expected a vector of %d", n)
	}
	return a.list
}

func (c *compiler) load() {
	t, n := c.accessType()
	c.hints()
	sp := c.space("const", "param")
	c.done()
	c.nargs(2)
	list := c.elements(c.s.args[0], n)
	size := typeSizes[t]
	if sp == parameter {
		if v := c.vars[c.s.args[1].name]; v != nil && v.space == parameter {
			c.loadParam(v, list, t)
			return
		}
	}
	mi := c.operand(c.s.args[1], sp, size*n, false)
	type dest struct {
		index int32
		wide  bool
		mask  uint32
	}
	dst := make([]dest, n)
	simple := true
	for i, a := range list {
		d := dest{mask: 0xffffffff}
		d.index, d.wide = c.wideReg(a, size, true)
		if !d.wide {
			d.mask = c.regMask(a)
		}
		simple = simple && (size == 4 && !d.wide || size == 8 || (size < 4 && !d.wide && t[0] != 's'))
		dst[i] = d
	}
	signed := t[0] == 's'
	if simple {
		c.run(func(w *warp, m uint32) {
			for m != 0 {
				data, g := mi.resolve(w, m)
				m &^= g
				off := &w.off
				for j, d := range dst {
					at := uint64(j * size)
					switch size {
					case 4:
						load32(&w.r32[d.index], data, off, at, g)
					case 8:
						load64(&w.r64[d.index], data, off, at, g)
					case 2:
						load16(&w.r32[d.index], data, off, at, g)
					default:
						load8(&w.r32[d.index], data, off, at, g)
					}
				}
			}
		})
		return
	}
	shift := 64 - 8*size
	c.run(func(w *warp, m uint32) {
		for m != 0 {
			data, g := mi.resolve(w, m)
			m &^= g
			for j, d := range dst {
				for l := g; l != 0; l &= l - 1 {
					i := bits.TrailingZeros32(l) & 31
					x := fetch(data[w.off[i]+uint64(j*size):], size)
					if signed {
						x = uint64(int64(x) << shift >> shift)
					}
					if d.wide {
						w.r64[d.index][i] = x
					} else {
						w.r32[d.index][i] = uint32(x) & d.mask
					}
				}
			}
		}
	})
}

func (c *compiler) loadParam(v *variable, list []arg, t string) {
	size := typeSizes[t]
	a := c.s.args[1]
	if a.off < 0 || a.off+int64(size*len(list)) > int64(v.size) {
		c.fail("%s has %d bytes", v.name, v.size)
	}
	if a.off%int64(size*len(list)) != 0 {
		c.fail("misaligned")
	}
	for j, e := range list {
		off := v.offset + int(a.off) + j*size
		d, wide := c.wideReg(e, size, true)
		p := paramReg{off: off, size: size, signed: t[0] == 's', to: 4}
		if wide {
			p.to, p.reg = 8, c.scratch(bank64)
			c.k.param64 = append(c.k.param64, p)
			c.emit(inst{kind: k64, d: d, a: p.reg, f64: copy64})
			continue
		}
		if c.regMask(e) == 0xffff {
			p.to = 2
		}
		p.reg = c.scratch(bank32)
		c.k.param32 = append(c.k.param32, p)
		c.emit(inst{kind: k32, d: d, a: p.reg, f32: copy32})
	}
}

func (c *compiler) store() {
	t, n := c.accessType()
	c.hints()
	sp := c.space("param")
	c.done()
	c.nargs(2)
	size := typeSizes[t]
	mi := c.operand(c.s.args[0], sp, size*n, true)
	type source struct {
		index int32
		wide  bool
	}
	list := c.elements(c.s.args[1], n)
	src := make([]source, n)
	for i, a := range list {
		src[i].index, src[i].wide = c.wideReg(a, size, false)
	}
	c.run(func(w *warp, m uint32) {
		for m != 0 {
			data, g := mi.resolve(w, m)
			m &^= g
			off := &w.off
			for j, s := range src {
				at := uint64(j * size)
				switch {
				case size == 4 && !s.wide:
					store32(data, off, at, &w.r32[s.index], g)
				case size == 8:
					store64(data, off, at, &w.r64[s.index], g)
				default:
					for l := g; l != 0; l &= l - 1 {
						i := bits.TrailingZeros32(l) & 31
						var x uint64
						if s.wide {
							x = w.r64[s.index][i]
						} else {
							x = uint64(w.r32[s.index][i])
						}
						put(data[off[i]+at:], x, size)
					}
				}
			}
			if w.blk.shadow.same != 0 {
				w.blk.shadow.agree(w, data, g, int(mi.size), func(lane, k int) byte {
					s := src[k/size]
					if s.wide {
						return byte(w.r64[s.index][lane] >> (8 * (k % size)))
					}
					return byte(w.r32[s.index][lane] >> (8 * (k % size)))
				})
			}
		}
	})
}

func fetch(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(le.Uint16(b))
	case 4:
		return uint64(le.Uint32(b))
	}
	return le.Uint64(b)
}

func put(b []byte, x uint64, size int) {
	switch size {
	case 1:
		b[0] = byte(x)
	case 2:
		le.PutUint16(b, uint16(x))
	case 4:
		le.PutUint32(b, uint32(x))
	default:
		le.PutUint64(b, x)
	}
}

func load32(d *col32, data []byte, off *col64, at uint64, m uint32) {
	if m == allLanes {
		for i := range d {
			d[i] = le.Uint32(data[off[i]+at:])
		}
		return
	}
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = le.Uint32(data[off[i]+at:])
	}
}

func load64(d *col64, data []byte, off *col64, at uint64, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = le.Uint64(data[off[i]+at:])
	}
}

func load16(d *col32, data []byte, off *col64, at uint64, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = uint32(le.Uint16(data[off[i]+at:]))
	}
}

func load8(d *col32, data []byte, off *col64, at uint64, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		d[i] = uint32(data[off[i]+at])
	}
}

func store32(data []byte, off *col64, at uint64, s *col32, m uint32) {
	if m == allLanes {
		for i := range s {
			le.PutUint32(data[off[i]+at:], s[i])
		}
		return
	}
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		le.PutUint32(data[off[i]+at:], s[i])
	}
}

func store64(data []byte, off *col64, at uint64, s *col64, m uint32) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		le.PutUint64(data[off[i]+at:], s[i])
	}
}
