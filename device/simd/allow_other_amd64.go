//go:build amd64 && !linux

package simd

// allowAMX: Linux lets a process ask; elsewhere the tile registers have not been tried.
func allowAMX() bool { return false }
