package nn_test

import (
	"iter"
	"slices"
	"testing"

	"setun/autograd"
	"setun/device/cpu"
	"setun/nn"
	"setun/tensor"
)

type (
	tape  = autograd.Tape
	value = autograd.Value
)

var dev = cpu.New(0)

func v(shape ...int) *value { return autograd.NewParam(tensor.Zeros(dev, shape...)) }

func names(m nn.Module) []string {
	var ns []string
	for n := range m.Params() {
		ns = append(ns, n)
	}
	return ns
}

// fields lists the parameters of any struct.
type fields struct{ v any }

func (f fields) Params() iter.Seq2[string, *value] { return nn.Fields(f.v) }

type leaf struct{ Weight, Bias *value }

func (l *leaf) Params() iter.Seq2[string, *value] { return nn.Fields(l) }

// byValue has its methods on the value.
type byValue struct{ W *value }

func (b byValue) Params() iter.Seq2[string, *value] {
	return func(yield func(string, *value) bool) { yield("w", b.W) }
}

type Embedded struct{ Inner *value }

func (e *Embedded) Params() iter.Seq2[string, *value] { return nn.Fields(e) }

func TestFields(t *testing.T) {
	mk := tensor.NewMaker(dev, 1)
	lin := nn.NewLinear(mk, 2, 3, true)
	var nilLinear *nn.Linear
	var nilLayer nn.Layer
	tests := []struct {
		name string
		v    any
		want []string
	}{
		{"spelling", &struct{ Weight, QNorm, KVHeads, MLP, MLPNorm, W1, InProj2 *value }{v(), v(), v(), v(), v(), v(), v()},
			[]string{"weight", "q_norm", "kv_heads", "mlp", "mlp_norm", "w1", "in_proj2"}},
		{"order of the fields, not of names", &struct{ B, A, C *value }{v(), v(), v()}, []string{"b", "a", "c"}},
		{"skipped", &struct {
			A       *value `param:"-"`
			hidden  *value
			Nil     *value
			N       int
			S       string
			F       func()
			M       map[string]*value
			Layer   nn.Layer
			Module  nn.Module
			Pointer *nn.Linear
			T       *tensor.Tensor
			Last    *value
		}{A: v(), hidden: v(), Layer: nilLinear, Module: nilLayer, M: map[string]*value{"x": v()},
			T: tensor.Zeros(dev), Last: v()},
			[]string{"last"}},
		{"renamed", &struct {
			A *value     `param:"other"`
			L *nn.Linear `param:"lin"`
			M *nn.Linear `param:""`
		}{v(), lin, lin}, []string{"other", "lin.weight", "lin.bias", "weight", "bias"}},
		{"modules", &struct {
			P *leaf
			S leaf
			V byValue
			I nn.Module
			D nn.Dropout
			F nn.Layer
		}{&leaf{v(), nil}, leaf{v(), v()}, byValue{v()}, lin, nn.Dropout{P: 0.1}, nn.Func((*tape).ReLU)},
			[]string{"p.weight", "s.weight", "s.bias", "v.w", "i.weight", "i.bias"}},
		{"slices", &struct {
			Vs     []*value
			Blocks []*leaf
			Any    []nn.Layer
			Array  [2]leaf
			Deep   [][]*value
			Empty  []*leaf
		}{[]*value{v(), nil, v()}, []*leaf{{v(), nil}, nil, {nil, v()}}, []nn.Layer{nil, lin, nilLinear, nn.Func(nil)},
			[2]leaf{{v(), nil}, {v(), nil}}, [][]*value{{v()}, {v(), v()}}, nil},
			[]string{"vs.0", "vs.2", "blocks.0.weight", "blocks.2.bias", "any.1.weight", "any.1.bias", "array.0.weight",
				"array.1.weight", "deep.0.0", "deep.1.0", "deep.1.1"}},
		{"embedded", &struct {
			Embedded
			X *value
		}{Embedded{v()}, v()}, []string{"inner", "x"}},
		{"embedded pointer", &struct {
			*Embedded
			X *value
		}{&Embedded{v()}, v()}, []string{"inner", "x"}},
		{"slice without a prefix", &struct {
			Layers nn.Sequential `param:""`
		}{nn.Sequential{lin, nn.Func((*tape).ReLU), lin}}, []string{"0.weight", "0.bias", "2.weight", "2.bias"}},
		{"empty", &struct{}{}, nil},
	}
	for _, tt := range tests {
		if got := names(fields{tt.v}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	// The iterator stops when it is told to, wherever that is.
	for stop := 1; stop <= 6; stop++ {
		n := 0
		for range (fields{tests[4].v}).Params() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("%d parameters before the stop at %d", n, stop)
		}
	}
}

func TestFieldsGiveTheValuesThemselves(t *testing.T) {
	l := &leaf{v(2), v(3)}
	var got []*value
	for _, p := range l.Params() {
		got = append(got, p)
	}
	if !slices.Equal(got, []*value{l.Weight, l.Bias}) {
		t.Error("Fields copies the parameters")
	}
}

func TestSequential(t *testing.T) {
	mk := tensor.NewMaker(dev, 1)
	s := nn.Sequential{nn.NewLinear(mk, 2, 3, true), nn.Func((*tape).ReLU), nn.NewLinear(mk, 3, 1, false)}
	if got := names(s); !slices.Equal(got, []string{"0.weight", "0.bias", "2.weight"}) {
		t.Errorf("names are %q", got)
	}
	var tp tape
	x := tp.Floats(dev, []float32{1, -2, 3, 4}, 2, 2)
	want := s[2].Forward(&tp, tp.ReLU(s[0].Forward(&tp, x))).T.Floats()
	if got := s.Forward(&tp, x).T.Floats(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if x := (nn.Sequential)(nil).Forward(&tp, x); x.Dim(0) != 2 {
		t.Error("an empty Sequential changes its input")
	}
	n := 0
	for range s.Params() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d parameters before the stop", n)
	}
}

func TestCount(t *testing.T) {
	mk := tensor.NewMaker(dev, 1)
	s := nn.Sequential{nn.NewLinear(mk, 2, 3, true), nn.NewEmbedding(mk, 5, 2, 1), nn.NewRMSNorm(mk, 4, 0),
		nn.NewLayerNorm(mk, 4)}
	if got := nn.Count(s); got != 6+3+10+4+8 {
		t.Errorf("got %d", got)
	}
	s[1].(*nn.Embedding).Weight.Freeze(true)
	if got := nn.Count(s); got != 6+3+4+8 {
		t.Errorf("with a frozen table %d", got)
	}
	l := nn.NewLinear(mk, 3, 3, false)
	if got := nn.Count(nn.Sequential{l, l}); got != 9 {
		t.Errorf("of a layer used twice %d", got)
	}
}
