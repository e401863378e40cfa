package ptx

import (
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"setun/device/cuda/driver"
)

// launch is one kernel call.
type launch struct {
	k           *kernel
	gpu         *GPU
	grid, block driver.Dim
	shared      int // dynamic
	args        []uint64
	serial      uint64 // number of the launch
}

// block runs the threads of one block.
type block struct {
	k       *kernel
	mem     *memory
	launch  *launch
	warps   []*warp
	shared  []byte
	shadow  shadow
	budget  int64
	watch   bool   // CheckBlocks
	id      uint64 // of the launch and the block, for it
	at      driver.Dim
	threads int
}

func (l *launch) threads() int { return l.block.X * l.block.Y * l.block.Z }

// newBlock makes the state that all blocks of a launch may use one after the other.
func newBlock(l *launch) *block {
	k := l.k
	b := &block{k: k, threads: l.threads()}
	size := k.span + l.shared
	b.shared = make([]byte, size)
	n := (b.threads + 31) / 32
	b.shadow = shadow{on: !l.gpu.cfg.NoCheck, uninit: !l.gpu.cfg.AllowUninitialised, shift: k.granule}
	if b.shadow.on {
		g := size>>k.granule + 1
		b.shadow.writes, b.shadow.latest = make([]uint64, g), make([]uint32, g)
		for range n {
			b.shadow.reads = append(b.shadow.reads, make([]uint32, g))
		}
		if !k.dynamic { // what no variable holds is out of bounds
			for i := range b.shadow.writes {
				b.shadow.writes[i] = outside
			}
		} else {
			for i := range (k.span) >> k.granule {
				b.shadow.writes[i] = outside
			}
		}
		for _, v := range k.vars {
			for i := (v.offset - origin) >> k.granule; i < (v.offset-origin+v.size)>>k.granule; i++ {
				b.shadow.writes[i] = 0
			}
		}
	}
	for id := range n {
		w := &warp{k: k, blk: b, id: id, r32: make([]col32, k.n32), r64: make([]col64, k.n64), p: make([]uint32, k.nP),
			cache: make([]*alloc, k.mems), local: make([]byte, 32*k.local)}
		w.clock.seen = make([]uint32, n)
		w.exist = allLanes
		if rest := b.threads - 32*id; rest < 32 {
			w.exist = 1<<rest - 1
		}
		w.p[0] = allLanes
		for v, r := range k.const32 {
			fill(&w.r32[r], v)
		}
		for v, r := range k.const64 {
			fill64(&w.r64[r], v)
		}
		b.warps = append(b.warps, w)
	}
	return b
}

func fill(c *col32, v uint32) {
	for i := range c {
		c[i] = v
	}
}

func fill64(c *col64, v uint64) {
	for i := range c {
		c[i] = v
	}
}

var noAlloc = &alloc{}

// prepare sets what a launch gives: arguments, sizes, indices of threads.
func (b *block) prepare(l *launch) {
	b.launch, b.mem, b.budget, b.watch = l, &l.gpu.mem, l.gpu.cfg.Steps, l.gpu.cfg.CheckBlocks
	k := b.k
	raw := make([]byte, k.paramBytes+8)
	for i, p := range k.params {
		for j := range p.size {
			if j < 8 {
				raw[p.offset+j] = byte(l.args[i] >> (8 * j))
			}
		}
	}
	get := func(p paramReg) uint64 {
		x := fetch(raw[p.off:], p.size)
		if s := 64 - 8*p.size; p.signed {
			x = uint64(int64(x) << s >> s)
		}
		if p.to == 2 {
			x &= 0xffff
		}
		return x
	}
	for _, w := range b.warps {
		for i := range w.cache {
			w.cache[i] = noAlloc
		}
		for _, p := range k.param32 {
			fill(&w.r32[p.reg], uint32(get(p)))
		}
		for _, p := range k.param64 {
			fill64(&w.r64[p.reg], get(p))
		}
		for name, r := range k.sregs {
			c := &w.r32[r]
			for i := range c {
				t := w.id*32 + i
				switch name {
				case "%tid.x":
					c[i] = uint32(t % l.block.X)
				case "%tid.y":
					c[i] = uint32(t / l.block.X % l.block.Y)
				case "%tid.z":
					c[i] = uint32(t / l.block.X / l.block.Y)
				case "%ntid.x":
					c[i] = uint32(l.block.X)
				case "%ntid.y":
					c[i] = uint32(l.block.Y)
				case "%ntid.z":
					c[i] = uint32(l.block.Z)
				case "%nctaid.x":
					c[i] = uint32(l.grid.X)
				case "%nctaid.y":
					c[i] = uint32(l.grid.Y)
				case "%nctaid.z":
					c[i] = uint32(l.grid.Z)
				case "%laneid":
					c[i] = uint32(i)
				case "%warpid":
					c[i] = uint32(w.id)
				case "%nwarpid":
					c[i] = uint32(len(b.warps))
				case "%lanemask_eq":
					c[i] = 1 << i
				case "%lanemask_lt":
					c[i] = 1<<i - 1
				case "%lanemask_le":
					c[i] = 2<<i - 1
				case "%lanemask_gt":
					c[i] = ^uint32(2<<i - 1)
				case "%lanemask_ge":
					c[i] = ^uint32(1<<i - 1)
				case "%nsmid":
					c[i] = uint32(l.gpu.cfg.Multiprocessors)
				case "%smid", "%gridid":
					c[i] = 0
				case "%dynamic_smem_size":
					c[i] = uint32(l.shared)
				case "%total_smem_size":
					c[i] = uint32(k.shared + l.shared)
				case "WARP_SZ":
					c[i] = 32
				}
			}
		}
	}
}

// start sets the block's place in the grid and what is fresh in each block.
func (b *block) start(at driver.Dim) {
	b.at = at
	g := b.launch.grid
	b.id = b.launch.serial<<32 | uint64((at.Z*g.Y+at.Y)*g.X+at.X)
	for _, w := range b.warps {
		w.forget()
	}
	for i := range b.shared {
		b.shared[i] = 0xff
	}
	if b.shadow.on {
		b.shadow.start(b)
	}
	for _, w := range b.warps {
		w.start()
		for _, u := range b.k.undefined {
			switch u.bank {
			case bankP:
				w.p[u.index] = 0
			case bank32:
				fill(&w.r32[u.index], 0xffff)
			default:
				fill64(&w.r64[u.index], 0xffffffffffffffff)
			}
		}
		for i := range w.local {
			w.local[i] = 0xff
		}
		for _, r := range [...]struct {
			name string
			v    int
		}{{"%ctaid.x", at.X}, {"%ctaid.y", at.Y}, {"%ctaid.z", at.Z}} {
			if i, ok := b.k.sregs[r.name]; ok {
				fill(&w.r32[i], uint32(r.v))
			}
		}
	}
}

// run runs all threads of a block and returns the first fault.
func (b *block) run(at driver.Dim) (err *driver.Error) {
	b.start(at)
	var w *warp
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*fault)
			if !ok {
				panic(r)
			}
			err = b.error(w, f)
		}
	}()
	for {
		done, ran := true, false
		for _, w = range b.warps {
			if w.step() {
				ran = true
			}
			done = done && w.alive == 0
		}
		if done {
			return nil
		}
		if b.release() || ran {
			continue
		}
		b.deadlock(&w)
	}
}

// deadlock fails with the reason why no thread can go on.
func (b *block) deadlock(at **warp) {
	for _, state := range []fragState{waitLanes, waitAligned, waitBar} {
		for _, w := range b.warps {
			for _, f := range w.frags {
				if f.state != state {
					continue
				}
				*at = w
				lane := bits.TrailingZeros32(f.mask)
				bb := &b.k.blocks[f.bb]
				switch state {
				case waitLanes:
					in := &bb.code[0]
					w.line = in.line
					m := w.guarded(in.guard, f.mask)
					need := bb.members(w, m)
					w.fail(codeLaunch, lane, "lanes %#x wait for lanes %#x, which never come", m, need&w.alive&^m)
				case waitAligned:
					w.line = bb.line
					w.fail(codeLaunch, lane, "barrier in a divergent branch: lanes %#x of %#x reach it", f.mask, w.alive)
				default:
					w.line = bb.line
					w.fail(codeLaunch, lane, "threads wait at barrier %d for threads that never come", f.bar)
				}
			}
		}
	}
	w := b.warps[0]
	*at = w
	w.fail(codeLaunch, 0, "the block is stuck")
}

func (b *block) error(w *warp, f *fault) *driver.Error {
	names := map[int]string{codeAddress: "CUDA_ERROR_ILLEGAL_ADDRESS", codeMisaligned: "CUDA_ERROR_MISALIGNED_ADDRESS",
		codeTimeout: "CUDA_ERROR_LAUNCH_TIMEOUT"}
	name := names[f.code]
	if name == "" {
		name = "CUDA_ERROR_LAUNCH_FAILED"
	}
	return &driver.Error{Call: "cuLaunchKernel", Code: f.code, Name: name,
		Text: fmt.Sprintf("kernel %s, block (%d,%d,%d), thread %s, line %d (%s): %s", b.k.name, b.at.X, b.at.Y, b.at.Z,
			b.thread(w.id<<5|f.lane), w.line, b.k.text(w.line), f.msg)}
}

// thread is the index of a thread as CUDA writes it.
func (b *block) thread(t int) string {
	d := b.launch.block
	return fmt.Sprintf("(%d,%d,%d)", t%d.X, t/d.X%d.Y, t/d.X/d.Y)
}

// variable says which variable an offset of shared memory is in or near.
func (b *block) variable(off int64) string {
	if b.k.dynamic && off >= int64(b.k.span) {
		return fmt.Sprintf("byte %d of %d of dynamic shared memory", off-int64(b.k.span), len(b.shared)-b.k.span)
	}
	best := "no variable"
	for _, v := range b.k.vars {
		d := off - int64(v.offset-origin)
		switch {
		case d >= 0 && d < int64(v.size):
			return fmt.Sprintf("byte %d of %s", d, v.name)
		case d >= int64(v.size):
			best = fmt.Sprintf("%d bytes past the end of %s of %d bytes", d-int64(v.size), v.name, v.size)
		}
	}
	return best
}

// barInst is a barrier instruction.
type barInst struct {
	id, count int32 // registers; count -1: all threads
	aligned   bool
	red       string // popc, and, or
	pred      int32
	not       bool
	d         int32
}

func (c *compiler) barrier() {
	op := c.s.op
	if c.m.has("warp") {
		c.warpSync()
		return
	}
	c.m.has("cta")
	bi := &barInst{count: -1, aligned: op == "bar" || c.m.has("aligned")}
	kind := c.m.oneOf("sync", "red")
	args := c.s.args
	switch kind {
	case "red":
		bi.red = c.m.oneOf("popc", "and", "or")
		t := c.last()
		if bi.red == "" || (bi.red == "popc") != (t == "u32") || t != "u32" && t != "pred" || len(args) < 3 || len(args) > 4 {
			c.fail("unknown instruction %s", c.s.full)
		}
		bi.pred, bi.not = c.srcP(args[len(args)-1])
		if t == "u32" {
			bi.d = c.dst(args[0], t)
		} else {
			bi.d = c.dstP(args[0])
		}
		args = args[1 : len(args)-1]
	case "sync":
		if len(args) < 1 || len(args) > 2 {
			c.fail("%d operands", len(args))
		}
	default:
		c.fail("unknown instruction %s", c.s.full)
	}
	c.done()
	bi.id = c.src(args[0], "u32")
	if len(args) == 2 {
		bi.count = c.src(args[1], "u32")
	}
	c.end = &basic{end: endBar, guard: c.guard(), line: int32(c.s.line), bar: bi}
}

// barrier lets a fragment arrive at one, and reports whether it waits.
func (w *warp) barrier(f *frag, b *basic) bool {
	m := w.guarded(b.guard, f.mask)
	lane := bits.TrailingZeros32(f.mask)
	if m == 0 {
		f.bb++
		return false
	}
	if m != f.mask {
		w.fail(codeLaunch, lane, "barrier in a divergent branch: its guard lets lanes %#x of %#x reach it", m, f.mask)
	}
	id := w.r32[b.bar.id][lane]
	for l := m; l != 0; l &= l - 1 {
		if w.r32[b.bar.id][bits.TrailingZeros32(l)] != id {
			w.fail(codeLaunch, lane, "lanes name different barriers")
		}
	}
	if id > 15 {
		w.fail(codeLaunch, lane, "barrier %d of 16", id)
	}
	if b.bar.count >= 0 {
		if n := w.r32[b.bar.count][lane]; n == 0 || n%32 != 0 || int(n) > (w.blk.threads+31)/32*32 {
			w.fail(codeLaunch, lane, "barrier of %d threads", n)
		}
	}
	f.bar = int(id)
	f.state = waitBar
	if b.bar.aligned && f.mask != w.alive {
		f.state = waitAligned
	}
	return true
}

// release opens a barrier at which all its threads have arrived.
func (b *block) release() bool {
	opened := false
	for id := range 16 {
		waiting, lanes, alive := 0, 0, 0
		var first *frag
		var firstWarp *warp
		same := true
		for _, w := range b.warps {
			alive += bits.OnesCount32(w.alive)
			any := false
			for _, f := range w.frags {
				if f.state == waitBar && f.bar == id {
					if first == nil {
						first, firstWarp = f, w
					} else if f.bb != first.bb {
						same = false
					}
					waiting += bits.OnesCount32(f.mask)
					any = true
				}
			}
			if any {
				lanes += 32
			}
		}
		if first == nil {
			continue
		}
		bar := b.k.blocks[first.bb].bar
		if bar.count >= 0 {
			want := int(firstWarp.r32[bar.count][bits.TrailingZeros32(first.mask)])
			if lanes < want {
				continue
			}
			if lanes > want {
				firstWarp.line = b.k.blocks[first.bb].line
				firstWarp.fail(codeLaunch, bits.TrailingZeros32(first.mask), "%d threads at a barrier of %d", lanes, want)
			}
		} else if waiting < alive {
			continue
		}
		b.open(id, same, firstWarp, first)
		opened = true
	}
	return opened
}

func (b *block) open(id int, same bool, firstWarp *warp, first *frag) {
	var met []*warp
	var red struct { // of barrier.red
		count    int
		all, any bool
	}
	red.all = true
	for _, w := range b.warps {
		any := false
		for _, f := range w.frags {
			if f.state != waitBar || f.bar != id {
				continue
			}
			any = true
			bb := &b.k.blocks[f.bb]
			if !same && bb.bar.aligned && bb.bar.count < 0 {
				firstWarp.line = bb.line
				firstWarp.fail(codeLaunch, bits.TrailingZeros32(first.mask),
					"threads wait at different barrier instructions, this one and line %d", b.k.blocks[first.bb].line)
			}
			if bb.bar.red != "" {
				p := pmask(w.p[bb.bar.pred], bb.bar.not) & f.mask
				red.count += bits.OnesCount32(p)
				red.any = red.any || p != 0
				red.all = red.all && p == f.mask
			}
		}
		if any {
			met = append(met, w)
		}
	}
	for _, w := range met {
		for _, f := range w.frags {
			if f.state != waitBar || f.bar != id {
				continue
			}
			bi := b.k.blocks[f.bb].bar
			p := uint32(0)
			switch bi.red {
			case "popc":
				for l := f.mask; l != 0; l &= l - 1 {
					w.r32[bi.d][bits.TrailingZeros32(l)] = uint32(red.count)
				}
			case "and", "or":
				if bi.red == "and" && red.all || bi.red == "or" && red.any {
					p = f.mask
				}
				w.p[bi.d] = w.p[bi.d]&^f.mask | p
			}
			f.state = ready
			f.bb++
		}
	}
	b.shadow.barrier(met)
}

// run executes the launch: blocks on all processors, or in order where the kernel has atomics in global memory.
func (l *launch) run() error {
	n := l.grid.X * l.grid.Y * l.grid.Z
	workers := min(runtime.GOMAXPROCS(0), n)
	if l.k.serial || l.gpu.cfg.CheckBlocks {
		workers = 1
	}
	states := l.gpu.states(l, workers)
	defer func() { l.gpu.keep(l, states) }()
	var next atomic.Int64
	var mu sync.Mutex
	failed := int64(n)
	var first *driver.Error
	var crash any
	work := func(b *block) {
		defer func() {
			if r := recover(); r != nil {
				mu.Lock()
				crash = r
				mu.Unlock()
			}
		}()
		for {
			i := next.Add(1) - 1
			mu.Lock()
			stop := i >= failed || crash != nil
			mu.Unlock()
			if i >= int64(n) || stop {
				return
			}
			at := driver.Dim{X: int(i) % l.grid.X, Y: int(i) / l.grid.X % l.grid.Y, Z: int(i) / l.grid.X / l.grid.Y}
			if err := b.run(at); err != nil {
				mu.Lock()
				if i < failed {
					failed, first = i, err
				}
				mu.Unlock()
			}
		}
	}
	if workers == 1 {
		work(states[0])
	} else {
		var wg sync.WaitGroup
		for _, b := range states {
			wg.Go(func() { work(b) })
		}
		wg.Wait()
	}
	if crash != nil {
		panic(crash)
	}
	if first != nil {
		return first
	}
	return nil
}

// stateKey is what block states may be used again for.
type stateKey struct {
	k               *kernel
	threads, shared int
}

// states takes block states for a launch, made earlier or new.
func (g *GPU) states(l *launch, n int) []*block {
	key := stateKey{l.k, l.threads(), l.shared}
	list := g.pool[key]
	k := min(n, len(list))
	out := slices.Clone(list[:k])
	g.pool[key] = list[k:]
	for len(out) < n {
		out = append(out, newBlock(l))
	}
	for _, b := range out {
		b.prepare(l)
	}
	return out
}

func (g *GPU) keep(l *launch, list []*block) {
	key := stateKey{l.k, l.threads(), l.shared}
	if len(g.pool) > 256 {
		clear(g.pool)
	}
	g.pool[key] = append(g.pool[key], list...)
}
