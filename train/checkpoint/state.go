package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	format  = "setun checkpoint"
	version = 1
)

// record is state.json without its checksum.
type record struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	Step    int             `json:"step"`
	Config  json.RawMessage `json:"config"`
	State   json.RawMessage `json:"state"`
	Model   fileSum         `json:"model.safetensors"`
	Optim   fileSum         `json:"optim.safetensors"`
}

// fileSum identifies the contents of a file.
type fileSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// The text of state.json is body, sumKey, 64 hex digits, sumEnd; the digits are the SHA-256 of body and sumKey. This is
// the same in all versions, so that a changed version number is told from a later version.
const (
	sumKey = ",\n  \"checksum\": \""
	sumEnd = "\"\n}\n"
)

func seal(body []byte) []byte {
	b := append(bytes.Clone(body), sumKey...)
	sum := sha256.Sum256(b)
	b = hex.AppendEncode(b, sum[:])
	return append(b, sumEnd...)
}

func sealed(b []byte) bool {
	n := len(b) - len(sumEnd) - 2*sha256.Size
	if n < 0 || !bytes.HasSuffix(b[:n], []byte(sumKey)) {
		return false
	}
	return bytes.Equal(b, seal(b[:n-len(sumKey)]))
}

func encodeState(r *record) ([]byte, error) {
	for _, x := range []struct {
		name string
		json.RawMessage
	}{{"Config", r.Config}, {"State", r.State}} {
		if len(x.RawMessage) > 0 && !json.Valid(x.RawMessage) {
			return nil, fmt.Errorf("%s is not valid JSON", x.name)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return seal(bytes.TrimSuffix(b.Bytes(), []byte("\n}\n"))), nil
}

func decodeState(b []byte) (*record, error) {
	if !sealed(b) {
		return nil, errors.New("the checksum at its end does not match: the file was damaged, cut or edited")
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		var head struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(b, &head) != nil || head.Version <= version {
			return nil, err
		}
		r.Version = head.Version
	}
	if r.Version > version {
		return nil, fmt.Errorf("%w: it has format version %d, this program knows up to %d: update setun",
			ErrNewer, r.Version, version)
	}
	switch {
	case r.Format != format:
		return nil, fmt.Errorf("format is %q, not %q", r.Format, format)
	case r.Version < 1:
		return nil, fmt.Errorf("version %d does not exist", r.Version)
	case r.Step < 0:
		return nil, fmt.Errorf("step %d is negative", r.Step)
	}
	for _, raw := range []*json.RawMessage{&r.Config, &r.State} {
		var c bytes.Buffer
		if len(*raw) > 0 {
			if err := json.Compact(&c, *raw); err != nil {
				return nil, err
			}
		}
		*raw = c.Bytes()
		if c.Len() == 0 || c.String() == "null" {
			*raw = nil
		}
	}
	return r, nil
}
