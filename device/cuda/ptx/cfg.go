package ptx

// postDominators fills in where the lanes of each branch meet again: the immediate post-dominator of its block (Cooper,
// Harvey and Kennedy, A Simple, Fast Dominance Algorithm, on the reversed graph).
func postDominators(blocks []basic) {
	n := len(blocks)
	exit := n
	for i := range blocks {
		blocks[i].exit = exit
	}
	succ := make([][]int32, n)
	pred := make([][]int32, n+1) // of the graph, which are the successors of the reversed one
	for i := range blocks {
		blocks[i].successors(i, func(s int) {
			succ[i] = append(succ[i], int32(s))
			pred[s] = append(pred[s], int32(i))
		})
	}
	// Postorder of the reversed graph from the exit.
	number := make([]int, n+1)
	for i := range number {
		number[i] = -1
	}
	var order []int32
	seen := make([]bool, n+1)
	type visit struct {
		node int32
		next int
	}
	stack := []visit{{int32(exit), 0}}
	seen[exit] = true
	for len(stack) > 0 {
		v := &stack[len(stack)-1]
		if v.next < len(pred[v.node]) {
			p := pred[v.node][v.next]
			v.next++
			if !seen[p] {
				seen[p] = true
				stack = append(stack, visit{p, 0})
			}
			continue
		}
		number[v.node] = len(order)
		order = append(order, v.node)
		stack = stack[:len(stack)-1]
	}
	dom := make([]int32, n+1)
	for i := range dom {
		dom[i] = -1
	}
	dom[exit] = int32(exit)
	for changed := true; changed; {
		changed = false
		for i := len(order) - 2; i >= 0; i-- {
			v := order[i]
			d := int32(-1)
			for _, s := range succ[v] {
				if dom[s] < 0 {
					continue
				}
				if d < 0 {
					d = s
					continue
				}
				for a := s; a != d; {
					for number[a] < number[d] {
						a = dom[a]
					}
					for number[d] < number[a] {
						d = dom[d]
					}
				}
			}
			if d != dom[v] {
				dom[v], changed = d, true
			}
		}
	}
	for i := range blocks {
		blocks[i].join = dom[i]
		if dom[i] == int32(exit) {
			blocks[i].join = -1
		}
	}
}

// successors calls f for the blocks that may follow block i. The exit has the number of blocks.
func (b *basic) successors(i int, f func(s int)) {
	switch b.end {
	case endBranch:
		f(int(b.target))
		if b.guard == 0 {
			return
		}
	case endSwitch:
		for _, t := range b.targets {
			f(int(t))
		}
		return
	case endExit, endTrap:
		f(b.exit)
		if b.guard == 0 {
			return
		}
	}
	f(i + 1)
}
