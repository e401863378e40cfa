package metrics

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func equal(a, b Record) bool {
	if a.Step != b.Step || a.Kind != b.Kind || len(a.Values) != len(b.Values) {
		return false
	}
	for name, v := range a.Values {
		w, ok := b.Values[name]
		if !ok || math.Float64bits(v) != math.Float64bits(w) && !(math.IsNaN(v) && math.IsNaN(w)) {
			return false
		}
	}
	return true
}

func TestRecord(t *testing.T) {
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Record{}, `{"step":0,"kind":""}`},
		{Record{3, Train, map[string]float64{"lr": 1e-3, "loss": 2.25, "Loss": 1}},
			`{"step":3,"kind":"train","Loss":1,"loss":2.25,"lr":0.001}`},
		{Record{1 << 53, Eval, map[string]float64{"a": math.NaN(), "b": math.Inf(1), "c": math.Inf(-1)}},
			`{"step":9007199254740992,"kind":"eval","a":"NaN","b":"+Inf","c":"-Inf"}`},
		{Record{1, Eval, map[string]float64{"big": 1e300, "neg": math.Copysign(0, -1), "tiny": 5e-324, "third": 1. / 3}},
			`{"step":1,"kind":"eval","big":1e+300,"neg":-0,"third":0.3333333333333333,"tiny":5e-324}`},
		{Record{1, "a\"b\n", map[string]float64{"loss µ\t": 1}}, `{"step":1,"kind":"a\"b\n","loss µ\t":1}`},
	} {
		b, err := json.Marshal(c.r)
		if err != nil || string(b) != c.want {
			t.Errorf("%v: %s, %v\nwant %s", c.r, b, err, c.want)
		}
		var back Record
		if err := json.Unmarshal(b, &back); err != nil || !equal(back, c.r) {
			t.Errorf("%s came back as %v, %v", b, back, err)
		}
	}
}

func TestRecordMarshalErrors(t *testing.T) {
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Record{Step: -1}, "step -1 is negative"},
		{Record{Kind: "\xff"}, "not UTF-8"},
		{Record{Values: map[string]float64{"\xff": 1}}, "not UTF-8"},
		{Record{Values: map[string]float64{"step": 1}}, "choose another name"},
		{Record{Values: map[string]float64{"kind": 1}}, "choose another name"},
	} {
		if _, err := json.Marshal(c.r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.r, err, c.want)
		}
	}
}

func TestRecordUnmarshalErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`[1]`, "not a JSON object"},
		{`null`, `"step" must be a whole number`},
		{`{}`, `"step" must be a whole number`},
		{`{"step":1.5,"kind":"train"}`, `"step" must be a whole number`},
		{`{"step":-1,"kind":"train"}`, `"step" must be a whole number`},
		{`{"step":null,"kind":"train"}`, `"step" must be a whole number`},
		{`{"step":99999999999999999999,"kind":"train"}`, `"step" must be a whole number`},
		{`{"step":1}`, `"kind" must be a string`},
		{`{"step":1,"kind":null}`, `"kind" must be a string`},
		{`{"step":1,"kind":"train","loss":"low"}`, `value "loss" must be a number`},
		{`{"step":1,"kind":"train","loss":"nan"}`, `value "loss" must be a number`},
		{`{"step":1,"kind":"train","loss":null}`, `value "loss" must be a number`},
		{`{"step":1,"kind":"train","loss":1e999}`, `value "loss" must be a number`},
		{`{"step":1,"kind":"train","loss":{}}`, `value "loss" must be a number`},
	} {
		r := Record{Step: 7}
		err := json.Unmarshal([]byte(c.in), &r)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.in, err, c.want)
		}
		if r.Step != 7 {
			t.Errorf("%s: the record was changed to %v", c.in, r)
		}
	}
}
