// Package dirlock keeps two processes from writing to one folder.
package dirlock

import "errors"

// ErrLocked says that another process has the folder.
var ErrLocked = errors.New("another process has locked it")
