package device

import (
	"fmt"
	"maps"
	"sync"
)

// Null is a device without memory and without arithmetic that counts: it plans models too big to hold.
type Null struct {
	Bridge
	mu    sync.Mutex
	stats NullStats
	live  map[*Buffer]bool
	err   error
}

// NullStats is what a Null device counted.
type NullStats struct {
	Live, Peak int64            // bytes allocated now and at most
	Calls      map[string]int64 // kernel calls by name
	MulAdds    int64            // multiply-adds of Gemm, QLinear*, PackedLinear, Attention*
}

// NewNull opens a null device.
func NewNull() *Null {
	d := &Null{stats: NullStats{Calls: map[string]int64{}}, live: map[*Buffer]bool{}}
	d.Bridge.Do = func(c Call) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stats.Calls[c.Kernel]++
		d.stats.MulAdds += c.MulAdds
	}
	return d
}

// Stats is a copy of the counters.
func (d *Null) Stats() NullStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Calls = maps.Clone(s.Calls)
	return s
}

// Reset forgets the calls and starts the peak again at the bytes now allocated.
func (d *Null) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats = NullStats{Live: d.stats.Live, Peak: d.stats.Live, Calls: map[string]int64{}}
}

func (d *Null) Name() string { return "null" }

func (d *Null) Alloc(t Type, n int) Mem {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n < 0 {
		d.fail("alloc of %d elements", n)
		return Mem{}
	}
	b := &Buffer{Type: t, Len: n}
	d.live[b] = true
	d.stats.Live += int64(n) * int64(t.Size())
	d.stats.Peak = max(d.stats.Peak, d.stats.Live)
	return Span(b)
}

func (d *Null) Free(m Mem) {
	if m.IsZero() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b := m.Buffer()
	if !d.live[b] || m.Len() != b.Len {
		d.fail("free of %d %ss that are not an allocation in use", m.Len(), m.Type())
		return
	}
	delete(d.live, b)
	d.stats.Live -= int64(b.Len) * int64(b.Type.Size())
}

// Upload does nothing.
func (d *Null) Upload(dst, src Mem) {}

// Download zeroes dst.
func (d *Null) Download(dst, src Mem) {
	clear(dst.F32())
	clear(dst.I32())
	clear(dst.I8())
	clear(dst.U8())
	clear(dst.F16())
}

// Sync reports misuse of memory: nothing else can fail.
func (d *Null) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *Null) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("null device: "+format, args...)
	}
}

var _ Device = (*Null)(nil)
