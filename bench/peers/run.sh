#!/usr/bin/env bash
# Times setun and its peers in the same minutes, in turns, and prints one table of ratios.
# Usage: run.sh THREADS [ROUNDS] [DEVICES]; PYTHON names the interpreter that has torch and numpy.
set -euo pipefail
cd "$(dirname "$0")"
threads=${1:?usage: run.sh THREADS [ROUNDS] [DEVICES]} rounds=${2:-3} devices=${3:-simd}
[[ $threads =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: THREADS is $threads; it must be 1 or more" >&2; exit 1; }
python=${PYTHON:-/usr/bin/python3}
. ./env.sh "$threads"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
(cd ../.. && go build -o "$out/bench" ./bench)
go build -o "$out/peers" .

n=0
setun() { "$out/bench" -threads "$threads" -devices "$devices" -run "$1" -json "$out/$((n += 1)).json" >/dev/null; }
py() { "$python" "$@" >>"$out/python.jsonl"; }

"$python" -c 'import openblas_gemm as o, torch
print("OpenBLAS kernels:", o.blas.openblas_get_corename().decode(), "  torch", torch.__version__)'
for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  for size in '256 4 5' '384 6 3'; do
    read -r d l steps <<<"$size"
    flags=(--threads "$threads" --d "$d" --layers "$l" --steps "$steps")
    setun "train/gopher/fp32/d=$d,"
    py torch_gpt.py "${flags[@]}"
    setun "train/gopher/bf16/d=$d,"
    py torch_gpt.py "${flags[@]}" --bf16
    setun "train/gopher/ternary/d=$d,"
    py torch_gpt.py "${flags[@]}" --ternary
    py torch_gpt.py "${flags[@]}" --ternary --bf16
  done
  setun '^train/mlp/'
  py torch_mlp.py --threads "$threads"
  py torch_mlp.py --threads "$threads" --ternary
  setun '^(gemm|linear)/(f32|int8)/'
  py openblas_gemm.py "$threads" 5
  setun '^quantize/absmean'
  py numpy_quant.py "$threads"
  if "$python" -c 'import sklearn' 2>/dev/null; then
    setun '^kmeans/'
    py sklearn_kmeans.py "$threads"
  fi
done
echo "Go libraries" >&2
"$out/peers" -threads "$threads" >>"$out/go.jsonl" || echo "run.sh: the Go libraries did not finish" >&2
"$out/peers" -table "$out"/*.json "$out"/*.jsonl
