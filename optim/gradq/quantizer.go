package gradq

import (
	"encoding/binary"
	"fmt"
	"iter"

	"setun/device"
	"setun/optim"
	"setun/tensor"
)

// threshold of ternary-ef in units of the mean magnitude: near the least squared error for Gaussian values (Li and Liu
// 2016, arXiv 1605.04711).
const threshold = 0.7

// Quantizer quantizes the gradients of parameters in place.
type Quantizer struct {
	// Share, if not nil, is called in every step with the scales of the gradients that are there, in order, before
	// they round. Workers that replace them by their maximum send codes that can be added. Not for ternary-ef.
	Share func(scale []float32)

	cfg         Config
	codec       *Codec // nil for fp32
	ps          []optim.Param
	residual    []*tensor.Tensor // of ternary-ef: what was not sent
	pool        *tensor.Pool
	wire, plain int64
	buf         []byte // a gradient's wire form
	codes       []int8
	floats      []float32
}

// New makes the quantizer that c configures for ps.
func New(c Config, ps []optim.Param) (*Quantizer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	q := &Quantizer{cfg: c.WithDefaults(), ps: ps}
	if q.cfg.Kind != FP32 {
		q.codec, _ = CodecByName(q.cfg.Codec)
	}
	if len(ps) > 0 {
		q.pool = tensor.NewPool(ps[0].Value.Device())
	}
	if q.cfg.Kind == TernaryEF {
		for _, p := range ps {
			q.residual = append(q.residual, tensor.Zeros(p.Value.Device(), p.Value.Shape()...))
		}
	}
	return q, nil
}

// Quantize replaces every gradient g by the quantized gradScale*g, and returns what is left of gradScale for the
// optimizer: 1, or all of it for fp32, which changes nothing. The scale, of [optim.Clip], goes in here because a
// residual must not keep what clipping took away. Parameters without a gradient are left out.
func (q *Quantizer) Quantize(step int, gradScale float32) (left float32) {
	q.run(nil, false, step, gradScale)
	return q.left(gradScale)
}

// Append is Quantize that also appends the message to msg: for each parameter the length of its wire form as a uvarint,
// 0 without a gradient, and the wire form.
func (q *Quantizer) Append(msg []byte, step int, gradScale float32) (_ []byte, left float32) {
	return q.run(msg, true, step, gradScale), q.left(gradScale)
}

func (q *Quantizer) left(gradScale float32) float32 {
	if q.cfg.Kind == FP32 {
		return gradScale
	}
	return 1
}

// Bytes is the size of the message of the last Quantize or Append, and of the same gradients in float32.
func (q *Quantizer) Bytes() (wire, fp32 int64) { return q.wire, q.plain }

func (q *Quantizer) run(msg []byte, send bool, step int, gradScale float32) []byte {
	q.wire, q.plain = 0, 0
	seed := tensor.Mix(q.cfg.Seed^0x67726164, uint64(step)+1) // not the seed of dropout in that step
	shared := q.share(seed)
	for i, p := range q.ps {
		g := gradient(p)
		if g == nil {
			q.wire++
			if send {
				msg = append(msg, 0)
			}
			continue
		}
		n := g.Len()
		q.plain += 4 * int64(n)
		q.buf = q.buf[:0]
		size, fixed := 4*n, true
		if q.codec == nil {
			if send {
				q.buf = appendFloats(q.buf, q.download(g))
			}
		} else {
			scale := q.scale(g)
			codes := q.pool.Get(device.I8, g.Shape()...)
			if shared != nil {
				scale.SetFloats(shared[:scale.Len()])
				shared = shared[scale.Len():]
			}
			x := g
			if q.residual != nil {
				x = q.residual[i]
				tensor.Axpy(x, gradScale, g)
			}
			q.quantize(codes, scale, x, tensor.Mix(seed, uint64(i)), shared != nil)
			if q.residual == nil && gradScale != 1 {
				tensor.Scale(scale, gradScale, scale)
			}
			tensor.Dequantize(g, codes, scale)
			if q.residual != nil {
				tensor.Axpy(x, -1, g)
			}
			if size, fixed = q.codec.Size(n, scale.Len()); send || !fixed {
				q.encode(codes, scale)
			}
			q.pool.Put(codes)
			q.pool.Put(scale)
		}
		if send || !fixed {
			size = len(q.buf)
		}
		var head [binary.MaxVarintLen64]byte
		h := binary.PutUvarint(head[:], uint64(size))
		q.wire += int64(h + size)
		if send {
			msg = append(append(msg, head[:h]...), q.buf...)
		}
	}
	return msg
}

// gradient is nil without one, or without elements.
func gradient(p optim.Param) *tensor.Tensor {
	if !p.Value.HasGrad() || p.Value.Grad.Len() == 0 {
		return nil
	}
	return p.Value.Grad
}

// share finds the scales of all gradients and lets Share change them; nil without it.
func (q *Quantizer) share(seed uint64) []float32 {
	if q.Share == nil || q.codec == nil || q.residual != nil {
		return nil
	}
	all := []float32{}
	for i, p := range q.ps {
		g := gradient(p)
		if g == nil {
			continue
		}
		scale, codes := q.scale(g), q.pool.Get(device.I8, g.Shape()...)
		q.quantize(codes, scale, g, tensor.Mix(seed, uint64(i)), false)
		all = append(all, q.download(scale)...)
		q.pool.Put(codes)
		q.pool.Put(scale)
	}
	q.Share(all)
	return all
}

// scale takes memory for the scales of g from the pool.
func (q *Quantizer) scale(g *tensor.Tensor) *tensor.Tensor {
	rows := 1
	if q.cfg.PerRow && g.Dims() > 1 {
		rows = g.Len() / g.Dim(-1)
	}
	return q.pool.Get(device.F32, rows)
}

func (q *Quantizer) quantize(codes, scale, x *tensor.Tensor, seed uint64, given bool) {
	if q.cfg.Kind == TernaryEF {
		tensor.QuantizeWeights(codes, scale, x, 1, device.TWN, threshold)
		return
	}
	tensor.QuantizeStochastic(codes, scale, x, device.StochasticQuant{Levels: q.cfg.levels(), Clip: max(q.cfg.Clip, 0),
		Seed: seed, Given: given})
}

// encode puts the wire form into buf.
func (q *Quantizer) encode(codes, scale *tensor.Tensor) {
	host := q.hostCodes(codes.Len())
	codes.Device().Download(device.Wrap(host), codes.Mem())
	q.buf, _ = q.codec.Append(q.buf[:0], host, q.download(scale)) // a device's codes are in range
}

func (q *Quantizer) hostCodes(n int) []int8 {
	if cap(q.codes) < n {
		q.codes = make([]int8, n)
	}
	return q.codes[:n]
}

func (q *Quantizer) hostFloats(n int) []float32 {
	if cap(q.floats) < n {
		q.floats = make([]float32, n)
	}
	return q.floats[:n]
}

// download is valid until the next one.
func (q *Quantizer) download(t *tensor.Tensor) []float32 {
	host := q.hostFloats(t.Len())
	t.ReadFloats(host)
	return host
}

// Average replaces every gradient by the mean of what the messages hold, added up in their order. All must come from
// quantizers of the same configuration and shapes, for the parameters that have a gradient here. Messages are checked
// as a whole, not trusted; after an error the gradients are undefined.
func (q *Quantizer) Average(msgs ...[]byte) error {
	frames := make([][][]byte, len(msgs))
	for m, msg := range msgs {
		for _, p := range q.ps {
			n, h := binary.Uvarint(msg)
			if h <= 0 || n > uint64(len(msg)-h) {
				return fmt.Errorf("gradq: message %d ends in the gradient of %s: it is cut, or of another model", m, p.Name)
			}
			if here := gradient(p) != nil; here != (n > 0) {
				return fmt.Errorf("gradq: message %d has %d bytes for %s, which has a gradient here: %t; the models differ", m, n,
					p.Name, here)
			}
			frames[m] = append(frames[m], msg[h:h+int(n)])
			msg = msg[h+int(n):]
		}
		if len(msg) > 0 {
			return fmt.Errorf("gradq: message %d has %d bytes too many: it is of another model", m, len(msg))
		}
	}
	for i, p := range q.ps {
		g := gradient(p)
		if g == nil {
			continue
		}
		tensor.Fill(g, 0)
		part := q.pool.Get(device.F32, g.Shape()...)
		for m := range msgs {
			if err := q.decode(part, frames[m][i]); err != nil {
				return fmt.Errorf("message %d, gradient of %s: %w", m, p.Name, err)
			}
			tensor.Axpy(g, 1/float32(len(msgs)), part)
		}
		q.pool.Put(part)
	}
	return nil
}

// decode: y = what src holds.
func (q *Quantizer) decode(y *tensor.Tensor, src []byte) error {
	if q.codec == nil {
		if len(src) != 4*y.Len() {
			return fmt.Errorf("gradq: %d bytes, want %d: the sender has another model or kind of gradients", len(src), 4*y.Len())
		}
		host := q.hostFloats(y.Len())
		readFloats(host, src)
		y.SetFloats(host)
		return nil
	}
	scale := q.scale(y)
	defer q.pool.Put(scale)
	host, s := q.hostCodes(y.Len()), q.hostFloats(scale.Len())
	if err := q.codec.Decode(host, s, src); err != nil {
		return err
	}
	codes := q.pool.Get(device.I8, y.Shape()...)
	defer q.pool.Put(codes)
	codes.Device().Upload(codes.Mem(), device.Wrap(host))
	scale.SetFloats(s)
	tensor.Dequantize(y, codes, scale)
	return nil
}

// State yields the residuals, which a checkpoint must hold.
func (q *Quantizer) State() iter.Seq2[string, *tensor.Tensor] {
	return func(yield func(string, *tensor.Tensor) bool) {
		for i, t := range q.residual {
			if !yield("residual/"+q.ps[i].Name, t) {
				return
			}
		}
	}
}

// Free gives back all device memory, State included. The quantizer cannot be used after.
func (q *Quantizer) Free() {
	for _, t := range q.residual {
		t.Free()
	}
	if q.pool != nil {
		q.pool.Close()
	}
}
