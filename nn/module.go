package nn

import (
	"fmt"
	"iter"
	"reflect"
	"strings"
	"unicode"

	"setun/autograd"
)

// Module is anything with parameters. Params yields them under stable names in stable order; values that are not
// trained (frozen) may be among them.
type Module interface {
	Params() iter.Seq2[string, *autograd.Value]
}

// Layer is a module that maps one value to another.
type Layer interface {
	Module
	Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value
}

var (
	valueType  = reflect.TypeFor[*autograd.Value]()
	moduleType = reflect.TypeFor[Module]()
)

// Fields lists the parameters of a struct's exported fields in order: a *autograd.Value under the field's name in
// lower_snake case, a Module's parameters under "name.", slices under "name.0.", .... Nil fields are skipped, so is a
// field with the tag `param:"-"`; `param:"other"` renames, `param:""` drops the prefix. v is a pointer to the struct.
func Fields(v any) iter.Seq2[string, *autograd.Value] {
	return func(yield func(string, *autograd.Value) bool) {
		s := reflect.ValueOf(v).Elem()
		for i := range s.NumField() {
			f := s.Type().Field(i)
			name, tagged := f.Tag.Lookup("param")
			if !f.IsExported() || name == "-" {
				continue
			}
			if !tagged && !f.Anonymous {
				name = snake(f.Name)
			}
			if !walk(name, s.Field(i), yield) {
				return
			}
		}
	}
}

// walk yields the parameters below one field; false stops.
func walk(name string, v reflect.Value, yield func(string, *autograd.Value) bool) bool {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch {
	case !v.IsValid():
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		for i := range v.Len() {
			if !walk(strings.TrimPrefix(fmt.Sprintf("%s.%d", name, i), "."), v.Index(i), yield) {
				return false
			}
		}
	case v.Kind() == reflect.Pointer && v.IsNil():
	case v.Type() == valueType:
		return yield(name, v.Interface().(*autograd.Value))
	case v.Type().Implements(moduleType):
		return prefixed(name, v.Interface().(Module), yield)
	case v.CanAddr() && v.Addr().Type().Implements(moduleType):
		return prefixed(name, v.Addr().Interface().(Module), yield)
	}
	return true
}

func prefixed(name string, m Module, yield func(string, *autograd.Value) bool) bool {
	if name != "" {
		name += "."
	}
	for n, p := range m.Params() {
		if !yield(name+n, p) {
			return false
		}
	}
	return true
}

// snake turns QNorm into q_norm and Weight into weight.
func snake(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) {
			if i > 0 && (unicode.IsLower(r[i-1]) || unicode.IsDigit(r[i-1]) || (i+1 < len(r) && unicode.IsLower(r[i+1]))) {
				b.WriteByte('_')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Count is the number of trainable parameters of m; one that has several names counts once.
func Count(m Module) int {
	n, seen := 0, map[*autograd.Value]bool{}
	for _, p := range m.Params() {
		if p.WantsGrad() && !seen[p] {
			seen[p] = true
			n += p.T.Len()
		}
	}
	return n
}

// Sequential applies layers one after the other.
type Sequential []Layer

// Params yields the layers' parameters under "0.", "1.", ....
func (s Sequential) Params() iter.Seq2[string, *autograd.Value] {
	return func(yield func(string, *autograd.Value) bool) {
		for i, l := range s {
			if !prefixed(fmt.Sprint(i), l, yield) {
				return
			}
		}
	}
}

// Forward applies the layers in order.
func (s Sequential) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	for _, l := range s {
		x = l.Forward(t, x)
	}
	return x
}

// Func makes a layer without parameters from a function: nn.Func((*autograd.Tape).ReLU).
type Func func(t *autograd.Tape, x *autograd.Value) *autograd.Value

// Params yields nothing.
func (Func) Params() iter.Seq2[string, *autograd.Value] {
	return func(func(string, *autograd.Value) bool) {}
}

// Forward calls the function.
func (f Func) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value { return f(t, x) }
