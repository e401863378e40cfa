package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"setun/device"
	"setun/internal/rss"
)

// A benchmark is a case: something that every device does again and again.
type benchmark struct {
	name, unit string
	work       float64 // of one call, in what the unit counts a second: GFLOP, GB, tokens, ...
	// For the roofline, of one call: floating point operations, or bytes that must move. Zero: not bounded by it.
	flops, bytes float64
	whole        bool // a whole step or more, whose memory is worth a record
	// setup makes the call and what releases its memory.
	setup func(dev device.Device) (call, free func(), err error)
}

// A figure is the speed of one device in one case.
type figure struct {
	value  float64 // median
	memory float64 // MiB: resident memory of a process that does only this
	share  float64 // of the roof; 0: unknown
}

// A meter runs benchmarks: every device is set up and warmed once, then they take turns, so that what else the machine
// does hits all of them alike.
type meter struct {
	devs   []named
	quick  bool
	base   float64     // MiB that the process needs before any case
	peak   float64     // GFLOP/s
	copies []bandwidth // small spans first
}

// A bandwidth is the speed of copying when source and destination together have span bytes.
type bandwidth struct {
	span  float64
	speed float64 // GB/s
}

// limits are the turns of each device, the least length of one, and the time after which no turn begins.
func (m *meter) limits() (rounds int, turn, budget time.Duration) {
	if m.quick {
		return 3, 4 * time.Millisecond, 150 * time.Millisecond
	}
	return 9, 20 * time.Millisecond, 20 * time.Second
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// measure times one case on every device.
func (m *meter) measure(ctx context.Context, b benchmark) ([]figure, error) {
	debug.FreeOSMemory()
	rounds, turn, budget := m.limits()
	figures := make([]figure, len(m.devs))
	calls := make([]func(), len(m.devs))
	counts := make([]int, len(m.devs))
	times := make([][]float64, len(m.devs))
	for i, d := range m.devs {
		before := rss.Now()
		call, free, err := b.setup(d)
		if err != nil {
			return nil, err
		}
		defer free()
		calls[i] = call
		if _, err := timed(d, call, 1); err != nil { // warm
			return nil, err
		}
		once, err := timed(d, call, 1)
		if err != nil {
			return nil, err
		}
		counts[i] = max(1, int(math.Ceil(turn.Seconds()/once)))
		figures[i].memory = m.base + mib(max(rss.Now()-before, 0))
	}
	start := time.Now()
	for round := 0; round < rounds && (round < 1 || time.Since(start) < budget); round++ {
		for i, d := range m.devs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t, err := timed(d, calls[i], counts[i])
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], t)
		}
	}
	for i := range figures {
		figures[i].value = b.work / median(times[i])
		if roof := m.roof(b); roof > 0 {
			figures[i].share = figures[i].value / roof
		}
	}
	return figures, nil
}

// timed is the seconds per call of n calls.
func timed(dev device.Device, call func(), n int) (float64, error) {
	start := time.Now()
	for range n {
		call()
	}
	err := dev.Sync()
	return time.Since(start).Seconds() / float64(n), err
}

func median(x []float64) float64 {
	slices.Sort(x)
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// roofs measures what bounds the cases, as no more is known of the processor: the fastest float32 product of any device
// here, and the fastest copies: in the L2 cache, in L3, in memory.
func (m *meter) roofs(ctx context.Context) (string, error) {
	best := func(b benchmark) (float64, error) {
		figures, err := m.measure(ctx, b)
		if err != nil {
			return 0, err
		}
		return slices.MaxFunc(figures, func(a, b figure) int { return cmp.Compare(a.value, b.value) }).value, nil
	}
	side := 1024
	if m.quick {
		side = 256
	}
	var err error
	if m.peak, err = best(gemmCase(device.MathFP32, "", side, side, side)); err != nil {
		return "", err
	}
	text := fmt.Sprintf("roof: of products, the fastest in float32 that a device here reaches at %d cubed: %.3g GFLOP/s\n"+
		"      of the rest, its fastest copy:", side, m.peak)
	for _, n := range []int{1 << 16, 1 << 20, 1 << 24} {
		if n == 1<<24 && m.quick {
			break
		}
		speed, err := best(copyCase(n))
		if err != nil {
			return "", err
		}
		c := bandwidth{float64(8 * n), speed}
		m.copies = append(m.copies, c)
		text += fmt.Sprintf(" %.3g GB/s of %.3g MiB;", speed, c.span/(1<<20))
	}
	return strings.TrimSuffix(text, ";"), nil
}

// roof is the value that b cannot exceed.
func (m *meter) roof(b benchmark) float64 {
	switch {
	case b.flops > 0 && m.peak > 0:
		return b.work * m.peak * 1e9 / b.flops
	case b.bytes > 0 && len(m.copies) > 0:
		i := slices.IndexFunc(m.copies, func(c bandwidth) bool { return b.bytes <= 4*c.span })
		if i < 0 {
			i = len(m.copies) - 1
		}
		return b.work * m.copies[i].speed * 1e9 / b.bytes
	}
	return 0
}
