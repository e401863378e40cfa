//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !windows

package mmap

import (
	"errors"
	"os"
)

func mapFile(*os.File, int) ([]byte, error) { return nil, errors.ErrUnsupported }
func unmap([]byte) error                    { return nil }
func dontNeed([]byte)                       {}
