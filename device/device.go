package device

// Device is memory plus kernels. Devices are safe for concurrent use.
type Device interface {
	// Name is how users choose the device: "cpu", "simd", "cuda", ....
	Name() string
	// Alloc reserves n elements; their contents are undefined. When memory runs out it returns the zero Mem and keeps
	// an error for Sync.
	Alloc(t Type, n int) Mem
	// Free gives back what Alloc returned.
	Free(m Mem)
	// Upload copies host memory (Wrap) to dst. src may be reused as soon as it returns.
	Upload(dst, src Mem)
	// Download waits for the kernels before it and copies src to host memory (Wrap).
	Download(dst, src Mem)
	// Sync waits for all kernels and returns the first error since the device was opened.
	Sync() error

	Kernels
}

// Kernels is the kernel set. All of it is required: a device may embed another (device/cpu) or a [Bridge] for what it
// lacks. In the formulas, rows index i, columns j; shapes stand in brackets after the name, row-major.
type Kernels interface {
	// Memory.

	// Copy: dst = src, any one type; or from F32 to F16, rounded to nearest even, and back, exactly.
	Copy(dst, src Mem)
	// Fill: dst = v.
	Fill(dst Mem, v float32)
	// CopyRows: dst[i*ldd+j] = src[i*lds+j] for i < rows, j < cols; with acc, +=. F32; without acc, dst may be F16, or I8:
	// then a row is what [Int8Row] says, quantized as by QuantizeRows.
	CopyRows(dst Mem, ldd int, src Mem, lds int, rows, cols int, acc bool)

	// Elementwise, n = len(dst).

	// Add: dst = a + b.
	Add(dst, a, b Mem)
	// Mul: dst = a * b.
	Mul(dst, a, b Mem)
	// MulAdd: d += a * b.
	MulAdd(d, a, b Mem)
	// Scale: dst = alpha * x.
	Scale(dst Mem, alpha float32, x Mem)
	// Axpy: d += alpha * x.
	Axpy(d Mem, alpha float32, x Mem)
	// Unary: dst = f(x).
	Unary(f UnaryOp, dst, x Mem)
	// UnaryGrad: dx = dy * f'(x); with acc, +=.
	UnaryGrad(f UnaryOp, dx, dy, x Mem, acc bool)
	// Gated: dst = f(g) * u, the gate of SwiGLU (f = SiLU).
	Gated(f UnaryOp, dst, g, u Mem)
	// GatedGrad: dg = dy * f'(g) * u; du = dy * f(g); with acc, +=.
	GatedGrad(f UnaryOp, dg, du, dy, g, u Mem, acc bool)
	// Dropout: dst = x * keep / (1-p) with keep[i] = Uniform(seed)[i] >= p; with acc, +=. Its own gradient.
	Dropout(dst, x Mem, p float32, seed uint64, acc bool)

	// Rows and reductions.

	// AddRows: y[g,r,c] = x[g,r,c] + alpha*b[g,c], shapes (groups, rows, cols) and (groups, cols). A zero x counts as 0.
	AddRows(y, x, b Mem, alpha float32, groups, rows, cols int)
	// SumRows: d[g,c] += alpha * sum over r of x[g,r,c].
	SumRows(d, x Mem, alpha float32, groups, rows, cols int)
	// SumSquares: d[0] += sum of x*x, accumulated in float64 in the order of LaneSum.
	SumSquares(d, x Mem)
	// Softmax: y[i,:] = exp(x[i,:] - max) / sum, over rows of x (rows, cols).
	Softmax(y, x Mem, rows, cols int)
	// SoftmaxGrad: dx[i,j] += y[i,j] * (dy[i,j] - sum over c of dy[i,c]*y[i,c]).
	SoftmaxGrad(dx, dy, y Mem, rows, cols int)
	// RMSNorm: inv[i] = 1/sqrt(mean over j of x[i,j]^2 + eps); y = x * inv * gain. gain (cols) zero: no gain. inv (rows)
	// is kept for the gradient. Zhang and Sennrich 2019, arXiv 1910.07467.
	RMSNorm(y, inv, x, gain Mem, rows, cols int, eps float32)
	// RMSNormGrad: with h = dy*gain, dx[i,j] = inv*(h[j] - x[j]*inv^2*mean(h*x)), with acc, +=; dgain[j] += sum over i of
	// dy*x*inv.
	RMSNormGrad(dx, dgain, dy, x, gain, inv Mem, rows, cols int, acc bool)
	// LayerNorm: y = (x - mean) * inv * gain + bias over rows; mean (rows) and inv (rows) are kept for the gradient.
	// gain and bias may be zero. Ba et al. 2016, arXiv 1607.06450.
	LayerNorm(y, mean, inv, x, gain, bias Mem, rows, cols int, eps float32)
	// LayerNormGrad accumulates the gradients of LayerNorm.
	LayerNormGrad(dx, dgain, dbias, dy, x, gain, mean, inv Mem, rows, cols int)
	// CrossEntropy over logits (rows, cols) and targets (rows) of I32: with lse[i] = log sum exp logits[i,:],
	// rowLoss[i] = lse[i] - logits[i,targets[i]]; loss[0] = mean of rowLoss over rows with target >= 0 (0 without any).
	// Rows with a negative target are ignored (rowLoss 0). stats (rows+1) keeps lse (of ignored rows anything) and, last,
	// 1/valid (0 without any). rowLoss and loss are optional. A target outside the columns is a device error.
	CrossEntropy(loss, rowLoss, stats, logits, targets Mem, rows, cols int)
	// CrossEntropyGrad: dlogits[i,j] += dloss[0]/valid * (exp(logits[i,j]-lse[i]) - [j = targets[i]]).
	CrossEntropyGrad(dlogits, dloss, stats, logits, targets Mem, rows, cols int)

	// Indices.

	// Gather: y[i,:] = table[ids[i],:], ids (rows) of I32, table (any, cols) of F32 or F16. An id outside the table is a device error.
	Gather(y, table, ids Mem, rows, cols int)
	// ScatterAdd: dtable[ids[i],:] += dy[i,:], in the order of i. An id outside the table is a device error.
	ScatterAdd(dtable, dy, ids Mem, rows, cols int)

	// Matrix products.

	// Gemm: C = alpha*op(A)*op(B) + beta*C + bias, see [GemmShape]. bias (n) is optional and added to every row. With
	// beta = 0, C is not read (NaN in it does not spread). B may be F16, in products that are not a batch.
	Gemm(c, a, b, bias Mem, s GemmShape)
	// Im2Col unrolls the patches of an image for convolution by Gemm, see [ConvShape].
	Im2Col(cols, x Mem, s ConvShape)
	// Col2Im: the gradient of Im2Col, dx += the patches folded back.
	Col2Im(dx, dcols Mem, s ConvShape)

	// Transformer.

	// RoPE rotates pairs (i, i+dim/2) of each head by the angle of the row's position (NeoX style). Su et al. 2021,
	// arXiv 2104.09864. See [RoPEShape]; table (positions, dim) has dim/2 cosines, then dim/2 sines, per position.
	RoPE(y, x, table Mem, s RoPEShape)
	// Attention: out = softmax(scale * q k^T + mask) v for each head, see [AttentionShape]. lse (batch, heads, queries)
	// is kept for the gradient and may be zero. No queries x keys matrix is kept in memory. k and v may be F16, and those
	// of a cache I8, in rows of [Int8Row].
	Attention(out, lse, q, k, v Mem, s AttentionShape)
	// AttentionGrad computes dq, dk, dv, or adds to them, as s.Acc says.
	AttentionGrad(dq, dk, dv, dout, out, lse, q, k, v Mem, s AttentionShape)

	// Quantization. Codes are I8; a quantized value is code * scale.

	// QuantizeRows is int8 absmax per row (token): with a = max(max|x[i,:]|, 1e-5), scale[i] = a/127,
	// q[i,j] = roundEven(x[i,j] * (127/a)) in float32. A row with a NaN or Inf gets codes 0 and scale NaN.
	QuantizeRows(q, scale, x Mem, rows, cols int)
	// QuantizeWeights gives codes in [-levels, levels] and one scale for the tensor or each row, see [WeightQuant].
	QuantizeWeights(codes, scale, w Mem, s WeightQuant)
	// QuantizeStochastic rounds to codes in [-levels, levels] at random, without bias, see [StochasticQuant].
	QuantizeStochastic(codes, scale, x Mem, s StochasticQuant)
	// Dequantize: y[i,j] = codes[i,j] * scale[i], or scale[0] when scale has one element.
	Dequantize(y, codes, scale Mem, rows, cols int)
	// LSQGrad, the gradient of a learned scale (Esser et al. 2019, arXiv 1902.08153): with v = w/scale and
	// c = clip(roundEven(v), ±levels), dscale[i or 0] += alpha * sum of dq * (c - v if |v| < levels else c).
	LSQGrad(dscale, dq, w, scale Mem, rows, cols, levels int, alpha float32)
	// QLinear: y[i,j] = float32(sum over k of xq[i,k]*codes[j,k]) * xs[i] * ws[j or 0] + bias[j]; xq (m,k), codes (n,k),
	// y (m,n). The sum is an exact int32. bias is optional.
	QLinear(y, xq, xs, codes, ws, bias Mem, m, n, k int)
	// PackedLinear is QLinear with the codes, in [-levels, levels], as panels: the same bits. See [PackPanels].
	PackedLinear(y, xq, xs, panels, ws, bias Mem, m, n, k, levels int)
	// UnpackPanels: codes (n,k) of panels.
	UnpackPanels(codes, panels Mem, n, k, levels int)
	// QLinearGradX: dx[i,:] = sum over j of dy[i,j] * ws[j or 0] * codes[j,:], with acc, +=, see [Math].
	QLinearGradX(dx, dy, codes, ws Mem, m, n, k int, math Math, acc bool)
	// QLinearGradW: dw[j,:] = sum over i of dy[i,j] * xs[i] * xq[i,:], with acc, +=, see [Math].
	QLinearGradW(dw, dy, xq, xs Mem, m, n, k int, math Math, acc bool)

	// Optimizers and random numbers.

	// AdamW updates w, m and v in place with gradient g, see [AdamWStep]. Loshchilov and Hutter 2019, arXiv 1711.05101.
	AdamW(w, m, v, g Mem, s AdamWStep)
	// Uniform: dst[i] = lo + (hi-lo)*u[i], u = Philox(seed, i) in [0,1), see [Philox].
	Uniform(dst Mem, seed uint64, lo, hi float32)
	// Normal: dst[i] = std * z[i]. With words w of counter c, r = sqrt(-2 ln(Unit(w0) + 2^-24)) and u = Unit(w1),
	// z[4c] = r cos 2πu and z[4c+1] = r sin 2πu; words 2 and 3 give z[4c+2] and z[4c+3]. Computed in float64, rounded once.
	Normal(dst Mem, seed uint64, std float32)
}

// UnaryOp names an activation.
type UnaryOp uint8

const (
	SiLU    UnaryOp = iota // x * sigmoid(x)
	ReLU                   // max(x, 0)
	ReLU2                  // max(x, 0)^2
	GELU                   // x * Phi(x), exact (erf)
	Sigmoid                // 1/(1+exp(-x))
	Tanh
	Exp
)

var unaryNames = [...]string{"SiLU", "ReLU", "ReLU2", "GELU", "Sigmoid", "Tanh", "Exp"}

// UnaryOps lists every activation.
var UnaryOps = []UnaryOp{SiLU, ReLU, ReLU2, GELU, Sigmoid, Tanh, Exp}

func (f UnaryOp) String() string { return unaryNames[f] }

// GemmShape describes op(A) (M,K), op(B) (K,N) and C (M,N); op transposes when its flag is set. A leading dimension of 0
// means tight rows. Batch products (0 counts as 1) are Stride elements apart; a stride of 0 shares the operand.
type GemmShape struct {
	M, N, K                   int
	TransA, TransB            bool
	Alpha, Beta               float32
	LDA, LDB, LDC             int
	Batch                     int
	StrideA, StrideB, StrideC int
	Math                      Math // MathFP32 or MathBF16
	// Symmetric promises that C is symmetric, before and after: a device may compute half of it.
	Symmetric bool
}

// Tight fills in the zero leading dimensions and the batch count.
func (s GemmShape) Tight() GemmShape {
	if s.Batch == 0 {
		s.Batch = 1
	}
	if s.LDA == 0 {
		s.LDA = s.K
		if s.TransA {
			s.LDA = s.M
		}
	}
	if s.LDB == 0 {
		s.LDB = s.N
		if s.TransB {
			s.LDB = s.K
		}
	}
	if s.LDC == 0 {
		s.LDC = s.N
	}
	return s
}

// ConvShape describes a 2-D convolution on images x (Batch, H, W, C). The unrolled matrix is (Batch*OutH*OutW,
// KH*KW*C), columns ordered kh, kw, c; pixels outside the image are 0.
type ConvShape struct {
	Batch, H, W, C int
	KH, KW         int
	Stride, Pad    int
}

// Out is the height and width of the result, (size + 2 pad - kernel)/stride + 1.
func (s ConvShape) Out() (h, w int) {
	return (s.H+2*s.Pad-s.KH)/s.Stride + 1, (s.W+2*s.Pad-s.KW)/s.Stride + 1
}

// RoPEShape describes x (Rows, Heads, Dim), Dim even. Row r stands at position Offset + r%Seq. Inverse rotates back
// (the gradient), Acc adds to y.
type RoPEShape struct {
	Rows, Seq, Heads, Dim int
	Offset                int
	Inverse, Acc          bool
}

// AttentionShape describes q, out (Batch, Queries, Heads, Dim) and k, v (Batch, Keys, KVHeads, Dim); query head h reads
// key head h*KVHeads/Heads. With Causal, query i sees keys j <= i + Keys - Queries. With Cache > 0, k and v are
// (Batch, KVHeads, Cache, Row), of which the first Keys of each head are read: a cache with room for more. Row is Dim, for
// which 0 stands too, or Int8Row(Dim).
type AttentionShape struct {
	Batch, Queries, Keys int
	Heads, KVHeads, Dim  int
	Causal               bool
	Scale                float32
	Cache, Row           int
	Math                 Math // MathFP32 or MathBF16
	Acc                  bool // of AttentionGrad: add to the gradients
}

// Int8Row is the bytes of a row of n elements in int8: n codes, then their float32 scale, lowest byte first.
func Int8Row(n int) int { return n + 4 }

// Sees is the number of keys that query i sees: the first ones.
func (s AttentionShape) Sees(i int) int {
	if !s.Causal {
		return s.Keys
	}
	return min(s.Keys, max(0, i+1+s.Keys-s.Queries))
}

// KV is the number of elements of k or v in a sequence.
func (s AttentionShape) KV() int { return max(s.Keys, s.Cache) * s.KVHeads * s.row() }

func (s AttentionShape) row() int {
	if s.Row == 0 {
		return s.Dim
	}
	return s.Row
}

// Strides are the distances in elements between the keys of a head and between heads.
func (s AttentionShape) Strides() (key, head int) {
	if s.Cache > 0 {
		return s.row(), s.Cache * s.row()
	}
	return s.KVHeads * s.Dim, s.Dim
}

// WeightRule says how a weight quantizer finds its scale.
type WeightRule uint8

const (
	// AbsMean: scale = max(Factor * mean|w|, 1e-8), code = clip(roundEven(w/scale)). Factor 1 with one level is BitNet
	// b1.58 (Ma et al. 2024, arXiv 2402.17764).
	AbsMean WeightRule = iota
	// TWN: code = sign(w) where |w| > Factor*mean|w|, else 0; scale = mean of the kept |w| (Li and Liu 2016, arXiv
	// 1605.04711). One level only.
	TWN
	// Given: scale is an input, code = clip(roundEven(w/scale)): learned scales.
	Given
)

// WeightQuant describes QuantizeWeights on w (Rows, Cols). Means are LaneSum(|w|)/n over the tensor or, with PerRow,
// each row; Factor*mean is taken in float64 and rounded once to float32. A group with a NaN or Inf gets codes 0 and, unless
// it is Given, scale NaN. scale has 1 or Rows elements.
type WeightQuant struct {
	Rows, Cols int
	Levels     int // largest code: 1 ternary, 2 five-level
	Rule       WeightRule
	Factor     float32
	PerRow     bool
}

// StochasticQuant describes QuantizeStochastic on x (Rows, Cols): in float32, with v = x[i]/scale, f = floor(v) and
// u = Philox(Seed, i), see [Philox],
//
//	code[i] = clip(f + [u < v-f], ±Levels)
//
// so that the mean of code*scale is x where |x| <= Levels*scale, to 2^-24 of a scale. Over the tensor or, with PerRow,
// each row, a = max|x|; with Clip > 0, a = min(a, Clip*rms), rms = sqrt(LaneSum(x^2)/n), the product taken in float64
// and rounded once to float32; scale = max(a, GradFloor)/Levels, or an input with Given. A group with a NaN or Inf gets
// codes 0 and, unless it is Given, scale NaN. scale has 1 or Rows elements. 127 levels are int8; one level with Clip
// 2.5 is TernGrad (Wen et al. 2017, arXiv 1705.07878), whose sigma is the rms here.
type StochasticQuant struct {
	Rows, Cols int
	Levels     int
	Clip       float32
	Seed       uint64
	PerRow     bool
	Given      bool
}

// Math says how Gemm, attention and the gradients of QLinear multiply. All devices give the same bits in MathInt8: every
// step is rounded to float32, in the order of the formula.
type Math uint8

const (
	// MathFP32: float32 products and sums.
	MathFP32 Math = iota
	// MathBF16 is a permission: Gemm may round the elements of A and B to bfloat16 (nearest even, subnormal numbers to 0).
	// Sums stay float32. So may the gradients of QLinear, with float32 factors, and attention: its products may round
	// q, k, v and dout, and the probabilities and their gradients too; softmax stays float32.
	MathBF16
	// MathInt8 (QLinear only) quantizes the gradient h as QuantizeRows does, with a floor for gradients: a = max(max|h|, 2^-119) (the
	// least power of two for which 127/a is finite and a/127 normal), q = roundEven(h * (127/a)), scale = a/127. A
	// group with a NaN or Inf gets codes 0 and scale NaN. Sums are exact int32, for which QLinearGradX takes at most
	// 2^17 columns n and QLinearGradW at most 2^17 rows m.
	//
	// QLinearGradX groups by row: h[i,j] = dy[i,j] * ws[j], or dy[i,j] if ws has one element;
	// dx[i,:] = float32(sum over j of q[i,j]*codes[j,:]) * scale[i] (* ws[0] if it has one element), or +=.
	//
	// QLinearGradW groups by column: h[i,j] = dy[i,j] * xs[i];
	// dw[j,:] = float32(sum over i of q[i,j]*xq[i,:]) * scale[j].
	MathInt8
)

// GradFloor is the least absolute maximum of a group in MathInt8 and QuantizeStochastic.
const GradFloor = 0x1p-119

// AdamWStep holds the scalars of one AdamW update, g scaled by GradScale first:
//
//	m = Beta1*m + (1-Beta1)*g;  v = Beta2*v + (1-Beta2)*g*g
//	w = w*(1 - LR*Decay) - LR * (m*Corr1) / (sqrt(v*Corr2) + Eps)
//
// with Corr1 = 1/(1-Beta1^t) and Corr2 = 1/(1-Beta2^t) at step t.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, Decay float32
	Corr1, Corr2                 float32
	GradScale                    float32
}
