package llm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"setun/device/cpu"
	"setun/format/gguf"
	"setun/llm"
)

// parsed is a GGUF file as the specification lays it out (ggml, docs/gguf.md), read by code that shares nothing with
// package gguf. It panics with what is wrong.
type parsed struct {
	b       []byte
	at      int
	meta    map[string]any
	kind    map[string]uint32
	tensors map[string]parsedTensor
	data    int // where the data begin
}

type parsedTensor struct {
	ne   []uint64
	kind uint32
}

func parse(b []byte) (p *parsed, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("%v", r)
		}
	}()
	p = &parsed{b: b, meta: map[string]any{}, kind: map[string]uint32{}, tensors: map[string]parsedTensor{}}
	p.parse()
	return p, nil
}

func (p *parsed) need(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("byte %d: ", p.at) + fmt.Sprintf(format, args...))
	}
}

func (p *parsed) take(n uint64) []byte {
	p.need(n <= uint64(len(p.b)-p.at), "%d bytes do not fit", n)
	p.at += int(n)
	return p.b[p.at-int(n) : p.at]
}

func (p *parsed) u32() uint32  { return binary.LittleEndian.Uint32(p.take(4)) }
func (p *parsed) u64() uint64  { return binary.LittleEndian.Uint64(p.take(8)) }
func (p *parsed) text() string { return string(p.take(p.u64())) }

// Of gguf_metadata_value_type.
const (
	isU32, isI32, isF32, isBool, isString, isArray = 4, 5, 6, 7, 8, 9
)

func (p *parsed) value(kind uint32) any {
	switch kind {
	case isU32:
		return p.u32()
	case isI32:
		return int32(p.u32())
	case isF32:
		return math.Float32frombits(p.u32())
	case isBool:
		b := p.take(1)[0]
		p.need(b <= 1, "a bool of %d", b)
		return b == 1
	case isString:
		return p.text()
	case isArray:
		kind, n := p.u32(), p.u64()
		p.need(kind != isArray && n <= uint64(len(p.b)), "an array of %d of type %d", n, kind)
		x := make([]any, n)
		for i := range x {
			x[i] = p.value(kind)
		}
		return x
	}
	p.need(false, "values of type %d are not expected", kind)
	return nil
}

// ggmlSizes are elements and bytes of a block, by ggml_type.
var ggmlSizes = map[uint32][2]uint64{0: {1, 4}, 1: {1, 2}, 8: {32, 34}, 30: {1, 2}, 34: {256, 54}, 35: {256, 66}}

const isI2S = 36 // bitnet.cpp's: a quarter of a byte an element, and 32 bytes

func (t parsedTensor) bytes() (n uint64, ok bool) {
	n = 1
	for _, d := range t.ne {
		n *= d
	}
	if t.kind == isI2S {
		return n/4 + 32, n%128 == 0
	}
	s, ok := ggmlSizes[t.kind]
	if !ok || t.ne[0]%s[0] != 0 {
		return 0, false
	}
	return n / s[0] * s[1], true
}

var ggufKey = regexp.MustCompile(`^[a-z0-9_]+([.-][a-z0-9_]+)*$`)

func (p *parsed) parse() {
	p.need(string(p.take(4)) == "GGUF" && p.u32() == 3, "not GGUF version 3")
	tensors, pairs := p.u64(), p.u64()
	for range pairs {
		key := p.text()
		p.need(len(key) < 1<<16 && ggufKey.MatchString(key), "key %q", key)
		p.need(p.meta[key] == nil, "key %q twice", key)
		p.kind[key] = p.u32()
		p.meta[key] = p.value(p.kind[key])
	}
	align := uint64(32)
	if a, ok := p.meta["general.alignment"]; ok {
		align = uint64(a.(uint32))
		p.need(align > 0 && align%8 == 0, "alignment %d", align)
	}
	pad := func(n uint64) uint64 { return (n + align - 1) / align * align }
	type span struct{ from, size uint64 }
	var spans []span
	end := uint64(0)
	for range tensors {
		name, t := p.text(), parsedTensor{}
		p.need(len(name) < 64 && name != "", "tensor name %q", name) // GGML_MAX_NAME
		dims := p.u32()
		p.need(dims >= 1 && dims <= 4, "%q has %d dimensions", name, dims)
		for range dims {
			t.ne = append(t.ne, p.u64())
			p.need(t.ne[len(t.ne)-1] > 0, "%q has a dimension of 0", name)
		}
		t.kind = p.u32()
		n, ok := t.bytes()
		p.need(ok, "%q has type %d and %v elements", name, t.kind, t.ne)
		offset := p.u64()
		p.need(offset%align == 0, "%q at offset %d is not aligned to %d", name, offset, align)
		p.need(offset == end, "%q begins at offset %d; llama.cpp wants %d, behind the tensor before", name, offset, end)
		end = pad(offset + n)
		_, twice := p.tensors[name]
		p.need(!twice, "tensor %q twice", name)
		p.tensors[name] = t
		spans = append(spans, span{offset, n})
	}
	zero := func(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }
	p.need(zero(p.take(pad(uint64(p.at))-uint64(p.at))), "padding is not zero")
	p.data = p.at
	data := p.take(end)
	for _, s := range spans {
		p.need(zero(data[s.from+s.size:pad(s.from+s.size)]), "padding is not zero")
	}
	p.need(p.at == len(p.b), "%d bytes too many", len(p.b)-p.at)
}

// loads reports what llama.cpp (src/llama-model.cpp, load_hparams, load_vocab and load_tensors of the architecture) or
// bitnet.cpp would miss in a file.
func (p *parsed) loads(c llm.Config) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	key := func(name string, kind uint32) any {
		v, ok := p.meta[name]
		p.need(ok, "no key %s", name)
		p.need(p.kind[name] == kind, "key %s has type %d, not %d", name, p.kind[name], kind)
		return v
	}
	number := func(name string, want int) {
		if v := key(name, isU32).(uint32); v != uint32(want) {
			p.need(false, "key %s is %d, not %d", name, v, want)
		}
	}
	arch := key("general.architecture", isString).(string)
	dim, embed, hidden := c.Width/c.Heads, uint64(c.Width), p.meta[arch+".feed_forward_length"].(uint32)
	number(arch+".context_length", c.Context)
	number(arch+".embedding_length", c.Width)
	number(arch+".block_count", c.Depth)
	number(arch+".attention.head_count", c.Heads)
	number(arch+".attention.head_count_kv", c.KVHeads)
	number(arch+".rope.dimension_count", dim)
	number(arch+".vocab_size", c.Vocab)
	number("general.quantization_version", 2)
	p.need(key(arch+".attention.layer_norm_rms_epsilon", isF32).(float32) == c.Eps, "another epsilon")
	p.need(key(arch+".rope.freq_base", isF32).(float32) == float32(c.Theta), "another base of positions")
	key(arch+".feed_forward_length", isU32)
	p.need(int(hidden) >= c.Hidden && int(hidden) < c.Hidden+256, "a feed-forward length of %d", hidden)

	p.need(key("tokenizer.ggml.model", isString).(string) == "llama", "no SentencePiece vocabulary")
	words, scores := key("tokenizer.ggml.tokens", isArray).([]any), key("tokenizer.ggml.scores", isArray).([]any)
	types := key("tokenizer.ggml.token_type", isArray).([]any)
	p.need(len(words) == c.Vocab && len(scores) == c.Vocab && len(types) == c.Vocab, "vocabularies differ in length")
	for i := range words {
		p.need(words[i] == fmt.Sprintf("<0x%02X>", i) && types[i] == int32(6) && scores[i] == float32(0), // 6: a byte
			"token %d is %v of type %v, score %v", i, words[i], types[i], scores[i])
	}
	for _, name := range []string{"bos", "eos", "unknown"} {
		v := key("tokenizer.ggml."+name+"_token_id", isU32).(uint32)
		p.need(int(v) < c.Vocab, "token %s is %d", name, v)
	}
	p.need(key("tokenizer.ggml.add_bos_token", isBool) == false, "a token is put in front")
	p.need(key("tokenizer.ggml.add_space_prefix", isBool) == false, "a space is put in front")

	// The tensors, and no other: llama.cpp counts them.
	left := maps.Clone(p.tensors)
	tensor := func(name string, kinds []uint32, ne ...uint64) {
		t, ok := p.tensors[name]
		p.need(ok, "no tensor %s", name)
		p.need(slices.Equal(t.ne, ne), "tensor %s is %v, not %v", name, t.ne, ne)
		p.need(kinds == nil || slices.Contains(kinds, t.kind), "tensor %s has type %d", name, t.kind)
		delete(left, name)
	}
	floats := []uint32{0} // its arithmetic takes norms in F32
	tensor("token_embd.weight", []uint32{0, 1}, embed, uint64(c.Vocab))
	tensor("output_norm.weight", floats, embed)
	if !c.Tied {
		p.need(arch != "bitnet", "bitnet has no head of its own")
		tensor("output.weight", []uint32{0, 1}, embed, uint64(c.Vocab))
	}
	kv, wide := uint64(dim*c.KVHeads), uint64(hidden)
	for i := range c.Depth {
		blk := "blk." + strconv.Itoa(i) + "."
		linear := func(name string, in, out uint64) {
			tensor(blk+name+".weight", nil, in, out)
			if _, ok := left[blk+name+".scale"]; ok {
				tensor(blk+name+".scale", floats, 1)
			}
		}
		tensor(blk+"attn_norm.weight", floats, embed)
		tensor(blk+"ffn_norm.weight", floats, embed)
		linear("attn_q", embed, embed)
		linear("attn_k", embed, kv)
		linear("attn_v", embed, kv)
		linear("attn_output", embed, embed)
		linear("ffn_gate", embed, wide)
		linear("ffn_up", embed, wide)
		linear("ffn_down", wide, embed)
		switch arch {
		case "qwen3":
			number("qwen3.attention.key_length", dim)
			number("qwen3.attention.value_length", dim)
			tensor(blk+"attn_q_norm.weight", floats, uint64(dim))
			tensor(blk+"attn_k_norm.weight", floats, uint64(dim))
		case "bitnet", "bitnet-b1.58":
			tensor(blk+"attn_sub_norm.weight", floats, embed)
			tensor(blk+"ffn_sub_norm.weight", floats, wide)
		default:
			p.need(arch == "llama", "architecture %s", arch)
		}
	}
	p.need(len(left) == 0, "tensors that nobody reads: %v", left)
	return nil
}

// TestGGUFParser: an independent, strict parser accepts every file that the export writes, and finds in it what
// llama.cpp or bitnet.cpp asks for.
func TestGGUFParser(t *testing.T) {
	dev := cpu.New(0)
	all := []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.TQ1_0, gguf.TQ2_0}
	floats := all[:4]
	for name, x := range map[string]struct {
		change func(c *llm.Config)
		types  []gguf.Type
	}{
		"qwen3":        {arch("qwen3"), all},
		"padded":       {func(c *llm.Config) { c.Hidden = 320 }, all},
		"untied":       {func(c *llm.Config) { c.Tied = false }, all},
		"llama":        {arch("llama"), all},
		"bitnet":       {arch("bitnet"), all},
		"columns":      {func(c *llm.Config) { arch("bitnet")(c); c.Quant.Columns = 3 }, all},
		"bitnet-b1.58": {arch("bitnet-b1.58"), []gguf.Type{gguf.I2_S}},
		"fp32":         {func(c *llm.Config) { c.Weights = llm.FP32Weights }, floats},
		"five":         {func(c *llm.Config) { c.Weights = llm.FiveWeights }, floats},
		"rows":         {func(c *llm.Config) { c.Quant.PerRow = true }, floats},
	} {
		c := exportable(x.change)
		m := build(t, dev, c)
		for _, typ := range x.types {
			b, err := os.ReadFile(writeGGUF(t, m, typ))
			if err != nil {
				t.Fatal(err)
			}
			p, err := parse(b)
			if err == nil {
				err = p.loads(c)
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, typ, err)
				continue
			}
			if q := p.tensors["blk.1.ffn_down.weight"].kind; q != uint32(typ) {
				t.Errorf("%s: layers have type %d, not %s", name, q, typ)
			}
			if v, ok := p.meta["general.file_type"]; ok != (typ != gguf.I2_S) || ok && p.kind["general.file_type"] != isU32 {
				t.Errorf("%s, %s: file type %v", name, typ, v)
			}
		}
	}
}

// TestGGUFParserFinds: the parser is strict: it refuses files with one thing wrong.
func TestGGUFParserFinds(t *testing.T) {
	c := exportable(arch("bitnet"))
	good, err := os.ReadFile(writeGGUF(t, build(t, cpu.New(0), c), gguf.TQ2_0))
	if err != nil {
		t.Fatal(err)
	}
	// at is where the number behind a name begins, which stands once.
	at := func(name string) int {
		if bytes.Count(good, []byte(name)) != 1 {
			t.Fatalf("%q stands %d times", name, bytes.Count(good, []byte(name)))
		}
		return bytes.Index(good, []byte(name)) + len(name)
	}
	const matrix, number = 4 + 2*8 + 4, 4 + 8 + 4 // to the offset of a tensor
	whole, err := parse(good)
	if err != nil {
		t.Fatal(err)
	}
	scale := whole.data + int(binary.LittleEndian.Uint64(good[at("blk.0.attn_q.scale")+number:]))
	for what, change := range map[string]func(b []byte) []byte{
		"version":       func(b []byte) []byte { b[4] = 2; return b },
		"key":           func(b []byte) []byte { b[at("bitnet.block_count")-1] = 'x'; return b },
		"key type":      func(b []byte) []byte { b[at("bitnet.block_count")] = isI32; return b },
		"key value":     func(b []byte) []byte { b[at("bitnet.block_count")+4]++; return b },
		"token":         func(b []byte) []byte { b[at("<0x41")-1] = '2'; return b },
		"tensor name":   func(b []byte) []byte { b[at("blk.1.ffn_gate.weight")-1] = 's'; return b },
		"tensor shape":  func(b []byte) []byte { b[at("blk.1.ffn_gate.weight")+5]++; return b },
		"tensor type":   func(b []byte) []byte { b[at("blk.1.ffn_gate.weight")+matrix-4] = 34; return b },
		"alignment":     func(b []byte) []byte { b[at("blk.1.ffn_gate.weight")+matrix] |= 4; return b },
		"overlap":       func(b []byte) []byte { b[at("blk.1.ffn_gate.weight")+matrix] ^= 32; return b },
		"cut":           func(b []byte) []byte { return b[:len(b)-1] },
		"bytes at end":  func(b []byte) []byte { return append(b, 0) },
		"used padding":  func(b []byte) []byte { b[scale+4] = 1; return b },
		"other context": func(b []byte) []byte { b[at("bitnet.context_length")+5] = 1; return b },
	} {
		p, err := parse(change(slices.Clone(good)))
		if err == nil {
			err = p.loads(c)
		}
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
