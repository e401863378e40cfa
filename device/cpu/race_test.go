//go:build race

package cpu

func init() { race = true }
