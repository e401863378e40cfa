// Package gradtest checks gradients by differences: those of autograd's own operations and, above all, of an
// [autograd.Op] of your own.
//
//	func TestMyOp(t *testing.T) {
//		gradtest.Check(t, cpu.New(0), func(t *autograd.Tape, in []*autograd.Value) *autograd.Value {
//			return t.Custom(MyOp, in...)
//		}, gradtest.Shape(3, 4), gradtest.Shape(4))
//	}
//
// [Check] draws the inputs, weighs the elements of the result by fixed random numbers and compares the gradient of that
// sum with central differences in every element of every input. It also checks what differences cannot see: that
// gradients are added, not set; that an input that wants no gradient gets none and disturbs no other; and that nothing
// is read from freed or unwritten memory, or kept after Reset.
//
// An operation with a kink or a jump (ReLU, rounding) is no matter for differences close to it: keep the inputs away
// with [Input].
package gradtest
