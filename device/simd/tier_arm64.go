package simd

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// tiers are those of the architecture.
var tiers = []Tier{NEON}

// Every processor has NEON.
const best = NEON

// hasDot: the processor has SDOT, as all of Apple's have, which cpu does not see on every system.
var hasDot = cpu.ARM64.HasASIMDDP || runtime.GOOS == "darwin"

const fastBF16 = false
