"""Tamper at random with every kind of file that a command reads again: 0 tracebacks, hangs, wrong answers.

python scripts/fuzz.py --output DIR               # 100 tamperings of each kind, half an hour
python scripts/fuzz.py --output DIR --count 10 --only manifest.csv,model.json
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reliability.fuzzing import KINDS, build, fuzz, undrawn
from tests.reliability.kills import tiny_network


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
    shutil.rmtree(root, ignore_errors=True)
    words = io.StringIO()

    def said() -> str:
        text = words.getvalue()
        words.seek(0)
        words.truncate()
        return text

    total = 0
    with tiny_network(), undrawn(), redirect_stdout(words), redirect_stderr(words):
        sound = build(root / "sound")
        for kind in arguments.only.split(","):
            found = fuzz(sound, root / "changed", kind, arguments.count, said)
            print(f"{kind}: {arguments.count} tries, {len(found)} faults", file=out, flush=True)
            for one in found:
                print(f"  {one}", file=out, flush=True)
            total += len(found)
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
