package autograd

import "setun/tensor"

// Catch runs f and returns the *tensor.ShapeError it panics with, if any. All other panics pass through: they are bugs.
func Catch(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*tensor.ShapeError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	f()
	return nil
}
