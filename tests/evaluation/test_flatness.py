"""Sharpness of a run: against an explicit Hessian, and as files and table of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call

from gcsam_med.cli import run
from gcsam_med.config import SharpnessOptions
from gcsam_med.errors import InputError
from gcsam_med.evaluation import flatness as module
from gcsam_med.evaluation.context import open_evaluation
from gcsam_med.evaluation.flatness import measure_sharpness
from gcsam_med.losses import build_loss
from tests.builders import make_prepared, make_run

QUICK = SharpnessOptions(cases=4, eigenvalues=1, trace_samples=2, line_points=3, surface_points=3)


def test_the_measures_are_those_of_the_run_s_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the explicit Hessian of the sample's mean loss, all weights but two fixed."""
    data = make_prepared(tmp_path, n=30, size=32)
    folder = make_run(tmp_path, data, "classification", classes=["benign", "malignant"])
    context = open_evaluation(folder, "train")
    for name, parameter in context.model.network.named_parameters():
        parameter.requires_grad_(name == "fc.1.bias")
    monkeypatch.setattr(module, "open_evaluation", lambda *args, **rest: context)
    options = SharpnessOptions(
        cases=8, eigenvalues=2, trace_samples=20, line_points=0, surface_points=0, batch_size=3
    )
    measured = measure_sharpness(folder, options)

    rows = module._sample(context, options)
    labels = context.dataset.manifest["label"].to_numpy()[rows]
    targets = torch.tensor([context.model.card.classes.index(x) for x in labels])
    images = context.model.tensor(context.dataset.images(rows))
    network, loss = context.model.network, build_loss("cross-entropy")

    def mean_loss(bias: torch.Tensor) -> torch.Tensor:
        return loss(functional_call(network, {"fc.1.bias": bias}, (images,)), targets)

    bias = network.fc[1].bias.detach()
    values = np.linalg.eigvalsh(hessian(mean_loss, bias).detach().double().numpy())[::-1]
    assert measured["sample"]["cases"] == 8
    assert measured["loss"] == pytest.approx(float(mean_loss(bias)), rel=1e-5)
    assert measured["hessian"]["largest"][0] == pytest.approx(values[0], rel=1e-3)
    assert (
        abs(measured["hessian"]["trace"] - values.sum())
        <= 4 * measured["hessian"]["trace_standard_error"] + 1e-6
    )
    worst = max(
        float(mean_loss(bias + 0.05 * torch.tensor([np.cos(a), np.sin(a)]).float()))
        for a in np.linspace(0, 2 * np.pi, 90)
    )
    assert measured["worst_loss"]["increase"] == pytest.approx(worst - measured["loss"], rel=1e-2)


@pytest.mark.slow
def test_the_command_writes_pictures_and_json_and_compares_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_prepared(tmp_path, n=30, size=32)
    folders = [make_run(tmp_path, data, name=name, steps=steps) for name, steps in (("a", 0), ("b", 2))]
    options = ["--cases", "4", "--eigenvalues", "1", "--trace-samples", "2", "--line-points", "3"]
    options += ["--surface-points", "3", "--batch-size", "2"]
    assert run(["sharpness", *map(str, folders), *options]) == 0
    told = capsys.readouterr()
    assert "increase within rho" in told.out
    assert "Loss of 4 train cases (dice-ce)" in told.out
    for folder in folders:
        names = {p.name for p in (folder / "sharpness").iterdir()}
        assert {"sharpness.json", "line.png", "surface.png"} <= names
        content = json.loads((folder / "sharpness" / "sharpness.json").read_text())
        assert content["synthetic"] is True
        # The middle of the line is the weights themselves.
        assert content["line"]["losses"][1] == pytest.approx(content["loss"], rel=1e-5)
    assert (folders[0] / "sharpness" / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    # The report of a run takes up what was measured of its weights, and of no others.
    assert run(["evaluate", str(folders[0]), "--resamples", "100", "-q"]) == 0
    page = (folders[0] / "evaluation" / "test" / "report.html").read_text()
    assert "Sharpness of the minimum" in page
    assert {"sharpness_line.svg", "sharpness_surface.png"} <= {
        p.name for p in (folders[0] / "evaluation" / "test" / "figures").iterdir()
    }
    del content["seal"]
    content["weights_sha256"] = "0" * 64
    (folders[1] / "sharpness" / "sharpness.json").write_text(json.dumps(content))
    assert run(["evaluate", str(folders[1]), "--resamples", "100", "-q"]) == 0
    assert "Sharpness of the minimum" not in (folders[1] / "evaluation" / "test" / "report.html").read_text()


def test_the_same_seed_measures_the_same(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, n=30, size=32)
    folder = make_run(tmp_path, data)
    quick = SharpnessOptions(cases=2, eigenvalues=1, trace_samples=2, line_points=0, surface_points=0)
    one, other = (measure_sharpness(folder, quick) for _ in range(2))
    assert one == other


def test_what_would_take_too_long_is_refused_at_once_with_advice(tmp_path: Path) -> None:
    """Oracle: the time of one batch, times what was asked for; nothing is measured."""
    data = make_prepared(tmp_path, n=30, size=32)
    folder = make_run(tmp_path, data)
    with pytest.raises(InputError, match=r"about [\d,]+ minutes; 0.5 are allowed") as caught:
        measure_sharpness(folder, QUICK, trace_samples=100_000, max_minutes=0.5)
    assert "--trace-samples" in caught.value.advice


def test_an_empty_split_is_said(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, n=6, size=32)
    folder = make_run(tmp_path, data)
    with pytest.raises(InputError):
        measure_sharpness(folder, SharpnessOptions(split="test", cases=2))
