// An id outside its table has no effect but to leave {kernel, row, id} in errs, if it is the first.
enum { GatherError = 1, ScatterAddError, CrossEntropyError, CrossEntropyGradError };

DEVICE void complain(int *errs, int kernel, long row, int id) {
	if (__nvvm_atom_cas_gen_i(errs, 0, kernel) == 0) {
		errs[1] = (int)row;
		errs[2] = id;
	}
}
