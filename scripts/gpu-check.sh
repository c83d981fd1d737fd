#!/bin/bash
# What only a GPU can show, in at most 5 minutes: bash scripts/gpu-check.sh
# No network, no installation: PYTHON and PYTHONPATH choose what is run. Exit 1 if anything fails or a bar is missed.
# DEVICE=cpu CASES=30 SIZE=64 runs what a CPU can show of it.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python} device=${DEVICE:-cuda}
export PYTHONPATH=${PYTHONPATH:-$PWD}
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
failed=()
check() {  # check NAME COMMAND...
    local name=$1; shift
    echo "== $name"
    "$@" || { echo "FAILED: $name"; failed+=("$name"); }
}
new() { "$python" -m gcsam_med train --quiet --dataset demo --data-root "$folder/data" --optimizer gcsam --epochs 3 --device "$device" \
    --output "$folder/$1"; }
weights() { "$python" - "$folder/$1/model/weights.safetensors" "$folder/$2/model/weights.safetensors" <<'EOF'
import sys
import torch
from safetensors.torch import load_file
a, b = map(load_file, sys.argv[1:])
same = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
print("weights are equal bit for bit" if same else "weights differ")
sys.exit(not same)
EOF
}
prepare() { "$python" -m gcsam_med prepare --dataset busi --demo --demo-cases "${CASES:-60}" --size "${SIZE:-128}" --name demo \
    --data-root "$folder/data" --quiet; }
twice() { new a && new b && weights a b; }

if [ "$device" = cuda ]; then
    check "CUDA tests" timeout 120 "$python" -m pytest -q -m cuda tests -p no:cacheprovider
    check "images a second and memory" timeout 150 "$python" benchmarks/gpu.py
fi
check "a demo data set" prepare
check "the same command twice" twice
echo
if [ ${#failed[@]} -gt 0 ]; then printf 'FAILED: %s\n' "${failed[@]}"; exit 1; fi
echo "All checks passed."
