"""The table of methods: whole rows, the options they take, and the schedules of rho."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from gcsam_med.config import RunConfig
from gcsam_med.optim import BASES, OPTIMIZERS, OPTIONS, RHO_SCHEDULES, Sharpness, build, rho_factor


def _weights() -> list[torch.Tensor]:
    return [torch.zeros(3, requires_grad=True)]


def missing_parts(method: Any) -> list[str]:
    """The parts that a row lacks."""
    parts = {
        "summary": method.summary.endswith("."),
        "equation": bool(method.equation),
        "paper": any(character.isdigit() for character in method.paper),
        "options": set(method.options) <= set(OPTIONS),
    }
    if method.ascent is not None:
        ascends = method.ascends or method.extra_passes > 0 or method.rho > 0
        accepted = set(inspect.signature(Sharpness).parameters) | set(
            inspect.signature(method.ascent).parameters
        )
        parts |= {
            "rho": not ascends or (method.rho > 0 and "rho" in method.options),
            "options": bool(method.options) and set(method.options) <= set(OPTIONS) & accepted,
            "presets": all(OPTIONS[name].allows(value) for name, value in method.presets.items()),
            "copies": not ascends or method.copies >= 1,
            "passes": 1 <= method.passes() <= 2,
        }
    return [name for name, there in parts.items() if not there]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_row_is_whole_and_can_be_built(name: str) -> None:
    """Oracle: the contract of the table: every part, options that its class has, the type it builds."""
    method = OPTIMIZERS[name]
    assert missing_parts(method) == []
    optimizer, sharpness = build(name, _weights(), base_options={"lr": 0.5})
    assert optimizer.param_groups[0]["lr"] == 0.5
    if method.ascent is None:
        assert type(optimizer) is BASES[name]
        assert sharpness is None
    else:
        assert type(sharpness) is method.ascent
        assert sharpness.rho == method.rho


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in BASES])
def test_the_page_of_optimizers_tells_what_the_row_tells(name: str) -> None:
    """Oracle: the row's passes and copies, in the table of docs/optimizers.md."""
    page = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()
    method = OPTIMIZERS[name]
    assert f"| `{name}` | {method.passes():g} | {method.copies} |" in page


@pytest.mark.parametrize("part", ["summary", "equation", "paper", "rho", "options", "copies"])
def test_a_row_with_a_part_missing_is_refused(part: str) -> None:
    """Oracle: the whole row with one part taken away."""
    empty = {"rho": 0.0, "options": (), "copies": 0}.get(part, "")
    assert missing_parts(dataclasses.replace(OPTIMIZERS["gcsam"], **{part: empty})) == [part] or (
        part == "options"
        and missing_parts(dataclasses.replace(OPTIMIZERS["gcsam"], options=())) == ["options", "rho"]
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_method_takes_the_options_of_its_row_and_no_others(name: str) -> None:
    """Oracle: the row; an error that names the option instead of a setting that does nothing."""
    values = {"rho": 0.1, "centralize": "both", "norm": "raw", "conv_only": True, "every": 2}
    values |= {"ascent_fraction": 0.5, "eta": 0.1, "exempt_vectors": True, "alpha": 0.2, "adaptive": True}
    values |= {option: 0.5 for option in OPTIONS if option not in values}
    for option in OPTIONS:
        if option in OPTIMIZERS[name].options:
            build(name, _weights(), **{option: values[option]})
        elif option != "rho":
            with pytest.raises(ValueError, match=option):
                build(name, _weights(), **{option: values[option]})


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("rho", -0.1),
        ("rho", math.nan),
        ("rho", math.inf),
        ("centralize", "descent"),
        ("norm", "max"),
        ("eta", -1.0),
        ("every", 0),
        ("every", 1.5),
        ("ascent_fraction", 0.0),
        ("ascent_fraction", 1.5),
        ("alpha", -1.0),
    ],
)
def test_values_out_of_range_are_refused(option: str, bad: Any) -> None:
    """Oracle: the ranges by hand; the message holds the range and the value."""
    name = next(n for n, method in OPTIMIZERS.items() if option in method.options)
    with pytest.raises(ValueError, match=rf"{option} must be .* but is") as error:
        build(name, _weights(), **{option: bad})
    assert OPTIONS[option].range in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("adam", {}, 1),
        ("msam", {}, 1),
        ("gcsam", {}, 2),
        ("gcsam", {"every": 5}, 1.2),
        ("gcsam", {"ascent_fraction": 0.25}, 1.25),
        ("looksam", {}, 1.2),
        ("looksam", {"every": 2}, 1.5),
    ],
)
def test_passes(name: str, options: dict[str, Any], passes: float) -> None:
    """Oracle: 1 + fraction / every, by hand; the passes themselves are counted in test_step.py."""
    assert OPTIMIZERS[name].passes(**options) == pytest.approx(passes)


@pytest.mark.parametrize("name", RHO_SCHEDULES)
def test_schedules_begin_at_one_and_end_at_their_end(name: str) -> None:
    """Oracle: the formulas, at both ends, in the middle, and beyond."""
    end = 1.0 if name == "constant" else 0.2
    assert rho_factor(name, 0.0, 0.2) == 1.0
    assert rho_factor(name, 1.0, 0.2) == pytest.approx(end)
    assert rho_factor(name, 1.7, 0.2) == pytest.approx(end)
    quarter = {"constant": 1.0, "linear": 0.8, "cosine": 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2}
    assert rho_factor(name, 0.25, 0.2) == pytest.approx(quarter[name])
    with pytest.raises(ValueError, match="cosine"):
        rho_factor("step", 0.5)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name in RunConfig.model_fields])
def test_a_run_takes_no_value_that_a_method_would_refuse(option: str) -> None:
    """Oracle: `OPTIONS`, at and beyond both ends of its range."""
    for value in (-1.0, -1e-9, 0.0, 1e-9, 1.0, 1 + 1e-9, 2.0, math.inf, "centralized", "ascent", "max"):
        try:
            RunConfig(dataset="d", **{option: value})
        except ValidationError:
            continue
        assert OPTIONS[option].allows(value) or OPTIONS[option].kind is bool
