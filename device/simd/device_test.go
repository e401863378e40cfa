package simd

import (
	"strings"
	"testing"
)

// TestTierByName: SETUN_SIMD takes every tier that there is, and tells what it does not know.
func TestTierByName(t *testing.T) {
	for _, want := range Tiers() {
		name := want.String()
		t.Setenv("SETUN_SIMD", name)
		if d, err := New(1); err != nil || d.Tier() != want {
			t.Errorf("SETUN_SIMD=%s: %v, error %v", name, d, err)
		}
	}
	t.Setenv("SETUN_SIMD", "")
	if d, err := New(1); err != nil || d.Tier() != best {
		t.Errorf("no SETUN_SIMD: %v, error %v", d, err)
	}
	t.Setenv("SETUN_SIMD", "avx9")
	if _, err := New(1); err == nil || !strings.Contains(err.Error(), "use one of none") {
		t.Errorf("SETUN_SIMD=avx9: %v", err)
	}
	for _, tier := range tiers {
		t.Setenv("SETUN_SIMD", tier.String())
		if _, err := New(1); tier > best && (err == nil || !strings.Contains(err.Error(), "at most "+best.String())) {
			t.Errorf("SETUN_SIMD=%s: %v", tier, err)
		}
	}
	other := NEON
	if best == NEON {
		other = AVX2
	}
	t.Setenv("SETUN_SIMD", other.String())
	if _, err := New(1); err == nil {
		t.Errorf("SETUN_SIMD=%s is of another architecture, and was taken", other)
	}
}
