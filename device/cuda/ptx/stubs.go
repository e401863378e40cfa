package ptx

func (c *compiler) mma()      { c.fail("todo") }
func (c *compiler) ldmatrix() { c.fail("todo") }
func (c *compiler) cp()       { c.fail("todo") }

type asyncCopy struct{}

func (w *warp) dropAsync(m uint32) {}
