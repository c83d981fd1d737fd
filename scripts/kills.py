"""Kill training runs at random instants and resume them: 20 kills x 5 optimizers x 0 and 2 loader workers.

    python scripts/kills.py --output /tmp/kills            # about two hours of one slow core; can be cut off
    python scripts/kills.py --output /tmp/kills --summary  # the table of what is done

Every second trial keeps a moving average of the weights. Each is compared bit by bit with a run that was
never killed: weights, moments, average, random numbers, history, model and the batches of every step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reliability.kills import (
    OPTIMIZERS,
    STEPS,
    Trial,
    differing,
    finish,
    killed_and_resumed,
    prepare,
    tiny_network,
)

KILLS = 20


def trials() -> list[Trial]:
    """All cells, one kill of each before the second of any."""
    return [
        Trial(optimizer, workers, 0.9 if number % 2 else 0.0, number)
        for number in range(KILLS)
        for optimizer in OPTIMIZERS
        for workers in (0, 2)
    ]


def one(trial: Trial, root: Path) -> dict[str, object]:
    """Kill and resume one run, and compare it with the whole one."""
    whole = root / f"whole-{Trial(trial.optimizer, 0, trial.ema).name}"
    reference = Trial(trial.optimizer, 0, trial.ema)
    if not whole.with_suffix(".done").is_file():
        shutil.rmtree(whole, ignore_errors=True)
        for file in root.glob(f"{whole.name}.*"):
            file.unlink()
        finish(reference.config(root), whole)
    cut = root / "cut"
    shutil.rmtree(cut, ignore_errors=True)
    for file in root.glob("cut.*"):
        file.unlink()
    config = Trial(trial.optimizer, trial.workers, trial.ema).config(root)
    # How long a whole run takes now, on a machine that may have other things to do as well.
    length = finish(config, root / "timed")
    shutil.rmtree(root / "timed")
    resumed_at = killed_and_resumed(config, cut, length, random.Random(repr(trial)))  # noqa: S311
    return {"trial": trial.name, "resumed_at": resumed_at, "differing": differing(whole, cut)}


def summary(lines: list[dict[str, object]]) -> str:
    """Count trials, kills and differences by optimizer."""
    rows = []
    for optimizer in OPTIMIZERS:
        mine = [line for line in lines if str(line["trial"]).startswith(f"{optimizer}-")]
        kills = [step for line in mine for step in line["resumed_at"]]  # type: ignore[attr-defined]
        inside = sum(step % STEPS != 0 for step in kills if step > 0)
        bad = sum(bool(line["differing"]) for line in mine)
        rows.append(
            f"{optimizer:8s} {len(mine):3d} runs, {len(kills):3d} kills ({inside} resumed in mid-epoch, "
            f"{sum(step < 0 for step in kills)} before a checkpoint), {bad} differ"
        )
    return "\n".join(rows)


def main() -> None:
    """Run what is not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    root = arguments.output
    root.mkdir(parents=True, exist_ok=True)
    log = root / "results.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    if not arguments.summary:
        done = {line["trial"] for line in lines}
        with tiny_network():
            prepare(root)
            for trial in trials():
                if trial.name not in done:
                    lines.append(one(trial, root))
                    with log.open("a") as file:
                        file.write(json.dumps(lines[-1]) + "\n")
                        file.flush()
                        os.fsync(file.fileno())
                    print(json.dumps(lines[-1]), flush=True)
    print(summary(lines))
    sys.exit(any(line["differing"] for line in lines))


if __name__ == "__main__":
    main()
