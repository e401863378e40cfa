package devicetest

import (
	"fmt"

	"setun/device"
)

func indexTables() []table {
	f, b := table{kernel: "Gather"}, table{kernel: "ScatterAdd"}
	for _, s := range []struct {
		table, rows, cols int
		sizeable          bool
	}{
		{table: 1, rows: 0, cols: 3},
		{table: 3, rows: 2, cols: 0},
		{table: 1, rows: 1, cols: 1},
		{table: 1, rows: 33, cols: 5}, // all the same row
		{table: 3, rows: 17, cols: 7},
		{table: 31, rows: 16, cols: 65},
		{table: 127, rows: 64, cols: 15},
		{table: 5, rows: 1000, cols: 3},
		{table: 5000, rows: 3001, cols: 64, sizeable: true},
	} {
		name := fmt.Sprintf("table=%d,rows=%d,cols=%d", s.table, s.rows, s.cols)
		f = f.with(name+",f16", func(g gen) call {
			return call{
				ops: []operand{out("y", s.rows*s.cols), in("table", g.halves(s.table*s.cols)),
					in("ids", g.ids(s.rows, 0, s.table))},
				run: func(k device.Kernels, m []device.Mem) { k.Gather(m[0], m[1], m[2], s.rows, s.cols) },
				ref: func(x [][]float64) {
					for i, id := range x[2] {
						copy(x[0][i*s.cols:][:s.cols], x[1][int(id)*s.cols:])
					}
				},
			}
		})
		f.cases = append(f.cases, kase{name: name, sizeable: s.sizeable, make: func(g gen) call {
			return call{
				ops: []operand{out("y", s.rows*s.cols), in("table", g.normal(s.table*s.cols)),
					in("ids", g.ids(s.rows, 0, s.table))},
				run: func(k device.Kernels, m []device.Mem) { k.Gather(m[0], m[1], m[2], s.rows, s.cols) },
				ref: func(x [][]float64) {
					for i, id := range x[2] {
						for j := range s.cols {
							x[0][i*s.cols+j] = x[1][int(id)*s.cols+j]
						}
					}
				},
			}
		}})
		b.cases = append(b.cases, kase{name: name, sizeable: s.sizeable, make: func(g gen) call {
			return call{
				ops: []operand{grad("dtable", g.normal(s.table*s.cols)), in("dy", g.normal(s.rows*s.cols)),
					in("ids", g.ids(s.rows, 0, s.table))},
				run: func(k device.Kernels, m []device.Mem) { k.ScatterAdd(m[0], m[1], m[2], s.rows, s.cols) },
				ref: func(x [][]float64) {
					for i, id := range x[2] {
						for j := range s.cols {
							// The order is fixed, so each float32 sum is too.
							d := &x[0][int(id)*s.cols+j]
							*d = float64(float32(*d + x[1][i*s.cols+j]))
						}
					}
				},
			}
		}})
	}
	return []table{f, b}
}
