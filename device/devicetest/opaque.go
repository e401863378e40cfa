package devicetest

import (
	"fmt"
	"math"
	"sync"

	"setun/device"
)

// OpaqueDevice is the device made by [Opaque].
//
// Invariants: a handle is valid from Alloc to Free in the order of the host's calls; the memory behind it changes in
// the order of the stream, which is the same order.
type OpaqueDevice struct {
	device.Bridge
	host device.Device

	mu    sync.Mutex
	idle  sync.Cond // the stream is empty
	queue []func()
	busy  bool // a goroutine runs the queue
	live  map[uintptr]hidden
	last  uintptr
	err   error
}

// hidden is the memory behind a handle.
type hidden struct {
	buf *device.Buffer // what the outside holds
	mem device.Mem     // the host's
}

// Opaque gives a device with the kernels of host whose memory is out of reach: Mems hold a handle, memory is poisoned
// (NaN, 0x7f) before its first use and after its last, kernels run later, in order, on one goroutine. Use of freed or
// foreign memory, double frees, spans outside their allocation, results that overlap an operand where package device
// does not allow it, and panics of the host's kernels become the error of Sync.
func Opaque(host device.Device) *OpaqueDevice {
	d := &OpaqueDevice{host: host, live: map[uintptr]hidden{}}
	d.idle.L = &d.mu
	d.Bridge.Do = d.kernel
	return d
}

func (d *OpaqueDevice) Name() string { return "opaque" }

// Live is the number of allocations not yet freed.
func (d *OpaqueDevice) Live() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.live)
}

// Close waits for the kernels and returns the error of Sync, or one that counts the allocations not freed.
func (d *OpaqueDevice) Close() error {
	if err := d.Sync(); err != nil {
		return err
	}
	if n := d.Live(); n > 0 {
		return fmt.Errorf("opaque device: %d allocations were not freed", n)
	}
	return nil
}

func (d *OpaqueDevice) Alloc(t device.Type, n int) device.Mem {
	m := d.host.Alloc(t, n)
	if m.IsZero() {
		return m // Sync reports the host's error
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last += 1 << 12
	b := &device.Buffer{Type: t, Len: n, Addr: d.last}
	d.live[d.last] = hidden{b, m}
	d.enqueue(func() { poison(d.host, m) })
	return device.Span(b)
}

func (d *OpaqueDevice) Free(m device.Mem) {
	if m.IsZero() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.resolve("Free", m)
	if !ok {
		return
	}
	if h.Len() != d.live[m.Buffer().Addr].mem.Len() {
		d.fail("Free: %d elements of an allocation of %d", h.Len(), d.live[m.Buffer().Addr].mem.Len())
		return
	}
	delete(d.live, m.Buffer().Addr)
	d.enqueue(func() {
		poison(d.host, h)
		d.host.Free(h)
	})
}

func (d *OpaqueDevice) Upload(dst, src device.Mem) {
	if dst.IsZero() || src.IsZero() {
		return
	}
	tmp := device.Span(device.HostBuffer(src.Type(), src.Len()))
	device.CopyHost(tmp, src)
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.resolve("Upload", dst)
	if !ok {
		return
	}
	if h.Len() != tmp.Len() || h.Type() != tmp.Type() {
		d.fail("Upload: %d %ss to %d %ss", tmp.Len(), tmp.Type(), h.Len(), h.Type())
		return
	}
	d.enqueue(func() { d.host.Upload(h, tmp) })
}

func (d *OpaqueDevice) Download(dst, src device.Mem) {
	if dst.IsZero() || src.IsZero() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.resolve("Download", src)
	if !ok {
		return
	}
	if h.Len() != dst.Len() || h.Type() != dst.Type() {
		d.fail("Download: %d %ss to %d %ss", h.Len(), h.Type(), dst.Len(), dst.Type())
		return
	}
	d.enqueue(func() { d.host.Download(dst, h) })
	d.wait()
}

func (d *OpaqueDevice) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait()
	if d.err != nil {
		return d.err
	}
	return d.host.Sync()
}

// inPlace lists the kernels whose result may be the same span as an operand.
var inPlace = map[string]bool{
	"Add": true, "Mul": true, "Scale": true, "Unary": true, "Gated": true, "Dropout": true, "AddRows": true,
	"RoPE": true, "Softmax": true,
}

// kernel is the Do of the bridge.
func (d *OpaqueDevice) kernel(c device.Call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	mems := make([]device.Mem, len(c.Mems))
	for i, m := range c.Mems {
		h, ok := d.resolve(c.Kernel, m)
		if !ok {
			return
		}
		mems[i] = h
	}
	for i, r := range mems[:c.Results] {
		for j, m := range mems {
			if i == j || r.IsZero() || r.Buffer() != m.Buffer() ||
				max(r.Offset(), m.Offset()) >= min(r.Offset()+r.Len(), m.Offset()+m.Len()) {
				continue
			}
			if r != m || j < c.Results || !inPlace[c.Kernel] {
				d.fail("%s: memory %d (a result) overlaps memory %d", c.Kernel, i, j)
				return
			}
		}
	}
	d.enqueue(func() {
		defer func() {
			if r := recover(); r != nil {
				d.keep(fmt.Errorf("opaque device: %s: panic: %v", c.Kernel, r))
			}
		}()
		c.Run(d.host, mems)
	})
}

// resolve gives the hidden span of m. The caller holds mu.
func (d *OpaqueDevice) resolve(kernel string, m device.Mem) (device.Mem, bool) {
	if m.IsZero() {
		return m, true
	}
	b := m.Buffer()
	h, ok := d.live[b.Addr]
	switch {
	case b.Addr == 0:
		d.fail("%s: %d %ss are not memory of this device", kernel, m.Len(), m.Type())
	case !ok && b.Addr <= d.last:
		d.fail("%s: use of freed memory (%d %ss)", kernel, m.Len(), m.Type())
	case !ok || h.buf != b:
		d.fail("%s: unknown handle %#x", kernel, b.Addr)
	case m.Offset()+m.Len() > h.mem.Len() || m.Type() != h.mem.Type():
		d.fail("%s: %ss [%d, %d) of an allocation of %d %ss", kernel,
			m.Type(), m.Offset(), m.Offset()+m.Len(), h.mem.Len(), h.mem.Type())
	default:
		return h.mem.Slice(m.Offset(), m.Offset()+m.Len()), true
	}
	return device.Mem{}, false
}

// fail puts an error on the stream: errors of kernels before it come first. The caller holds mu.
func (d *OpaqueDevice) fail(format string, args ...any) {
	d.enqueue(func() { d.keep(fmt.Errorf("opaque device: "+format, args...)) })
}

// keep keeps the first error. It runs on the stream.
func (d *OpaqueDevice) keep(err error) {
	if e := d.host.Sync(); e != nil {
		err = e
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// enqueue puts f on the stream, which drops it after an error. The goroutine of the stream lives while there is work.
// The caller holds mu.
func (d *OpaqueDevice) enqueue(f func()) {
	d.queue = append(d.queue, f)
	if !d.busy {
		d.busy = true
		go d.stream()
	}
}

func (d *OpaqueDevice) stream() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) > 0 && d.err == nil {
		f := d.queue[0]
		d.queue = d.queue[1:]
		d.mu.Unlock()
		f()
		d.mu.Lock()
	}
	d.queue = nil
	d.busy = false
	d.idle.Broadcast()
}

// wait returns when the stream is empty. The caller holds mu.
func (d *OpaqueDevice) wait() {
	for d.busy {
		d.idle.Wait()
	}
}

// poison overwrites m by Upload, which every host has for every type.
func poison(host device.Device, m device.Mem) {
	const chunk = 1 << 14
	for lo := 0; lo < m.Len(); lo += chunk {
		n := min(chunk, m.Len()-lo)
		host.Upload(m.Slice(lo, lo+n), poisons[m.Type()].Slice(0, n))
	}
}

var poisons = func() [device.F16 + 1]device.Mem {
	const chunk = 1 << 14
	var p [device.F16 + 1]device.Mem
	for t := range p {
		p[t] = device.Span(device.HostBuffer(device.Type(t), chunk))
		fillPoison(p[t])
	}
	return p
}()

// fillPoison sets host memory to NaN or 0x7f bytes.
func fillPoison(m device.Mem) {
	for i := range m.F32() {
		m.F32()[i] = math.Float32frombits(guardBits)
	}
	for i := range m.I32() {
		m.I32()[i] = 0x7f7f7f7f
	}
	for i := range m.I8() {
		m.I8()[i] = 0x7f
	}
	for i := range m.U8() {
		m.U8()[i] = 0x7f
	}
	for i := range m.F16() {
		m.F16()[i] = 0x7eed // a NaN
	}
}

// guardBits is a quiet NaN that no arithmetic makes.
const guardBits = 0x7fc0dead

var _ device.Device = (*OpaqueDevice)(nil)
