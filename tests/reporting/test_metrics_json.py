import json

import numpy as np
import pytest

from gcsam_med.reporting import metrics_json
from gcsam_med.reporting.metrics_json import plain
from tests.builders import report_of


@pytest.mark.parametrize("kind", ["segmentation", "binary", "classes"])
def test_figures_are_whole(kind):
    """Oracle: strict JSON, and the contract's form of a figure."""
    content = json.loads(json.dumps(metrics_json(report_of(kind)), allow_nan=False))
    groups = [
        content["metrics"],
        *content["per_class"].values(),
        *(s["metrics"] for s in content["subgroups"]),
    ]
    for figures in groups:
        for name, figure in figures.items():
            assert {"value", "ci95", "n"} <= figure.keys()
            if figure["ci95"] is not None:
                low, high = figure["ci95"]
                assert low <= high, name


def test_numpy_and_nan_become_json():
    """Oracle: by hand."""
    value = {"a": np.float64("nan"), 1: np.int64(3), "b": (np.bool_(True), np.array([1.5, np.inf]))}
    assert plain(value) == {"a": None, "1": 3, "b": [True, [1.5, None]]}
