"""Tamper at random with every kind of file that a command reads again: 0 tracebacks, hangs, wrong answers.

python scripts/fuzz.py --output DIR               # 100 tamperings of each kind, some hours
python scripts/fuzz.py --output DIR --count 10 --only manifest.csv,model.json

What was tried stands in DIR/results.jsonl; the same command goes on from there, the least tried kind first.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reliability.fuzzing import KINDS, build, fuzz, undrawn
from tests.reliability.kills import tiny_network

STEP = 25  # tries of a kind before the next is taken


def main() -> None:
    """Fuzz what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--only", default=",".join(KINDS))
    arguments = parser.parse_args()
    root, out = arguments.output.resolve(), sys.stdout
    shutil.rmtree(root / "sound", ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    results = root / "results.jsonl"
    results.touch()
    tried = Counter(dict.fromkeys(arguments.only.split(","), 0))
    total = 0
    for line in results.read_text().splitlines():
        former = json.loads(line)
        tried[former["kind"]] += former["tries"]
        total += len(former["faults"])
    words = io.StringIO()

    def said() -> str:
        text = words.getvalue()
        words.seek(0)
        words.truncate()
        return text

    with tiny_network(), undrawn(), redirect_stdout(words), redirect_stderr(words):
        sound = build(root / "sound")
        while (kind := min(tried, key=lambda k: tried[k])) and tried[kind] < arguments.count:
            numbers = range(tried[kind], min(arguments.count, tried[kind] + STEP))
            found = fuzz(sound, root / "changed", kind, numbers, said)
            tried[kind] = numbers.stop
            line = {"kind": kind, "tries": len(numbers), "faults": [str(one) for one in found]}
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{kind}: {tried[kind]} tries, {len(found)} faults in the last", file=out, flush=True)
            for one in found:
                print(f"  {one}", file=out, flush=True)
            total += len(found)
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
