"""Tuning: the same number of tries for every arm, on validation alone, and the best is what is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gcsam_med.cli import run
from gcsam_med.compare.plan import read_study_plan
from gcsam_med.compare.tune import grid
from gcsam_med.config import RunConfig
from gcsam_med.errors import InputError
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import RunFolder
from tests.builders import make_prepared


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("tune", [("lr",), ("lr", "rho")])
def test_every_arm_has_as_many_tries_over_the_same_range(name: str, tune: tuple[str, ...]) -> None:
    """Oracle: Adam's; the middle of each grid is the arm's own value."""
    config = RunConfig(dataset="toy", optimizer=name, lr=1e-3, rho=OPTIMIZERS[name].rho)
    adam = grid(config.model_copy(update={"optimizer": "adam", "rho": 0.0}), tune)
    found = grid(config, tune)
    assert len(found) == len({str(values) for values in found}) == len(adam) == 3 ** len(tune)
    rates = [values["lr"] for values in found]
    assert (min(rates), max(rates)) == (0.000333, 0.003)
    assert 1e-3 in rates
    if OPTIMIZERS[name].ascends and "rho" in tune:
        assert {values["rho"] for values in found} == {config.rho / 2, config.rho, 2 * config.rho}
    else:
        assert all(set(values) == {"lr"} for values in found)


def test_rho_alone_is_refused_where_an_arm_has_none() -> None:
    """Oracle: the refusal names the arm and the way out."""
    with pytest.raises(InputError, match="'adam' has no rho") as refused:
        grid(RunConfig(dataset="toy", optimizer="adam", lr=1e-3), ("rho",), "adam")
    assert "lr,rho" in refused.value.advice


@pytest.mark.slow
def test_a_tuned_study_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the tries' own evaluations on validation; no try has read the test split."""
    make_prepared(tmp_path / "data", n=36, size=32)
    command = [
        "compare", "--dataset", "toy", "--data-root", str(tmp_path / "data"), "--task", "segmentation",
        "--models", "basic-unet", "--optimizers", "adam", "--arm", "heavy", "weight_decay=0.1",
        "--seeds", "0", "--epochs", "1", "--device", "cpu", "--resamples", "100", "--tune", "lr", "-q",
        "--output", str(tmp_path / "study"),
    ]  # fmt: skip
    assert run([*command, "--dry-run", "--json"]) == 0
    assert [r["state"] for r in json.loads(capsys.readouterr().out)["runs"]] == ["to do"] * 8
    assert run(command) == 0
    study = read_study_plan(tmp_path / "study")
    assert [(one.arm, len(one.tries), one.seed) for one in study.tuning] == [("adam", 3, 1), ("heavy", 3, 1)]
    for one, planned in zip(study.tuning, study.runs, strict=True):
        values = {}
        for made in one.tries:
            folder = RunFolder(
                tmp_path / f"study/tuning/runs/basic-unet-{one.arm}-seed1-lr{made.settings['lr']:g}"
            )
            assert not folder.evaluation("test").exists()
            metrics = json.loads((folder.evaluation("val") / "metrics.json").read_text())
            values[made.settings["lr"]] = metrics["metrics"][one.metric]["value"]
            assert made.value == values[made.settings["lr"]]
        assert values[one.chosen["lr"]] == max(values.values())
        assert planned.config.lr == one.chosen["lr"]
    page = (tmp_path / "study/comparison.html").read_text()
    assert "Every try" in page
    assert "tuned for none of them" not in page
    assert len(json.loads((tmp_path / "study/comparison.json").read_text())["tuning"]) == 2
    before = (tmp_path / "study/study.json").read_bytes()
    assert run(command) == 0
    assert (tmp_path / "study/study.json").read_bytes() == before
