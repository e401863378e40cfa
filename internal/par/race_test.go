//go:build race

package par

func init() { race = true }
