"""A run killed at any instant and resumed is the run that was never killed.

A slice of `scripts/kills.py`, which does 20 kills for each of 5 optimizers.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.training import steps as steps_module
from gcsam_med.training.checkpoint import load_checkpoint
from tests.reliability import kills
from tests.reliability.kills import Trial, differing, finish, killed_and_resumed, launch, rewrite, wait, whole


@pytest.mark.parametrize(
    ("optimizer", "ema"), [(name, ema) for name in kills.OPTIMIZERS for ema in (0.0, 0.9)]
)
def test_a_killed_run_ends_as_if_it_never_was(optimizer: str, ema: float, root: Path, tmp_path: Path) -> None:
    """Oracle: the run without a kill, bit for bit: weights, moments, average, random numbers, history, model,
    and the batches of every step."""
    reference, length = whole(root, optimizer, ema)
    config = Trial(optimizer, ema).config(root)
    killed_and_resumed(config, tmp_path / "cut", length, random.Random(f"{optimizer} {ema}"))
    assert differing(reference, tmp_path / "cut") == []


LOSSES: dict[str, tuple[Callable[[dict[str, Any]], None] | None, kills.Tamper | None, str]] = {
    "random numbers": (None, kills.lose_random_numbers, "state.network"),
    "optimizer state": (kills.lose_optimizer, None, "state.optimizer"),
    "moving average": (kills.lose_average, None, "state.averaged"),
    "ascent": (kills.lose_ascent, None, "state.sharpness"),
}


@pytest.fixture(scope="module")
def halfway(root: Path) -> Path:
    """A run of looksam with an average, killed in mid-epoch after its eighth step."""
    folder = root / "halfway"
    config = Trial("looksam", 0.9).config(root)

    def stop_at_eight() -> None:
        original, count = steps_module.training_step, [0]

        def counted(*args: Any, **rest: Any) -> Any:
            count[0] += 1
            if count[0] == 9:
                signal.raise_signal(signal.SIGKILL)
            return original(*args, **rest)

        steps_module.training_step = counted

    assert wait(launch(config, folder, stop_at_eight)) == signal.SIGKILL
    return folder


def copied(halfway: Path, to: Path) -> Path:
    shutil.copytree(halfway, to)
    shutil.copy(halfway.with_suffix(".batches"), to.with_suffix(".batches"))
    return to


@pytest.mark.parametrize("lost", [None, *LOSSES])
def test_the_comparison_finds_a_resume_that_loses_something(
    lost: str | None, root: Path, halfway: Path, tmp_path: Path
) -> None:
    """Negative controls: the same run, kill and comparison, but one thing is not brought back."""
    reference, _ = whole(root, "looksam", 0.9)
    cut = copied(halfway, tmp_path / "cut")
    kept = load_checkpoint(cut / "checkpoints")
    assert kept is not None
    assert kept.step == 8
    config = Trial("looksam", 0.9).config(root)
    if lost is None:
        finish(config, cut)
        assert differing(reference, cut) == []
        return
    change, tamper, part = LOSSES[lost]
    if change is not None:
        rewrite(cut, change)
    finish(config, cut, tamper)
    assert part in differing(reference, cut)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_between_the_two_passes_waits_for_the_step(
    stop: signal.Signals, root: Path, tmp_path: Path
) -> None:
    """Oracle: the whole run. The signal comes while the weights are those at the top of the ascent."""
    reference, _ = whole(root, "sam", 0.0)
    config = Trial("sam", 0.0).config(root)

    def signal_at_the_top() -> None:
        original, count = Sharpness.ascend, [0]

        def ascended(self: Sharpness, *args: Any, **rest: Any) -> Any:
            found = original(self, *args, **rest)
            count[0] += 1
            if count[0] == 4:
                signal.raise_signal(stop)
            return found

        Sharpness.ascend = ascended  # type: ignore[method-assign]

    cut = tmp_path / "cut"
    assert wait(launch(config, cut, signal_at_the_top)) != 0
    kept = load_checkpoint(cut / "checkpoints")
    assert kept is not None
    assert kept.step == 4
    finish(config, cut)
    assert differing(reference, cut) == []
