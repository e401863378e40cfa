package tensor

import (
	"fmt"
	"strings"

	"setun/device"
)

// ShapeError reports operands that do not fit together: shapes, element types or devices. Operations panic with it.
type ShapeError struct {
	Op     string  // the operation, "MatMul"
	Why    string  // what is wrong with the shapes, "differ"
	Shapes [][]int // of the operands, in order
}

func (e *ShapeError) Error() string {
	s := make([]string, len(e.Shapes))
	for i, sh := range e.Shapes {
		s[i] = strings.ReplaceAll(fmt.Sprint(sh), " ", ", ")
	}
	return fmt.Sprintf("tensor: %s: %s %s", e.Op, strings.Join(s, " and "), e.Why)
}

func shapes(ts ...*Tensor) [][]int {
	var s [][]int
	for _, t := range ts {
		if t != nil {
			s = append(s, append([]int{}, t.Shape()...))
		}
	}
	return s
}

// check panics with a ShapeError unless ok.
func check(ok bool, op, why string, ts ...*Tensor) {
	if !ok {
		panic(&ShapeError{Op: op, Why: why, Shapes: shapes(ts...)})
	}
}

// where is the device that all non-nil tensors share. Destinations may be nil, so the first found counts.
func where(op string, ts ...*Tensor) device.Device {
	var dev device.Device
	for _, t := range ts {
		switch {
		case t == nil:
		case dev == nil:
			dev = t.dev
		case dev != t.dev:
			panic(&ShapeError{Op: op, Why: fmt.Sprintf("live on different devices (%s and %s)", dev.Name(), t.dev.Name()),
				Shapes: shapes(ts...)})
		}
	}
	return dev
}

// alias reports whether two of the gradients have one memory: an operation has one value, or views of it, as two inputs.
// Kernels do not allow that of their results.
func alias(ds ...*Tensor) bool {
	for i, d := range ds {
		for _, e := range ds[:i] {
			if d != nil && e != nil && d.mem.Buffer() == e.mem.Buffer() && d.mem.Offset() == e.mem.Offset() {
				return true
			}
		}
	}
	return false
}

// sameLen checks that all non-nil tensors have the length of the first.
func sameLen(op string, ts ...*Tensor) {
	n := -1
	for _, t := range ts {
		if t == nil {
			continue
		}
		if n < 0 {
			n = t.Len()
		}
		if t.Len() != n {
			panic(&ShapeError{Op: op, Why: "differ in length", Shapes: shapes(ts...)})
		}
	}
}

// hasLen checks an optional operand's length.
func hasLen(op string, t *Tensor, n int) {
	if t != nil && t.Len() != n {
		panic(&ShapeError{Op: op, Why: fmt.Sprintf("should have %d elements", n), Shapes: shapes(t)})
	}
}
