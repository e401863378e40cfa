"""20 iterations of K-means on 100,000 x 64 with 64 centres in scikit-learn, from the first rows as centres."""

import sys
import warnings

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from report import emit, rounds

n, d, k, iterations = 100_000, 64, 64, 20
warnings.filterwarnings('ignore')

if __name__ == "__main__":
    rng = np.random.default_rng(7)
    for name, spread in ('noise', 0.0), ('clustered', 1.0):
        centers = spread * rng.normal(0, 1, (k, d))
        x = (centers[rng.integers(0, k, n)] + rng.normal(0, 1.2, (n, d))).astype(np.float32)
        for algorithm in 'lloyd', 'elkan':
            def fit():
                return KMeans(k, init=x[:k], n_init=1, max_iter=iterations, tol=0, algorithm=algorithm).fit(x)
            with threadpool_limits(limits=int(sys.argv[1])):
                done = fit().n_iter_
                emit(f'kmeans/{name}/n={n},d={d},k={k}', f'sklearn-{algorithm}', int(sys.argv[1]), done, 'iterations/s',
                     rounds(fit, 3))
