"""Rotating test folds: every image is predicted once, by the model that did not see it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gcsam_med.errors import InputError
from gcsam_med.evaluation import evaluate, evaluate_run
from gcsam_med.training import train_folds
from tests.builders import make_prepared, make_run

FAST = {"resamples": 200, "device": "cpu"}
FOLDS = (None, 0, 1)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_pooled_folds_hold_each_model_s_own_answers(task: str, tmp_path: Path) -> None:
    """Oracle: the three separate evaluations, case by case; scikit-learn's AUC of the pooled table."""
    dataset = make_prepared(tmp_path / "data", n=60, classes=("benign", "malignant"))
    runs = [
        make_run(tmp_path / "runs", dataset, task, name=f"r{fold}", test_fold=fold, steps=3) for fold in FOLDS
    ]
    alone = [evaluate_run(run, **FAST) for run in runs]
    assert alone[0].data.part == "test split"
    for fold, one in zip(FOLDS[1:], alone[1:], strict=True):
        assert one.data.part == f"test fold {fold}"
        assert one.data.splits["test"]["cases"] == one.data.n_cases == len(dataset.rows("test", None, fold))
        assert sum(split["cases"] for split in one.data.splits.values()) == 60
    separate = [one.cases.set_index("case_id") for one in alone]
    report = evaluate(runs[1], folds="all", **FAST)
    pooled = report.cases.set_index("case_id")
    assert list(report.cases["case_id"]) == list(dataset.manifest["case_id"])
    assert report.data.n_cases == 60
    for cases in separate:
        assert len(cases) > 0
        part = pooled.loc[cases.index, cases.columns]
        same = part.isna() & cases.isna() | (part == cases)
        assert same.to_numpy().all()
    if task == "segmentation":
        assert report.metrics["dice"].value == pytest.approx(pooled["dice"].mean())
    else:
        truth = (pooled["label"] == "malignant").to_numpy()
        assert report.metrics["auc"].value == pytest.approx(roc_auc_score(truth, pooled["prob_malignant"]))
        assert report.metrics["accuracy"].value == pytest.approx(pooled["correct"].mean())
    assert [fold.n_cases for fold in report.folds] == [len(cases) for cases in separate]
    page = (runs[1] / "evaluation" / "folds" / "report.html").read_text()
    assert "3 models, one for each test fold" in page
    content = json.loads((runs[1] / "evaluation" / "folds" / "metrics.json").read_text())
    assert (content["split"], len(content["folds"])) == ("folds", 3)


def test_a_fold_without_a_run_and_one_with_two_are_named(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path / "data", n=60)
    run = make_run(tmp_path / "runs", dataset, name="a", test_fold=0)
    with pytest.raises(InputError, match="tested on the test split, fold 1"):
        evaluate_run(run, folds="all", **FAST)
    make_run(tmp_path / "runs", dataset, name="b", test_fold=0)
    with pytest.raises(InputError, match="Several runs of one test fold"):
        evaluate_run(run, folds="all", **FAST)


def test_training_all_folds_leaves_a_run_for_each_and_keeps_finished_ones(tmp_path: Path) -> None:
    """Oracle: the manifest says which cases each run may be tested on; a second call trains nothing."""
    dataset = make_prepared(tmp_path, n=36, size=32)
    given = {"data_root": tmp_path, "epochs": 1, "batch_size": 12, "device": "cpu", "optimizer": "adam"}
    results = train_folds("toy", tmp_path / "runs", **given)
    names = [result.folder.name for result in results]
    assert [name.rpartition("-")[2] for name in names] == ["seed0", "test0", "test1"]
    weights = [(result.folder / "model" / "weights.safetensors").stat().st_mtime_ns for result in results]
    again = train_folds("toy", tmp_path / "runs", **given)
    assert weights == [(one.folder / "model" / "weights.safetensors").stat().st_mtime_ns for one in again]
    report = evaluate_run(results[0].folder, folds="all", **FAST)
    assert report.data.n_cases == len(dataset)
    assert np.isfinite(report.metrics["dice"].value)
