"""What the terminal shows while a run trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gcsam_med.cli.live import LiveView
from gcsam_med.training import EpochEnd


def test_a_run_resumed_before_a_validation_has_no_pace_yet() -> None:
    """Oracle: a checkpoint of an epoch's last step leaves no step of it to measure; the next epoch has."""
    view = LiveView()
    config = SimpleNamespace(epochs=3, max_minutes=None)
    begin = SimpleNamespace(plan=SimpleNamespace(config=config), first_step=4, steps_per_epoch=4)
    view.begin, view.since = cast(Any, begin), 0.0
    event = lambda epoch: EpochEnd({"epoch": epoch}, "dice", 0.5, 1, None)  # noqa: E731
    assert view._time_left(event(1)) == ""
    assert view._time_left(event(2)).endswith(" left")
