package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
	"unsafe"

	"setun/device"
	"setun/device/cuda/driver"
)

// Alloc reserves n elements on the GPU, of memory freed before if there is some of the size.
func (d *Device) Alloc(t device.Type, n int) device.Mem {
	if n < 0 || n > math.MaxInt/4/t.Size() {
		d.fail("Alloc", fmt.Errorf("%d elements of %v", n, t))
		return device.Mem{}
	}
	p := d.reserve(n * t.Size())
	if p == 0 {
		return device.Mem{}
	}
	return device.Span(&device.Buffer{Type: t, Len: n, Addr: uintptr(p)})
}

// Free keeps the memory for a later Alloc: work already queued goes before it.
func (d *Device) Free(m device.Mem) {
	if m.IsZero() {
		return
	}
	b := m.Buffer()
	if m.Len() != b.Len || !d.pool.put(driver.Ptr(b.Addr)) {
		d.fail("Free", fmt.Errorf("%d %ss are not an allocation in use", m.Len(), m.Type()))
	}
}

// temp reserves scratch memory until free is called; kernels queued before may still use it then. p is 0 if the device
// has failed or memory runs out.
func (d *Device) temp(bytes int) (p uint64, free func()) {
	if d.failed() {
		return 0, func() {}
	}
	p = d.reserve(bytes)
	return p, func() {
		if p != 0 {
			d.pool.put(driver.Ptr(p))
		}
	}
}

// reserve gives bytes of device memory, 0 and a sticky error if there are none.
func (d *Device) reserve(bytes int) uint64 {
	p, err := d.pool.get(d.drv, bytes)
	if err != nil {
		d.fail("", err)
	}
	return uint64(p)
}

// pool keeps freed device memory by size. All work is on one stream, so memory can be used again as soon as it is
// freed.
type pool struct {
	mu    sync.Mutex
	class func(bytes int) int
	free  map[int][]driver.Ptr
	live  map[driver.Ptr]int
	held  int // bytes in use
	spare int // bytes freed and kept
}

func (p *pool) init() {
	p.class = sizeClass
	p.free, p.live = map[int][]driver.Ptr{}, map[driver.Ptr]int{}
}

// sizeClass rounds up to an eighth of the power of two, at least 256 bytes: sizes that vary a little share memory, and
// at most an eighth is wasted.
func sizeClass(bytes int) int {
	if bytes <= 256 {
		return 256
	}
	step := max(256, 1<<(bits.Len(uint(bytes-1))-4))
	return (bytes + step - 1) / step * step
}

func (p *pool) get(drv driver.Driver, bytes int) (driver.Ptr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		return 0, errors.New("the device is closed")
	}
	n := p.class(bytes)
	if l := p.free[n]; len(l) > 0 {
		x := l[len(l)-1]
		p.free[n] = l[:len(l)-1]
		p.spare -= n
		p.live[x] = n
		p.held += n
		return x, nil
	}
	x, err := drv.Alloc(n)
	if errors.Is(err, driver.ErrMemory) && p.spare > 0 {
		p.release(drv)
		x, err = drv.Alloc(n)
	}
	if errors.Is(err, driver.ErrMemory) {
		free, total, e := drv.Memory()
		if e != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w: %d bytes wanted, %d of %d free, %d in use here; make the batch or the model smaller",
			err, n, free, total, p.held)
	}
	if err != nil {
		return 0, err
	}
	p.live[x] = n
	p.held += n
	return x, nil
}

// put takes memory back; false if it is not in use.
func (p *pool) put(x driver.Ptr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		return true // the device is closed, and the memory gone
	}
	n, ok := p.live[x]
	if ok {
		delete(p.live, x)
		p.free[n] = append(p.free[n], x)
		p.held -= n
		p.spare += n
	}
	return ok
}

// release gives freed memory back to the driver, when the work that uses it is done. The caller holds mu.
func (p *pool) release(drv driver.Driver) {
	drv.Sync() // an error of it stays, and comes with the next call
	for _, l := range p.free {
		for _, x := range l {
			drv.Free(x)
		}
	}
	clear(p.free)
	p.spare = 0
}

func (p *pool) close(drv driver.Driver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(drv)
	for x := range p.live {
		drv.Free(x)
	}
	p.live = nil
}

// Upload copies host memory to dst by way of page-locked memory: it returns when src is copied there.
func (d *Device) Upload(dst, src device.Mem) {
	if dst.IsZero() || src.IsZero() || d.failed() {
		return
	}
	if dst.Type() != src.Type() || dst.Len() != src.Len() {
		d.fail("Upload", fmt.Errorf("%d %ss to %d %ss", src.Len(), src.Type(), dst.Len(), dst.Type()))
		return
	}
	d.write(addr(dst), hostBytes(src))
}

// Download waits for the work before it and copies src to host memory. After an error it does nothing.
func (d *Device) Download(dst, src device.Mem) {
	if dst.IsZero() || src.IsZero() || d.failed() {
		return
	}
	if dst.Type() != src.Type() || dst.Len() != src.Len() {
		d.fail("Download", fmt.Errorf("%d %ss to %d %ss", src.Len(), src.Type(), dst.Len(), dst.Type()))
		return
	}
	d.read(hostBytes(dst), addr(src))
}

// move queues a copy on the device.
func (d *Device) move(dst, src uint64, bytes int) {
	if bytes <= 0 || d.failed() {
		return
	}
	if err := d.drv.Copy(driver.Ptr(dst), driver.Ptr(src), bytes); err != nil {
		d.fail("", err)
	}
}

func (d *Device) write(dst uint64, src []byte) {
	if err := d.up.write(d.drv, driver.Ptr(dst), src); err != nil {
		d.fail("Upload", err)
	}
}

// read also reads errs, so that a bad index before it is known when it returns.
func (d *Device) read(dst []byte, src uint64) {
	var e [4]int32
	if err := d.down.read(d.drv, dst, driver.Ptr(src), e[:], driver.Ptr(d.errs)); err != nil {
		d.fail("Download", err)
		return
	}
	d.complained(e)
}

// hostBytes is host memory as bytes.
func hostBytes(m device.Mem) []byte {
	switch m.Type() {
	case device.I32:
		return asBytes(m.I32())
	case device.I8:
		return asBytes(m.I8())
	case device.U8:
		return m.U8()
	case device.F16:
		return asBytes(m.F16())
	}
	return asBytes(m.F32())
}

func asBytes[T float32 | int32 | int8 | uint16](x []T) []byte {
	var e T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(e)))
}

// staging is page-locked memory, made when it is first wanted.
type staging struct {
	buf  []byte
	used int
	busy bool // done is recorded, and not yet waited for
	done driver.Event
}

const stagingBytes = 4 << 20

func (s *staging) open(drv driver.Driver) (err error) {
	if s.buf == nil {
		s.buf, err = drv.HostAlloc(stagingBytes)
	}
	return err
}

func (s *staging) record(drv driver.Driver) (err error) {
	s.done, err = drv.Record()
	s.busy = err == nil
	return err
}

func (s *staging) wait(drv driver.Driver) error {
	if !s.busy {
		return nil
	}
	s.busy = false
	err := drv.Wait(s.done)
	return errors.Join(err, drv.Forget(s.done))
}

func (s *staging) close(drv driver.Driver) {
	s.wait(drv)
	if s.buf != nil {
		drv.HostFree(s.buf)
		s.buf = nil
	}
}

// uploads fill two halves in turn, each from the front; the other half is being copied meanwhile.
type uploads struct {
	mu   sync.Mutex
	half [2]staging
	now  int
}

func (u *uploads) write(drv driver.Driver, dst driver.Ptr, src []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(src) > 0 {
		s := &u.half[u.now]
		if err := s.open(drv); err != nil {
			return err
		}
		if s.used == len(s.buf) {
			if err := s.record(drv); err != nil {
				return err
			}
			u.now = 1 - u.now
			s = &u.half[u.now]
			if err := errors.Join(s.open(drv), s.wait(drv)); err != nil {
				return err
			}
			s.used = 0
		}
		n := copy(s.buf[s.used:], src)
		if err := drv.Upload(dst, s.buf[s.used:s.used+n]); err != nil {
			return err
		}
		s.used = min((s.used+n+63)&^63, len(s.buf))
		src, dst = src[n:], dst+driver.Ptr(n)
	}
	return nil
}

func (u *uploads) close(drv driver.Driver) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.half {
		u.half[i].close(drv)
	}
}

// downloads take two buffers in turn: one is copied to the caller while the other fills.
type downloads struct {
	mu   sync.Mutex
	half [2]staging
}

// read copies src to dst, then errs to e, which takes no more waiting.
func (w *downloads) read(drv driver.Driver, dst []byte, src driver.Ptr, e []int32, errs driver.Ptr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fill := func(s *staging, n int, last bool) error {
		if err := s.open(drv); err != nil {
			return err
		}
		if n > 0 {
			if err := drv.Download(s.buf[:n], src); err != nil {
				return err
			}
		}
		if last {
			if err := drv.Download(s.buf[stagingBytes-errsBytes:], errs); err != nil {
				return err
			}
		}
		src += driver.Ptr(n)
		s.used = n
		return s.record(drv)
	}
	const chunk = stagingBytes - errsBytes
	left := len(dst) // not yet queued
	queue := func(i int) error {
		n := min(left, chunk)
		left -= n
		return fill(&w.half[i], n, left == 0)
	}
	if err := queue(0); err != nil {
		return err
	}
	for i := 0; ; i = 1 - i {
		more := left > 0
		if more {
			if err := queue(1 - i); err != nil {
				return err
			}
		}
		s := &w.half[i]
		if err := s.wait(drv); err != nil {
			return err
		}
		dst = dst[copy(dst, s.buf[:s.used]):]
		if !more {
			copy(asBytes(e), s.buf[chunk:])
			return nil
		}
	}
}

func (w *downloads) close(drv driver.Driver) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.half {
		w.half[i].close(drv)
	}
}
