package data

// A Tokenizer turns text into token ids in 0 .. Vocab-1 and back.
type Tokenizer interface {
	Encode(text []byte) []int32
	Decode(tokens []int32) []byte
	Vocab() int
	Name() string // stored in checkpoints
}

// Bytes is the tokenizer whose tokens are the bytes of the text: 256 of them, nothing to learn, every input valid.
type Bytes struct{}

// Encode returns one token a byte.
func (Bytes) Encode(text []byte) []int32 {
	t := make([]int32, len(text))
	for i, b := range text {
		t[i] = int32(b)
	}
	return t
}

// Decode is the inverse of Encode. It leaves out ids that are no byte: a model with a padded vocabulary may emit them.
func (Bytes) Decode(tokens []int32) []byte {
	b := make([]byte, 0, len(tokens))
	for _, t := range tokens {
		if 0 <= t && t < 256 {
			b = append(b, byte(t))
		}
	}
	return b
}

// Vocab is 256.
func (Bytes) Vocab() int { return 256 }

// Name is "bytes".
func (Bytes) Name() string { return "bytes" }
