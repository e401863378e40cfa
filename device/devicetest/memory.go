package devicetest

import (
	"fmt"
	"math"
	"sync"

	"setun/device"
	"setun/internal/half"
)

func memoryTables() []table {
	cp, fill, rows := table{kernel: "Copy"}, table{kernel: "Fill"}, table{kernel: "CopyRows"}
	for _, n := range sizes {
		copyCase := func(name string, ops func(g gen) []operand) {
			cp.cases = append(cp.cases, kase{name: fmt.Sprintf("%s/n=%d", name, n), make: func(g gen) call {
				return call{
					ops: ops(g),
					run: func(k device.Kernels, m []device.Mem) { k.Copy(m[0], m[1]) },
					ref: func(x [][]float64) { copy(x[0], x[1]) },
				}
			}})
		}
		copyCase("f32", func(g gen) []operand { return []operand{out("dst", n), in("src", g.normal(n))} })
		copyCase("f16 to f32", func(g gen) []operand { return []operand{out("dst", n), in("src", g.halves(n))} })
		copyCase("f32 to f16", func(g gen) []operand {
			src := make([]float32, n) // half precision, but for tests of the rounding in device/simd
			for i, h := range g.halves(n) {
				src[i] = half.FromF16(h)
			}
			return []operand{{name: "dst", mode: output, val: device.Wrap(make([]uint16, n))}, in("src", src)}
		})
		if n <= 33 {
			copyCase("f16", func(g gen) []operand {
				return []operand{{name: "dst", mode: output, val: device.Wrap(make([]uint16, n))}, in("src", g.halves(n))}
			})
			copyCase("i32", func(g gen) []operand {
				return []operand{{name: "dst", mode: output, val: device.Wrap(make([]int32, n))},
					in("src", g.ids(n, math.MinInt32, math.MaxInt32))}
			})
			copyCase("i8", func(g gen) []operand { return []operand{outCodes("dst", n), in("src", g.codes(n, 127))} })
			copyCase("u8", func(g gen) []operand {
				src := make([]uint8, n)
				for i := range src {
					src[i] = uint8(g.Uint32())
				}
				return []operand{{name: "dst", mode: output, val: device.Wrap(make([]uint8, n))}, in("src", src)}
			})
		}
		if n <= 33 {
			for _, t := range []device.Type{device.F16, device.I8, device.U8} {
				v := float32(-3)
				if t == device.U8 {
					v = 200
				}
				fill.cases = append(fill.cases, kase{name: fmt.Sprintf("%v,n=%d", t, n), make: func(g gen) call {
					return call{
						ops: []operand{{name: "dst", mode: output, val: device.Span(device.HostBuffer(t, n))}},
						run: func(k device.Kernels, m []device.Mem) { k.Fill(m[0], v) },
						ref: func(x [][]float64) {
							for i := range x[0] {
								x[0][i] = float64(v)
							}
						},
					}
				}})
			}
		}
		for _, v := range []float32{0, -2.5, nan} {
			fill.cases = append(fill.cases, kase{name: fmt.Sprintf("v=%v,n=%d", v, n), make: func(g gen) call {
				return call{
					ops: []operand{out("dst", n)},
					run: func(k device.Kernels, m []device.Mem) { k.Fill(m[0], v) },
					ref: func(x [][]float64) {
						for i := range x[0] {
							x[0][i] = float64(v)
						}
					},
				}
			}})
		}
	}
	for _, s := range []struct {
		rows, cols, ldd, lds int
		sizeable             bool
	}{
		{rows: 0, cols: 3, ldd: 3, lds: 3},
		{rows: 3, cols: 0, ldd: 2, lds: 5},
		{rows: 1, cols: 1, ldd: 1, lds: 1},
		{rows: 3, cols: 5, ldd: 5, lds: 5},
		{rows: 7, cols: 17, ldd: 20, lds: 17},
		{rows: 7, cols: 17, ldd: 17, lds: 31},
		{rows: 33, cols: 16, ldd: 19, lds: 48},
		{rows: 5, cols: 9, ldd: 11, lds: 0}, // one row for all
		{rows: 1000, cols: 200, ldd: 203, lds: 600, sizeable: true},
	} {
		for _, acc := range []bool{false, true} {
			name := fmt.Sprintf("rows=%d,cols=%d,ldd=%d,lds=%d,acc=%t", s.rows, s.cols, s.ldd, s.lds, acc)
			rows.cases = append(rows.cases, kase{name: name, sizeable: s.sizeable, make: func(g gen) call {
				nd, ns := span(s.rows, s.cols, s.ldd), span(s.rows, s.cols, s.lds)
				return call{
					ops: []operand{pick(acc, "dst", g.normal(nd)), in("src", g.normal(ns))},
					run: func(k device.Kernels, m []device.Mem) {
						k.CopyRows(m[0], s.ldd, m[1], s.lds, s.rows, s.cols, acc)
					},
					ref: func(x [][]float64) {
						for i := range s.rows {
							for j := range s.cols {
								d, v := &x[0][i*s.ldd+j], x[1][i*s.lds+j]
								if acc {
									v += *d
								}
								*d = v
							}
						}
					},
				}
			}})
		}
	}
	for _, s := range [][4]int{{0, 3, 3, 3}, {3, 5, 5, 5}, {7, 17, 20, 17}, {33, 16, 48, 19}, {9, 64, 70, 200}} {
		n, cols, ldd, lds := s[0], s[1], s[2], s[3]
		rows = rows.with(fmt.Sprintf("f16,rows=%d,cols=%d,ldd=%d,lds=%d", n, cols, ldd, lds), func(g gen) call {
			src := make([]float32, span(n, cols, lds))
			for i, h := range g.halves(len(src)) {
				src[i] = half.FromF16(h)
			}
			dst := device.Wrap(make([]uint16, span(n, cols, ldd)))
			return call{
				ops: []operand{{name: "dst", mode: output, val: dst}, in("src", src)},
				run: func(k device.Kernels, m []device.Mem) { k.CopyRows(m[0], ldd, m[1], lds, n, cols, false) },
				ref: func(x [][]float64) {
					for i := range n {
						copy(x[0][i*ldd:][:cols], x[1][i*lds:])
					}
				},
			}
		})
	}
	for _, s := range [][4]int{{0, 3, 7, 3}, {3, 5, 9, 5}, {7, 17, 24, 17}, {33, 16, 20, 19}, {9, 64, 68, 200}} {
		n, cols, ldd, lds := s[0], s[1], s[2], s[3]
		rows = rows.with(fmt.Sprintf("i8,rows=%d,cols=%d,ldd=%d,lds=%d", n, cols, ldd, lds), func(g gen) call {
			src := g.normal(span(n, cols, lds))
			if n > 2 {
				clear(src[2*lds:][:cols])
				src[1] = inf
			}
			return call{
				ops: []operand{outCodes("dst", span(n, device.Int8Row(cols), ldd)), in("src", src)},
				run: func(k device.Kernels, m []device.Mem) { k.CopyRows(m[0], ldd, m[1], lds, n, cols, false) },
				ref: func(x [][]float64) {
					for i := range n {
						row := x[0][i*ldd : min((i+1)*ldd, len(x[0]))]
						for j := range row {
							row[j] = 0x7f // poison, where nothing is written
						}
						scale := quantizeRow(row[:cols], narrow(x[1][i*lds:][:cols]), 1e-5)
						for b := range 4 {
							row[cols+b] = float64(int8(math.Float32bits(scale) >> (8 * b)))
							if scale != scale {
								row[cols+b] = ignored // which NaN
							}
						}
					}
				},
			}
		})
	}
	return []table{cp, fill, rows}
}

// span is the elements that rows of cols elements, ld apart, cover.
func span(rows, cols, ld int) int {
	if rows == 0 || cols == 0 {
		return 0
	}
	return (rows-1)*ld + cols
}

// testMemory checks Alloc, Free, Upload and Download.
func testMemory(t T, open func() device.Device) {
	d := open()
	if d.Name() == "" {
		t.Errorf("the device has no name")
	}
	for typ := device.F32; typ <= device.F16; typ++ {
		for _, n := range []int{0, 1, 17, 1000} {
			m := d.Alloc(typ, n)
			if m.IsZero() || m.Len() != n || m.Type() != typ || m.Offset() != 0 {
				t.Errorf("Alloc(%s, %d) gave %d %ss", typ, n, m.Len(), m.Type())
				continue
			}
			src, dst := pattern(typ, n), device.Span(device.HostBuffer(typ, n))
			want := pattern(typ, n)
			d.Upload(m, src)
			fillPoison(src) // the source may be reused at once
			if n > 4 {
				// Move [1, n-1) out and back in one element later.
				mid := device.Span(device.HostBuffer(typ, n-2))
				d.Download(mid, m.Slice(1, n-1))
				d.Upload(m.Slice(2, n), mid)
				for i := n - 1; i >= 2; i-- {
					device.CopyHost(want.Slice(i, i+1), want.Slice(i-1, i))
				}
			}
			d.Download(dst, m)
			if i := diffBits(dst, want); i >= 0 {
				t.Errorf("%s of %d: [%d] came back as %v, want %v", typ, n, i, elem(dst, i), elem(want, i))
			}
			d.Free(m)
		}
	}
	d.Free(device.Mem{})
	// Upload, kernels and Download keep their order.
	m, host := d.Alloc(device.F32, 1000), make([]float32, 1000)
	d.Upload(m, device.Wrap(host))
	for i := range 100 {
		d.Fill(m, float32(i))
		d.Scale(m, 2, m)
	}
	d.Download(device.Wrap(host), m)
	if host[0] != 198 || host[999] != 198 {
		t.Errorf("after 100 kernels in order %v and %v, want 198", host[0], host[999])
	}
	d.Free(m)
	if err := d.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
}

// pattern is host memory with distinct values.
func pattern(typ device.Type, n int) device.Mem {
	m := device.Span(device.HostBuffer(typ, n))
	for i := range n {
		switch typ {
		case device.F32:
			m.F32()[i] = float32(i) + 0.5
		case device.I32:
			m.I32()[i] = int32(i) * -65537
		case device.I8:
			m.I8()[i] = int8(i * 7)
		case device.U8:
			m.U8()[i] = uint8(i * 11)
		case device.F16:
			m.F16()[i] = uint16(i * 13)
		}
	}
	return m
}

// testErrors checks that errors stick: Sync reports the first one, and the kernels after it do nothing.
func testErrors(t T, open func() device.Device) {
	upload := func(d device.Device, src device.Mem) device.Mem {
		m := d.Alloc(src.Type(), src.Len())
		d.Upload(m, src)
		return m
	}
	floats := func(n int) device.Mem { return device.Wrap(make([]float32, n)) }
	ids := func(v ...int32) device.Mem { return device.Wrap(v) }
	for _, bad := range []struct {
		name string
		call func(d device.Device)
	}{
		{"Gather id too large", func(d device.Device) {
			d.Gather(upload(d, floats(6)), upload(d, floats(8)), upload(d, ids(0, 4, 1)), 3, 2)
		}},
		{"Gather id negative", func(d device.Device) {
			d.Gather(upload(d, floats(6)), upload(d, floats(8)), upload(d, ids(0, 1, -1)), 3, 2)
		}},
		{"ScatterAdd id too large", func(d device.Device) {
			d.ScatterAdd(upload(d, floats(8)), upload(d, floats(6)), upload(d, ids(0, 4, 1)), 3, 2)
		}},
		{"ScatterAdd id negative", func(d device.Device) {
			d.ScatterAdd(upload(d, floats(8)), upload(d, floats(6)), upload(d, ids(-1, 3, 1)), 3, 2)
		}},
		{"CrossEntropy target too large", func(d device.Device) {
			d.CrossEntropy(upload(d, floats(1)), upload(d, floats(2)), upload(d, floats(3)), upload(d, floats(6)),
				upload(d, ids(0, 3)), 2, 3)
		}},
		{"Alloc too large", func(d device.Device) {
			if m := d.Alloc(device.F32, math.MaxInt/2); !m.IsZero() {
				t.Errorf("Alloc of half of all integers gave memory")
			}
		}},
		{"Alloc negative", func(d device.Device) {
			if m := d.Alloc(device.F32, -1); !m.IsZero() {
				t.Errorf("Alloc of -1 floats gave memory")
			}
		}},
	} {
		t.Run(bad.name, func(t T) {
			d := open()
			host := []float32{1, 2, 3}
			x := upload(d, device.Wrap(host))
			bad.call(d)
			first := d.Sync()
			if first == nil {
				t.Errorf("Sync reports no error")
				return
			}
			d.Fill(x, 9)
			d.Add(x, x, x)
			d.Scale(x, -1, x)
			d.Download(device.Wrap(host), x)
			if host[0] != 1 || host[2] != 3 {
				t.Errorf("kernels after the error wrote %v", host)
			}
			if err := d.Sync(); err == nil || err.Error() != first.Error() {
				t.Errorf("Sync reports %v, then %v", first, err)
			}
			d.Free(x)
		})
	}
}

// testConcurrent calls one device from many goroutines, each on its own memory.
func testConcurrent(t T, open func() device.Device) {
	d := open()
	const workers, rounds, n = 8, 20, 777
	var sums [workers]float32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range rounds {
				x, s := d.Alloc(device.F32, n), d.Alloc(device.F32, 1)
				d.Fill(x, float32(w))
				d.Fill(s, 0)
				d.SumRows(s, x, 1, 1, n, 1)
				var host [1]float32
				d.Download(device.Wrap(host[:]), s)
				sums[w] += host[0]
				d.Free(x)
				d.Free(s)
			}
		})
	}
	wg.Wait()
	for w, got := range sums {
		if want := float32(w * rounds * n); got != want {
			t.Errorf("worker %d summed to %v, want %v", w, got, want)
		}
	}
	if err := d.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
}
