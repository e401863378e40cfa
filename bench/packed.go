package main

import (
	"fmt"
	"math/rand/v2"

	"setun/device"
)

// packed are products of float32 activations (m, k) with ternary weights (n, k) at two bits, the quantization of the
// activations included: gemv has one row, and weights that come from memory, not from a cache.
func packed(quick bool) []benchmark {
	shapes, rows := [][2]int{{2560, 2560}, {6912, 2560}, {2560, 6912}}, []int{1, 2, 4, 16, 128, 512}
	if quick {
		shapes, rows = [][2]int{{96, 64}}, []int{1, 16}
	}
	read := 1 << 26
	if quick {
		read = 1 << 16
	}
	bs := []benchmark{moved(fmt.Sprintf("memory/read/n=%d", read), 4*read, func(p *pen) func() {
		x, sum := p.normal(read), p.alloc(device.F32, 1)
		return func() { p.SumSquares(sum, x) }
	})}
	for _, m := range rows {
		for _, s := range shapes {
			bs = append(bs, packedCase(m, s[0], s[1], quick))
		}
	}
	return bs
}

const cold = 128 << 20 // bytes of weights that no cache holds

func packedCase(m, n, k int, quick bool) benchmark {
	bytes := device.PanelBytes(n, k, 1)
	name, copies := "gemm", 1
	if m == 1 {
		name = "gemv"
		if !quick {
			copies = (cold + bytes - 1) / bytes
		}
	}
	macs := float64(m * n * k)
	b := benchmark{name: fmt.Sprintf("%s/ternary2/m=%d,n=%d,k=%d", name, m, n, k), unit: "GMAC/s", work: macs / 1e9,
		bytes: float64(bytes)}
	if m > 16 {
		b.bytes = 0
	}
	b.setup = kernel(func(p *pen) func() {
		x, y, xq, xs, ws := p.normal(m*k), p.alloc(device.F32, m*n), p.alloc(device.I8, m*k), p.alloc(device.F32, m), p.normal(1)
		host := make([]uint8, bytes)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range host { // any digits but 3
			v := rng.Uint64()
			for s := range 4 {
				host[i] |= uint8(v>>(16*s)&0xffff*3>>16) << (2 * s)
			}
		}
		panels := make([]device.Mem, copies)
		for i := range panels {
			panels[i] = p.alloc(device.U8, bytes)
			p.Upload(panels[i], device.Wrap(host))
		}
		turn := 0
		return func() {
			p.QuantizeRows(xq, xs, x, m, k)
			p.PackedLinear(y, xq, xs, panels[turn], ws, device.Mem{}, m, n, k, 1)
			turn = (turn + 1) % copies
		}
	})
	return b
}
