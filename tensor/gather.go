package tensor

import "setun/device"

// Gather: y[i,:] = table[ids[i],:].
func Gather(y, table, ids *Tensor) {
	_, cols := table.matrix()
	check(ids.Type() == device.I32 && y.Len() == ids.Len()*cols, "Gather", "do not fit: one row per id", y, table, ids)
	where("Gather", y, table, ids).Gather(y.mem, table.mem, ids.mem, ids.Len(), cols)
}

// ScatterAdd: dtable[ids[i],:] += dy[i,:].
func ScatterAdd(dtable, dy, ids *Tensor) {
	if dtable == nil {
		return
	}
	_, cols := dtable.matrix()
	check(ids.Type() == device.I32 && dy.Len() == ids.Len()*cols, "ScatterAdd", "do not fit: one row per id", dtable,
		dy, ids)
	where("ScatterAdd", dtable, dy, ids).ScatterAdd(dtable.mem, dy.mem, ids.mem, ids.Len(), cols)
}
