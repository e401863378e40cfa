package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "setun/device/simd/gen/lane"
)

func sumRows(w W) {
	w.Func("sumRows", "func(sum, x *float32, rows, cols, stride int)",
		"sum[j] = sum over i of x[i*stride+j]; rows > 0")
	sum, x := Ptr("sum"), Ptr("x")
	w.Strips(Ptr("cols"), widths(w, 1), []reg.GPVirtual{sum, x}, func(strip []Span) {
		acc := w.Zeros(len(strip))
		px, bytes := Clone(x), Ptr("stride")
		SHLQ(U8(2), bytes)
		Times(Ptr("rows"), func() {
			for i, s := range strip {
				VADDPS(s.Load(px), acc[i], acc[i])
			}
			ADDQ(bytes, px)
		})
		for i, s := range strip {
			s.Store(acc[i], sum)
		}
	})
	w.End()
}

// chunks emits body for the chunks of device.LaneSum in the argument n > 0, and writes the sums of the lanes to part.
func chunks(w W, lanes Lanes, part reg.GPVirtual, body func(n reg.GPVirtual)) {
	left, next := Ptr("n"), Fresh("chunk")
	Label(next)
	lanes.Clear()
	n := GP64()
	MOVQ(U32(4096), n)
	CMPQ(left, n)
	CMOVQLT(left, n)
	SUBQ(n, left)
	body(n)
	VMOVSD(lanes.Sum(), Mem{Base: part})
	ADDQ(U32(8), part)
	TESTQ(left, left)
	JNZ(LabelRef(next))
}

// loads the vectors of a group.
func loads(g Group, p reg.GPVirtual) (v []reg.VecVirtual) {
	for _, s := range g.Spans {
		v = append(v, s.Load(p))
	}
	return v
}

func sumAbs(w W) {
	w.Func("sumAbs", "func(part *float64, x *float32, n int)",
		"part[c] = device.ChunkSum of |x| over chunk c of device.LaneChunk elements; n > 0")
	part, x := Ptr("part"), Ptr("x")
	abs, lanes := w.Bits(0x7fffffff), w.NewLanes()
	chunks(w, lanes, part, func(n reg.GPVirtual) {
		w.By16(n, 4, []reg.GPVirtual{x}, nil, func(g Group) {
			v := loads(g, x)
			for _, v := range v {
				w.And(abs, v, v)
			}
			lanes.Add(v)
		})
	})
	w.End()
}

func sumSquares(w W) {
	w.Func("sumSquares", "func(part *float64, x *float32, n int)",
		"part[c] = device.ChunkSum of x*x over chunk c of device.LaneChunk elements; n > 0")
	part, x := Ptr("part"), Ptr("x")
	lanes := w.NewLanes()
	chunks(w, lanes, part, func(n reg.GPVirtual) {
		w.By16(n, 4, []reg.GPVirtual{x}, nil, func(g Group) { lanes.AddSquares(loads(g, x)) })
	})
	w.End()
}
