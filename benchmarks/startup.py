"""How long a user waits: for `--help`, and for the first batch of `train`; beside it the CPU seconds.

::

    python benchmarks/startup.py

``--help`` is timed from outside, as the median of several runs; the first batch from the start of the
command to the end of the first training step on the demo data set, which is made first. Where others use the
machine, the CPU seconds (user and system, until the process has ended) say more than the clock.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_STEP = """
import sys, time
started = float(sys.argv[1])
from gcsam_med.training import steps
step = steps.training_step
def timed(*args, **rest):
    outcome = step(*args, **rest)
    print(f"{time.time() - started:.2f}", flush=True)
    sys.exit()
steps.training_step = timed
from gcsam_med.cli import main
main(sys.argv[2:])
"""


def cpu_seconds() -> float:
    """Spent so far by processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    command = [str(Path(sys.executable).with_name("gcsam-med"))]
    waits = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, capture_output=True)
        waits.append(time.perf_counter() - started)
    print(f"gcsam-med --help: median {statistics.median(waits):.2f} s, fastest {min(waits):.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        data = ["--dataset", "busi", "--data-root", f"{folder}/data"]
        subprocess.run([*command, "prepare", *data, "--demo", "-q"], check=True)
        waits, before = [], cpu_seconds()
        for number in range(3):
            train = ["train", *data, "--optimizer", "gcsam", "--output", f"{folder}/{number}", "-q"]
            # A fresh process, told when the command was given; the hook stops it after the first step.
            done = subprocess.run(
                [sys.executable, "-c", FIRST_STEP, str(time.time()), *train],
                capture_output=True,
                text=True,
                check=False,
            )
            waits.append(float(done.stdout.split()[0]))
        spent = (cpu_seconds() - before) / len(waits)
        middle = statistics.median(waits)
        print(f"first batch of train: median {middle:.1f} s, {spent:.1f} CPU s, of {len(waits)}")


if __name__ == "__main__":
    main()
