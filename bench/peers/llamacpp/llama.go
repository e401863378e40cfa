package main

import (
	"fmt"
	"os"

	"github.com/hybridgroup/yzma/pkg/llama"
)

type llamaCpp struct {
	ctx   llama.Context
	vocab int
}

func newLlama(lib, path string, threads, room int, exact, flash bool) (engine, error) {
	if _, err := os.Stat(lib); err != nil {
		return nil, fmt.Errorf("%w; run ./setup.sh first, or name its folder with -lib", err)
	}
	if err := llama.Load(lib); err != nil {
		return nil, err
	}
	llama.LogSet(llama.LogSilent())
	llama.Init()
	if err := llama.GGMLBackendLoadAllFromPath(lib); err != nil {
		return nil, err
	}
	model, err := llama.ModelLoadFromFile(path, llama.ModelDefaultParams())
	if err != nil {
		return nil, fmt.Errorf("llama.cpp does not load %s: %w", path, err)
	}
	p := llama.ContextDefaultParams()
	p.NCtx, p.NBatch, p.NUbatch = uint32(room), 512, 512
	p.NThreads, p.NThreadsBatch = int32(threads), int32(threads)
	p.FlashAttentionType = llama.FlashAttentionTypeDisabled
	if flash && !exact {
		p.FlashAttentionType = llama.FlashAttentionTypeEnabled
	}
	if exact {
		p.TypeK, p.TypeV = llama.GGMLTypeF32, llama.GGMLTypeF32
	}
	ctx, err := llama.InitFromModel(model, p)
	if err != nil {
		return nil, err
	}
	return &llamaCpp{ctx, int(llama.VocabNTokens(llama.ModelGetVocab(model)))}, nil
}

func (l *llamaCpp) name() string { return "llama.cpp" }

func (l *llamaCpp) next(tokens []int32) ([]float32, error) {
	ids := make([]llama.Token, len(tokens))
	for i, t := range tokens {
		ids[i] = llama.Token(t)
	}
	if rc, err := llama.Decode(l.ctx, llama.BatchGetOne(ids)); err != nil || rc != 0 {
		return nil, fmt.Errorf("llama.cpp: decode: %d, %w", rc, err)
	}
	return llama.GetLogitsIth(l.ctx, -1, l.vocab)
}

func (l *llamaCpp) truncate(n int) error {
	mem, err := llama.GetMemory(l.ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return llama.MemoryClear(mem, true)
	}
	_, err = llama.MemorySeqRm(mem, 0, llama.Pos(n), -1)
	return err
}
