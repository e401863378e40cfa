// Package auxnet has the auxiliary network: a perceptron of 146 parameters that reads the signals of a trust region and
// says how rate and radius change.
//
//	net, err := auxnet.New(auxnet.Config{})
//	region.Advise = net.Advise
//
// The weights that it starts with are distilled from [Rule] by the program in distill, which go generate runs. Online, each
// measured step is one more example.
package auxnet

//go:generate go run ./distill
