package autograd

import (
	"slices"

	"setun/device"
	"setun/tensor"
)

// Value is a tensor in a computation. Grad is nil until a gradient arrives.
type Value struct {
	T    *tensor.Tensor
	Grad *tensor.Tensor
	// Quant is set on a parameter that its layer quantizes.
	Quant Quantizer

	wants bool // a gradient is wanted
	param bool // Grad outlives the tape
	owned bool // T belongs to the tape
	taped bool // made by a tape: T does not change

	base *Value // a view shares its memory and its gradient

	spare *tensor.Tensor // memory for the next Grad of a parameter

	version uint64
}

// Quantizer tells what a layer makes of a parameter before it multiplies: all that an optimizer knows of quantization.
type Quantizer interface {
	// Effective writes the weights that the layer multiplies with to dst, shaped like the parameter.
	Effective(dst *tensor.Tensor)
	// Codes is the level (I8) of each weight, nil without levels of its own. It belongs to the layer and is good until
	// the parameter changes.
	Codes() *tensor.Tensor
}

// NewParam makes a value that wants a gradient and belongs to no tape: a weight.
func NewParam(t *tensor.Tensor) *Value { return &Value{T: t, wants: true, param: true} }

// NewConst makes a value that wants no gradient and belongs to no tape.
func NewConst(t *tensor.Tensor) *Value { return &Value{T: t} }

// Shape is the shape of the tensor.
func (v *Value) Shape() []int { return v.T.Shape() }

// Dim is the size of dimension i; negative i counts from the end.
func (v *Value) Dim(i int) int { return v.T.Dim(i) }

// Device is where the value lives.
func (v *Value) Device() device.Device { return v.T.Device() }

// Float is the value of a scalar.
func (v *Value) Float() float32 { return v.T.Float() }

// WantsGrad reports whether gradients flow to v.
func (v *Value) WantsGrad() bool { return v.wants }

// Freeze stops (or, with false, lets) gradients flow to a parameter.
func (v *Value) Freeze(on bool) { v.wants = !on }

// Version counts the changes of a parameter's tensor, so that what is derived from it (quantized weights) is computed
// once per change. Whoever writes to T of a parameter calls Changed.
func (v *Value) Version() uint64 { return v.version }

// Changed tells that the tensor has new contents.
func (v *Value) Changed() { v.version++ }

// ZeroGrad makes a parameter's gradient nil, as before the first one. The next takes its memory.
func (v *Value) ZeroGrad() {
	if v.param && v.Grad != nil {
		v.spare, v.Grad = v.Grad, nil
	}
}

// FreeGrad is ZeroGrad, and gives back the memory.
func (v *Value) FreeGrad() {
	v.ZeroGrad()
	if v.spare != nil {
		v.spare.Free()
		v.spare = nil
	}
}

// HasGrad reports whether a gradient has arrived since the last ZeroGrad. A parameter without one after Backward is not
// connected to the loss.
func (v *Value) HasGrad() bool { return v.Grad != nil }

// Tape is one step. A Tape belongs to one goroutine. What its operations return is good until Reset, which uses the
// Values again.
type Tape struct {
	// Pool provides the memory of intermediate values. Nil: each is allocated from its device, and freed as
	// Backward goes or by Reset.
	Pool *tensor.Pool
	// Grad records operations for Backward. It also marks training: Dropout drops only then.
	Grad bool
	// Seed is the source of randomness (Dropout) of this step.
	Seed uint64

	nodes []node
	kept  []*tensor.Tensor // saved for the nodes' back, freed after it
	temps []*tensor.Tensor // owned by the tape, freed by Reset
	open  []*tensor.Tensor // taken by operations that are under way, or have panicked
	draws uint64           // random numbers drawn so far
	int8  int8Form

	values slab[Value]
	views  slab[tensor.Tensor]
}

type node struct {
	out  *Value
	back func()
	keep int // first of its tensors in kept
}

// alloc takes memory for the operation under way: until push or constant says who owns it, Reset frees it.
func (t *Tape) alloc(dev device.Device, typ device.Type, shape ...int) *tensor.Tensor {
	x := t.take(dev, typ, shape...)
	t.open = append(t.open, x)
	return x
}

// take takes memory from the pool, or from the device.
func (t *Tape) take(dev device.Device, typ device.Type, shape ...int) *tensor.Tensor {
	if t.Pool != nil && t.Pool.Device == dev {
		return t.Pool.Get(typ, shape...)
	}
	return tensor.New(dev, typ, shape...)
}

func (t *Tape) release(x *tensor.Tensor) {
	if x == nil {
		return
	}
	t.settle(x)
	if t.Pool != nil && t.Pool.Device == x.Device() {
		t.Pool.Put(x)
		return
	}
	x.Free()
}

// floats takes a float32 tensor like x's memory with the given shape.
func (t *Tape) floats(x *Value, shape ...int) *tensor.Tensor {
	return t.alloc(x.T.Device(), device.F32, shape...)
}

// grads reports whether an operation on these inputs must be recorded.
func (t *Tape) grads(in ...*Value) bool {
	if !t.Grad {
		return false
	}
	for _, v := range in {
		if v != nil && v.wants {
			return true
		}
	}
	return false
}

// constant makes y a value of the tape that wants no gradient.
func (t *Tape) constant(y *tensor.Tensor) *Value {
	t.settle(y)
	t.temps = append(t.temps, y)
	return t.value(Value{T: y})
}

// settle tells that x has an owner.
func (t *Tape) settle(x *tensor.Tensor) {
	if i := slices.Index(t.open, x); i >= 0 {
		t.open = slices.Delete(t.open, i, i+1)
	}
}

// free gives back scratch of an operation that is not recorded.
func (t *Tape) free(keep ...*tensor.Tensor) {
	for _, k := range keep {
		t.release(k)
	}
}

// push records an operation: out owns y, back pushes out.Grad to the inputs, keep is freed after back.
func (t *Tape) push(out *Value, back func(), keep ...*tensor.Tensor) {
	t.nodes = append(t.nodes, node{out, back, len(t.kept)})
	t.kept = append(t.kept, keep...)
	t.settle(out.T)
	for _, k := range keep {
		t.settle(k)
	}
}

// result makes the Value of a recorded operation.
func (t *Tape) result(y *tensor.Tensor) *Value { return t.value(Value{T: y, wants: true, owned: true}) }

// view makes the Value of a recorded operation that shares its input's memory.
func (t *Tape) view(y *tensor.Tensor) *Value { return t.value(Value{T: y, wants: true}) }

func (t *Tape) value(v Value) *Value {
	p := t.values.next()
	*p = v
	p.taped = true
	return p
}

// grad is the tensor that v's gradient accumulates in, made and zeroed when the first gradient arrives; nil when v
// wants none.
func (t *Tape) grad(v *Value) *tensor.Tensor {
	if v == nil || !v.wants {
		return nil
	}
	if v.base != nil {
		v.Grad = t.grad(v.base).ReshapeTo(t.views.next(), v.Shape()...)
		return v.Grad
	}
	if v.Grad == nil {
		t.makeGrad(v)
		tensor.Fill(v.Grad, 0)
	}
	return v.Grad
}

func (t *Tape) makeGrad(v *Value) {
	if v.spare != nil {
		v.Grad, v.spare = v.spare, nil
	} else if v.param {
		v.Grad = tensor.New(v.T.Device(), device.F32, v.T.Shape()...)
	} else {
		v.Grad = t.take(v.T.Device(), device.F32, v.T.Shape()...)
	}
}

// onto prepares for one kernel that gives all of xs their gradients: if these are the first, it need not add, and grad
// returns memory with anything in it.
func (t *Tape) onto(xs ...*Value) (acc bool) {
	for i, v := range xs {
		if v == nil || !v.wants {
			continue
		}
		r := v.root()
		acc = acc || r.Grad != nil
		for _, u := range xs[:i] {
			acc = acc || u != nil && u.wants && u.root() == r
		}
	}
	for _, v := range xs {
		if v == nil || !v.wants {
			continue
		}
		if r := v.root(); r.Grad == nil {
			t.makeGrad(r)
			if acc {
				tensor.Fill(r.Grad, 0)
			}
		}
	}
	return acc
}

// root is what has the gradient of v.
func (v *Value) root() *Value {
	for v.base != nil {
		v = v.base
	}
	return v
}

// add gives dy on to x: dx += dy.
func (t *Tape) add(x *Value, dy *tensor.Tensor) {
	if acc := t.onto(x); acc {
		tensor.Axpy(t.grad(x), 1, dy)
	} else if dx := t.grad(x); dx != nil {
		tensor.Copy(dx, dy)
	}
}

// pass gives out's gradient on to x, dx += dy, as the last that out's backward does: a first gradient is dy itself.
func (t *Tape) pass(x, out *Value) {
	if x.owned && x.wants && x.Grad == nil && slices.Equal(x.Shape(), out.Grad.Shape()) {
		x.Grad, out.Grad = out.Grad, nil
		return
	}
	t.add(x, out.Grad)
}

// Backward computes the gradients of a scalar loss with respect to everything it depends on and adds them to the Grad
// of the parameters.
func (t *Tape) Backward(loss *Value) {
	if loss.T.Len() != 1 {
		panic(&tensor.ShapeError{Op: "Backward", Why: "is not a scalar", Shapes: [][]int{loss.Shape()}})
	}
	if !loss.wants {
		return // a constant: nothing depends on a parameter
	}
	one := t.floats(loss, loss.Shape()...)
	tensor.Fill(one, 1)
	tensor.Axpy(t.grad(loss), 1, one) // of a parameter, there may be one already
	t.free(one)
	t.sweep(loss)
}

// sweep runs the nodes in reverse and frees as it goes; last, or what it is a view of, keeps its tensor until Reset.
func (t *Tape) sweep(last *Value) {
	t.dropInt8()
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		if n.out.Grad != nil {
			n.back()
			t.release(n.out.Grad)
			n.out.Grad = nil
		}
		t.drop(n.keep)
		if n.out.owned {
			if last != nil && n.out.T.Mem().Buffer() == last.T.Mem().Buffer() {
				t.temps = append(t.temps, n.out.T)
			} else {
				t.release(n.out.T)
			}
		}
		*n = node{}
		t.nodes = t.nodes[:i]
	}
}

// drop frees what is kept from i on.
func (t *Tape) drop(i int) {
	for _, k := range t.kept[i:] {
		t.release(k)
	}
	clear(t.kept[i:])
	t.kept = t.kept[:i]
}

// Reset gives back all memory of the step, its Values among it, and makes the tape ready for the next.
func (t *Tape) Reset() {
	t.dropInt8()
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		t.release(n.out.Grad)
		t.drop(n.keep)
		if n.out.owned {
			t.release(n.out.T)
		}
		*n = node{}
	}
	t.nodes = t.nodes[:0]
	for len(t.open) > 0 {
		t.release(t.open[len(t.open)-1])
	}
	for i, x := range t.temps {
		t.release(x)
		t.temps[i] = nil
	}
	t.temps = t.temps[:0]
	t.values.reset()
	t.views.reset()
	t.draws = 0
}

// Nodes is the number of operations recorded.
func (t *Tape) Nodes() int { return len(t.nodes) }

// Floats is a constant of the tape with host data: a batch of inputs.
func (t *Tape) Floats(dev device.Device, x []float32, shape ...int) *Value {
	y := t.alloc(dev, device.F32, shape...)
	y.SetFloats(x)
	return t.constant(y)
}

// Ints is a constant of the tape with host integers: token ids, classes.
func (t *Tape) Ints(dev device.Device, x []int32, shape ...int) *Value {
	y := t.alloc(dev, device.I32, shape...)
	y.SetInts(x)
	return t.constant(y)
}

// draw is a new seed for one random operation.
func (t *Tape) draw() uint64 {
	t.draws++
	return tensor.Mix(t.Seed, t.draws)
}
