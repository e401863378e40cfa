package driver

import "syscall"

func thread() int { return syscall.Gettid() }
