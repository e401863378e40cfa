package simd

// tiers are those of the architecture.
var tiers = []Tier{NEON}

// Every processor has NEON.
const best = NEON

const fastBF16 = false
