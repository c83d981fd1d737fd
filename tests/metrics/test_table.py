"""Every row of the table of metrics is whole, and a new row is taken up without a change anywhere else."""

import re
from dataclasses import replace

import numpy as np
import pytest

from gcsam_med.errors import InputError
from gcsam_med.metrics import summary
from gcsam_med.metrics.segmentation import MaskPair
from gcsam_med.metrics.table import (
    CLASSIFICATION,
    METRICS,
    SEGMENTATION,
    Metric,
    check_request,
    main_metric,
    shown_in,
)

ROWS = [(task, name) for task, rows in METRICS.items() for name in rows]


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_a_row_is_whole(task, name):
    """Oracle: what each reader of the table needs: file names, headings, sentences, a function that fits."""
    row = METRICS[task][name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    for sentence in (row.meaning, row.undefined):
        assert re.fullmatch(r"[A-Z0-9].*\.", sentence), sentence
    assert row.title
    assert row.title in row.heading({"distance_unit": "mm", "nsd_tolerance": 2.0})
    assert (row.kind in ("mean", "share")) == (task == "segmentation")
    assert not row.on_request or (task, row.shown) == ("segmentation", ("cases",))
    assert [r.title for r in METRICS[task].values()].count(row.title) == 1


def test_a_mean_over_classes_says_so_and_a_class_of_its_own_does_not():
    """Oracle: which metrics `classification_metrics` averages over three classes, by its documentation."""
    policy = {"averaging": "macro: mean over classes, one-vs-rest", "positive_class": None}
    headed = {name for name, row in CLASSIFICATION.items() if "macro, one-vs-rest" in row.heading(policy)}
    averaged = {"sensitivity", "specificity", "precision", "npv", "f1", "auc", "auprc"}
    assert headed & {name for name, row in CLASSIFICATION.items() if row.overall == "any"} == averaged
    assert CLASSIFICATION["f1"].heading(policy, of_one_class=True) == "F1"
    two = {"averaging": "of the positive class", "positive_class": "COVID"}
    assert CLASSIFICATION["f1"].heading(two) == "F1 (COVID)"
    assert CLASSIFICATION["precision"].heading(two) == "Precision (PPV; COVID)"


@pytest.mark.parametrize("missing", ["title", "meaning", "undefined", "kind", "function"])
def test_a_row_with_a_part_missing_is_refused(missing):
    """Oracle: Python itself: each of these has no default."""
    parts = {"title": "X", "meaning": "X.", "undefined": "X.", "kind": "mean", "function": len}
    Metric(**parts)
    del parts[missing]
    with pytest.raises(TypeError, match=missing):
        Metric(**parts)


def test_a_new_row_is_measured_and_gets_an_interval(monkeypatch):
    """Oracle: by hand; a made-up metric (share of the image that is marked) in nothing but the table."""
    dice = SEGMENTATION["dice"]
    row = replace(dice, title="Marked", function=lambda case: case.n_pred / case.truth.size, images="all")
    monkeypatch.setitem(SEGMENTATION, "marked", row)
    masks = np.zeros((3, 4, 4), bool)
    for i, mask in enumerate(masks):
        mask[:i] = True
    cases = [summary.measure_case(MaskPair(mask, masks[1])) for mask in masks]
    assert [case.values["marked"] for case in cases] == [0, 0.25, 0.5]
    found = summary.segmentation_estimates(cases, range(3), np.random.default_rng(0), n_resamples=50)
    assert list(found)[-1] == "marked"
    assert found["marked"].value == pytest.approx(0.25)
    assert found["marked"].ci95 is not None
    assert "marked" in shown_in("cases", "segmentation")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_new_classification_row_is_estimated(monkeypatch, n_classes):
    """Oracle: by hand; false discovery rate, 1 - precision, in nothing but the table."""
    row = replace(CLASSIFICATION["f1"], title="FDR", function=lambda c: c.fp / (c.tp + c.fp))
    monkeypatch.setitem(CLASSIFICATION, "fdr", row)
    rng = np.random.default_rng(0)
    y = np.arange(60) % n_classes
    prob = rng.dirichlet(np.ones(n_classes), 60)
    overall, per_class = summary.classification_estimates(y, prob, range(60), rng, n_resamples=100)
    for found in (overall, *per_class):
        assert found["fdr"].value == pytest.approx(1 - found["precision"].value)
        assert found["fdr"].ci95 is not None
    assert summary.classification_metrics(y, prob)[0]["fdr"] == pytest.approx(overall["fdr"].value)


def test_a_request_is_checked():
    """Oracle: the contract: what is always taken, and what there is not, are refused with advice."""
    with pytest.raises(InputError, match="always taken"):
        check_request(["dice"], "segmentation")
    with pytest.raises(InputError, match="Unknown segmentation metric on request 'nonsense'"):
        check_request(["nonsense"], "segmentation")


def test_main_metric():
    """Oracle: the contract."""
    assert main_metric("segmentation", 3) in SEGMENTATION
    assert [main_metric("classification", n) for n in (2, 3)] == ["auc", "balanced_accuracy"]
