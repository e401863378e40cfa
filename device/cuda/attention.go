package cuda

import (
	"fmt"
	"slices"

	"setun/device"
	"setun/device/cuda/driver"
)

// An attentionForm is a form of the attention kernels: for heads of at most dim elements, queries and keys in tiles
// of rows. half: products are on tensor cores, of bfloat16.
type attentionForm struct {
	name      string
	dim, rows int
	threads   int
	shared    int // bytes, dynamic
	half      bool
}

// forms are those of a kernel in float32, sizes being dim and rows, that keeps so many tiles in shared memory, and one
// of weights, or two numbers for each row.
func forms(tiles int, sizes ...[2]int) (all []attentionForm) {
	for _, s := range sizes {
		dim, rows := s[0], s[1]
		all = append(all, attentionForm{fmt.Sprintf("%dx%d", dim, rows), dim, rows, rows * rows / 16,
			4 * rows * (tiles*(dim+4) + rows + 4), false})
	}
	return all
}

// halfForms are those on tensor cores, with tiles of 64 rows in shared memory and two numbers for each row of one; as
// many as rows has belong to the block.
func halfForms(tiles, rows int) (all []attentionForm) {
	for _, dim := range []int{64, 128} {
		all = append(all, attentionForm{fmt.Sprintf("%dx%d", dim, rows), dim, rows, 128,
			(tiles+rows/64)*2*64*(dim+8) + 2*4*64, true})
	}
	return all
}

var (
	forwardForms = slices.Concat(halfForms(2, 128), halfForms(2, 64),
		forms(2, [2]int{64, 64}, [2]int{128, 64}, [2]int{256, 32}))
	backwardForms = slices.Concat(halfForms(3, 64),
		forms(4, [2]int{32, 32}, [2]int{64, 64}, [2]int{128, 64}, [2]int{128, 32}, [2]int{256, 32}))
)

// form is the first form for s that has its shared memory and tiles of at most so many rows.
func (d *Device) form(forms []attentionForm, s device.AttentionShape, rows int) (attentionForm, bool) {
	half := s.Math == device.MathBF16 || device.Math(d.math.Load()) == device.MathBF16
	for _, f := range forms {
		if s.Dim <= f.dim && (half || !f.half) && f.shared <= max(d.info.SharedPerBlock, 48<<10) && f.rows <= rows {
			return f, true
		}
	}
	return attentionForm{}, false
}

func (f attentionForm) kernel(which string) string {
	if f.half {
		which = "Half" + which
	}
	return "attention" + which + f.name
}

const (
	decodeQueries = 16 // fewer queries take the form for decoding
	decodeRows    = 8  // as in attention.cu
	decodeKeys    = 64
	decodeDim     = 256
	decodeParts   = 64 // at most, of the keys
)

// A span is rows of heads in device memory.
type span struct {
	p   uint64
	typ device.Type
	len int
}

func spanOf(m device.Mem) span { return span{addr(m), m.Type(), m.Len()} }

// row is the elements of a row of k or v.
func (x span) row(dim int) int {
	if x.typ == device.I8 {
		return dim + int8Scale
	}
	return dim
}

// int8Scale is the bytes behind the codes of a row in int8.
const int8Scale = 4

// shapeArgs are the arguments SHAPE of the kernels, with heads of dim elements in rows of row, and the scale.
func shapeArgs(s device.AttentionShape, dim, row int) []uint64 {
	step, head, all := s.KVHeads*row, row, max(s.Keys, s.Cache)*s.KVHeads*row
	if s.Cache > 0 {
		step, head = row, s.Cache*row
	}
	return []uint64{num(s.Queries), num(s.Keys), num(s.Heads), num(s.Heads / s.KVHeads), num(dim), num(step), num(head),
		num(all), flag(s.Causal), f32(s.Scale)}
}

// aligned tells whether rows of heads lie on boundaries of four elements.
func aligned(dim int, spans ...span) uint64 {
	ok := dim%4 == 0
	for _, x := range spans {
		ok = ok && x.p%uint64(4*x.typ.Size()) == 0
	}
	return flag(ok)
}

// halfHeads adds rows of heads in bfloat16, whole units of 16 bytes, to args; width is their elements.
func (d *Device) halfHeads(args []uint64, dim int, spans ...span) (_ []uint64, width int, free func()) {
	frees := make([]func(), len(spans))
	for i, x := range spans {
		var p uint64
		p, _, frees[i] = d.rounded(operand{p: x.p, typ: x.typ, ld: dim}, x.len/dim, dim, 1)
		args = append(args, p)
	}
	return args, round(dim, 8), func() {
		for _, f := range frees {
			f()
		}
	}
}

// widened gives the keys of a cache in int8 in float32; the rest of it is undefined.
func (d *Device) widened(x span, s device.AttentionShape) (span, func()) {
	if x.typ != device.I8 {
		return x, nothing
	}
	rows := s.Batch * s.KVHeads * s.Cache
	p, free := d.temp(4 * rows * s.Dim)
	d.each("fromInt8Rows", 32*rows, p, x.p, num(rows), num(s.Dim), num(s.Keys), num(s.Cache))
	return span{p, device.F32, rows * s.Dim}, free
}

// inGrid calls f with the parts of a batch that a grid has room for; cut is the part of an operand that has n elements
// for each sequence.
func (d *Device) inGrid(s device.AttentionShape,
	f func(part device.AttentionShape, cut func(m device.Mem, n int) device.Mem)) {
	for from := 0; from < s.Batch; from += d.maxGrid {
		part := s
		part.Batch = min(d.maxGrid, s.Batch-from)
		f(part, func(m device.Mem, n int) device.Mem { return m.Slice(from*n, (from+part.Batch)*n) })
	}
}

func (d *Device) Attention(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	if out.IsZero() || s.Batch <= 0 || s.Queries <= 0 || s.Heads <= 0 || s.KVHeads <= 0 || s.Dim <= 0 || d.failed() {
		return
	}
	if s.Batch > d.maxGrid {
		nq, rows := s.Queries*s.Heads*s.Dim, max(s.Keys, s.Cache)*s.KVHeads
		d.inGrid(s, func(part device.AttentionShape, cut func(device.Mem, int) device.Mem) {
			d.Attention(cut(out, nq), cut(lse, s.Heads*s.Queries), cut(q, nq), cut(k, rows*spanOf(k).row(s.Dim)),
				cut(v, rows*spanOf(v).row(s.Dim)), part)
		})
		return
	}
	if s.Queries < decodeQueries && s.Dim <= decodeDim && k.Type() == v.Type() {
		d.decode(out, lse, q, k, v, s)
		return
	}
	rows := 128
	if s.Queries <= 64 {
		rows = 64
	}
	f, ok := d.form(forwardForms, s, rows)
	if !ok || k.Type() != v.Type() {
		d.Bridge.Attention(out, lse, q, k, v, s)
		return
	}
	sk, free := d.widened(spanOf(k), s)
	defer free()
	sv, free := d.widened(spanOf(v), s)
	defer free()
	args := []uint64{addr(out), addr(lse)}
	if f.half {
		halves, width, free := d.halfHeads(args, s.Dim, spanOf(q), sk, sv)
		defer free()
		args = append(append(halves, shapeArgs(s, width, width)...), aligned(s.Dim, spanOf(out)), num(s.Dim))
	} else {
		args = append(args, addr(q), sk.p, sv.p, flag(sk.typ == device.F16))
		args = append(append(args, shapeArgs(s, s.Dim, s.Dim)...), aligned(s.Dim, spanOf(out), spanOf(q), sk, sv))
	}
	d.launch(f.kernel(""), driver.Dim{X: ceil(s.Queries, f.rows), Y: s.Heads, Z: s.Batch}, driver.Dim{X: f.threads},
		f.shared, args...)
}

// decode is attention of few queries. The keys are cut into parts so that there are about two blocks a multiprocessor.
func (d *Device) decode(out, lse, q, k, v device.Mem, s device.AttentionShape) {
	groups := s.KVHeads * ceil(s.Queries*(s.Heads/s.KVHeads), decodeRows)
	tiles := max(1, ceil(s.Keys, decodeKeys))
	parts := max(1, min(2*d.info.Multiprocessors/(groups*s.Batch), tiles, decodeParts))
	length := ceil(tiles, parts) * decodeKeys
	parts = max(1, ceil(s.Keys, length))
	rows := s.Batch * s.Heads * s.Queries
	part := uint64(0)
	if parts > 1 {
		p, free := d.temp(4 * parts * rows * (s.Dim + 2))
		defer free()
		part = p
	}
	kind := flag(k.Type() == device.F16) | flag(k.Type() == device.I8)<<1
	args := []uint64{addr(out), addr(lse), addr(q), addr(k), addr(v), kind, part, num(length)}
	args = append(append(args, shapeArgs(s, s.Dim, spanOf(k).row(s.Dim))...), aligned(s.Dim, spanOf(k), spanOf(v)))
	d.launch("attentionDecode", driver.Dim{X: parts, Y: groups, Z: s.Batch}, driver.Dim{X: blockSize}, 0, args...)
	if parts > 1 {
		d.each("attentionCombine", rows*s.Dim, addr(out), addr(lse), part, num(parts), num(rows), num(s.Queries),
			num(s.Heads), num(s.Dim))
	}
}

func (d *Device) AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v device.Mem, s device.AttentionShape) {
	if dq.IsZero() && dk.IsZero() && dv.IsZero() || s.Batch <= 0 || s.Heads <= 0 || s.KVHeads <= 0 || s.Dim <= 0 || d.failed() {
		return
	}
	if s.Queries <= 0 || s.Keys <= 0 {
		d.start(s.Acc, dq, dk, dv)
		return
	}
	if s.Batch > d.maxGrid {
		nq, nkv := s.Queries*s.Heads*s.Dim, s.KV()
		d.inGrid(s, func(part device.AttentionShape, cut func(device.Mem, int) device.Mem) {
			d.AttentionGrad(cut(dq, nq), cut(dk, nkv), cut(dv, nkv), cut(dout, nq), cut(out, nq),
				cut(lse, s.Heads*s.Queries), cut(q, nq), cut(k, nkv), cut(v, nkv), part)
		})
		return
	}
	f, ok := d.form(backwardForms, s, 32)
	if !ok || s.Queries > 32 || f.half {
		f, ok = d.form(backwardForms, s, 64)
	}
	if !ok {
		d.Bridge.AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v, s)
		return
	}
	acc := s.Acc
	if s.Cache > s.Keys { // rows that no block has
		d.start(acc, dq, dk, dv)
		acc = true
	}
	rows := s.Batch * s.Queries * s.Heads
	delta, free := d.temp(4 * rows)
	defer free()
	d.launch("attentionDelta", driver.Dim{X: ceil(rows, blockSize/32)}, driver.Dim{X: blockSize}, 0, delta, addr(dout),
		addr(out), num(rows), num(s.Queries), num(s.Heads), num(s.Dim))
	var in, shape []uint64
	if f.half {
		halves, width, free := d.halfHeads(nil, s.Dim, spanOf(dout), spanOf(q), spanOf(k), spanOf(v))
		defer free()
		in = halves
		shape = append(shapeArgs(s, width, width), aligned(s.Dim, spanOf(dq), spanOf(dk), spanOf(dv)), num(s.Dim), flag(acc))
	} else {
		in = []uint64{addr(dout), addr(q), addr(k), addr(v)}
		shape = append(shapeArgs(s, s.Dim, s.Dim), aligned(s.Dim, spanOf(dq), spanOf(dk), spanOf(dv), spanOf(dout),
			spanOf(q), spanOf(k), spanOf(v)), flag(acc))
	}
	in = append([]uint64{in[0], addr(lse), delta}, in[1:]...)
	in = append(in, shape...)
	block := driver.Dim{X: f.threads}
	if !dk.IsZero() || !dv.IsZero() {
		d.launch(f.kernel("KV"), driver.Dim{X: ceil(s.Keys, f.rows), Y: s.KVHeads, Z: s.Batch}, block, f.shared,
			append([]uint64{addr(dk), addr(dv)}, in...)...)
	}
	if !dq.IsZero() {
		d.launch(f.kernel("Q"), driver.Dim{X: ceil(s.Queries, f.rows), Y: s.Heads, Z: s.Batch}, block, f.shared,
			append([]uint64{addr(dq)}, in...)...)
	}
}
