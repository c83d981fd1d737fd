"""Whole trajectories of every method on every base optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gcsam_med.optim import BASES, OPTIMIZERS, build, training_step
from tests.optim import oracle

# Name in the oracle, name in the table, options of the ascent.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("gc", "gc", {}),
    ("sam", "sam", {}),
    ("sam", "sam", {"every": 3}),
    ("gcsam", "gcsam", {}),
    ("gcsam", "gcsam", {"every": 2}),
    ("gcsam_raw", "gcsam", {"norm": "raw"}),
    ("gcsam_both", "gcsam", {"centralize": "both"}),
    ("asam", "asam", {}),
    ("asam", "asam", {"eta": 0.01}),
    ("gsam", "gsam", {"alpha": 0.4}),
    ("looksam", "looksam", {"every": 3, "alpha": 0.7}),
    ("msam", "msam", {}),
    ("friendly", "friendly-sam", {}),
    ("friendly", "friendly-sam", {"sigma": 0.5}),
]
STEPS = 8


def _compare(
    method: str, name: str, base: str, options: dict[str, Any], rho: float = 0.1, lr: float = 0.02
) -> None:
    data = oracle.batches(STEPS)
    model = oracle.network()
    start = [p.detach().clone() for p in model.parameters()]
    expected = oracle.run(
        method, base, start, oracle.gradient_of(model, data), STEPS, rho=rho, lr=lr, **options
    )
    optimizer, sharpness = build(
        name,
        model.parameters(),
        base=base,
        rho=rho,
        base_options={"lr": lr},
        **(options if name not in BASES else {}),
    )
    for batch, weights in zip(data, expected, strict=True):
        result = training_step(model, optimizer, sharpness, [batch], lambda b: oracle.loss_of(model, b))
        assert not result.skipped
        for ours, theirs in zip(model.parameters(), weights, strict=True):
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("method", "name", "options"), CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_method_follows_its_equations(method: str, name: str, options: dict[str, Any], base: str) -> None:
    """Oracle: the papers' equations, literally, in float64, with Adam, AdamW and SGD written out too."""
    _compare(method, name, base, options)


@pytest.mark.parametrize("name", BASES)
def test_optimizer_alone_follows_its_equations(name: str) -> None:
    """Oracle: the equations of Adam, AdamW and SGD with momentum."""
    _compare(name, name, name, {})


def test_every_method_is_compared() -> None:
    """Oracle: the table of methods itself."""
    assert {case[1] for case in CASES} | set(BASES) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", [name for name, method in OPTIMIZERS.items() if method.ascends])
@pytest.mark.parametrize("base", BASES)
def test_rho_zero_is_the_base_optimizer_bit_for_bit(name: str, base: str) -> None:
    """Oracle: the torch optimizer alone."""
    weights = []
    for method in (name, base):
        model = oracle.network()
        optimizer, sharpness = (
            build(method, model.parameters(), base=base, rho=0.0, base_options={"lr": 0.02})
            if method == name
            else build(method, model.parameters(), base_options={"lr": 0.02})
        )
        for batch in oracle.batches(4):
            result = training_step(
                model, optimizer, sharpness, [batch], lambda b, m=model: oracle.loss_of(m, b)
            )
            assert result.passes == 1
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
