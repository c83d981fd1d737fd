"""What `evaluate` takes beyond the network's forward passes: every figure, interval, picture and table.

::

    python benchmarks/evaluate.py --cases 780

Synthetic images at their own resolution (about 500 x 600), a U-Net trained for an epoch at 128 x 128, 100
validation cases, 2,000 resamples, both outputs of post-processing, subgroups, gallery, report.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

VALIDATION = 100


def make(folder: Path, cases: int, size: int) -> Path:
    """Prepare images, train for an epoch, and make all but the validation cases test cases."""
    tool = str(Path(sys.executable).with_name("gcsam-med"))
    data = ["--dataset", "busi", "--data-root", str(folder / "data")]
    demo = ["--demo", "--demo-cases", str(cases + VALIDATION), "--size", str(size), "-q"]
    subprocess.run([tool, "prepare", *data, *demo], check=True, stdout=subprocess.DEVNULL)
    run = folder / "runs" / "run"
    train = ["--epochs", "1", "--optimizer", "adam", "--output", str(run), "-q"]
    subprocess.run([tool, "train", *data, *train], check=True, stdout=subprocess.DEVNULL)
    path = folder / "data" / "prepared" / "busi" / "manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["split"] = "test"
    table.loc[table.sample(VALIDATION, random_state=0).index, "split"] = "val"
    table.to_csv(path, index=False)
    return run


def clocks() -> np.ndarray:
    """Seconds on the wall and of this process's CPU time; they part where others use the machine."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=780)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    from gcsam_med.evaluation import evaluate_run, evaluation_folder
    from gcsam_med.evaluation.context import open_evaluation
    from gcsam_med.reporting.write import write_report
    from gcsam_med.runs import network_outputs

    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder), arguments.cases, arguments.size)
        context = open_evaluation(run, "test")
        list(network_outputs(context.model, context.dataset.images, context.selection.rows[:16]))
        start = clocks()
        for _ in network_outputs(context.model, context.dataset.images, context.selection.rows):
            pass
        forward = clocks() - start
        start = clocks()
        report = evaluate_run(run)
        evaluated = clocks() - start
        start = clocks()
        write_report(report, evaluation_folder(report, run))
        written = clocks() - start
    print(f"{report.data.n_cases} cases at their own resolution, {len(report.subgroups)} subgroups")
    print("                         wall      CPU")
    rows = {"forward passes alone": forward, "evaluation": evaluated, "report": written}
    rows["beyond the forward"] = evaluated + written - forward
    for name, (wall, cpu) in rows.items():
        print(f"{name:20s} {wall:6.1f} s {cpu:6.1f} s")


if __name__ == "__main__":
    main()
