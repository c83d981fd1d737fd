"""Peak memory of `prepare` and `train` for few and for many images.

::

    python benchmarks/memory.py --cases 500 5000

Synthetic images; prints the peak resident memory of the largest process of each command, as the kernel
counted it. It should not grow with the number of images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

WATCH = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"code": code, "mib": peak}))
"""


def peak(*command: str) -> float:
    """Peak resident memory of a command and its children, each by itself, in MiB."""
    done = subprocess.run([sys.executable, "-c", WATCH, *command], capture_output=True, text=True, check=True)
    outcome = json.loads(done.stdout)
    if outcome["code"]:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return float(outcome["mib"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    tool = str(Path(sys.executable).with_name("gcsam-med"))
    print("cases   prepare MiB   train MiB")
    for cases in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            data = ["--dataset", "busi", "--data-root", f"{folder}/data"]
            demo = ["--demo", "--demo-cases", str(cases), "--size", str(arguments.size), "-q"]
            prepared = peak(tool, "prepare", *data, *demo)
            run = ["--epochs", "1", "--optimizer", "adam", "--output", f"{folder}/run", "-q"]
            trained = peak(tool, "train", *data, *run)
        print(f"{cases:5d}   {prepared:11.0f}   {trained:9.0f}", flush=True)


if __name__ == "__main__":
    main()
