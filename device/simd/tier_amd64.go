package simd

import "golang.org/x/sys/cpu"

// tiers are those of the architecture, best last.
var tiers = []Tier{AVX2, AVX512, VNNI, AMX}

// best is this processor's.
var best = func() Tier {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasBMI2:
		return None
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return AVX2
	case !x.HasAVX512VNNI:
		return AVX512
	case !x.HasAMXTile || !x.HasAMXInt8 || !x.HasAMXBF16 || !x.HasAVX512BF16 || !allowAMX():
		return VNNI
	}
	return AMX
}()

// fastBF16: VDPBF16PS does twice the work of a float32 multiply-add. Where there are tiles it does not, and is slower.
var fastBF16 = cpu.X86.HasAVX512BF16 && !cpu.X86.HasAMXBF16
