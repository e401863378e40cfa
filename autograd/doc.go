// Package autograd records operations on tensors and runs their gradients backwards.
//
// The few types: a [Value] is a tensor and, once one has arrived, its gradient; a [Tape] is one step: it owns every
// intermediate value and the closures that differentiate it. The zero Tape records nothing: inference. Operations are
// methods of the tape and return new Values; each stands in a file with its gradient directly under its formula.
//
//	tape := autograd.Tape{Pool: pool, Grad: true}
//	y := tape.Linear(x, w, nil)
//	loss := tape.CrossEntropy(y, targets)
//	tape.Backward(loss)
//	fmt.Println(loss.Float(), w.Grad)
//	tape.Reset()
//
// # Life of memory
//
// Gradients are born late: when the first consumer has one to give. Values die early: Backward gives a value's tensor
// and gradient back to the pool right after the value's own gradient has run, because in reverse order of recording all
// its consumers have run before. So read what you need before Backward; the loss stays readable until Reset. Reset
// takes back all Values and views of the step for the next: nothing that an operation returned may be used after it.
// Parameters (NewParam) and constants (NewConst) do not belong to the tape and keep their tensors; gradients add up in
// parameters until ZeroGrad. There are no in-place operations, and no second Backward on one tape.
//
// # Errors
//
// Shapes that do not fit panic with a *tensor.ShapeError; [Catch] turns these panics, and only these, into errors.
package autograd
