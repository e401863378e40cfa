package tensor

import (
	"fmt"

	"setun/device"
)

// Copy: dst = src, same length and type; or float32 to half precision and back.
func Copy(dst, src *Tensor) {
	sameLen("Copy", dst, src)
	checkCopy("Copy", dst, src)
	where("Copy", dst, src).Copy(dst.mem, src.mem)
}

func checkCopy(op string, dst, src *Tensor) {
	floats := func(t *Tensor) bool { return t.typ == device.F32 || t.typ == device.F16 }
	check(dst.typ == src.typ || floats(dst) && floats(src), op, "differ in type", dst, src)
}

// Fill: dst = v.
func Fill(dst *Tensor, v float32) { dst.dev.Fill(dst.mem, v) }

// CopyCols copies the last dimension's [lo, hi) of src (rows, n) to dst (rows, hi-lo); with acc, it adds.
func CopyCols(dst, src *Tensor, lo, hi int, acc bool) {
	rows, n := src.matrix()
	r, c := dst.matrix()
	checkCols(lo >= 0 && hi <= n && r == rows && c == hi-lo, "CopyCols", lo, hi, dst, src)
	if dst.Len() == 0 {
		return
	}
	where("CopyCols", dst, src).CopyRows(dst.mem, c, src.mem.Slice(lo, src.Len()), n, rows, c, acc)
}

// PasteCols copies src (rows, hi-lo) to the last dimension's [lo, hi) of dst (rows, n); with acc, it adds.
func PasteCols(dst, src *Tensor, lo, hi int, acc bool) {
	rows, n := dst.matrix()
	r, c := src.matrix()
	checkCols(lo >= 0 && hi <= n && r == rows && c == hi-lo, "PasteCols", lo, hi, dst, src)
	if src.Len() == 0 {
		return
	}
	where("PasteCols", dst, src).CopyRows(dst.mem.Slice(lo, dst.Len()), n, src.mem, c, rows, c, acc)
}

func checkCols(ok bool, op string, lo, hi int, dst, src *Tensor) {
	if !ok {
		panic(&ShapeError{Op: op, Why: fmt.Sprintf("do not fit columns [%d:%d]", lo, hi), Shapes: shapes(dst, src)})
	}
}
