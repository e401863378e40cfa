package tensor

import (
	"math"

	"setun/device"
)

// RoPETable is the table of rotary positions 0..n-1 for heads of size dim: cos, then sin, of pos * base^(-2i/dim),
// computed in float64 so that every device has the same bits.
func RoPETable(dev device.Device, n, dim int, base float64) *Tensor {
	t := make([]float32, n*dim)
	for pos := range n {
		row := t[pos*dim:][:dim]
		for i := range dim / 2 {
			sin, cos := math.Sincos(float64(pos) * math.Pow(base, -2*float64(i)/float64(dim)))
			row[i], row[dim/2+i] = float32(cos), float32(sin)
		}
	}
	return FromFloats(dev, t, n, dim)
}

// RoPE rotates x (B, T, H, D) by positions offset..offset+T-1 of table (positions, D). With inverse it rotates back,
// with acc it adds to y.
func RoPE(y, x, table *Tensor, offset int, inverse, acc bool) {
	if y == nil {
		return
	}
	sameLen("RoPE", y, x)
	check(x.dims == 4 && table.dims == 2 && x.shape[3] == table.shape[1] && x.shape[3]%2 == 0, "RoPE",
		"do not fit: x is (B, T, H, D) with even D, the table (positions, D)", x, table)
	check(offset >= 0 && offset+x.shape[1] <= table.shape[0], "RoPE",
		"do not fit: the sequence is longer than the table", x, table)
	where("RoPE", y, x, table).RoPE(y.mem, x.mem, table.mem, device.RoPEShape{
		Rows: x.shape[0] * x.shape[1], Seq: x.shape[1], Heads: x.shape[2], Dim: x.shape[3],
		Offset: offset, Inverse: inverse, Acc: acc})
}
