#!/bin/bash
# As much of a study as fits into some minutes of this machine, without network:
#   bash scripts/gpu-study.sh MINUTES FOLDER STUDY.yaml [OPTION...]
# FOLDER gets what the analysis needs of each finished run (a few hundred kB: no weights, no pictures) and the
# comparison of what is there. The same command with FOLDER on another machine goes on from there. A run that was
# not finished is begun again, so one that takes longer than MINUTES never ends; with KEEP=1 FOLDER keeps the
# checkpoints of such runs (hundreds of MB each) until they are finished, and they go on.
# OPTIONs go to `gcsam-med compare`, such as --data-root data or --device cuda; with --dry-run only the time is
# told, and which runs take longer than MINUTES.
# JOBS: runs at once on a card (default 4). PYTHON: the interpreter.
set -eu
[ $# -ge 3 ] || { sed -n '2,10s/^# //p' "$0"; exit 2; }
minutes=$1 folder=$2 study=$3; shift 3
python=${PYTHON:-python}
export PYTHONPATH=${PYTHONPATH:-$(cd "$(dirname "$0")/.." && pwd)}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp -R "$folder/." "$work/"
app() { exec "$python" -m gcsam_med compare "$@"; }  # no shell between: it gets our signals
names() { sed -u "s|$work|$folder|g"; }  # what is said names FOLDER
collect() {  # each finished run appears in FOLDER whole or not at all
    local run part to
    for run in "$work"/*/runs/*/ "$work"/*/tuning/runs/*/; do
        part=${run#"$work/"}; to=$folder/${part%/}
        [ -e "$to/slim" ] || [ ! -e "$run/${1:-slim}" ] || keep "${run%/}" "$to"
    done
}
keep() { mkdir -p "$(dirname "$2")"; rm -rf "$2.new"; cp -R "$1" "$2.new"; rm -rf "$2"; mv "$2.new" "$2"; }
app --study "$study" --output "$work" --minutes "$minutes" --jobs "${JOBS:-4}" --slim "$@" > >(names) 2> >(names >&2) & pid=$!
trap 'kill -TERM $pid 2>/dev/null || true' TERM INT
while kill -0 $pid 2>/dev/null; do sleep "${EVERY:-5}"; collect; done
code=0; wait $pid || code=$?
collect
cut=$(cd "$work" && ls -d */runs/*/checkpoints */tuning/runs/*/checkpoints 2>/dev/null) || true
if [ -n "$cut" ] && [ "${KEEP:-0}" = 1 ]; then
    collect checkpoints
    echo "Cut by time, kept to go on next time:" $cut >&2
elif [ -n "$cut" ]; then
    echo "Cut by time, to be begun again next time (KEEP=1 keeps them, $(cd "$work" && du -shc $cut | tail -1 | cut -f1)):" $cut >&2
fi
for part in "$work"/*/; do  # plans and pages; runs were collected
    [ -d "$part" ] || continue
    name=$(basename "$part"); mkdir -p "$folder/$name"
    find "$part" -mindepth 1 -maxdepth 1 ! -name runs ! -name tuning ! -name logs ! -name '.*' \
        -exec cp -R {} "$folder/$name/" \;
done
du -sh "$folder" | cut -f1 | sed "s|^|$folder holds |" >&2
exit $code
