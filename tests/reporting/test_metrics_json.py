import json

import numpy as np
import pytest

from gcsam_med.errors import EnvironmentFault
from gcsam_med.reporting import metrics_json, write_report
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


def test_a_folder_that_cannot_be_written_is_exit_3(tmp_path):
    """Oracle: the contract's exit codes; a file stands where the folder should be."""
    (tmp_path / "taken").write_text("x")
    with pytest.raises(EnvironmentFault, match="cannot be written") as caught:
        write_report(report_of("binary"), tmp_path / "taken")
    assert caught.value.exit_code == 3
