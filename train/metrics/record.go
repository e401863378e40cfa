package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Kinds of records.
const (
	Train = "train"
	Eval  = "eval"
)

// Record is what one step measured. As JSON it is one flat object, step and kind first, then the values by name:
//
//	{"step":100,"kind":"train","loss":2.25,"lr":0.001}
//
// Values that JSON numbers cannot hold are the strings "NaN", "+Inf" and "-Inf".
type Record struct {
	Step   int    // 0 or more
	Kind   string // Train or Eval, or a name of the caller's
	Values map[string]float64
}

// MarshalJSON fails on a negative step, on text that is not UTF-8 and on a value named "step" or "kind".
func (r Record) MarshalJSON() ([]byte, error) {
	if r.Step < 0 {
		return nil, fmt.Errorf("metrics: step %d is negative", r.Step)
	}
	if !utf8.ValidString(r.Kind) {
		return nil, fmt.Errorf("metrics: kind %q is not UTF-8", r.Kind)
	}
	b := append([]byte(`{"step":`), strconv.Itoa(r.Step)...)
	b = append(b, `,"kind":`...)
	b = appendString(b, r.Kind)
	for _, name := range slices.Sorted(maps.Keys(r.Values)) {
		if name == "step" || name == "kind" {
			return nil, fmt.Errorf("metrics: a value cannot be named %q: choose another name", name)
		}
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("metrics: name %q of a value is not UTF-8", name)
		}
		b = append(b, ',')
		b = appendString(b, name)
		b = append(b, ':')
		b = appendFloat(b, r.Values[name])
	}
	return append(b, '}'), nil
}

func appendString(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string always encodes
	return append(b, q...)
}

func appendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		b = append(b, '"')
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
		return append(b, '"')
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Record) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return errors.New("not a JSON object")
	}
	out := Record{Values: make(map[string]float64, len(fields))}
	if err := json.Unmarshal(fields["step"], &out.Step); err != nil || out.Step < 0 || isNull(fields["step"]) {
		return errors.New(`"step" must be a whole number, 0 or more`)
	}
	if err := json.Unmarshal(fields["kind"], &out.Kind); err != nil || isNull(fields["kind"]) {
		return errors.New(`"kind" must be a string`)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name == "step" || name == "kind" {
			continue
		}
		v, ok := parseFloat(fields[name])
		if !ok {
			return fmt.Errorf(`value %q must be a number, "NaN", "+Inf" or "-Inf"`, name)
		}
		out.Values[name] = v
	}
	*r = out
	return nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func parseFloat(raw json.RawMessage) (v float64, ok bool) {
	switch string(raw) {
	case `"NaN"`:
		return math.NaN(), true
	case `"+Inf"`:
		return math.Inf(1), true
	case `"-Inf"`:
		return math.Inf(-1), true
	}
	err := json.Unmarshal(raw, &v)
	return v, err == nil && !isNull(raw)
}
