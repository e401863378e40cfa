//go:build linux && !android && (amd64 || arm64) && !nocuda

package driver

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/ebitengine/purego"
)

// TestCalls drives the fake by way of C calls and callbacks: the calling convention of the real library.
func TestCalls(t *testing.T) {
	f := newFake(t)
	functions := f.functions()
	lib := library{call: call, find: func(name string) (uintptr, error) {
		fn := reflect.ValueOf(functions[name])
		if !fn.IsValid() {
			return 0, fmt.Errorf("undefined symbol: %s", name)
		}
		in := make([]reflect.Type, fn.Type().NumIn())
		for i := range in {
			in[i] = reflect.TypeFor[uintptr]()
		}
		typ := reflect.FuncOf(in, []reflect.Type{reflect.TypeFor[uintptr]()}, false)
		return purego.NewCallback(reflect.MakeFunc(typ, func(in []reflect.Value) []reflect.Value {
			f.mu.Lock()
			defer f.mu.Unlock()
			code := f.before(name)
			if code == 0 {
				code = int32(fn.Call(in)[0].Int())
			}
			return []reflect.Value{reflect.ValueOf(uintptr(code))}
		}).Interface()), nil
	}}
	testDriver(t, f, lib)
}
