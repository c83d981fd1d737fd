#!/bin/bash
# Shows on a CPU that a study cut by time and continued in another folder equals one that was not cut:
#   bash scripts/gpu-study-check.sh [MINUTES-OF-THE-FIRST-PART]
# Without minutes the first part is stopped when one run is finished. It takes a few minutes in all.
# Compared: cases.csv of every run, byte for byte.
set -eu
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-python} PYTHONPATH=${PYTHONPATH:-$PWD} JOBS=1 EVERY=1
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"$PYTHON" -m gcsam_med prepare --dataset busi --demo --demo-cases 40 --size 32 --folds 2 --data-root "$folder/data" --quiet
cat > "$folder/tiny.yaml" <<'YAML'
parts:
  tiny:
    train_images: 20
    val_images: 10
    compare: {optimizers: [adam, gcsam], seeds: 0-1, resamples: 100}
    settings: {dataset: busi, task: segmentation, epochs: 1, batch_size: 8}
YAML
study() { bash scripts/gpu-study.sh "$1" "$2" "$folder/tiny.yaml" --data-root "$folder/data" --device cpu --quiet || true; }
finished() { find "$1" -name slim | wc -l; }
if [ $# -gt 0 ]; then
    study "$1" "$folder/first"
else
    study 60 "$folder/first" & first=$!
    mkdir -p "$folder/first"
    until [ "$(finished "$folder/first")" -ge 1 ]; do sleep 0.5; done
    pkill -TERM -P $first || true; wait $first || true
fi
echo "after the first part: $(finished "$folder/first") of 4 runs"
cp -R "$folder/first" "$folder/second"
study 60 "$folder/second"
study 60 "$folder/whole"
echo "continued: $(finished "$folder/second") of 4; in one go: $(finished "$folder/whole") of 4"
[ "$(finished "$folder/second")" = 4 ] && [ "$(finished "$folder/whole")" = 4 ]
for cases in "$folder"/whole/tiny/runs/*/evaluation/test/cases.csv; do
    cmp "$cases" "$folder/second${cases#"$folder/whole"}"
done
[ -s "$folder/second/tiny/comparison.html" ]
du -sh "$folder/second" | cut -f1 | sed 's/^/size of the folder: /'
echo "The continued study equals the one that was not cut."
