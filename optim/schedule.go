package optim

import (
	"fmt"
	"math"
)

// Schedule gives the factor of the learning rate at a step: a linear rise over Warmup of the steps, then a fall to
// Final.
type Schedule struct {
	// Kind: "linear" (default), "cosine", "constant", or "two-stage" (Ma et al. 2025, arXiv 2504.12285: linear from 1
	// to 1/2 over the first half, then from 1/3 to Final).
	Kind   string  `json:"kind,omitempty"`
	Warmup float64 `json:"warmup,omitempty"` // share of the steps; default 0.05
	Final  float64 `json:"final,omitempty"`  // factor at the end; default 0.02
}

// WithDefaults fills in the zero fields.
func (s Schedule) WithDefaults() Schedule {
	if s.Kind == "" {
		s.Kind = "linear"
	}
	if s.Warmup == 0 {
		s.Warmup = 0.05
	}
	if s.Final == 0 {
		s.Final = 0.02
	}
	return s
}

// Validate reports a field out of range.
func (s Schedule) Validate() error {
	s = s.WithDefaults()
	switch s.Kind {
	case "linear", "cosine", "constant", "two-stage":
	default:
		return fmt.Errorf("optim: unknown schedule %q; use linear, cosine, two-stage or constant", s.Kind)
	}
	if !(s.Warmup >= 0 && s.Warmup < 1) {
		return fmt.Errorf("optim: warmup %g is no share of the steps; it must be at least 0 and below 1", s.Warmup)
	}
	if !(s.Final >= 0 && s.Final <= 1) {
		return fmt.Errorf("optim: final factor %g is not between 0 and 1", s.Final)
	}
	return nil
}

// At is the factor at step (from 0) of total.
func (s Schedule) At(step, total int) float64 {
	s = s.WithDefaults()
	warm := s.Warmup * float64(total)
	if x := float64(step + 1); x <= warm {
		return x / warm
	}
	x := 1.0
	if rest := float64(total) - warm; rest > 0 {
		x = min(max((float64(step)-warm)/rest, 0), 1)
	}
	switch s.Kind {
	case "constant":
		return 1
	case "cosine":
		return s.Final + (1-s.Final)*(1+math.Cos(math.Pi*x))/2
	case "two-stage":
		if x < 0.5 {
			return 1 - x
		}
		return 1./3 + (s.Final-1./3)*(2*x-1)
	}
	return 1 + (s.Final-1)*x
}
