"""The table of methods, and the schedules of rho."""

from __future__ import annotations

import math

import pytest
import torch

from gcsam_med.optim import BASES, OPTIMIZERS, RHO_SCHEDULES, build, rho_factor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_line_tells_what_it_is_and_can_be_built(name: str) -> None:
    """Oracle: the contract of the table: a sentence, a cost, an equation, a paper, and the type it builds."""
    method = OPTIMIZERS[name]
    assert method.summary.endswith(".")
    assert 1 <= float(method.passes) <= 2
    assert method.equation
    assert method.paper
    optimizer, sharpness = build(name, [torch.zeros(3, requires_grad=True)], base_options={"lr": 0.5})
    assert optimizer.param_groups[0]["lr"] == 0.5
    if method.perturbation is None:
        assert type(optimizer) is BASES[name]
        assert sharpness is None
    else:
        assert type(sharpness) is method.perturbation
        assert sharpness.rho == method.rho > 0


def test_an_optimizer_alone_takes_no_options_of_an_ascent() -> None:
    """Oracle: an error instead of a setting that does nothing."""
    with pytest.raises(ValueError, match="every"):
        build("adam", [torch.zeros(3, requires_grad=True)], every=2)


@pytest.mark.parametrize("name", RHO_SCHEDULES)
def test_schedules_begin_at_one_and_end_at_their_end(name: str) -> None:
    """Oracle: the formulas, at both ends, in the middle, and beyond."""
    end = 1.0 if name == "constant" else 0.2
    assert rho_factor(name, 0.0, 0.2) == 1.0
    assert rho_factor(name, 1.0, 0.2) == pytest.approx(end)
    assert rho_factor(name, 1.7, 0.2) == pytest.approx(end)
    quarter = {"constant": 1.0, "linear": 0.8, "cosine": 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2}
    assert rho_factor(name, 0.25, 0.2) == pytest.approx(quarter[name])


def test_unknown_schedule_is_refused() -> None:
    """Oracle: the error lists the names."""
    with pytest.raises(ValueError, match="cosine"):
        rho_factor("step", 0.5)
