"""SGEMM of OpenBLAS: C (m,n) = op(A) op(B), row-major, in the sizes and forms of bench's gemm/f32 and linear/f32.

Called through ctypes, so that no copy or check of NumPy counts.
"""

import ctypes
import json
import sys

import numpy as np

from report import emit, rounds

blas = ctypes.CDLL('libopenblas.so.0')
blas.openblas_get_corename.restype = ctypes.c_char_p
ROW_MAJOR, NO, YES = 101, 111, 112
forms = {'': (NO, NO), 'nt/': (NO, YES), 'tn/': (YES, NO)}


def gemm(form, m, n, k, a, b, c, beta=0.0):
    ta, tb = forms[form]
    p = ctypes.POINTER(ctypes.c_float)
    args = (ROW_MAJOR, ta, tb, m, n, k, ctypes.c_float(1), a.ctypes.data_as(p), m if ta == YES else k,
            b.ctypes.data_as(p), k if tb == YES else n, ctypes.c_float(beta), c.ctypes.data_as(p), n)
    return lambda: blas.cblas_sgemm(*args)


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


if __name__ == '__main__':
    threads, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    shapes = json.load(open(sys.path[0] + '/../shapes.json'))
    for form, m, n, k in shapes['gemm']:
        f = gemm(form, m, n, k, normal(m, k), normal(k, n), np.zeros((m, n), np.float32))
        emit(f'gemm/f32/{form}m={m},n={n},k={k}', 'openblas', threads, 2e-9 * m * n * k, 'GFLOP/s',
             rounds(f, count, 0.03))
    for m, n, k in shapes['linear']:
        x, w, y, dy = normal(m, k), normal(n, k), np.zeros((m, n), np.float32), normal(m, n)
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        products = (gemm('nt/', m, n, k, x, w, y), gemm('', m, k, n, dy, w, dx, 1), gemm('tn/', n, k, m, dy, x, dw, 1))
        emit(f'linear/f32/m={m},n={n},k={k}', 'openblas', threads, 6e-9 * m * n * k, 'GFLOP/s',
             rounds(lambda: [f() for f in products], count, 0.03))
