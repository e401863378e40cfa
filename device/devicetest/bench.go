package devicetest

import (
	"testing"

	"setun/device"
)

// Bench times the sizeable cases of Run, as kernel/case: products in GFLOP/s, the rest in GB/s of operands, results
// that accumulate counted twice.
func Bench(b *testing.B, dev device.Device) {
	for _, tb := range tables() {
		for _, k := range tb.cases {
			if k.sizeable {
				b.Run(k.kernel+"/"+k.name, func(b *testing.B) { bench(b, dev, k) })
			}
		}
	}
}

func bench(b *testing.B, dev device.Device, k kase) {
	c := k.build()
	m := make([]device.Mem, len(c.ops))
	bytes := 0
	for i, o := range c.ops {
		m[i] = dev.Alloc(o.val.Type(), o.val.Len())
		dev.Upload(m[i], o.val)
		bytes += o.val.Len() * o.val.Type().Size()
		if o.mode == update {
			bytes += o.val.Len() * o.val.Type().Size()
		}
	}
	c.run(dev, m) // scratch memory, caches
	if err := dev.Sync(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer() // not b.Loop, whose clock stops before Sync
	for range b.N {
		c.run(dev, m)
	}
	if err := dev.Sync(); err != nil {
		b.Fatal(err)
	}
	perSecond := float64(b.N) / b.Elapsed().Seconds() / 1e9
	if c.mulAdds > 0 {
		b.ReportMetric(2*float64(c.mulAdds)*perSecond, "GFLOP/s")
	} else {
		b.ReportMetric(float64(bytes)*perSecond, "GB/s")
	}
	for _, m := range m {
		dev.Free(m)
	}
}
