package ptx

// postDominators fills in where the lanes of each branch meet again: the immediate post-dominator of its block (Cooper,
// Harvey and Kennedy, A Simple, Fast Dominance Algorithm, on the reversed graph).
func postDominators(blocks []basic) {
	n := len(blocks)
	exit := n
	succ := make([][]int32, n)
	pred := make([][]int32, n+1) // of the graph, which are the successors of the reversed one
	for i := range blocks {
		b := &blocks[i]
		switch b.end {
		case endBranch:
			succ[i] = append(succ[i], b.target)
			if b.guard != 0 {
				succ[i] = append(succ[i], int32(i+1))
			}
		case endSwitch:
			succ[i] = append(succ[i], b.targets...)
		case endExit, endTrap:
			succ[i] = append(succ[i], int32(exit))
			if b.guard != 0 {
				succ[i] = append(succ[i], int32(i+1))
			}
		default:
			succ[i] = append(succ[i], int32(i+1))
		}
		for _, s := range succ[i] {
			pred[s] = append(pred[s], int32(i))
		}
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
