package driver

import (
	"errors"
	"fmt"
)

// A Driver is one GPU: a context and one stream. Work is queued on the stream in the order of the calls; only Sync,
// Wait and Close wait for it. It is safe for concurrent use, from any goroutine. An error of work that was queued is
// reported by a later call, and by every one after it: the context is lost then.
type Driver interface {
	Info() Info

	// Alloc reserves device memory, aligned to 256 bytes. It fails with ErrMemory when there is not enough.
	Alloc(bytes int) (Ptr, error)
	// Free gives memory back; work already queued may still use it.
	Free(p Ptr) error
	// HostAlloc gives page-locked host memory, which copies may read and write while the program goes on.
	HostAlloc(bytes int) ([]byte, error)
	HostFree(b []byte) error
	// Memory is what is free and what there is, in bytes.
	Memory() (free, total int, err error)

	// Upload, Download and Copy queue copies. Host memory must be of HostAlloc and be left alone until the copy is done.
	Upload(dst Ptr, src []byte) error
	Download(dst []byte, src Ptr) error
	Copy(dst, src Ptr, bytes int) error

	// Load compiles PTX for this GPU.
	Load(ptx string) (Module, error)
	Unload(m Module) error
	// Function finds an entry of a module and allows it shared bytes of dynamic shared memory.
	Function(m Module, name string, shared int) (Function, error)
	// Launch queues a kernel. Argument i is the low bytes of args[i], as many as parameter i has; args may be reused at
	// once.
	Launch(f Function, grid, block Dim, shared int, args []uint64) error

	// Record marks a place in the stream; Wait waits for it, Elapsed tells the milliseconds between two places that have
	// passed.
	Record() (Event, error)
	Wait(e Event) error
	Elapsed(from, to Event) (float32, error)
	Forget(e Event) error

	// Sync waits for all work.
	Sync() error
	// Close waits for all work and gives the context back.
	Close() error
}

// Ptr is an address in device memory.
type Ptr uint64

// Module, Function and Event are handles of a Driver.
type (
	Module   uintptr
	Function uintptr
	Event    uintptr
)

// Dim is the extent of a grid or block.
type Dim struct{ X, Y, Z int }

// Info describes a GPU.
type Info struct {
	Name            string
	Major, Minor    int // compute capability
	Multiprocessors int
	SharedPerBlock  int // the most dynamic shared memory that a block may ask for, bytes
	Memory          int // bytes
	Version         int // of the driver: 1000*major + 10*minor
}

func (i Info) String() string {
	return fmt.Sprintf("%s (sm_%d%d, %d multiprocessors, %d MiB, driver %d.%d)", i.Name, i.Major, i.Minor,
		i.Multiprocessors, i.Memory>>20, i.Version/1000, i.Version%1000/10)
}

var (
	// ErrNone is why Open fails where there is no GPU to use: no library, no device, a platform without one.
	ErrNone = errors.New("no CUDA GPU")
	// ErrMemory is why Alloc fails when device memory runs out.
	ErrMemory = errors.New("out of device memory")
)

// Error is a failed call of the Driver API.
type Error struct {
	Call string // cuMemAlloc_v2
	Code int
	Name string // CUDA_ERROR_OUT_OF_MEMORY
	Text string // the driver's own words
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (%d): %s", e.Call, e.Name, e.Code, e.Text) }

// Is tells ErrMemory.
func (e *Error) Is(target error) bool { return target == ErrMemory && e.Code == 2 }
