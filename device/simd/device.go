package simd

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"setun/device"
	"setun/device/cpu"
	"setun/internal/par"
)

var _ device.Device = (*Device)(nil)

// Device is a [cpu.Device] with vector kernels. It is safe for concurrent use.
type Device struct {
	*cpu.Device
	tier Tier
	bf16 bool // bfloat16 is faster than float32
}

// Tier is an instruction set, best last.
type Tier uint8

const (
	None   Tier = iota // portable Go
	NEON               // arm64
	AVX2               // AVX2 and FMA
	AVX512             // F, BW, DQ, VL
	VNNI               // AVX512 and VNNI
	AMX                // VNNI and the matrix tiles of AMX, int8 and bfloat16
)

var tierNames = [...]string{"none", "neon", "avx2", "avx512", "vnni", "amx"}

func (t Tier) String() string { return tierNames[t] }

// Tiers lists what this processor runs, best last.
func Tiers() []Tier {
	ts := []Tier{None}
	for _, t := range tiers {
		if t <= best {
			ts = append(ts, t)
		}
	}
	return ts
}

// New returns a device of the tier that the environment variable SETUN_SIMD names, the processor's best if it is empty.
// threads is the most goroutines a kernel uses; 0 means GOMAXPROCS.
func New(threads int) (*Device, error) {
	name := os.Getenv("SETUN_SIMD")
	if name == "" {
		return NewTier(threads, best), nil
	}
	names := []string{None.String()}
	for _, t := range tiers {
		names = append(names, t.String())
	}
	t := Tier(slices.Index(tierNames[:], name))
	switch {
	case !slices.Contains(names, name):
		return nil, fmt.Errorf("simd: SETUN_SIMD is %q; use one of %s, or leave it empty", name, strings.Join(names, ", "))
	case t > best:
		return nil, fmt.Errorf("simd: SETUN_SIMD is %s, but this processor has at most %s", name, best)
	}
	return NewTier(threads, t), nil
}

// NewTier returns a device of tier t, which must be one of [Tiers].
func NewTier(threads int, t Tier) *Device {
	if !slices.Contains(Tiers(), t) {
		panic(fmt.Sprintf("simd: this processor does not run %s", t))
	}
	return &Device{cpu.New(threads), t, t == AMX || t >= AVX512 && fastBF16}
}

// Name is "simd".
func (d *Device) Name() string { return "simd" }

// Tier is the instruction set in use.
func (d *Device) Tier() Tier { return d.tier }

// Bytes a goroutine should touch at least, and one call of assembly at most: a goroutine in assembly cannot be stopped
// for the garbage collector.
const (
	taskBytes = 1 << 17
	callBytes = 1 << 20
)

// split calls f on ranges that cover [0, n), in parallel, for work that touches the given bytes an item. A kernel hands
// its operands on in a, so that f captures nothing and a call takes no memory.
func split[A any](d *Device, n, bytes int, a A, f func(a A, lo, hi int)) {
	bytes = max(bytes, 1)
	par.Steps(d.Threads, n, taskBytes/bytes, callBytes/bytes, a, f)
}
