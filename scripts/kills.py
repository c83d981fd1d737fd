"""Kill training runs at random instants and resume them: 20 kills x 5 optimizers.

    python scripts/kills.py --output /tmp/kills            # some 20 minutes; can be cut off and goes on
    python scripts/kills.py --output /tmp/kills --summary  # the table of what is done

A kill counts if it came before the checkpoint of the last step, so that the resume had something to do; each
cell goes on until it has 20 of those. Every second trial keeps a moving average of the weights. Each is
compared bit by bit with a run that was never killed: weights, moments, average, random numbers, history,
model and the batches of every step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reliability.kills import (
    EPOCHS,
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
Line = dict[str, object]


def resumed_at(line: Line) -> list[int]:
    """Steps that a run was resumed at; -1 where there was no checkpoint yet."""
    return cast(list[int], line["resumed_at"])


def kills_of(line: Line) -> list[int]:
    """Those of them after kills that count."""
    return [step for step in resumed_at(line) if step < STEPS * EPOCHS]


def of_cell(lines: list[Line], optimizer: str) -> list[Line]:
    """Trials of one optimizer."""
    return [line for line in lines if str(line["trial"]).startswith(f"{optimizer}-")]


def trials(lines: list[Line]) -> Iterator[Trial]:
    """One trial of each cell before the second of any, until `lines`, which grow, hold kills enough."""
    for number in count():
        wanting = [
            optimizer
            for optimizer in OPTIMIZERS
            if sum(len(kills_of(line)) for line in of_cell(lines, optimizer)) < KILLS
        ]
        if not wanting:
            return
        for optimizer in wanting:
            yield Trial(optimizer, 0.9 if number % 2 else 0.0, number)


def one(trial: Trial, root: Path) -> Line:
    """Kill and resume one run, and compare it with the whole one."""
    whole = root / f"whole-{Trial(trial.optimizer, trial.ema).name}"
    reference = Trial(trial.optimizer, trial.ema)
    if not whole.with_suffix(".done").is_file():
        shutil.rmtree(whole, ignore_errors=True)
        for file in root.glob(f"{whole.name}.*"):
            file.unlink()
        finish(reference.config(root), whole)
    cut = root / "cut"
    shutil.rmtree(cut, ignore_errors=True)
    for file in root.glob("cut.*"):
        file.unlink()
    config = Trial(trial.optimizer, trial.ema).config(root)
    # How long a whole run takes now, on a machine that may have other things to do as well.
    length = finish(config, root / "timed")
    shutil.rmtree(root / "timed")
    steps = killed_and_resumed(config, cut, length, random.Random(repr(trial)))  # noqa: S311
    return {"trial": trial.name, "resumed_at": steps, "differing": differing(whole, cut)}


def summary(lines: list[Line]) -> str:
    """Count trials, kills and differences by cell."""
    rows = []
    for optimizer in [*OPTIMIZERS, ""]:
        mine = of_cell(lines, optimizer) if optimizer else lines
        kills = [step for line in mine for step in kills_of(line)]
        late = sum(len(resumed_at(line)) for line in mine) - len(kills)
        inside = sum(step % STEPS != 0 for step in kills if step > 0)
        early = sum(step < 0 for step in kills)
        bad = sum(bool(line["differing"]) for line in mine)
        name = optimizer or "all"
        rows.append(
            f"{name:10s} {len(mine):3d} runs, {len(kills):3d} kills ({inside} resumed in mid-epoch, {early} "
            f"before a checkpoint), {late} came too late to count, {bad} differ"
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
            for trial in trials(lines):
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
