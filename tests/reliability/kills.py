"""Runs that are killed at random instants and resumed, and the comparison with a run that never was.

One process imports torch and computes nothing; each trial is forked from it, so a trial costs its own steps
alone. A tiny network with dropout, batch norm and instance norm stands in for the large ones: what a resume
must bring back (weights, buffers, moments, random numbers, averages) is all in it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from gcsam_med.config import RunConfig
from gcsam_med.networks import NETWORKS
from gcsam_med.networks.table import NetworkSpec
from gcsam_med.runs import RunFolder
from gcsam_med.training import loop as loop_module
from gcsam_med.training import resume, train
from gcsam_med.training import steps as steps_module
from gcsam_med.training.checkpoint import load_checkpoint, save_checkpoint
from tests.builders import make_prepared

TIMES = {"seconds", "images_per_second"}
CASES, STEPS, EPOCHS = 60, 6, 3
OPTIMIZERS = ("adam", "sam", "gcsam", "asam", "looksam")


def tiny(in_channels: int, out_channels: int, dropout: float = 0.0) -> nn.Module:
    """A few hundred weights, and everything that has a state."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout),
        nn.Conv2d(6, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), nn.Dropout2d(dropout),
        nn.Conv2d(6, out_channels, 1),
    )  # fmt: skip


def classifier(in_channels: int, out_channels: int, dropout: float = 0.0) -> nn.Module:
    """The same, with one answer an image."""
    return nn.Sequential(
        tiny(in_channels, 8, dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, out_channels)
    )


def prepare(root: Path) -> None:
    """Make the data, and import what a run imports, so that forked processes need not.

    The parent trains a short run for it; with one thread nothing is left that a fork would not survive.
    """
    torch.set_num_threads(1)
    if not (root / "prepared").is_dir():
        make_prepared(root, n=CASES, size=32)
    with TemporaryDirectory() as folder:
        config = Trial("adam", 0.0).config(root).model_copy(update={"epochs": 1})
        train(config, Path(folder) / "run")


@contextmanager
def tiny_network() -> Iterator[None]:
    """Put the tiny networks into the table, under the names ``tiny`` and ``tiny-classifier``."""
    if "tiny" in NETWORKS:  # one such context may stand inside another
        yield
        return
    NETWORKS["tiny"] = NetworkSpec("segmentation", "For tests.", "none", tiny, lr=3e-3)
    NETWORKS["tiny-classifier"] = NetworkSpec("classification", "For tests.", "none", classifier, lr=3e-3)
    try:
        yield
    finally:
        del NETWORKS["tiny"], NETWORKS["tiny-classifier"]


@dataclass(frozen=True)
class Trial:
    """One cell of the campaign."""

    optimizer: str
    ema: float
    seed: int = 0

    def config(self, data_root: Path) -> RunConfig:
        """A checkpoint every second step, `STEPS` steps an epoch with the data of `CASES` cases."""
        return RunConfig(
            dataset="toy", data_root=data_root, task="segmentation", model="tiny", optimizer=self.optimizer,
            epochs=EPOCHS, batch_size=4, dropout=0.3, lr=1e-2, ema=self.ema,
            device="cpu", seed=self.seed, checkpoint_steps=2,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """For folders and tables."""
        return f"{self.optimizer}-ema{self.ema:g}-s{self.seed}"


Tamper = Callable[[], None]


def launch(config: RunConfig, folder: Path, tamper: Tamper | None = None) -> int:
    """Fork a process that starts the run in `folder`, or resumes it; give its process id."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with folder.with_suffix(".err").open("a") as said:
            os.dup2(said.fileno(), 2)
            os.dup2(said.fileno(), 1)
        # What captures the output of tests has put its own files there.
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
        # The picture of the history is no part of what is resumed, and takes longer than all the rest.
        loop_module.draw_curves = loop_module.draw_predictions = lambda *ignored: None
        _record_batches(folder.with_suffix(".batches"))
        if tamper is not None:
            tamper()
        if RunFolder(folder).config_file.is_file():
            resume(folder)
        else:
            train(config, folder)
        folder.with_suffix(".done").touch()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _record_batches(path: Path) -> None:
    """Write down what each step sees, and the state of the random numbers after it."""
    original = steps_module.training_step
    file = path.open("a")

    def recorded(model: Any, optimizer: Any, sharpness: Any, batches: Any, *rest: Any, **more: Any) -> Any:
        digest = hashlib.sha256()
        for batch in batches:
            digest.update(batch.images.contiguous().numpy().tobytes())
            digest.update(batch.targets.contiguous().numpy().tobytes())
        outcome = original(model, optimizer, sharpness, batches, *rest, **more)
        state = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
        file.write(f"{digest.hexdigest()} {state}\n")
        file.flush()
        return outcome

    steps_module.training_step = recorded


def wait(pid: int, timeout: float = 120.0) -> int:
    """Exit status of a process; it is killed, and the test fails, if it takes longer."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the process hangs")


def kill_after(pid: int, seconds: float) -> bool:
    """Kill a process after a time; False if it was done before."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, "the run failed by itself"
            return False
        time.sleep(min(left, 0.005))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def finish(config: RunConfig, folder: Path, tamper: Tamper | None = None) -> float:
    """Start or resume a run and let it end; the seconds it took."""
    started = time.monotonic()
    status = wait(launch(config, folder, tamper))
    assert status == 0, folder.with_suffix(".err").read_text()[-2000:]
    return time.monotonic() - started


def killed_and_resumed(
    config: RunConfig, folder: Path, whole_seconds: float, rng: random.Random
) -> list[int]:
    """Kill a run once or twice at random instants of its length, then let it end; where it went on."""
    resumed_at = []
    for _ in range(rng.choice((1, 1, 2))):
        alive = kill_after(launch(config, folder), rng.uniform(0.0, 1.0) * whole_seconds)
        kept = load_checkpoint(RunFolder(folder).checkpoints)
        resumed_at.append(-1 if kept is None else kept.step)
        if not alive:
            break
    finish(config, folder)
    return resumed_at


def whole(root: Path, optimizer: str, ema: float) -> tuple[Path, float]:
    """The run that is never killed, made once, and how long it took."""
    trial = Trial(optimizer, ema)
    folder, length = root / f"whole-{trial.name}", root / f"whole-{trial.name}.length"
    if not length.is_file():
        length.write_text(str(finish(trial.config(root), folder)))
    return folder, float(length.read_text())


# --- The comparison


def fingerprint(folder: Path) -> dict[str, Any]:
    """All that a resume must give back, as plain values; what is measured time is left out."""
    run = RunFolder(folder)
    kept = load_checkpoint(run.checkpoints)
    assert kept is not None
    numbers = {k: v for k, v in kept.state["state"].items() if "seconds" not in k and k != "history"}
    with run.history_file.open() as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    card = json.loads((run.model / "model.json").read_text())
    return {
        **{f"state.{part}": _digest(value) for part, value in kept.state["parts"].items()},
        "training state": numbers,
        "history": rows,
        "model": card,
        "weights": hashlib.sha256((run.model / "weights.safetensors").read_bytes()).hexdigest(),
        "left over": sorted(p.name for p in run.root.rglob("*.tmp")),
    }


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def enter(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"{item.dtype}{tuple(item.shape)}".encode())
            digest.update(item.contiguous().numpy().tobytes())
        elif isinstance(item, dict):
            for key in item:
                digest.update(str(key).encode())
                enter(item[key])
        elif isinstance(item, list | tuple):
            for part in item:
                enter(part)
        else:
            digest.update(repr(item).encode())

    enter(value)
    return digest.hexdigest()


def steps_taken(folder: Path) -> list[list[str]]:
    """Hashes of each step's batch and of the random numbers' state after it, in order."""
    return [line.split() for line in folder.with_suffix(".batches").read_text().splitlines()]


def differing(whole: Path, cut: Path) -> list[str]:
    """What of a resumed run is not what it is in the run that was never killed."""
    one, other = fingerprint(whole), fingerprint(cut)
    found = [part for part in one if one[part] != other[part]]
    order, seen = steps_taken(whole), steps_taken(cut)
    # A step that was cut off is taken again; taken together no step may be lost or changed, and from each
    # start on they follow each other as they do in the whole run.
    place = {batch: step for step, (batch, _) in enumerate(order)}
    steps = [place.get(batch, -1) for batch, _ in seen]
    if any(state != order[step][1] for step, (_, state) in zip(steps, seen, strict=True) if step >= 0):
        found.append("random numbers")
    follows = all(b == a + 1 or b <= a for a, b in pairwise(steps))
    if set(steps) != set(range(len(order))) or not follows:
        found.append("sample order")
    return found


# --- Controls: a resume that loses something


def lose_random_numbers() -> None:
    """Go on with whatever state the generator has."""
    loop_module._step_seed = lambda seed, step, rank: int.from_bytes(os.urandom(4))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the newest checkpoint, its hash included."""
    checkpoints = RunFolder(folder).checkpoints
    kept = load_checkpoint(checkpoints)
    assert kept is not None
    change(kept.state)
    save_checkpoint(checkpoints, kept.step, kept.state)


def lose_optimizer(state: dict[str, Any]) -> None:
    """As a resume that starts the optimizer anew."""
    state["parts"]["optimizer"]["state"] = {}


def lose_average(state: dict[str, Any]) -> None:
    """As a resume that starts the average at the present weights."""
    network = state["parts"]["network"]
    averaged = state["parts"]["averaged"]
    state["parts"]["averaged"] = {
        k: network[k.removeprefix("module.")].clone() if k != "n_averaged" else torch.zeros_like(v)
        for k, v in averaged.items()
    }


def lose_ascent(state: dict[str, Any]) -> None:
    """As a resume that forgets the gradient that looksam keeps between its ascents."""
    state["parts"]["sharpness"] = state["parts"]["sharpness"] | {"steps": 0}
