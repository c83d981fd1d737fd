#!/bin/bash
# What only a GPU can show, in at most 5 minutes: bash scripts/gpu-check.sh
# No network, no installation: PYTHON and PYTHONPATH choose what is run. Exit 1 if anything fails or a bar is missed.
# DEVICE=cpu CASES=30 SIZE=64 runs what a CPU can show of it.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python} device=${DEVICE:-cuda}
export PYTHONPATH=${PYTHONPATH:-$PWD}
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
check() {  # check NAME COMMAND...: its output, and one line in `failed` if it fails
    local name=$1; shift
    "$@" > "$folder/output-$name" 2>&1 || echo "$name" >> "$folder/failed"
    echo "== $name"; cat "$folder/output-$name"
}
app() { "$python" -m gcsam_med "$@" --quiet; }
new() {  # new RUN OPTIONS...
    local run=$1; shift
    app train --dataset demo --data-root "$folder/data" --optimizer gcsam --epochs 3 --device "$device" \
        --output "$folder/$run" "$@"
}
same() { "$python" - "$folder/$1/model/weights.safetensors" "$folder/$2/model/weights.safetensors" <<'EOF'
import sys
import torch
from safetensors.torch import load_file
a, b = map(load_file, sys.argv[1:])
same = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
print("weights are equal bit for bit" if same else "weights differ")
sys.exit(not same)
EOF
}
prepare() { app prepare --dataset busi --demo --demo-cases "${CASES:-60}" --size "${SIZE:-128}" --name demo --data-root "$folder/data"; }
twice() { new b && same a b; }
killed() {  # killed without warning after its first checkpoint, then resumed
    new c --set checkpoint_steps=2 & local pid=$!
    for _ in $(seq 900); do compgen -G "$folder/c/checkpoints/*.pt" > /dev/null && break; sleep 0.2; done
    kill -KILL "$(pgrep -P $pid || echo $pid)" 2>/dev/null; wait $pid
    [ -e "$folder/c/result.json" ] && echo "it was finished before it could be killed"
    app train --resume "$folder/c" && same a c
}
commands() {
    check "a-demo-data-set" prepare
    check "a-run" new a
    check "the-same-command-twice" twice
    check "killed-and-resumed" killed
}
tests() {
    local files workers=()
    "$python" -c "import xdist" 2>/dev/null && workers=(-n 4)
    mapfile -t files < <(grep -rl "mark.cuda" tests --include='test_*.py')
    timeout -k 5 130 "$python" -m pytest -q -m cuda "${workers[@]}" "${files[@]}" -p no:cacheprovider -p no:benchmark --tb=short -rf
}

if [ "$device" = cuda ]; then
    commands > "$folder/commands" & beside=$!
    check "CUDA-tests" tests
    wait $beside; cat "$folder/commands"
    # Alone: it measures time.
    check "images-a-second-and-memory" timeout -k 5 170 "$python" benchmarks/gpu.py
else
    commands
fi
echo
if [ -s "$folder/failed" ]; then echo "FAILED:"; cat "$folder/failed"; exit 1; fi
echo "All checks passed."
