// Package gradq quantizes gradients: less to send when several machines train one model.
//
// A [Quantizer] stands between the backward pass and the optimizer. Quantize replaces every gradient by the value that
// a receiver would see, and counts the bytes of the message. Append writes the message too, and Average puts the mean
// of several messages in the place of the gradients: the same bits for all who hold the same messages. A [Codec] turns
// the codes and scales of one gradient into bytes and back.
//
//	kind        gradient g becomes                                                bits   bias
//	fp32        g                                                                 32
//	int8        s*floor(g/s + u), s = max|g|/127, u uniform in [0, 1)             8      none
//	ternary     s*sign(g)*b, b = 1 with probability |g|/s, s = min(max|g|,        ≤ 1.6  only of what is clipped
//	            2.5 rms(g)): TernGrad (Wen et al. 2017, arXiv 1705.07878)
//	ternary-ef  C(g + e), e what was not sent before; C(p) = a*sign(p) where      ≤ 1.6  made up for later
//	            |p| > 0.7 mean|p|, a = mean|p| there (Karimireddy et al. 2019, arXiv 1901.09847)
//
// Scales are per tensor or per row. Random numbers are a function of seed, step, parameter and element, so a run that
// resumes draws the same ones.
package gradq
