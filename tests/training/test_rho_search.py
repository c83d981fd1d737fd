"""`--rho auto` picks the radius whose short run validates best, and is not misled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gcsam_med.errors import InputError
from gcsam_med.runs import RunFolder
from gcsam_med.training import train
from gcsam_med.training.run import FACTORS, RhoSearch, find_rho
from tests.builders import make_prepared
from tests.training.test_loop import Recorder, settings


def test_the_best_radius_is_chosen_and_the_smallest_of_equals() -> None:
    assert RhoSearch("dice", {0.01: 0.4, 0.05: 0.7, 0.1: 0.7, 0.2: 0.1}).chosen == 0.05


def test_the_search_asks_for_short_runs_that_differ_in_rho_alone(tmp_path: Path) -> None:
    """Oracle: a made-up score with its top at twice the method's own radius."""
    config, asked = settings(tmp_path, rho="auto", epochs=50, optimizer="asam"), []

    def train(short: object, folder: Path) -> tuple[str, float]:
        asked.append(short)
        return "dice", -abs(short.rho - 1.0)  # type: ignore[attr-defined]

    search = find_rho(config, tmp_path, train)  # type: ignore[arg-type]
    assert search.chosen == 1.0
    assert [c.rho for c in asked] == pytest.approx([0.5 * f for f in FACTORS])
    assert {c.epochs for c in asked} == {10}
    assert json.loads((tmp_path / "search.json").read_text())["chosen"] == 1.0


@pytest.mark.slow
def test_a_run_with_auto_trains_with_what_was_found(tmp_path: Path) -> None:
    make_prepared(tmp_path, n=36, size=32)
    recorder = Recorder()
    train(settings(tmp_path, rho="auto", epochs=1), tmp_path / "run", recorder)
    found = json.loads((tmp_path / "run-rho-search" / "search.json").read_text())
    assert RunFolder(tmp_path / "run").config().rho == found["chosen"]
    assert found["values"][f"{found['chosen']:g}"] == max(found["values"].values())
    assert any("was chosen by validation dice" in note for note in recorder.notes)


def test_an_optimizer_that_does_not_ascend_has_no_radius_to_find(tmp_path: Path) -> None:
    make_prepared(tmp_path, n=36, size=32)
    with pytest.raises(InputError, match="does not ascend"):
        train(settings(tmp_path, rho="auto", optimizer="adam"), tmp_path / "run")
