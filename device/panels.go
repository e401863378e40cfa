package device

// Panels are weight codes (n, k) at two bits each, in the order in which products read them. A panel is PanelRows rows;
// it goes through k in blocks of PanelDepth columns, 128 bytes each: byte 4*r+b of a block, bits 2p and 2p+1, is
// code + 1 of the panel's row r and the block's column 4p+b. Rows and columns beyond the weight have code 0.
//
// Codes of two levels are the sum of two ternary ones, of which the first takes what it can: the panel holds all its
// blocks of the first, then those of the second.
const (
	PanelRows  = 32
	PanelDepth = 16

	panelBlock = PanelRows * PanelDepth / 4 // bytes
)

// PanelBlocks is the number of blocks in a panel of rows of k codes in [-levels, levels], levels 1 or 2.
func PanelBlocks(k, levels int) int { return (k + PanelDepth - 1) / PanelDepth * levels }

// PanelBytes is the size of codes (n, k) as panels.
func PanelBytes(n, k, levels int) int {
	return (n + PanelRows - 1) / PanelRows * PanelBlocks(k, levels) * panelBlock
}

// PackPanels packs codes (n, k) in [-levels, levels] into dst, PanelBytes(n, k, levels) long.
func PackPanels(dst []uint8, codes []int8, n, k, levels int) {
	plane := PanelBlocks(k, 1) * panelBlock
	for i := range dst {
		dst[i] = 0b01_01_01_01
	}
	for i := range n {
		panel, row := dst[i/PanelRows*plane*levels:][:plane*levels], codes[i*k:][:k]
		j := 0
		if levels == 1 {
			for ; j+PanelDepth <= k; j += PanelDepth {
				to := panel[j/PanelDepth*panelBlock+i%PanelRows*4:][:4]
				v := fours(row[j:]) | fours(row[j+4:])<<2 | fours(row[j+8:])<<4 | fours(row[j+12:])<<6
				to[0], to[1], to[2], to[3] = uint8(v), uint8(v>>8), uint8(v>>16), uint8(v>>24)
			}
		}
		for ; j < k; j++ {
			at := j/PanelDepth*panelBlock + i%PanelRows*4 + j%4
			shift := j % PanelDepth / 4 * 2
			first := min(max(row[j], -1), 1)
			panel[at] += uint8(first) << shift
			if levels == 2 {
				panel[plane+at] += uint8(row[j]-first) << shift
			}
		}
	}
}

// fours are four ternary codes, plus 1, in the bytes of a word.
func fours(c []int8) uint32 {
	c = c[:4]
	return uint32(uint8(c[0]+1)) | uint32(uint8(c[1]+1))<<8 | uint32(uint8(c[2]+1))<<16 | uint32(uint8(c[3]+1))<<24
}

// UnpackRows gives the codes (hi-lo, k) of rows [lo, hi).
func UnpackRows(codes []int8, panels []uint8, lo, hi, k, levels int) {
	plane := PanelBlocks(k, 1) * panelBlock
	for i := lo; i < hi; i++ {
		panel := panels[i/PanelRows*plane*levels:][:plane*levels]
		for j := range codes[(i-lo)*k:][:k] {
			at := j/PanelDepth*panelBlock + i%PanelRows*4 + j%4
			shift := j % PanelDepth / 4 * 2
			c := int8(panel[at]>>shift&3) - 1
			if levels == 2 {
				c += int8(panel[plane+at]>>shift&3) - 1
			}
			codes[(i-lo)*k+j] = c
		}
	}
}
