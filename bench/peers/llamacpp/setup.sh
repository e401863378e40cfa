#!/usr/bin/env bash
# Installs stock llama.cpp, prebuilt, into FOLDER (default lib): npm only unpacks it, nothing is compiled.
set -euo pipefail
dir=${1:-"$(dirname "$0")/lib"}
mkdir -p "$dir/npm"
(cd "$dir/npm" && npm init -y >/dev/null && npm install --silent --ignore-scripts \
  node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1)
cp "$dir"/npm/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/*.so "$dir"
cd "$dir"
for lib in llama ggml; do ln -sf "$(ls lib$lib.v*.so)" lib$lib.so; done
echo "llama.cpp $(ls libllama.v*.so | sed 's/libllama\.//; s/\.so//') is in $dir"
