"""Absmean ternary codes of 16M floats in NumPy: the obvious expression, and the fastest one known, two comparisons."""

import sys

import numpy as np

from report import emit, rounds

n = 1 << 24
w = np.random.default_rng(1).normal(0, 0.02, n).astype(np.float32)
magnitude = np.empty_like(w)


def obvious():
    return np.clip(np.round(w / np.abs(w).mean()), -1, 1).astype(np.int8)


def compare():
    half = np.abs(w, out=magnitude).mean() / 2
    return np.subtract(w > half, w < -half, dtype=np.int8)


if __name__ == "__main__":
    assert (obvious() != compare()).mean() < 1e-6
    for device, f in ('numpy', obvious), ('numpy-compare', compare):
        emit(f'quantize/absmean/n={n}', device, int(sys.argv[1]), n / 1e6, 'Mvalue/s', rounds(f, 7))
