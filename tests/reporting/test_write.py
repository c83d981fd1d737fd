import builtins
import json

import numpy as np
import pytest

from gcsam_med.errors import EnvironmentFault, MissingExtra
from gcsam_med.evaluation import evaluate
from gcsam_med.reporting.figures import draw_all
from gcsam_med.reporting.page import report_html
from gcsam_med.reporting.write import metrics_json, plain, to_pdf, write_report
from tests.builders import copied_run, report_of

pytestmark = pytest.mark.figures


@pytest.mark.parametrize("kind", ["segmentation", "binary", "classes"])
def test_every_metric_is_complete(kind):
    """Oracle: strict JSON, and the contract's form of a metric."""
    content = json.loads(json.dumps(metrics_json(report_of(kind)), allow_nan=False))
    groups = [
        content["metrics"],
        *content["per_class"].values(),
        *(s["metrics"] for s in content["subgroups"]),
    ]
    for metrics in groups:
        for name, metric in metrics.items():
            assert {"value", "ci95", "n"} <= metric.keys()
            if metric["ci95"] is not None:
                low, high = metric["ci95"]
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_report_becomes_a_pdf_with_its_pictures():
    """Oracle: the file's first and last bytes; without its pictures it would be a tenth as large."""
    pytest.importorskip("weasyprint", exc_type=ImportError)
    report = report_of("segmentation")
    data = to_pdf(report_html(report, draw_all(report), themed=False))
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert len(data) > 50_000


def test_without_weasyprint_the_extra_is_named(monkeypatch, tmp_path):
    """Oracle: the contract, exit code 3 and the command that installs it."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("weasyprint"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra) as caught:
        to_pdf("<p>x</p>")
    assert caught.value.exit_code == 3
    assert "gcsam-med[pdf]" in caught.value.advice
    run = copied_run(tmp_path, "binary")
    with pytest.raises(MissingExtra):
        evaluate(run, pdf=True, device="cpu")
    assert not (run / "evaluations.jsonl").exists()  # a look that gave no report does not count
