"""A study that leaves out one centre after another: its plan, its summary, its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gcsam_med.compare.centres import over_centres
from gcsam_med.compare.plan import make_study_plan, read_study_plan
from gcsam_med.config import CompareOptions
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import InputError
from gcsam_med.metrics.intervals import Z95
from gcsam_med.metrics.meta import random_effects
from gcsam_med.reporting.write import write_centres
from tests.builders import make_prepared, reseal
from tests.compare.made_up import three_arms


@pytest.fixture
def merged(tmp_path: Path) -> PreparedDataset:
    """A prepared set with three centres, as merging makes it."""
    dataset = make_prepared(tmp_path / "data", n=72)
    table = dataset.manifest.assign(centre=np.array(["A", "B", "C"])[np.arange(72) // 6 % 3])
    table["has_mask"] = table["has_mask"].astype(int)
    table.to_csv(dataset.root / "manifest.csv", index=False)
    return reseal(dataset.root)


def test_a_plan_has_every_run_for_every_centre(merged: PreparedDataset, tmp_path: Path) -> None:
    """Oracle: arms times seeds times centres by hand, and the manifest's own column."""
    settings = {"dataset": "toy", "data_root": tmp_path / "data", "epochs": 1}
    options = CompareOptions(optimizers=("adam", "sam"), seeds=(0, 1), leave_out=("each",))
    plan = make_study_plan(options, settings, tmp_path / "study")
    assert len(plan.runs) == 2 * 2 * 3
    assert plan.centres == ("A", "B", "C")
    plan.write()
    again = read_study_plan(tmp_path / "study")
    assert [run.config.leave_out for run in again.runs] == ["A"] * 4 + ["B"] * 4 + ["C"] * 4
    for run in again.runs:
        test = merged.rows("test", *run.config.folds)
        assert set(merged.manifest["centre"].iloc[test]) == {run.config.leave_out}
        assert run.name.endswith(f"-without-{run.config.leave_out}")


@pytest.mark.parametrize(
    ("changes", "said"), [({"leave_out": ("D",)}, "centre 'D'"), ({"split": "val"}, "Drop --split")]
)
def test_what_cannot_be_left_out_is_refused(
    merged: PreparedDataset, tmp_path: Path, changes: dict, said: str
) -> None:
    assert merged.centres
    settings = {"dataset": "toy", "data_root": tmp_path / "data"}
    options = CompareOptions(**{"leave_out": ("each",), **changes})
    with pytest.raises(InputError) as caught:
        make_study_plan(options, settings, tmp_path / "study")
    assert said in str(caught.value) + caught.value.advice


def test_the_summary_is_of_the_centres_own_results(tmp_path: Path) -> None:
    """Oracle: `random_effects` of values and widths taken from the comparisons; every centre has its row."""
    comparison, _ = three_arms()
    by_centre = {"A": comparison, "B": comparison, "C": comparison}
    study = over_centres(by_centre, missing=["unet-sam-seed3-without-C"])
    assert [arm.name for arm in study.arms] == ["adam", "sam", "gcsam"]
    first = comparison.arms[0].main
    assert first.ci95 is not None
    error = (first.ci95[1] - first.ci95[0]) / (2 * Z95)
    wanted = random_effects([first.value or 0] * 3, [error] * 3)
    assert study.arms[0].mean.value == pytest.approx(wanted.mean.value)
    assert study.arms[0].prediction == pytest.approx(wanted.prediction)
    write_centres(study, tmp_path / "out")
    page = (tmp_path / "out/comparison.html").read_text(encoding="utf-8")
    assert page.count('href="centres/') == 9
    assert "1 run missing" in page
    assert "unet-sam-seed3-without-C" in page
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert set(content["by_centre"]) == {"A", "B", "C"}
    assert (tmp_path / "out/centres/B/comparison.html").is_file()


def test_one_centre_gives_no_summary() -> None:
    comparison, _ = three_arms()
    study = over_centres({"A": comparison})
    assert study.arms[0].mean.value is None
    assert "needs two" in study.arms[0].mean.reason
