package devicetest

import (
	"math"

	"setun/device"
)

func adamwTables() []table {
	step := func(s device.AdamWStep) func(g gen, n int) call {
		return func(g gen, n int) call {
			return call{
				ops: []operand{inout("w", g.normal(n)), inout("m", g.normal(n)), inout("v", g.uniform(n, 0, 1)),
					in("g", g.normal(n))},
				run: func(k device.Kernels, m []device.Mem) { k.AdamW(m[0], m[1], m[2], m[3], s) },
				ref: func(x [][]float64) {
					f := func(v float32) float64 { return float64(v) }
					for i := range x[0] {
						w, m, v, g := &x[0][i], &x[1][i], &x[2][i], x[3][i]*f(s.GradScale)
						*m = f(s.Beta1)**m + (1-f(s.Beta1))*g
						*v = f(s.Beta2)**v + (1-f(s.Beta2))*g*g
						*w = *w*(1-f(s.LR)*f(s.Decay)) - f(s.LR)*(*m*f(s.Corr1))/(math.Sqrt(*v*f(s.Corr2))+f(s.Eps))
					}
				},
				tol: 2e-6,
			}
		}
	}
	usual := device.AdamWStep{LR: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.1, Corr1: 1.9, Corr2: 3.7,
		GradScale: 0.8}
	still := usual // decay alone
	still.GradScale, still.Beta1, still.Decay = 0, 0, 0.5
	sharp := device.AdamWStep{LR: 1e-2, Beta1: 0.5, Beta2: 0.9, Eps: 0.1, Corr1: 1, Corr2: 1, GradScale: -2}
	return []table{vectors("AdamW", step(usual)).
		with("no gradient", func(g gen) call { return step(still)(g, 33) }).
		with("no decay", func(g gen) call { return step(sharp)(g, 65) })}
}
