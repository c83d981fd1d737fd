"""`compare --leave-out each` from end to end, with and without tuning, on two tiny synthetic sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gcsam_med.cli import run
from gcsam_med.compare.plan import read_study_plan
from gcsam_med.config import PrepareOptions
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.metrics.intervals import Z95
from gcsam_med.metrics.meta import random_effects
from gcsam_med.preparation import prepare
from gcsam_med.training import make_plan
from tests.builders import picture

pytestmark = pytest.mark.slow
CENTRES = ("a", "b", "c")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with three sets of synthetic images; three images of the first lie in the second, too."""
    base = tmp_path_factory.mktemp("centres")
    for seed, name in enumerate(CENTRES):
        for label in ("benign", "malignant"):
            rng = np.random.default_rng([seed, len(label)])
            folder = base / name / "Dataset_BUSI_with_GT" / label
            folder.mkdir(parents=True)
            for number in range(12):
                image, lesion = picture(label, 48, 64, rng)
                Image.fromarray(image).save(folder / f"{label} ({number}).png")
                Image.fromarray(lesion).save(folder / f"{label} ({number})_mask.png")
    for number in range(3):
        for ending in ("", "_mask"):
            name = f"Dataset_BUSI_with_GT/benign/benign ({number}){ending}.png"
            (base / "b" / name).write_bytes((base / "a" / name).read_bytes())
    for name in CENTRES:
        options = PrepareOptions(size=32, folds=2, workers=1)
        prepare("busi", base / name / "Dataset_BUSI_with_GT", base, options, name=name)
    return base


def compare(root: Path, name: str, leave_out: str, *more: str) -> int:
    return run([
        "compare", "--datasets", ",".join(CENTRES), "--data-root", str(root), "--leave-out", leave_out,
        "--task", "segmentation", "--models", "basic-unet", "--optimizers", "adam", "--seeds", "0",
        "--epochs", "1", "--device", "cpu", "--resamples", "100", "-q", "--output", str(root / name), *more,
    ])  # fmt: skip


def test_a_study_that_leaves_out_each_centre(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the manifest's columns, the runs' own metrics, and `random_effects` of the centres' results."""
    assert compare(root, "study", "each", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    plan = read_study_plan(root / "study")
    assert plan.centres == CENTRES
    dataset = open_prepared(root, plan.runs[0].config.dataset)
    shared = dataset.manifest.groupby("group_id")["centre"].nunique()
    assert (shared > 1).sum() == 3
    for planned in plan.runs:
        centre, folder = planned.config.leave_out, plan.folder_of(planned)
        made = make_plan(planned.config, dataset)
        learned = dataset.manifest.iloc[np.concatenate([made.train_rows, made.val_rows])]
        cases = pd.read_csv(folder.evaluation("test") / "cases.csv", dtype={"case_id": str})
        tested = dataset.manifest.set_index("case_id").loc[cases["case_id"]]
        assert set(tested["centre"]) == {centre}
        assert centre not in set(learned["centre"])
        assert not set(tested["group_id"]) & set(learned["group_id"])
        metrics = json.loads((folder.evaluation("test") / "metrics.json").read_text())
        (arm,) = found["by_centre"][centre]["arms"]
        assert arm["main"]["value"] == pytest.approx(metrics["metrics"]["dice"]["value"])
    (adam,) = found["arms"]
    of_centres = [found["by_centre"][centre]["arms"][0]["main"] for centre in CENTRES]
    errors = [(one["ci95"][1] - one["ci95"][0]) / (2 * Z95) for one in of_centres]
    wanted = random_effects([one["value"] for one in of_centres], errors)
    assert adam["mean"]["value"] == pytest.approx(wanted.mean.value)
    assert wanted.prediction is not None
    assert adam["prediction"] == pytest.approx(
        [max(0.0, wanted.prediction[0]), min(1.0, wanted.prediction[1])]
    )
    page = (root / "study/comparison.html").read_text()
    assert "95 % prediction interval" in page
    assert all(f'href="centres/{centre}/comparison.html"' in page for centre in CENTRES)


def test_a_tuned_study_chooses_without_the_centre(root: Path) -> None:
    """Oracle: the best of the tries without the centre, none of which was evaluated on it."""
    assert compare(root, "tuned", "c", "--tune", "lr") == 0
    plan = read_study_plan(root / "tuned")
    assert [one.without for one in plan.tuning] == ["c"] == [run.config.leave_out for run in plan.runs]
    for one, planned in zip(plan.tuning, plan.runs, strict=True):
        best = max(one.tries, key=lambda made: made.value or 0)
        assert planned.config.lr == one.chosen["lr"] == best.settings["lr"]
    tried = sorted((root / "tuned/tuning/runs").iterdir())
    assert len(tried) == 3
    assert {path.name for folder in tried for path in (folder / "evaluation").iterdir()} == {"val"}
