# The environment in which OpenBLAS and PyTorch are fastest: their own choice of kernels, and one pool of threads, which
# they share only when OpenBLAS is the OpenMP build. OpenBLAS 0.3.21 picks Cooperlake (AVX-512) on Zen 4, as fast there
# as SkylakeX. On processors younger than itself it falls back to SSE3: there it is told to. Usage: . env.sh THREADS
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS
blas=$(ls -d /usr/lib/*/openblas-openmp 2>/dev/null | head -n 1)
[ -n "$blas" ] || { echo "peers: no OpenMP build of OpenBLAS; install libopenblas0-openmp" >&2; exit 1; }
export LD_LIBRARY_PATH=$blas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} OMP_NUM_THREADS=$1 ATEN_CPU_CAPABILITY=avx512
if grep -qw avx512f /proc/cpuinfo && ${PYTHON:-/usr/bin/python3} -c 'import ctypes
b = ctypes.CDLL("libopenblas.so.0")
b.openblas_get_corename.restype = ctypes.c_char_p
raise SystemExit(b.openblas_get_corename() != b"Prescott")'; then
  export OPENBLAS_CORETYPE=COOPERLAKE
fi
