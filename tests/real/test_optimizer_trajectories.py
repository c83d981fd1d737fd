"""The golden trajectories that lie beside the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gcsam_med.optim import BASES, GCSAM, SAM, build, training_step

FILE = Path(__file__).parents[2].parent / "shared" / "reference" / "optimizer_trajectories.json"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not FILE.exists(), reason="no golden trajectories here")]

# Their name to the name in the table, options of the ascent, drop-in class and its options.
METHODS: dict[str, tuple[str, dict[str, Any], type[SAM] | None, dict[str, Any]]] = {
    "adam": ("adam", {}, None, {}),
    "sam": ("sam", {}, SAM, {}),
    "asam": ("asam", {}, SAM, {"adaptive": True}),
    "gcsam": ("gcsam", {}, GCSAM, {}),
    "gcsam_raw_norm": ("gcsam", {"norm": "raw"}, GCSAM, {"norm": "raw"}),
    "gcsam_both": ("gcsam", {"centralize": "both"}, GCSAM, {"centralize": "both"}),
}
GOLDEN: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {"cases": [], "batches": []}


def _network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).double()
    model.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in GOLDEN["initial"].items()})
    return model


def _batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.tensor(b["x"], dtype=torch.float64), torch.tensor(b["y"])) for b in GOLDEN["batches"]]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _by_step(case: dict[str, Any]) -> nn.Module:
    name, options, _, _ = METHODS[case["method"]]
    model = _network()
    optimizer, sharpness = build(
        name,
        model.parameters(),
        base=case["base"],
        rho=case["rho"],
        base_options={"lr": case["lr"]},
        **options,
    )
    for batch in _batches():
        training_step(model, optimizer, sharpness, [batch], lambda b: _loss(model, b))
    return model


def _by_context(case: dict[str, Any]) -> nn.Module:
    name, options, _, _ = METHODS[case["method"]]
    model = _network()
    optimizer, sharpness = build(
        name,
        model.parameters(),
        base=case["base"],
        rho=case["rho"],
        base_options={"lr": case["lr"]},
        **options,
    )
    for batch, length in zip(_batches(), case["perturbation_norms"], strict=True):
        optimizer.zero_grad()
        _loss(model, batch).backward()
        if sharpness is not None:
            before = nn.utils.parameters_to_vector(model.parameters()).detach()
            with sharpness.perturbed():
                after = nn.utils.parameters_to_vector(model.parameters()).detach()
                assert float((after - before).norm()) == pytest.approx(length, rel=1e-10)
                optimizer.zero_grad()
                _loss(model, batch).backward()
            sharpness.finish_gradients()
        optimizer.step()
    return model


def _drop_in(case: dict[str, Any], model: nn.Module) -> SAM:
    kind, options = METHODS[case["method"]][2:]
    assert kind is not None
    base = {"momentum": 0.9} if case["base"] == "sgd" else {}
    return kind(model.parameters(), BASES[case["base"]], rho=case["rho"], lr=case["lr"], **options, **base)


def _by_two_steps(case: dict[str, Any]) -> nn.Module:
    model = _network()
    optimizer = _drop_in(case, model)
    for batch in _batches():
        _loss(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        _loss(model, batch).backward()
        optimizer.second_step(zero_grad=True)
    return model


def _by_closure(case: dict[str, Any]) -> nn.Module:
    model = _network()
    optimizer = _drop_in(case, model)
    for batch in _batches():

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            loss = _loss(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)
    return model


WAYS = (_by_step, _by_context, _by_two_steps, _by_closure)
RUNS = [
    pytest.param(case, way, id=f"{case['method']}-{case['base']}-{case['rho']}{way.__name__}")
    for case in GOLDEN["cases"]
    for way in (WAYS if METHODS[case["method"]][2] else WAYS[:2])  # Adam alone needs no drop-in
]


@pytest.mark.parametrize(("case", "way"), RUNS)
def test_golden_trajectory(case: dict[str, Any], way: Any) -> None:
    """Oracle: weights after six steps, and the length of each perturbation, made by an independent script."""
    model = way(case)
    for name, parameter in model.named_parameters():
        golden = torch.tensor(case["final"][name], dtype=torch.float64)
        torch.testing.assert_close(parameter.detach(), golden, rtol=1e-10, atol=1e-10)
