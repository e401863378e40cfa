package device_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"setun/device"
)

// Known answers of philox4x32-10 from Random123's kat_vectors; its vectors with a non-zero upper counter do not apply.
func TestPhilox(t *testing.T) {
	tests := []struct {
		key, counter uint64
		want         [4]uint32
	}{
		{0, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
	}
	for _, tt := range tests {
		if got := device.Philox(tt.key, tt.counter); got != tt.want {
			t.Errorf("Philox(%#x, %#x) = %#x, want %#x", tt.key, tt.counter, got, tt.want)
		}
	}
	// Every bit of key and counter reaches every word.
	base := device.Philox(0, 0)
	for bit := range 64 {
		for name, got := range map[string][4]uint32{
			"key": device.Philox(1<<bit, 0), "counter": device.Philox(0, 1<<bit),
		} {
			for w := range got {
				if got[w] == base[w] {
					t.Errorf("%s bit %d does not reach word %d", name, bit, w)
				}
			}
		}
	}
}

func TestUnit(t *testing.T) {
	if lo, hi := device.Unit(0xff), device.Unit(math.MaxUint32); lo != 0 || hi != 1-1.0/(1<<24) {
		t.Errorf("Unit maps to [%v, %v], want [0, 1-2^-24]", lo, hi)
	}
}

// TestLaneSum follows the documented order literally, one element at a time.
func TestLaneSum(t *testing.T) {
	square := func(v float32) float64 { return float64(v) * float64(v) }
	for _, n := range []int{0, 1, 15, 16, 17, 4095, 4096, 4097, 10000} {
		r := rand.New(rand.NewPCG(1, uint64(n)))
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64()) * float32(math.Exp(10*r.NormFloat64()))
		}
		want := 0.0
		for lo := 0; lo < n; lo += 4096 {
			var lane [16]float64
			for i := lo; i < min(lo+4096, n); i++ {
				lane[(i-lo)%16] += square(x[i])
			}
			var a [8]float64
			for i := range a {
				a[i] = lane[i] + lane[i+8]
			}
			b := [4]float64{a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]}
			c := [2]float64{b[0] + b[2], b[1] + b[3]}
			want += c[0] + c[1]
		}
		if got := device.LaneSum(x, square); got != want {
			t.Errorf("LaneSum of %d elements = %v, want %v", n, got, want)
		}
	}
}

func TestMem(t *testing.T) {
	m := device.Wrap([]float32{0, 1, 2, 3, 4})
	s := m.Slice(1, 4).Slice(1, 3)
	if s.Offset() != 2 || s.Len() != 2 || s.F32()[0] != 2 || cap(s.F32()) != 2 || s.Buffer() != m.Buffer() {
		t.Errorf("slice of a slice is %v at %d", s.F32(), s.Offset())
	}
	if s.I32() != nil || s.I8() != nil || s.U8() != nil {
		t.Error("float memory reads as integers")
	}
	var z device.Mem
	if !z.IsZero() || !z.Slice(3, 9).IsZero() || z.F32() != nil || m.Slice(2, 2).IsZero() {
		t.Error("zero Mem and empty span are confused")
	}
	for _, b := range [][2]int{{-1, 2}, {3, 2}, {0, 6}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Slice(%d, %d) of 5 elements did not panic", b[0], b[1])
				}
			}()
			m.Slice(b[0], b[1])
		}()
	}
	for typ, size := range map[device.Type]int{device.F32: 4, device.I32: 4, device.I8: 1, device.U8: 1} {
		b := device.Span(device.HostBuffer(typ, 3))
		if b.Type() != typ || b.Len() != 3 || typ.Size() != size ||
			len(b.F32())+len(b.I32())+len(b.I8())+len(b.U8()) != 3 {
			t.Errorf("HostBuffer(%s, 3) gave %v", typ, b)
		}
	}
}
