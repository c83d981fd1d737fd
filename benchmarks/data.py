"""Speed and memory of preparing data.

::

    python benchmarks/data.py prepare --source Dataset_BUSI_with_GT
    python benchmarks/data.py pairs --images 100000
    python benchmarks/data.py malformed

``prepare``: wall time of the whole command with audit (promise for 290 PNGs of 100 MB on 2 cores: 12 s).
``pairs``: all close pairs among synthetic hashes (promise for 100,000: 60 s and 2 GB), for hashes drawn at
random, for hashes crowded around a few prototypes as those of chest X-rays are, and for equal ones.
``malformed``: the slowest of the test suite's malformed files and the peak memory (promise: 5 s, 1 GB).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def prepare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as data_root:
        command = [sys.executable, "-m", "gcsam_med", "prepare", "--dataset", "busi", "--quiet"]
        command += ["--source", str(arguments.source), "--data-root", data_root]
        for what in ("prepare", "prepare again, nothing changed"):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            print(f"{what}: {time.perf_counter() - start:.1f} s")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"processor time of both, all processes: {used.ru_utime + used.ru_stime:.1f} s")


def pairs(arguments: argparse.Namespace) -> None:
    from gcsam_med.preparation.duplicates import close_pairs

    n, rng = arguments.images, np.random.default_rng(0)
    crowd = rng.integers(0, 2**64, (20, 4), dtype=np.uint64)[rng.integers(0, 20, n)]
    for _ in range(8):
        crowd ^= np.uint64(1) << rng.integers(0, 64, crowd.shape, dtype=np.uint64)
    sets = {
        "random": rng.integers(0, 2**64, (n, 4), dtype=np.uint64),
        "crowded": crowd,
        "equal": np.repeat(crowd[:1], n, axis=0),
    }
    for name, hashes in sets.items():
        start, used = time.perf_counter(), time.process_time()
        found = close_pairs(hashes)
        wall, processors = time.perf_counter() - start, time.process_time() - used
        print(
            f"{name}: {wall:.1f} s ({processors:.1f} s of processors), {len(found.first)} pairs "
            f"up to distance {found.limit}"
        )
    print(f"peak memory: {_peak():.0f} MiB")


def malformed(arguments: argparse.Namespace) -> None:
    del arguments
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from gcsam_med.images import ImageFault, read_image
    from tests.images.malformed import zoo

    slowest, worst = 0.0, ""
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, _) in zoo().items():
            path = Path(folder) / name
            path.write_bytes(content)
            start = time.perf_counter()
            with contextlib.suppress(ImageFault):
                read_image(path)
            took = time.perf_counter() - start
            slowest, worst = max((slowest, worst), (took, name))
    print(f"slowest: {worst}, {slowest:.2f} s; peak memory: {_peak():.0f} MiB")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_subparsers(required=True)
    one = which.add_parser("prepare")
    one.add_argument("--source", type=Path, required=True)
    one.set_defaults(run=prepare)
    two = which.add_parser("pairs")
    two.add_argument("--images", type=int, default=100_000)
    two.set_defaults(run=pairs)
    which.add_parser("malformed").set_defaults(run=malformed)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    arguments.run(arguments)


if __name__ == "__main__":
    main()
