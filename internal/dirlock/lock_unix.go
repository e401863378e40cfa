//go:build linux || darwin || freebsd || netbsd || openbsd

package dirlock

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes a folder for this process, until it ends or closes what Lock gives. The folder stays locked under another
// name. Where the file system has no locks, and on other systems than Linux, macOS and the BSDs, it does nothing.
func Lock(dir string) (io.Closer, error) {
	for {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, ErrLocked
		}
		mine, err := f.Stat()
		if err == nil {
			var now fs.FileInfo
			if now, err = os.Stat(dir); err == nil && os.SameFile(mine, now) {
				return f, nil
			}
		}
		f.Close() // it was renamed meanwhile
		if err != nil {
			return nil, err
		}
	}
}
