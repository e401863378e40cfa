// Package tests holds what no single package can test: the tour that every device must pass (read it first), the golden
// run, the import graph, allocation, the commands end to end, and a consumer module.
package tests
