package simd

import "syscall"

// allowAMX asks the kernel for the tile registers, which a process has only then: their 8 KiB are part of every thread's
// state from its first use on. Assembly gives them up before it returns.
func allowAMX() bool {
	const request, tileData = 0x1023, 18 // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, request, tileData, 0)
	return errno == 0
}
